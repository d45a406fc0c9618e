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
/// From here on the dual form is faster than as many steps of the recurrence (`zamba2 bench --kernels`).
pub const DUAL_FROM: usize = 4;

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
        let (t_rows, p_len, n_len) = (cb.len(), x.width, b.width);
        let fresh = self.state.iter().all(|&s| s == 0.0);
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
            for j in 0..=i {
                let weight = F32x4::splat(cb[i][j] * left[j]);
                map_with(y, x.row(j), |y, x| y.mul_add(weight, x));
            }
            if !fresh {
                let c = c.row(i);
                for (y, state) in y.iter_mut().zip(self.state.chunks(n_len)) {
                    *y += state_left * dot(state, c);
                }
            }
        }

        let mut inputs = vec![0.0; t_rows * p_len]; // [T, P], left · x
        for (j, inputs) in inputs.chunks_mut(p_len).enumerate() {
            inputs.copy_from_slice(x.row(j));
            let left = F32x4::splat(left[j]);
            map_in_place(inputs, |x| x.mul(left));
        }
        add_outer_products(state_left, &inputs, b, self.state);
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

/// state ← decay·state + Σⱼ inputs[j] ⊗ b[j], in tiles of four rows by eight columns that stay in registers while j
/// runs. // state [P, N], inputs [T, P], b [T, N]
fn add_outer_products(decay: f32, inputs: &[f32], b: Rows, state: &mut [f32]) {
    const P_TILE: usize = 4;
    const N_TILE: usize = 8;
    let n_len = b.width;
    let p_len = state.len() / n_len;
    let t_rows = inputs.len() / p_len;
    let (p_tiled, n_tiled) = (p_len / P_TILE * P_TILE, n_len / N_TILE * N_TILE);
    let decay4 = F32x4::splat(decay);
    for p in (0..p_tiled).step_by(P_TILE) {
        for n in (0..n_tiled).step_by(N_TILE) {
            let at = |r: usize| (p + r) * n_len + n;
            let mut tile: [[F32x4; 2]; P_TILE] = std::array::from_fn(|r| {
                let row: &[[f32; 4]] = state[at(r)..][..N_TILE].as_chunks().0;
                [
                    F32x4::load(&row[0]).mul(decay4),
                    F32x4::load(&row[1]).mul(decay4),
                ]
            });
            for j in 0..t_rows {
                let b: &[[f32; 4]] = b.data[j * b.stride + n..][..N_TILE].as_chunks().0;
                let b = [F32x4::load(&b[0]), F32x4::load(&b[1])];
                let inputs = &inputs[j * p_len + p..][..P_TILE];
                for (tile, input) in tile.iter_mut().zip(inputs) {
                    let input = F32x4::splat(*input);
                    tile[0] = tile[0].mul_add(input, b[0]);
                    tile[1] = tile[1].mul_add(input, b[1]);
                }
            }
            for (r, tile) in tile.iter().enumerate() {
                let row: &mut [[f32; 4]] = state[at(r)..][..N_TILE].as_chunks_mut().0;
                tile[0].store(&mut row[0]);
                tile[1].store(&mut row[1]);
            }
        }
    }
    for p in 0..p_len {
        let from = if p < p_tiled { n_tiled } else { 0 };
        for n in from..n_len {
            let mut sum = state[p * n_len + n] * decay;
            for j in 0..t_rows {
                sum += inputs[j * p_len + p] * b.data[j * b.stride + n];
            }
            state[p * n_len + n] = sum;
        }
    }
}
