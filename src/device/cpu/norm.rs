//! RMSNorm and its gated, grouped form. Statistics are f32, as in the reference.

use crate::base::simd::{F32x4, dot, map_with};
use crate::base::vecmath::silu;
use crate::device::cpu::Cpu;
use crate::device::cpu::tensor::{CpuTensor, Rows};
use crate::ops::device::{Cols, GatedNorm, Norm};
use crate::ops::op_traits::NormKernels;
use crate::threads::pool::{Pieces, Pool};

impl NormKernels for Cpu {
    fn rms_norm(&mut self, norm: &Norm<Cpu>, x: &CpuTensor, y: &mut CpuTensor) {
        rms_norm(&self.pool, norm, x, y);
    }

    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<Cpu>,
        x: &CpuTensor,
        gate: Cols<CpuTensor>,
        y: &mut CpuTensor,
    ) {
        gated_rms_norm(&self.pool, norm, x, &gate, y);
    }
}

/// y = weight · x · rsqrt(mean(x²) + eps), row by row.
fn rms_norm(pool: &Pool, norm: &Norm<Cpu>, x: &CpuTensor, y: &mut CpuTensor) {
    let weight = norm.weight.values();
    let pieces = Pieces::new(y.resize(x.rows()), x.cols());
    pool.run(x.rows(), pieces, |t, y| {
        y.copy_from_slice(x.row(t));
        normalize(weight, norm.eps, y);
    });
}

/// RMSNorm of x · silu(gate), with one mean for each of `n_groups` equal groups of channels.
fn gated_rms_norm(
    pool: &Pool,
    norm: &GatedNorm<Cpu>,
    x: &CpuTensor,
    gate: &Cols<CpuTensor>,
    y: &mut CpuTensor,
) {
    let weight = norm.weight.values();
    let gate = Rows::from(gate);
    let group = weight.len() / norm.n_groups;
    let pieces = Pieces::new(y.resize(x.rows()), x.cols());
    pool.run(x.rows(), pieces, |t, y| {
        y.copy_from_slice(x.row(t));
        map_with(y, gate.row(t), |x, gate| x.mul(silu(gate)));
        for (weight, y) in weight.chunks(group).zip(y.chunks_mut(group)) {
            normalize(weight, norm.eps, y);
        }
    });
}

fn normalize(weight: &[f32], eps: f32, y: &mut [f32]) {
    let mean = dot(y, y) / y.len() as f32;
    let scale = F32x4::splat(1.0 / (mean + eps).sqrt());
    // Normalised before the weight is applied, which is the reference's order of rounding.
    map_with(y, weight, |y, weight| weight.mul(y.mul(scale)));
}
