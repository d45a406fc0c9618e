//! The selective scan of Mamba-2 as its plain recurrence, one head after the other (arXiv:2405.21060, section 3;
//! reference: `mamba2_selective_state_update`). It stands inside the CPU backend.

use crate::backend::cpu::elementwise::softplus;
use crate::backend::cpu::simd::F32x4;

/// The numbers of one head.
pub struct Head<'a> {
    pub a: f32,
    pub d: f32,
    pub dt_bias: f32,
    pub dt_min: f32,
    pub state: &'a mut [f32], // [P, N]
}

impl Head<'_> {
    /// One step: S ← exp(dt·A)·S + dt·x⊗B, y = S·C + D·x. // x, y [P]; b, c [N]
    pub fn step(&mut self, dt: f32, x: &[f32], b: &[f32], c: &[f32], y: &mut [f32]) {
        let dt = softplus(dt + self.dt_bias).max(self.dt_min);
        let decay = (dt * self.a).exp();
        for ((state, x), y) in self.state.chunks_mut(b.len()).zip(x).zip(y) {
            *y = step_row(state, decay, dt * x, b, c) + self.d * x;
        }
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
