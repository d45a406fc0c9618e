//! The ops that have a kernel. Each asserts the shapes of its arguments and counts its work from them.

use crate::ops::Ops;
use crate::ops::device::{
    AttentionShape, Cols, Conv1d, Device, Draw, GatedNorm, KvCache, Linear, Norm, Rope, Ssm,
    SsmInput, Tensor, Weight,
};
use crate::ops::fused::Members;
use crate::ops::trace::ModuleId;
use crate::ops::work::{self, Work};
use crate::text::sampling::TopK;

impl<D: Device> Ops<D> {
    /// Row t of each of `ys`, one or two, is row `tokens[t]` of the table. `module` may differ from the table's own: a
    /// tied output matrix is also the embedding.
    pub fn embed(
        &mut self,
        module: ModuleId,
        table: &D::Weight,
        tokens: &[u32],
        ys: &mut [&mut D::Tensor],
    ) {
        let known = |token: &u32| (*token as usize) < table.rows();
        assert!(tokens.iter().all(known), "embed: a token has no row");
        check_embedded("embed", tokens.len(), table, ys);
        self.op(
            module,
            || work::embed(tokens.len(), table.cols(), table.format()),
            |device| device.embed(table, tokens, ys),
        );
        for (y, name) in ys.iter_mut().zip(["y", "second y"]) {
            self.see(module, name, y);
        }
    }

    /// Each of `ys`, one or two, is the embedding of the chosen token of `top`, without a readback of that token.
    pub fn embed_top(
        &mut self,
        module: ModuleId,
        table: &D::Weight,
        top: &D::Tensor,
        ys: &mut [&mut D::Tensor],
    ) {
        assert_eq!(top.rows(), 1, "embed_top: there is one list");
        check_embedded("embed_top", 1, table, ys);
        self.op(
            module,
            || work::embed(1, table.cols(), table.format()),
            |device| device.embed_top(table, top, ys),
        );
    }

    pub fn rms_norm(&mut self, norm: &Norm<D>, x: &D::Tensor, y: &mut D::Tensor) {
        let d = norm.weight.cols();
        assert_eq!((x.cols(), y.cols()), (d, d), "rms_norm: x and y are [T, d]");
        check_capacity("rms_norm", x.rows(), y);
        self.op(
            norm.module,
            || work::norm(d),
            |device| device.rms_norm(norm, x, y),
        );
        self.see(norm.module, "y", y);
    }

