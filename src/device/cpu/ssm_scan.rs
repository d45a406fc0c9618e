//! The selective scan of Mamba-2 (arXiv:2405.21060), head by head, in two forms that agree up to the order of f32
//! additions. The convolution before it and the gated norm after it are other ops.
//!
//! One token: the recurrence (section 3; reference: `mamba2_selective_state_update`), bound by reading and writing the
//! state once. Several: the dual form (section 6), in which a chunk is a masked product of its tokens and the state is
//! read and written once per chunk.

use crate::base::simd::{F32x4, dot, map_in_place, map_with};
use crate::base::vecmath::{exp, softplus};
use crate::device::cpu::Cpu;
use crate::device::cpu::tensor::{CpuTensor, Rows};
use crate::ops::device::{Ssm, SsmInput};
use crate::ops::op_traits::ScanKernels;
use crate::threads::pool::{Pieces, Pool, Stripe, Stripes};

impl ScanKernels for Cpu {
    fn ssm_scan(
        &mut self,
        ssm: &Ssm<Cpu>,
        input: SsmInput<CpuTensor>,
        state: &mut CpuTensor,
        y: &mut CpuTensor,
    ) {
        ssm_scan(&self.pool, &mut self.scan, ssm, &input, state, y);
    }

    fn ssm_scan_from(
        &mut self,
        ssm: &Ssm<Cpu>,
        input: SsmInput<CpuTensor>,
        before: &CpuTensor,
        state: &mut CpuTensor,
        y: &mut CpuTensor,
    ) {
        ssm_scan_from(&self.pool, ssm, &input, before, state, y);
    }
}

/// Tokens per chunk of the dual form: the cost of a longer chunk is quadratic, a shorter one accesses the state more
/// often.
const CHUNK: usize = 64;
/// From this many tokens on the dual form is faster than the recurrence: each call has a fixed cost of about ten steps.
pub const DUAL_FROM: usize = 12;

/// C·B of every pair of tokens in a chunk, for each group of heads. Reused between calls.
#[derive(Default)]
pub struct ScanScratch {
    cb: Vec<[f32; CHUNK]>, // [G, T]
}

/// S ← exp(dt·A)·S + dt·x⊗B; y = C·S + D·x; `state` `[H·P, N]` is updated.
fn ssm_scan(
    pool: &Pool,
    scratch: &mut ScanScratch,
    ssm: &Ssm<Cpu>,
    input: &SsmInput<CpuTensor>,
    state: &mut CpuTensor,
    y: &mut CpuTensor,
) {
    let t_rows = input.x.tensor.rows();
    let scan = Scan::new(ssm, input);
    let (outputs, state) = (y.resize(t_rows), state.values_mut());
    if t_rows < DUAL_FROM {
        scan.steps(pool, t_rows, None, state, outputs);
        return;
    }
    for first in (0..t_rows).step_by(CHUNK) {
        let len = CHUNK.min(t_rows - first);
        scan.chunk(pool, scratch, first, len, state, outputs);
    }
}

/// Like [`ssm_scan`], step by step, from the state `before`, which is not changed. Each head's state is copied
/// immediately before its first step reads it, so the copy costs no additional read.
fn ssm_scan_from(
    pool: &Pool,
    ssm: &Ssm<Cpu>,
    input: &SsmInput<CpuTensor>,
    before: &CpuTensor,
    state: &mut CpuTensor,
    y: &mut CpuTensor,
) {
    let t_rows = input.x.tensor.rows();
    let (before, state, outputs) = (before.values(), state.values_mut(), y.resize(t_rows));
    Scan::new(ssm, input).steps(pool, t_rows, Some(before), state, outputs);
}

/// One call of the scan.
struct Scan<'a> {
    ssm: &'a Ssm<Cpu>,
    dt_min: f32,
    x: Rows<'a>,  // [T, H·P]
    b: Rows<'a>,  // [T, G·N]
    c: Rows<'a>,  // [T, G·N]
    dt: Rows<'a>, // [T, H]
}

