//! Fused ops: several ops of a decode step, that is of one row, which a device may run as one kernel. [`Ops::fused`]
//! checks the shapes, counts the work of every member and opens one span for all members. Nothing is computed here.

use crate::ops::Ops;
use crate::ops::device::{
    Cols, Conv1d, Device, GatedNorm, KvCache, Linear, Norm, Rope, Ssm, SsmInput, Tensor, Weight,
};
use crate::ops::trace::{Member, ModuleId};
use crate::ops::work::{self, Work};

/// An RMSNorm of one row, with one mean per group of channels.
pub struct RowNorm<'a, D: Device> {
    pub module: ModuleId,
    pub weight: &'a D::Tensor, // [1, d]
    pub n_groups: usize,
    pub eps: f32,
}

impl<'a, D: Device> From<&'a Norm<D>> for RowNorm<'a, D> {
    fn from(norm: &'a Norm<D>) -> Self {
        RowNorm {
            module: norm.module,
            weight: &norm.weight,
            n_groups: 1,
            eps: norm.eps,
        }
    }
}

/// Without the gate, which [`GatedScan`] applies.
impl<'a, D: Device> From<&'a GatedNorm<D>> for RowNorm<'a, D> {
    fn from(norm: &'a GatedNorm<D>) -> Self {
        RowNorm {
            module: norm.module,
            weight: &norm.weight,
            n_groups: norm.n_groups,
            eps: norm.eps,
        }
    }
}

/// y = [z, silu(conv(xbc) + bias), dt] with [z, xbc, dt] = in_proj(norm(x)).
pub struct InProj<'a, D: Device> {
    pub norm: RowNorm<'a, D>,
    pub in_proj: &'a Linear<D>, // [d_in_proj, h]
    pub conv1d: &'a Conv1d<D>,
    /// The first column of xbc.
    pub d_inner: usize,
    pub x: &'a D::Tensor,         // [1, h]
    pub state: &'a mut D::Tensor, // [d_conv − 1, conv_dim]
    pub y: &'a mut D::Tensor,     // [1, d_in_proj]
}

/// y = scan(input) · silu(gate). The input and the gate are columns of one tensor.
pub struct GatedScan<'a, D: Device> {
    pub ssm: &'a Ssm<D>,
    pub input: SsmInput<'a, D::Tensor>,
    pub gate: Cols<'a, D::Tensor>, // [1, d_inner]
    pub state: &'a mut D::Tensor,  // [H·P, N]
    pub y: &'a mut D::Tensor,      // [1, d_inner]
}

/// One row.
pub enum RowInput<'a, D: Device> {
    Tensor(&'a D::Tensor), // [1, d]
    /// [a, b], which have the same width.
    Concat {
        module: ModuleId,
        a: &'a D::Tensor, // [1, d / 2]
        b: &'a D::Tensor, // [1, d / 2]
    },
}

/// y = [W₀·n, W₁·n, …] with n = norm(x), or y += W₀·n.
pub struct NormLinears<'a, D: Device> {
    pub norm: RowNorm<'a, D>,
    pub x: RowInput<'a, D>,
    /// Without biases.
    pub linears: &'a [&'a Linear<D>], // [d_out, d]
    pub adds_to_y: bool,
    pub y: &'a mut D::Tensor, // [1, sum of d_out]
}

/// y = gelu(g)·u with [g, u] = gate_up + B·r: the second matrix of the adapter of gate_up_proj, and the activation.
pub struct GeluStep<'a, D: Device> {
    pub adapter_b: &'a Linear<D>, // [2I, rank]
    pub act_fn: ModuleId,
    pub x: &'a D::Tensor,     // [1, 2I + rank], gate_up and r
    pub y: &'a mut D::Tensor, // [1, I]
}

