//! The selective scan of Mamba-2 for one head (arXiv:2405.21060). It stands inside the CPU backend and has two forms.
//!
//! One token: the recurrence (section 3; reference: `mamba2_selective_state_update`), bound by reading and writing the
//! state once. Several: the dual form (section 6), where a chunk of tokens meets one another as a masked product and
//! the state is touched once per chunk. Both agree up to the order of f32 additions.

use crate::backend::cpu::Rows;
use crate::backend::cpu::pool::Stripe;
use crate::backend::cpu::simd::{F32x4, dot, map_in_place, map_with};
use crate::backend::cpu::vecmath::{exp, softplus};

/// Tokens that meet one another in the dual form: more of them cost quadratically, fewer touch the state more often.
pub const CHUNK: usize = 64;
/// From about here on the dual form is faster than as many steps of the recurrence: it has a fixed cost of some ten
/// steps for each call.
pub const DUAL_FROM: usize = 12;

/// The numbers of one head.
pub struct Head<'a> {
    pub a: f32,
    pub d: f32,
    pub dt_bias: f32,
    pub dt_min: f32,
    pub state: &'a mut [f32], // [P, N]
}

impl Head<'_> {
    /// max(softplus(dt + bias), dt_min) and exp(dt·A).
    fn rates(&self, dt: f32) -> (f32, f32) {
        let [dt, ..] = softplus(F32x4::splat(dt + self.dt_bias)).to_array();
        let dt = dt.max(self.dt_min);
        let [decay, ..] = exp(F32x4::splat(dt * self.a)).to_array();
        (dt, decay)
    }

    /// One step: S ← exp(dt·A)·S + dt·x⊗B, y = S·C + D·x. // x, y [P]; b, c [N]
    pub fn step(&mut self, dt: f32, x: &[f32], b: &[f32], c: &[f32], y: &mut [f32]) {
        let (dt, decay) = self.rates(dt);
        for ((state, x), y) in self.state.chunks_mut(b.len()).zip(x).zip(y) {
            *y = step_row(state, decay, dt * x, b, c) + self.d * x;
        }
    }

    /// At most [`CHUNK`] steps at once. `cb` holds C·B of every token with itself and those before it; its first row
    /// goes to row `first` of y. // dt(t), x [T, P], b, c [T, N], cb [T, CHUNK]
    pub fn chunk(
        &mut self,
        dt: impl Fn(usize) -> f32,
        [x, b, c]: [Rows; 3],
        cb: &[[f32; CHUNK]],
        first: usize,
        y: &mut Stripe,
    ) {
        let (t_rows, n_len) = (cb.len(), b.width);
        let fresh = self.state.chunks(CHUNK).all(|state| {
            // Bits, because this compiles to vectors and a search for the first number does not.
            state.iter().fold(0, |bits, s| bits | s.to_bits()) == 0
        });
        // What of token j's input is left after token i: dt_j · Π decay over j+1..=i; and what is left of the state.
        let mut left = [0.0; CHUNK];
        let mut state_left = 1.0;
        for i in 0..t_rows {
            let (dt, decay) = self.rates(dt(i));
            for left in &mut left[..i] {
                *left *= decay;
            }
            left[i] = dt;
            state_left *= decay;

            let y = y.row(first + i);
            y.copy_from_slice(x.row(i));
            let d = F32x4::splat(self.d);
            map_in_place(y, |x| x.mul(d));
            let mut weights = [0.0; CHUNK];
            for ((weight, cb), left) in weights.iter_mut().zip(&cb[i]).zip(&left[..=i]) {
                *weight = cb * left;
            }
            add_weighted_rows(&weights[..=i], x, y);
            if !fresh {
                let c = c.row(i);
                for (y, state) in y.iter_mut().zip(self.state.chunks(n_len)) {
                    *y += state_left * dot(state, c);
                }
            }
        }

        add_outer_products(state_left, &left[..t_rows], x, b, self.state);
    }
}

/// state ← decay·state + input·b; returns state·c. // state, b, c [N]
fn step_row(state: &mut [f32], decay: f32, input: f32, b: &[f32], c: &[f32]) -> f32 {
    let (state4, state_tail) = state.as_chunks_mut::<4>();
    let (b4, b_tail) = b.as_chunks::<4>();
    let (c4, c_tail) = c.as_chunks::<4>();
    let (decay4, input4) = (F32x4::splat(decay), F32x4::splat(input));
    let mut lanes = F32x4::splat(0.0);
    for ((state, b), c) in state4.iter_mut().zip(b4).zip(c4) {
        let next = F32x4::load(state)
            .mul(decay4)
            .mul_add(input4, F32x4::load(b));
        next.store(state);
        lanes = lanes.mul_add(next, F32x4::load(c));
    }
    let mut sum = lanes.sum();
    for ((state, b), c) in state_tail.iter_mut().zip(b_tail).zip(c_tail) {
        *state = *state * decay + input * b;
        sum += *state * c;
    }
    sum
}