impl<'a> Scan<'a> {
    fn new(ssm: &'a Ssm<Cpu>, input: &SsmInput<'a, CpuTensor>) -> Scan<'a> {
        Scan {
            ssm,
            dt_min: input.dt_min,
            x: Rows::from(&input.x),
            b: Rows::from(&input.b),
            c: Rows::from(&input.c),
            dt: Rows::from(&input.dt),
        }
    }

    /// The recurrence, token by token, from the state `before` or else from `state`.
    fn steps(
        &self,
        pool: &Pool,
        t_rows: usize,
        before: Option<&[f32]>,
        state: &mut [f32],
        outputs: &mut [f32],
    ) {
        let p = self.ssm.head_dim;
        let head_len = p * self.ssm.d_state;
        let states = Pieces::new(state, head_len);
        let outputs = Stripes::of_columns(outputs, self.x.width, p);
        pool.run(self.ssm.n_heads, (states, outputs), |h, (state, mut y)| {
            if let Some(before) = before {
                state.copy_from_slice(&before[h * head_len..][..head_len]);
            }
            let (mut head, [x, b, c]) = (self.head(h, state), self.of_head(h));
            for t in 0..t_rows {
                head.step(self.dt.row(t)[h], x.row(t), b.row(t), c.row(t), y.row(t));
            }
        });
    }

    /// The dual form for tokens `first .. first + len`.
    fn chunk(
        &self,
        pool: &Pool,
        scratch: &mut ScanScratch,
        first: usize,
        len: usize,
        state: &mut [f32],
        outputs: &mut [f32],
    ) {
        let (p, n) = (self.ssm.head_dim, self.ssm.d_state);
        let cb = &mut scratch.cb;
        cb.resize(self.ssm.n_groups * len, [0.0; CHUNK]);
        pool.run(cb.len(), Pieces::new(cb, 1), |i, row| {
            let (group, i) = (i / len * n, i % len);
            let c = self.c.columns(group, n).row(first + i);
            for (j, cb) in row[0][..=i].iter_mut().enumerate() {
                *cb = dot(c, self.b.columns(group, n).row(first + j));
            }
        });
        let states = Pieces::new(state, p * n);
        let outputs = Stripes::of_columns(outputs, self.x.width, p);
        pool.run(self.ssm.n_heads, (states, outputs), |h, (state, mut y)| {
            let cb = &cb[self.group(h) * len..][..len];
            let rows = self.of_head(h).map(|rows| rows.rows_from(first));
            let dt = |i: usize| self.dt.row(first + i)[h];
            self.head(h, state).chunk(dt, rows, cb, first, &mut y);
        });
    }

    fn group(&self, h: usize) -> usize {
        h / (self.ssm.n_heads / self.ssm.n_groups)
    }

    /// x, B and C of head `h`. // [T, P], [T, N], [T, N]
    fn of_head(&self, h: usize) -> [Rows<'a>; 3] {
        let (p, n) = (self.ssm.head_dim, self.ssm.d_state);
        let group = self.group(h) * n;
        [
            self.x.columns(h * p, p),
            self.b.columns(group, n),
            self.c.columns(group, n),
        ]
    }

    fn head<'s>(&self, h: usize, state: &'s mut [f32]) -> Head<'s> {
        Head {
            a: self.ssm.a.values()[h],
            d: self.ssm.d.values()[h],
            dt_bias: self.ssm.dt_bias.values()[h],
            dt_min: self.dt_min,
            state,
        }
    }
}