/// q += B₀·r₀, k += B₁·r₁, v += B₂·r₂ with the second matrices of their adapters, if there are any; then q and k are
/// rotated, and k and v appended to the cache. The caller increases `cache.len` afterwards.
pub struct AppendStep<'a, D: Device> {
    pub adapters_b: Option<[&'a Linear<D>; 3]>, // [heads · d, rank]
    pub rope: Option<(ModuleId, &'a Rope)>,
    pub append_kv: ModuleId,
    pub x: &'a D::Tensor, // [1, q, k, v, r₀, r₁, r₂]
    pub cache: &'a mut KvCache<D>,
    pub q: &'a mut D::Tensor, // [1, heads · d]
}

/// One of the fused ops.
pub enum FusedOp<'a, D: Device> {
    InProj(InProj<'a, D>),
    GatedScan(GatedScan<'a, D>),
    NormLinears(NormLinears<'a, D>),
    GeluStep(GeluStep<'a, D>),
    AppendStep(AppendStep<'a, D>),
}

impl<D: Device> Ops<D> {
    /// Whether one kernel computes `linears` of an RMSNorm of one row; see [`Device::fuses_norm`]. Not while outputs
    /// are watched: members have none of their own.
    pub fn fuses_norm(&self, linears: &[&Linear<D>], n_groups: usize) -> bool {
        !self.is_watched() && self.device().fuses_norm(linears, n_groups)
    }

    /// Whether fused kernels include the second matrices of LoRA adapters; see [`Device::fuses_adapters`].
    pub fn fuses_adapters(&self, seconds: &[&Linear<D>]) -> bool {
        !self.is_watched() && self.device().fuses_adapters(seconds)
    }

    /// Runs a fused op that the device has kernels for.
    pub fn fused(&mut self, op: FusedOp<D>) {
        op.check();
        let mut members = Members::default();
        op.members(&mut members);
        self.members_op(members.as_slice(), |device| device.fused(op));
    }
}

/// The members of a fused op, in the order of the single ops.
#[derive(Default)]
pub(super) struct Members {
    all: [Member; Members::MOST],
    n: usize,
}

impl Members {
    /// The most members of any fused op.
    const MOST: usize = 8;

    /// Adds an op that reads and writes `activations` numbers besides what its work counts.
    pub(super) fn push(&mut self, module: ModuleId, work: Work, activations: usize) {
        let moved_bytes = work.bytes() + work::f32_bytes(activations as f64);
        self.all[self.n] = Member {
            module,
            work,
            moved_bytes,
        };
        self.n += 1;
    }

    fn push_linear<D: Device>(&mut self, linear: &Linear<D>) {
        let (d_out, d_in) = (linear.weight.rows(), linear.weight.cols());
        let work = work::linear(1, [d_out, d_in], linear.weight.format(), false);
        self.push(linear.module, work, d_in + d_out);
    }

    fn push_norm<D: Device>(&mut self, norm: &RowNorm<D>) {
        let d = norm.weight.cols();
        self.push(norm.module, work::norm(d), 2 * d);
    }

    pub(super) fn as_slice(&self) -> &[Member] {
        &self.all[..self.n]
    }
}

impl<D: Device> FusedOp<'_, D> {
    fn check(&self) {
        match self {
            FusedOp::InProj(op) => op.check(),
            FusedOp::GatedScan(op) => op.check(),
            FusedOp::NormLinears(op) => op.check(),
            FusedOp::GeluStep(op) => op.check(),
            FusedOp::AppendStep(op) => op.check(),
        }
    }

    fn members(&self, members: &mut Members) {
        match self {
            FusedOp::InProj(op) => {
                let (d_conv, channels) = (op.conv1d.weight.rows(), op.conv1d.weight.cols());
                members.push_norm(&op.norm);
                members.push_linear(op.in_proj);
                let work = work::causal_conv1d(1, d_conv, channels);
                members.push(op.conv1d.module, work, 2 * channels);
            }
            FusedOp::GatedScan(op) => {
                let ssm = op.ssm;
                let work = work::ssm_scan(1, ssm.n_heads, ssm.head_dim, ssm.d_state);
                members.push(ssm.module, work, op.input.x.tensor.cols() + op.y.cols());
            }
            FusedOp::NormLinears(op) => {
                if let RowInput::Concat { module, .. } = op.x {
                    members.push(module, Work::default(), 2 * op.norm.weight.cols());
                }
                members.push_norm(&op.norm);
                op.linears
                    .iter()
                    .for_each(|linear| members.push_linear(linear));
            }
            FusedOp::GeluStep(op) => {
                members.push_linear(op.adapter_b);
                members.push(op.act_fn, Work::default(), 3 * op.y.cols());
            }
            FusedOp::AppendStep(op) => {
                for linear in op.adapters_b.iter().flatten() {
                    members.push_linear(linear);
                }
                let shape = &op.cache.shape;
                let kv_width = shape.n_kv_heads * shape.head_dim;
                if let Some((module, _)) = op.rope {
                    members.push(module, Work::default(), 2 * (op.q.cols() + kv_width));
                }
                let position_bytes = op.cache.format.bytes(shape, 1) as f64;
                members.push(
                    op.append_kv,
                    work::append_kv(1, position_bytes),
                    2 * kv_width,
                );
            }
        }
    }
}

impl<D: Device> InProj<'_, D> {
    fn check(&self) {
        let (d_in_proj, h) = (self.in_proj.weight.rows(), self.in_proj.weight.cols());
        check_row("in_proj: x", self.x, h);
        check_norm(&self.norm, h);
        check_room("in_proj: y", self.y, d_in_proj);
        let (d_conv, channels) = (self.conv1d.weight.rows(), self.conv1d.weight.cols());
        assert!(self.d_inner + channels <= d_in_proj, "in_proj: xbc");
        assert_eq!(self.conv1d.bias.cols(), channels, "in_proj: conv bias");
        let found = (self.state.rows(), self.state.cols());
        assert_eq!(found, (d_conv - 1, channels), "in_proj: the state");
    }
}

impl<D: Device> GatedScan<'_, D> {
    fn check(&self) {
        let (ssm, SsmInput { x, b, c, dt, .. }) = (self.ssm, &self.input);
        let (d_inner, d_groups) = (ssm.n_heads * ssm.head_dim, ssm.n_groups * ssm.d_state);
        for cols in [b, c, dt, &self.gate] {
            let one = std::ptr::eq(x.tensor, cols.tensor);
            assert!(one, "gated scan: inputs are columns of one tensor");
            let end = cols.start + cols.len;
            assert!(end <= x.tensor.cols(), "gated scan: columns end at {end}");
        }
        check_row("gated scan: input", x.tensor, x.tensor.cols());
        let widths = [x.len, b.len, c.len, dt.len, self.gate.len];
        let expected = [d_inner, d_groups, d_groups, ssm.n_heads, d_inner];
        assert_eq!(widths, expected, "gated scan: x, b, c, dt, gate");
        let found = (self.state.rows(), self.state.cols());
        assert_eq!(found, (d_inner, ssm.d_state), "gated scan: the state");
        check_room("gated scan: y", self.y, d_inner);
    }
}

impl<D: Device> NormLinears<'_, D> {
    fn check(&self) {
        let d = self.norm.weight.cols();
        match self.x {
            RowInput::Tensor(x) => check_row("norm and linears: x", x, d),
            RowInput::Concat { a, b, .. } => {
                check_row("norm and linears: a", a, d / 2);
                check_row("norm and linears: b", b, d / 2);
            }
        }
        check_norm(&self.norm, d);
        let widths = self.linears.iter().map(|linear| linear.weight.cols());
        assert!(
            widths.into_iter().all(|cols| cols == d),
            "linears: [d_out, d]"
        );
        let d_out = self.linears.iter().map(|linear| linear.weight.rows()).sum();
        check_room("norm and linears: y", self.y, d_out);
        assert!(
            !self.adds_to_y || self.y.rows() == 1,
            "y has a row to add to"
        );
    }
}

impl<D: Device> GeluStep<'_, D> {
    fn check(&self) {
        let (d_out, rank) = (self.adapter_b.weight.rows(), self.adapter_b.weight.cols());
        check_row("gelu_step: x", self.x, d_out + rank);
        check_room("gelu_step: y", self.y, d_out / 2);
    }
}