/// y += Σⱼ weights[j] · x[j], sixteen columns at a time, whose sums stay in registers while j runs. // x [T, P], y [P]
fn add_weighted_rows(weights: &[f32], x: Rows, y: &mut [f32]) {
    const TILE: usize = 16;
    let (tiles, rest) = y.as_chunks_mut::<TILE>();
    let done = tiles.len() * TILE;
    for (i, y) in tiles.iter_mut().enumerate() {
        let y4 = y.as_chunks_mut::<4>().0;
        let mut sums: [F32x4; TILE / 4] = std::array::from_fn(|k| F32x4::load(&y4[k]));
        for (j, weight) in weights.iter().enumerate() {
            let weight = F32x4::splat(*weight);
            let x4 = x.data[j * x.stride + i * TILE..][..TILE].as_chunks::<4>().0;
            for (sum, x) in sums.iter_mut().zip(x4) {
                *sum = sum.mul_add(weight, F32x4::load(x));
            }
        }
        for (y, sum) in y4.iter_mut().zip(sums) {
            sum.store(y);
        }
    }
    for (j, weight) in weights.iter().enumerate() {
        let weight = F32x4::splat(*weight);
        map_with(rest, &x.row(j)[done..], |y, x| y.mul_add(weight, x));
    }
}

/// state ← decay·state + Σⱼ left[j]·x[j] ⊗ b[j], in tiles of four rows by eight columns that stay in registers while j
/// runs. Both factors are packed by tiles first, padded with zeros. // state [P, N], x [T, P], b [T, N]
fn add_outer_products(decay: f32, left: &[f32], x: Rows, b: Rows, state: &mut [f32]) {
    const P_TILE: usize = 4;
    const N_TILE: usize = 8;
    let t_rows = left.len();
    let mut inputs = vec![[0.0; P_TILE]; x.width.div_ceil(P_TILE) * t_rows]; // [P / 4][T]
    for (j, left) in left.iter().enumerate() {
        for (p, x) in x.row(j).iter().enumerate() {
            inputs[p / P_TILE * t_rows + j][p % P_TILE] = left * x;
        }
    }
    let decay = F32x4::splat(decay);
    let mut columns = [[[0.0; 4]; N_TILE / 4]; CHUNK]; // [T]
    for n in (0..b.width).step_by(N_TILE) {
        for (j, columns) in columns[..t_rows].iter_mut().enumerate() {
            *columns = eight(&b.row(j)[n..]);
        }
        for (rows, inputs) in state
            .chunks_mut(P_TILE * b.width)
            .zip(inputs.chunks(t_rows))
        {
            let mut sums = [[F32x4::splat(0.0); N_TILE / 4]; P_TILE];
            for (sums, row) in sums.iter_mut().zip(rows.chunks(b.width)) {
                *sums = eight(&row[n..]).map(|four| F32x4::load(&four).mul(decay));
            }
            for (input, columns) in inputs.iter().zip(&columns) {
                let columns = columns.each_ref().map(F32x4::load);
                for (sums, input) in sums.iter_mut().zip(input) {
                    let input = F32x4::splat(*input);
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = sum.mul_add(input, column);
                    }
                }
            }
            for (sums, row) in sums.iter().zip(rows.chunks_mut(b.width)) {
                let sums = sums.map(F32x4::to_array);
                match row[n..].first_chunk_mut::<N_TILE>() {
                    Some(row) => row.copy_from_slice(sums.as_flattened()),
                    None => row[n..].copy_from_slice(&sums.as_flattened()[..b.width - n]),
                }
            }
        }
    }
}

/// The first eight numbers, with zeros for those that are missing.
fn eight(row: &[f32]) -> [[f32; 4]; 2] {
    let mut eight = [[0.0; 4]; 2];
    match row.first_chunk::<8>() {
        Some(row) => eight.as_flattened_mut().copy_from_slice(row),
        None => eight.as_flattened_mut()[..row.len()].copy_from_slice(row),
    }
    eight
}