    pub fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<D>,
        x: &D::Tensor,
        gate: Cols<D::Tensor>,
        y: &mut D::Tensor,
    ) {
        let d = norm.weight.cols();
        let widths = (x.cols(), gate.len, y.cols());
        assert_eq!(widths, (d, d, d), "gated_rms_norm: all are [T, d]");
        assert!(d.is_multiple_of(norm.n_groups), "gated_rms_norm: groups");
        check_cols("gated_rms_norm", x.rows(), &gate);
        check_capacity("gated_rms_norm", x.rows(), y);
        self.op(
            norm.module,
            || work::norm(d),
            |device| device.gated_rms_norm(norm, x, gate, y),
        );
        self.see(norm.module, "y", y);
    }

    pub fn linear(&mut self, linear: &Linear<D>, x: &D::Tensor, y: &mut D::Tensor) {
        self.product("linear", linear, x, y, D::linear);
    }

    /// y += W·x + bias.
    pub fn linear_add(&mut self, linear: &Linear<D>, x: &D::Tensor, y: &mut D::Tensor) {
        assert_eq!(x.rows(), y.rows(), "linear_add: y has the rows of x");
        self.product("linear_add", linear, x, y, D::linear_add);
    }

    /// y = W·x + bias + residual; `add` is the module of the sum.
    pub fn linear_residual(
        &mut self,
        add: ModuleId,
        linear: &Linear<D>,
        x: &D::Tensor,
        residual: &D::Tensor,
        y: &mut D::Tensor,
    ) {
        let shape = (residual.rows(), residual.cols());
        assert_eq!(shape, (x.rows(), y.cols()), "linear_residual: residual");
        let work = check_product("linear_residual", linear, x, y);
        let mut members = Members::default();
        members.push(
            linear.module,
            work,
            self.numbers(x) + self.numbers(residual),
        );
        members.push(add, Work::default(), 3 * self.numbers(residual));
        self.members_op(members.as_slice(), |device| {
            device.linear_residual(linear, x, residual, y);
        });
        self.see(add, "y", y);
    }

    fn product(
        &mut self,
        name: &str,
        linear: &Linear<D>,
        x: &D::Tensor,
        y: &mut D::Tensor,
        kernel: impl FnOnce(&mut D, &Linear<D>, &D::Tensor, &mut D::Tensor),
    ) {
        let work = check_product(name, linear, x, y);
        self.op(
            linear.module,
            || work,
            |device| kernel(device, linear, x, y),
        );
        self.see(linear.module, "y", y);
    }

    /// y = silu(conv(x) + bias); `state` `[d_conv − 1, conv_dim]` holds the inputs before x and is updated.
    pub fn causal_conv1d(
        &mut self,
        conv: &Conv1d<D>,
        x: Cols<D::Tensor>,
        state: &mut D::Tensor,
        y: &mut D::Tensor,
    ) {
        let (d_conv, channels, rows) = (conv.weight.rows(), conv.weight.cols(), x.tensor.rows());
        let widths = (x.len, y.cols(), conv.bias.cols());
        let expected = (channels, channels, channels);
        assert_eq!(widths, expected, "causal_conv1d: x, y and bias");
        let found = (state.rows(), state.cols());
        assert_eq!(found, (d_conv - 1, channels), "causal_conv1d: the state");
        check_cols("causal_conv1d", rows, &x);
        check_capacity("causal_conv1d", rows, y);
        self.op(
            conv.module,
            || work::causal_conv1d(rows, d_conv, channels),
            |device| device.causal_conv1d(conv, x, state, y),
        );
        self.see(conv.module, "y", y);
        self.see(conv.module, "state", state);
    }

    /// S ← exp(dt·A)·S + dt·x⊗B; y = C·S + D·x; `state` `[H·P, N]` is updated.
    pub fn ssm_scan(
        &mut self,
        ssm: &Ssm<D>,
        input: SsmInput<D::Tensor>,
        state: &mut D::Tensor,
        y: &mut D::Tensor,
    ) {
        let work = check_scan(ssm, &input, state, y);
        self.op(
            ssm.module,
            || work,
            |device| device.ssm_scan(ssm, input, state, y),
        );
        self.see(ssm.module, "y", y);
        self.see(ssm.module, "state", state);
    }

    /// Like [`Ops::ssm_scan`], from the state `before`, which is not changed; `state` gets the state after the last
    /// token.
    pub fn ssm_scan_from(
        &mut self,
        ssm: &Ssm<D>,
        input: SsmInput<D::Tensor>,
        before: &D::Tensor,
        state: &mut D::Tensor,
        y: &mut D::Tensor,
    ) {
        let work = check_scan(ssm, &input, state, y);
        let shapes = [before, &*state].map(|state| (state.rows(), state.cols()));
        assert_eq!(shapes[0], shapes[1], "ssm_scan_from: the states");
        self.op(
            ssm.module,
            || work,
            |device| device.ssm_scan_from(ssm, input, before, state, y),
        );
        self.see(ssm.module, "y", y);
        self.see(ssm.module, "state", state);
    }

    /// Rotates each head of each row of `xs`, of which there are one or two; row t is at `position + t`.
    pub fn rope(
        &mut self,
        module: ModuleId,
        rope: &Rope,
        position: usize,
        xs: &mut [&mut D::Tensor],
    ) {
        assert_eq!(rope.head_dim, 2 * rope.inv_freq.len(), "rope: frequencies");
        assert!((1..=2).contains(&xs.len()), "rope: one or two tensors");
        for x in xs.iter() {
            assert!(x.cols().is_multiple_of(rope.head_dim), "rope: whole heads");
            assert_eq!(x.rows(), xs[0].rows(), "rope: rows");
        }
        self.op(module, Work::default, |device| {
            device.rope(rope, position, xs);
        });
        for (x, name) in xs.iter_mut().zip(["q", "k"]) {
            self.see(module, name, x);
        }
    }

    /// Appends the rows of k and v and increases `cache.len`.
    pub fn append_kv(
        &mut self,
        module: ModuleId,
        k: &D::Tensor,
        v: &D::Tensor,
        cache: &mut KvCache<D>,
    ) {
        let rows = k.rows();
        let width = cache.shape.n_kv_heads * cache.shape.head_dim;
        let shapes = (k.cols(), v.cols(), v.rows());
        assert_eq!(shapes, (width, width, rows), "append_kv: k and v");
        assert!(
            cache.len + rows <= cache.context,
            "append_kv: cache is full"
        );
        let position_bytes = cache.format.bytes(&cache.shape, 1) as f64;
        self.op(
            module,
            || work::append_kv(rows, position_bytes),
            |device| device.append_kv(k, v, cache),
        );
        cache.len += rows;
    }

    /// Causal attention of the last `q.rows` positions in the cache.
    pub fn attention(
        &mut self,
        module: ModuleId,
        shape: &AttentionShape,
        q: &D::Tensor,
        cache: &KvCache<D>,
        y: &mut D::Tensor,
    ) {
        let (rows, width) = (q.rows(), shape.n_heads * shape.head_dim);
        assert_eq!((q.cols(), y.cols()), (width, width), "attention: q and y");
        let found = (cache.shape.n_kv_heads, cache.shape.head_dim);
        let expected = (shape.n_kv_heads, shape.head_dim);
        assert_eq!(found, expected, "attention: the cache");
        let grouped = shape.n_heads.is_multiple_of(shape.n_kv_heads);
        assert!(grouped, "attention: heads");
        assert!(rows <= cache.len, "attention: the queries are not cached");
        check_capacity("attention", rows, y);
        let position_bytes = cache.format.bytes(shape, 1) as f64;
        self.op(
            module,
            || work::attention(rows, cache.len - rows, width, position_bytes),
            |device| device.attention(shape, q, cache, y),
        );
        self.see(module, "y", y);
    }

    /// y = gelu(x[:, :d])·x[:, d:], with the exact (erf) GELU.
    pub fn gelu_mul(&mut self, module: ModuleId, x: &D::Tensor, y: &mut D::Tensor) {
        assert_eq!(x.cols(), 2 * y.cols(), "gelu_mul: x is [T, 2d], y [T, d]");
        check_capacity("gelu_mul", x.rows(), y);
        self.op(module, Work::default, |device| device.gelu_mul(x, y));
        self.see(module, "y", y);
    }

    /// y = [a, b] along the columns.
    pub fn concat(&mut self, module: ModuleId, a: &D::Tensor, b: &D::Tensor, y: &mut D::Tensor) {
        let shape = (b.rows(), y.cols());
        assert_eq!(shape, (a.rows(), a.cols() + b.cols()), "concat: a, b and y");
        check_capacity("concat", a.rows(), y);
        self.op(module, Work::default, |device| device.concat(a, b, y));
        self.see(module, "y", y);
    }

    /// y = a + b.
    pub fn add(&mut self, module: ModuleId, a: &D::Tensor, b: &D::Tensor, y: &mut D::Tensor) {
        let shapes = (b.rows(), b.cols(), y.cols());
        assert_eq!(shapes, (a.rows(), a.cols(), a.cols()), "add: a, b and y");
        check_capacity("add", a.rows(), y);
        self.op(module, Work::default, |device| device.add(a, b, y));
        self.see(module, "y", y);
    }

    /// y = one row of logits, those of tokens that `seen` marks with 1 as
    /// [`penalised`](crate::text::sampling::penalised). The chosen token of the list `chosen`, if there is one, is
    /// marked first.
    pub fn penalise(
        &mut self,
        (module, penalty): (ModuleId, f64),
        chosen: Option<&D::Tensor>,
        logits: &D::Tensor,
        seen: &mut D::Tensor,
        y: &mut D::Tensor,
    ) {
        let shapes = [logits.rows(), seen.rows(), seen.cols(), y.cols()];
        let cols = logits.cols();
        assert_eq!(shapes, [1, 1, cols, cols], "penalise: all are [1, vocab]");
        assert!(chosen.is_none_or(|list| list.rows() == 1), "penalise: list");
        check_capacity("penalise", 1, y);
        self.op(module, Work::default, |device| {
            device.penalise(penalty, chosen, logits, seen, y);
        });
    }

    /// y = the [`TopK`] of one row of logits.
    pub fn top(&mut self, module: ModuleId, logits: &D::Tensor, y: &mut D::Tensor) {
        assert_eq!(logits.rows(), 1, "top: logits are [1, vocab]");
        let places = TopK::places(y.cols());
        assert!((1..=TopK::MOST).contains(&places), "top: places");
        assert!(logits.cols() <= TopK::MOST_VOCAB, "top: vocabulary");
        check_capacity("top", 1, y);
        self.op(module, Work::default, |device| device.top(logits, y));
    }

    /// Draws a token from `top` and stores it there as the chosen one.
    pub fn draw(&mut self, module: ModuleId, draw: &Draw, top: &mut D::Tensor) {
        assert_eq!(top.rows(), 1, "draw: there is one list");
        assert!(
            (1..=TopK::places(top.cols())).contains(&draw.top_k),
            "draw: top_k"
        );
        self.op(module, Work::default, |device| device.draw(draw, top));
    }

    /// y = the last row of x.
    pub fn last_row(&mut self, x: &D::Tensor, y: &mut D::Tensor) {
        assert_eq!(x.cols(), y.cols(), "last_row: x is [T, d], y [1, d]");
        assert!(x.rows() > 0, "last_row: x has no rows");
        check_capacity("last_row", 1, y);
        self.unrecorded(|device| device.last_row(x, y));
    }

    /// y = x.
    pub fn copy(&mut self, x: &D::Tensor, y: &mut D::Tensor) {
        assert_eq!(x.cols(), y.cols(), "copy: x and y");
        check_capacity("copy", x.rows(), y);
        self.unrecorded(|device| device.copy(x, y));
    }
}