impl<D: Device> AppendStep<'_, D> {
    fn check(&self) {
        let shape = &self.cache.shape;
        let kv_width = shape.n_kv_heads * shape.head_dim;
        let width = shape.n_heads * shape.head_dim;
        let mut columns = width + 2 * kv_width;
        for (linear, d_out) in (self.adapters_b.iter().flatten()).zip([width, kv_width, kv_width]) {
            assert_eq!(linear.weight.rows(), d_out, "append_step: an adapter");
            columns += linear.weight.cols();
        }
        check_row("append_step: x", self.x, columns);
        check_room("append_step: q", self.q, width);
        let head_dim = self.rope.map_or(shape.head_dim, |(_, rope)| rope.head_dim);
        assert_eq!(head_dim, shape.head_dim, "append_step: rope");
        assert!(
            self.cache.len < self.cache.context,
            "append_step: cache is full"
        );
    }
}

fn check_row(what: &str, x: &impl Tensor, cols: usize) {
    assert_eq!((x.rows(), x.cols()), (1, cols), "{what} is [1, {cols}]");
}

fn check_room(what: &str, y: &impl Tensor, cols: usize) {
    assert!(y.max_rows() > 0, "{what} has room for a row");
    assert_eq!(y.cols(), cols, "{what} is [1, {cols}]");
}

fn check_norm<D: Device>(norm: &RowNorm<D>, d: usize) {
    assert_eq!(norm.weight.cols(), d, "the norm of a row of {d} channels");
    assert!(d.is_multiple_of(norm.n_groups), "the norm's groups");
}