/// Parameters and state of one head.
struct Head<'a> {
    a: f32,
    d: f32,
    dt_bias: f32,
    dt_min: f32,
    state: &'a mut [f32], // [P, N]
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
    fn step(&mut self, dt: f32, x: &[f32], b: &[f32], c: &[f32], y: &mut [f32]) {
        let (dt, decay) = self.rates(dt);
        for ((state, x), y) in self.state.chunks_mut(b.len()).zip(x).zip(y) {
            *y = step_row(state, decay, dt * x, b, c) + self.d * x;
        }
    }

    /// Up to [`CHUNK`] steps at once. Row i of `cb` is C·B of token i with each token up to itself; token i is row
    /// `first + i` of y. // dt(t), x [T, P], b, c [T, N], cb [T, CHUNK]
    fn chunk(
        &mut self,
        dt: impl Fn(usize) -> f32,
        [x, b, c]: [Rows; 3],
        cb: &[[f32; CHUNK]],
        first: usize,
        y: &mut Stripe,
    ) {
        let (t_rows, n_len) = (cb.len(), b.width);
        let state_is_zero = self.state.chunks(CHUNK).all(|state| {
            // An OR over the bits is vectorised; a search for the first nonzero element is not.
            state.iter().fold(0, |bits, s| bits | s.to_bits()) == 0
        });
        // decayed_dt[j] = dt_j · Π decay over j+1..=i: the factor of token j's input after token i. state_decay: of the
        // state.
        let mut decayed_dt = [0.0; CHUNK];
        let mut state_decay = 1.0;
        for i in 0..t_rows {
            let (dt, decay) = self.rates(dt(i));
            for decayed_dt in &mut decayed_dt[..i] {
                *decayed_dt *= decay;
            }
            decayed_dt[i] = dt;
            state_decay *= decay;

            let y = y.row(first + i);
            y.copy_from_slice(x.row(i));
            let d = F32x4::splat(self.d);
            map_in_place(y, |x| x.mul(d));
            let mut weights = [0.0; CHUNK];
            for ((weight, cb), decayed_dt) in weights.iter_mut().zip(&cb[i]).zip(&decayed_dt[..=i])
            {
                *weight = cb * decayed_dt;
            }
            add_weighted_rows(&weights[..=i], x, y);
            if !state_is_zero {
                let c = c.row(i);
                for (y, state) in y.iter_mut().zip(self.state.chunks(n_len)) {
                    *y += state_decay * dot(state, c);
                }
            }
        }

        add_outer_products(state_decay, &decayed_dt[..t_rows], x, b, self.state);
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

/// y += Σⱼ weights[j] · x[j], sixteen columns at a time, whose sums stay in registers. // x [T, P], y [P]
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

/// Rows and columns of a tile of the state, whose sums stay in registers over all tokens.
const P_TILE: usize = 4;
const N_TILE: usize = 8;

/// state ← decay·state + Σⱼ decayed_dt[j]·x[j] ⊗ b[j], tile by tile. Both factors are first packed into tiles, padded
/// with zeros. // state [P, N], x [T, P], b [T, N]
fn add_outer_products(decay: f32, decayed_dt: &[f32], x: Rows, b: Rows, state: &mut [f32]) {
    let t_rows = decayed_dt.len();
    let mut inputs = vec![[0.0; P_TILE]; x.width.div_ceil(P_TILE) * t_rows]; // [P / 4][T]
    for (j, decayed_dt) in decayed_dt.iter().enumerate() {
        for (p, x) in x.row(j).iter().enumerate() {
            inputs[p / P_TILE * t_rows + j][p % P_TILE] = decayed_dt * x;
        }
    }
    let mut columns = [[0.0; N_TILE]; CHUNK]; // [T]
    for n in (0..b.width).step_by(N_TILE) {
        let width = N_TILE.min(b.width - n);
        for (j, columns) in columns[..t_rows].iter_mut().enumerate() {
            columns[..width].copy_from_slice(&b.row(j)[n..n + width]);
        }
        let columns = &columns[..t_rows];
        for (i, inputs) in inputs.chunks_exact(t_rows).enumerate() {
            let first = i * P_TILE;
            let mut rows = state[first * b.width..].chunks_mut(b.width);
            let height = P_TILE.min(x.width - first);
            let rows: [&mut [f32]; P_TILE] =
                std::array::from_fn(|_| rows.next().map_or(&mut [][..], |row| &mut row[n..]));
            if height == P_TILE && width == N_TILE {
                outer_tile(decay, inputs, columns, rows);
            } else {
                outer_edge(decay, inputs, columns, rows);
            }
        }
    }
}

/// A full tile of the state, at the start of `rows`.
#[inline(always)]
fn outer_tile(
    decay: f32,
    inputs: &[[f32; P_TILE]],
    columns: &[[f32; N_TILE]],
    rows: [&mut [f32]; P_TILE],
) {
    let mut rows = rows.map(|row| {
        let (tile, _) = row.split_first_chunk_mut::<N_TILE>().expect("a whole tile");
        tile.as_chunks_mut::<4>().0
    });
    let decay = F32x4::splat(decay);
    let mut sums = [[F32x4::splat(0.0); N_TILE / 4]; P_TILE];
    for (sums, row) in sums.iter_mut().zip(&rows) {
        *sums = [0, 1].map(|k| F32x4::load(&row[k]).mul(decay));
    }
    for (input, column) in inputs.iter().zip(columns) {
        let column = [0, 1].map(|k| F32x4::load(&column.as_chunks::<4>().0[k]));
        for (sums, input) in sums.iter_mut().zip(input) {
            let input = F32x4::splat(*input);
            for (sum, column) in sums.iter_mut().zip(column) {
                *sum = sum.mul_add(input, column);
            }
        }
    }
    for (sums, row) in sums.iter().zip(&mut rows) {
        for (sum, four) in sums.iter().zip(row.iter_mut()) {
            sum.store(four);
        }
    }
}

/// A partial tile at the edges of the state, summed in the same order.
fn outer_edge(
    decay: f32,
    inputs: &[[f32; P_TILE]],
    columns: &[[f32; N_TILE]],
    rows: [&mut [f32]; P_TILE],
) {
    for (p, row) in rows.into_iter().enumerate() {
        for (n, state) in row.iter_mut().take(N_TILE).enumerate() {
            let products = inputs.iter().zip(columns).map(|(x, b)| x[p] * b[n]);
            *state = products.fold(decay * *state, |sum, product| sum + product);
        }
    }
}