/// Asserts the shapes of a linear layer and counts its work.
fn check_product<D: Device>(name: &str, linear: &Linear<D>, x: &D::Tensor, y: &D::Tensor) -> Work {
    let weight = &linear.weight;
    let (d_out, d_in) = (weight.rows(), weight.cols());
    let widths = (x.cols(), y.cols());
    assert_eq!(
        widths,
        (d_in, d_out),
        "{name}: x is [T, d_in], y [T, d_out]"
    );
    if let Some(bias) = &linear.bias {
        assert_eq!((bias.rows(), bias.cols()), (1, d_out), "{name}: bias");
    }
    check_capacity(name, x.rows(), y);
    let has_bias = linear.bias.is_some();
    work::linear(x.rows(), [d_out, d_in], weight.format(), has_bias)
}

/// Asserts the shapes of a scan and counts its work.
fn check_scan<D: Device>(
    ssm: &Ssm<D>,
    input: &SsmInput<D::Tensor>,
    state: &D::Tensor,
    y: &D::Tensor,
) -> Work {
    let (d_inner, d_groups) = (ssm.n_heads * ssm.head_dim, ssm.n_groups * ssm.d_state);
    let SsmInput { x, b, c, dt, .. } = input;
    let rows = x.tensor.rows();
    let one = std::ptr::eq(x.tensor, b.tensor) && std::ptr::eq(x.tensor, c.tensor);
    assert!(one, "ssm_scan: x, b and c are columns of one tensor");
    let widths = [x.len, b.len, c.len, dt.len, y.cols()];
    let expected = [d_inner, d_groups, d_groups, ssm.n_heads, d_inner];
    assert_eq!(widths, expected, "ssm_scan: x, b, c, dt and y");
    let parameters = [&ssm.a, &ssm.d, &ssm.dt_bias].map(|t| (t.rows(), t.cols()));
    assert_eq!(parameters, [(1, ssm.n_heads); 3], "ssm_scan: a, d, dt_bias");
    let found = (state.rows(), state.cols());
    assert_eq!(found, (d_inner, ssm.d_state), "ssm_scan: the state");
    assert!(ssm.n_heads.is_multiple_of(ssm.n_groups), "ssm_scan: groups");
    for cols in [x, b, c, dt] {
        check_cols("ssm_scan", rows, cols);
    }
    check_capacity("ssm_scan", rows, y);
    work::ssm_scan(rows, ssm.n_heads, ssm.head_dim, ssm.d_state)
}

/// Asserts that `ys` are one or two tensors with room for `rows` rows of the table.
fn check_embedded<W: Weight, T: Tensor>(op: &str, rows: usize, table: &W, ys: &[&mut T]) {
    assert!((1..=2).contains(&ys.len()), "{op}: one or two outputs");
    for y in ys {
        assert_eq!(y.cols(), table.cols(), "{op}: y is [T, d]");
        check_capacity(op, rows, &**y);
    }
}

/// Asserts that `y` has capacity for `rows` rows.
fn check_capacity(op: &str, rows: usize, y: &impl Tensor) {
    let room = y.max_rows();
    assert!(rows <= room, "{op}: {rows} rows, and y was made for {room}");
}

/// Asserts that the columns lie within a tensor of `rows` rows.
fn check_cols<T: Tensor>(op: &str, rows: usize, cols: &Cols<T>) {
    assert_eq!(cols.tensor.rows(), rows, "{op}: rows");
    let end = cols.start + cols.len;
    assert!(end <= cols.tensor.cols(), "{op}: columns end at {end}");
}
