//! The WebGPU backend: ops that are recorded and run by a graphics adapter, the same shaders natively and in a browser.
//! It stands on floor 2 beside the model, which it never sees. Sums are f32 everywhere; results are right within the
//! tolerances of `tests/webgpu.rs` and not bit for bit those of the CPU.

mod adapter;
mod ceilings;
mod kernels;
mod buffer;
mod readback;
mod recorder;
mod timers;
mod weight;

use crate::backend::{
    AttentionShape, Backend, Ceilings, Cols, Conv1d, GatedNorm, KvCache, KvFormat, Linear,
    ModelSizes, Norm, Rope, Ssm, SsmInput,
};
use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::profile::{Level, NameId, OpenSpan, Profiler, SpanId, Work};
use crate::quant::{QMatrix, WeightFormat};
use crate::sampling::Top;
pub use adapter::{AdapterFacts, AdapterOptions};
use kernels::Kernel;
use buffer::Memory;
use readback::CAN_WAIT;
pub use recorder::Counts;
use recorder::Recorder;
pub use weight::WebGpuWeight;

/// Threads of a workgroup of the kernels that have one thread per number.
const THREADS: usize = 64;
/// Rows that a workgroup of `linear_vec` makes of one token, and of a few.
const ONE_ROWS: usize = 8;
const FEW_ROWS: usize = 4;
/// Up to this many bytes of quants a row is made by one thread: a workgroup would mostly be idle.
const SHORT_ROW_BYTES: usize = 256;
/// Rows and tokens that a workgroup of `linear_mat` makes.
const MAT_ROWS: usize = 64;
const MAT_TOKENS: usize = 32;
/// From this many tokens on, unpacking a weight once for several pays for the workgroup's memory that it passes.
const MAT_FROM: usize = 5;
/// Tokens that meet one another in the dual form of the scan.
const CHUNK: usize = 64;
/// From here on the dual form, whose tokens run side by side, takes the place of the recurrence.
const DUAL_FROM: usize = 8;
/// Rows and columns that a workgroup of `product` makes.
const PRODUCT_SIDE: usize = 32;
/// Channels of a workgroup of `ssm_scan`.
const SCAN_CHANNELS: usize = 4;
/// The widest state that `ssm_scan` has registers for.
const WIDEST_STATE: usize = 256;
/// The widest head that `attention` has registers for.
const WIDEST_HEAD: usize = 512;
/// Positions that one workgroup of `attention` takes at least when they are split, and the most splits.
const SPLIT_LEN: usize = 256;
const MOST_SPLITS: usize = 32;
/// Tokens in the uniform block of `embed`, after eight other words.
const EMBED_TOKENS: usize = 64;
/// Numbers that kernels read at once.
const FOUR: usize = 4;
/// Logits of which a workgroup of `top_groups` leaves the largest.
const TOP_GROUP: usize = 1024;
/// Flags of a linear kernel.
const ADD_BIAS: u32 = 1;
const ADD_TO_Y: u32 = 2;

/// f32 `[rows, cols]`, row-major; the memory of the largest row count stays.
pub struct WebGpuTensor {
    rows: usize,
    cols: usize,
    most_rows: usize,
    memory: Memory,
}

impl WebGpuTensor {
    /// Makes the tensor `rows` high for an op that writes all of it.
    fn resize(&mut self, rows: usize) {
        assert!(
            rows <= self.most_rows,
            "more rows than the tensor was made for"
        );
        self.rows = rows;
    }

    fn bytes(&self) -> usize {
        4 * self.rows * self.cols
    }
}

/// Keys and values of one layer. // keys, values [context, kv heads, fours]
pub struct WebGpuKvRows {
    format: KvFormat,
    keys: Memory,
    values: Memory,
    /// Of eight bits: a key's and a value's scale. // [context, kv heads, 2]
    scales: Memory,
    n_kv_heads: usize,
    head_dim: usize,
    context: usize,
}

impl WebGpuKvRows {
    /// Bytes of one head's keys, or values, at one position, padded to whole fours.
    fn head_bytes(&self) -> usize {
        let four_bytes = match self.format {
            KvFormat::F32 => 4 * FOUR,
            KvFormat::I8 => FOUR,
        };
        self.head_dim.div_ceil(FOUR) * four_bytes
    }

    /// Bytes of one head's keys, or values, at one position, without padding and scale.
    fn number_bytes(&self) -> usize {
        match self.format {
            KvFormat::F32 => 4 * self.head_dim,
            KvFormat::I8 => self.head_dim,
        }
    }

    /// Heads of `len` positions.
    fn heads(&self, len: usize) -> usize {
        len * self.n_kv_heads
    }
}

/// Memory between the kernels of one op; it grows and is used again.
struct Scratch {
    numbers: usize,
    memory: Memory,
}

impl Scratch {
    fn new(recorder: &mut Recorder) -> Scratch {
        Scratch {
            numbers: 0,
            memory: recorder.make(0),
        }
    }

    fn at_least(&mut self, recorder: &mut Recorder, numbers: usize) -> &Memory {
        if self.numbers < numbers {
            self.numbers = numbers;
            self.memory = recorder.make(4 * numbers as u64);
        }
        &self.memory
    }

    /// Takes the rows of `x`, each padded with zeros to `cols` numbers. No published model needs it.
    fn take_rows(&mut self, recorder: &mut Recorder, x: &WebGpuTensor, cols: usize) -> &Memory {
        self.at_least(recorder, x.rows * cols);
        recorder.clear(&self.memory);
        let to = Place {
            memory: &self.memory,
            start: 0,
            stride: cols,
        };
        copy_rows(recorder, whole(x), to, x.rows, x.cols);
        &self.memory
    }
}

/// Cosines and sines of every position and frequency. // [positions, half]
struct RopeTable {
    inv_freq: Vec<f32>,
    positions: usize,
    turns: Memory,
}

/// Calls the body with each piece of the bytes and its number; see [`Backend::for_each_piece`].
pub type HostThreads = Box<dyn Fn(&mut [u8], usize, &(dyn Fn(usize, &mut [u8]) + Sync))>;

pub struct WebGpu {
    /// The processor's part: weights are quantised there on their way to the device.
    host: HostThreads,
    recorder: Recorder,
    facts: AdapterFacts,
    profiler: Profiler,
    /// The block that was recorded last, and when that began.
    unfenced: Option<(SpanId, f64)>,
    /// For bindings that a call has nothing for.
    nothing: Memory,
    /// C·B of every two tokens of a chunk, and what is left of each, between the kernels of the scan's dual form.
    /// // [G, CHUNK, CHUNK] and [H, CHUNK, 1 + CHUNK]
    ssm_cb: Scratch,
    ssm_left: Scratch,
    rope_table: Option<RopeTable>,
    /// Rows whose length no kernel can read in fours.
    padded: Scratch,
    /// What the splits of an attention leave for one another. // [T, heads, splits, 2 + d]
    attention_parts: Scratch,
    /// The largest logits of each group, between the two kernels of `top`. // [groups, 2 + 2k]
    top_groups: Scratch,
}

/// Words of a kernel's uniform block.
fn word(number: usize) -> u32 {
    u32::try_from(number).expect("sizes on a device are below 2³²")
}

/// Workgroups for `width` numbers of each of `rows` rows, one thread each.
fn per_number(width: usize, rows: usize) -> [usize; 3] {
    [width.div_ceil(THREADS), rows, 1]
}

fn product<const N: usize>(sizes: [usize; N]) -> u64 {
    sizes.into_iter().map(|size| size as u64).product()
}

/// A rectangle of a buffer of numbers.
struct Place<'a> {
    memory: &'a Memory,
    start: usize,
    stride: usize,
}

impl WebGpu {
    /// Opens the adapter that the system likes best.
    ///
    /// # Errors
    /// [`crate::error::Error::NoAdapter`] with the reason.
    pub async fn open(options: AdapterOptions, host: HostThreads) -> Result<WebGpu> {
        let open = adapter::open(options).await?;
        let facts = open.facts.clone();
        let mut recorder = Recorder::new(open);
        Ok(WebGpu {
            host,
            nothing: recorder.make(0),
            ssm_cb: Scratch::new(&mut recorder),
            ssm_left: Scratch::new(&mut recorder),
            padded: Scratch::new(&mut recorder),
            attention_parts: Scratch::new(&mut recorder),
            top_groups: Scratch::new(&mut recorder),
            recorder,
            facts,
            profiler: Profiler::default(),
            unfenced: None,
            rope_table: None,
        })
    }

    pub fn adapter(&self) -> &AdapterFacts {
        &self.facts
    }

    /// The real step of the device's clock in microseconds, as far as it has been read; none if it has no clock.
    pub fn timestamp_step_us(&self) -> Option<f64> {
        self.recorder.timestamp_step_us()
    }

    /// What the device can do at best.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn ceilings(&mut self) -> Result<Ceilings> {
        ceilings::measure(self).await
    }

    pub fn counts(&self) -> Counts {
        self.recorder.counts()
    }

    /// Records one op, whose work is `work`, under a span.
    fn op(&mut self, name: &'static str, work: Work, body: impl FnOnce(&mut Recorder)) {
        let span = self.open_op(name);
        body(&mut self.recorder);
        self.close_op(span, work);
    }

    fn open_op(&mut self, name: &'static str) -> OpenSpan {
        let span = self.profiler.open_op(name);
        self.recorder.set_span(self.profiler.innermost());
        span
    }

    fn close_op(&mut self, span: OpenSpan, work: Work) {
        if self.profiler.level() == Level::Module {
            self.end_work();
        }
        self.profiler.close(span, work);
    }

    /// Without a clock of the device the host's must do: then a span ends when its work is done. In a browser nobody can
    /// wait inside an op, and [`Backend::fence`] does it from block to block.
    fn end_work(&mut self) {
        if self.facts.timestamp_period_ns.is_none() {
            self.recorder.finish();
        }
    }

    async fn read_memory(&mut self, memory: &Memory, bytes: u64) -> Result<Vec<u8>> {
        let (read, times) = self.recorder.read(memory, bytes).await?;
        for time in times {
            self.profiler
                .note_device_time(time.span, time.start_us, time.end_us);
        }
        Ok(read)
    }

    fn multiply(
        &mut self,
        linear: &Linear<WebGpu>,
        x: &WebGpuTensor,
        add: u32,
        y: &mut WebGpuTensor,
    ) {
        let weight = &linear.weight;
        assert_eq!(
            (x.cols, y.cols),
            (weight.cols, weight.rows),
            "{}",
            linear.name
        );
        y.resize(x.rows);
        let bias_bytes = linear.bias.as_ref().map_or(0, WebGpuTensor::bytes);
        let work = Work {
            flops: 2 * product([x.rows, weight.cols, weight.rows]),
            bytes: (weight.bytes + bias_bytes) as u64,
        };
        let (kernels, rows, tokens) = match x.rows {
            ..MAT_FROM if weight.row_bytes() <= SHORT_ROW_BYTES => {
                let kernels = [
                    Kernel::LinearShortF32,
                    Kernel::LinearShortQ8,
                    Kernel::LinearShortQ4,
                ];
                (kernels, THREADS, 1)
            }
            1 => {
                let kernels = [
                    Kernel::LinearOneF32,
                    Kernel::LinearOneQ8,
                    Kernel::LinearOneQ4,
                ];
                (kernels, ONE_ROWS, 1)
            }
            2..MAT_FROM => {
                let kernels = [
                    Kernel::LinearFewF32,
                    Kernel::LinearFewQ8,
                    Kernel::LinearFewQ4,
                ];
                (kernels, FEW_ROWS, MAT_FROM)
            }
            _ => {
                let kernels = [
                    Kernel::LinearMatF32,
                    Kernel::LinearMatQ8,
                    Kernel::LinearMatQ4,
                ];
                (kernels, MAT_ROWS, MAT_TOKENS)
            }
        };
        let kernel = match weight.format {
            WeightFormat::F32 => kernels[0],
            WeightFormat::Q8 => kernels[1],
            WeightFormat::Q4 => kernels[2],
        };
        let span = self.open_op(linear.name);
        let (bias, add) = match &linear.bias {
            Some(bias) => (&bias.memory, add | ADD_BIAS),
            None => (&self.nothing, add),
        };
        let x_cols = x.cols.next_multiple_of(FOUR);
        let x_memory = if x_cols == x.cols {
            &x.memory
        } else {
            self.padded.take_rows(&mut self.recorder, x, x_cols)
        };
        for part in &weight.parts {
            let uniforms = [
                x.rows,
                part.rows,
                weight.n_groups,
                x_cols / FOUR,
                part.first_row,
                weight.rows,
                add as usize,
            ];
            self.recorder.dispatch(
                kernel,
                &[&part.quants, &part.scales, bias, x_memory, &y.memory],
                &uniforms.map(word),
                [part.rows.div_ceil(rows), x.rows.div_ceil(tokens), 1],
            );
        }
        self.close_op(span, work);
    }

    /// Row `first_token + t` of y is row `tokens[t]` of the table, or, for one token that the host does not know, the row
    /// with the number at `chosen` of a tensor.
    fn look_up(
        &mut self,
        table: &Linear<WebGpu>,
        tokens: &[u32],
        first_token: usize,
        chosen: Option<(&WebGpuTensor, usize)>,
        y: &mut WebGpuTensor,
    ) {
        let weight = &table.weight;
        assert_eq!(y.cols, weight.cols);
        y.resize(first_token + tokens.len());
        let kernel = match weight.format {
            WeightFormat::F32 => Kernel::EmbedF32,
            WeightFormat::Q8 => Kernel::EmbedQ8,
            WeightFormat::Q4 => Kernel::EmbedQ4,
        };
        let work = Work::moving(tokens.len() * weight.bytes / weight.rows);
        let span = self.open_op("embed_tokens");
        let (numbers, chosen_end) = match chosen {
            Some((tensor, at)) => (&tensor.memory, at + 1),
            None => (&self.nothing, 0),
        };
        for part in &weight.parts {
            let sizes = [
                weight.n_groups,
                weight.cols,
                part.first_row,
                part.rows,
                first_token,
                chosen_end,
            ];
            let mut uniforms = [0; 8 + EMBED_TOKENS];
            uniforms[..sizes.len()].copy_from_slice(&sizes.map(word));
            uniforms[8..][..tokens.len()].copy_from_slice(tokens);
            self.recorder.dispatch(
                kernel,
                &[&part.quants, &part.scales, numbers, &y.memory],
                &uniforms,
                per_number(weight.n_groups, tokens.len()),
            );
        }
        self.close_op(span, work);
    }

    /// The table of `rope` with at least `positions` positions.
    fn turns(&mut self, rope: &Rope, positions: usize) -> &Memory {
        let known = self.rope_table.take();
        let known = known.filter(|t| t.inv_freq == rope.inv_freq && t.positions >= positions);
        let table = known.unwrap_or_else(|| {
            // It grows by doubling, so a long sequence rebuilds it a few times only.
            let positions = positions.next_power_of_two().max(256);
            let turns = (0..positions).flat_map(|position| {
                let angles = rope.inv_freq.iter().map(move |freq| position as f32 * freq);
                angles.flat_map(|angle| [angle.cos(), angle.sin()])
            });
            let bytes: Vec<u8> = turns.flat_map(|turn| turn.to_le_bytes()).collect();
            RopeTable {
                inv_freq: rope.inv_freq.clone(),
                positions,
                turns: self.recorder.make_from(&bytes),
            }
        });
        &self.rope_table.insert(table).turns
    }
}

/// Records the copy of `rows` rows of `width` numbers.
fn copy_rows(recorder: &mut Recorder, from: Place, to: Place, rows: usize, width: usize) {
    let uniforms = [width, from.start, from.stride, to.start, to.stride];
    recorder.dispatch(
        Kernel::Copy,
        &[from.memory, to.memory],
        &uniforms.map(word),
        per_number(width, rows),
    );
}

fn whole(tensor: &WebGpuTensor) -> Place<'_> {
    Place {
        memory: &tensor.memory,
        start: 0,
        stride: tensor.cols,
    }
}

impl Backend for WebGpu {
    type Tensor = WebGpuTensor;
    type Weight = WebGpuWeight;
    type KvRows = WebGpuKvRows;

    /// Waiting for the device costs most where tokens are fast: eight of them share one wait.
    const TOKENS_AHEAD: usize = 8;

    fn check_sizes(&self, sizes: &ModelSizes) -> Result<()> {
        let ModelSizes {
            attention,
            d_state,
            context,
            kv_format,
        } = sizes;
        // Keys, or values, are one binding.
        let kv_bytes = kv_format.bytes(attention, *context) / 2;
        let limit_bytes = self.facts.max_binding_bytes;
        let fact = match () {
            () if attention.head_dim > WIDEST_HEAD => format!(
                "its heads have {} numbers, and the attention kernel takes {WIDEST_HEAD}",
                attention.head_dim
            ),
            () if *d_state > WIDEST_STATE => format!(
                "its states have {d_state} numbers per channel, and the scan takes {WIDEST_STATE}"
            ),
            () if kv_bytes > limit_bytes => format!(
                "the keys of {context} positions take {kv_bytes} bytes, and the adapter binds {limit_bytes} at once"
            ),
            () => return Ok(()),
        };
        Err(Error::DeviceLimit { fact })
    }

    fn tensor(&mut self, rows: usize, cols: usize) -> WebGpuTensor {
        WebGpuTensor {
            rows,
            cols,
            most_rows: rows,
            memory: self.recorder.make(4 * product([rows, cols])),
        }
    }

    fn constant(&mut self, rows: usize, cols: usize, values: Vec<f32>) -> WebGpuTensor {
        assert_eq!(values.len(), rows * cols);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        WebGpuTensor {
            rows,
            cols,
            most_rows: rows,
            memory: self.recorder.make_from(&bytes),
        }
    }

    fn for_each_piece(
        &self,
        data: &mut [u8],
        piece: usize,
        body: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) {
        (self.host)(data, piece, body);
    }

    fn upload(&mut self, matrix: QMatrix) -> WebGpuWeight {
        WebGpuWeight::new(&mut self.recorder, &matrix, self.facts.max_binding_bytes)
    }

    fn kv_rows(
        &mut self,
        shape: &AttentionShape,
        context: usize,
        format: KvFormat,
    ) -> WebGpuKvRows {
        assert!(shape.head_dim <= WIDEST_HEAD, "the head is too wide");
        let mut rows = WebGpuKvRows {
            format,
            keys: self.recorder.make(0),
            values: self.recorder.make(0),
            scales: self.recorder.make(0),
            n_kv_heads: shape.n_kv_heads,
            head_dim: shape.head_dim,
            context,
        };
        let bytes = product([rows.heads(context), rows.head_bytes()]);
        rows.keys = self.recorder.make(bytes);
        rows.values = self.recorder.make(bytes);
        if format == KvFormat::I8 {
            rows.scales = self.recorder.make(8 * rows.heads(context) as u64);
        }
        rows
    }

    fn clear(&mut self, x: &mut WebGpuTensor) {
        self.recorder.clear(&x.memory);
    }

    fn embed(&mut self, table: &Linear<WebGpu>, tokens: &[u32], y: &mut WebGpuTensor) {
        for (i, tokens) in tokens.chunks(EMBED_TOKENS).enumerate() {
            self.look_up(table, tokens, i * EMBED_TOKENS, None, y);
        }
    }

    fn rms_norm(&mut self, norm: &Norm<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!((x.cols, y.cols), (norm.weight.cols, norm.weight.cols));
        y.resize(x.rows);
        self.op(norm.name, Work::moving(norm.weight.bytes()), |recorder| {
            recorder.dispatch(
                Kernel::RmsNorm,
                &[&norm.weight.memory, &x.memory, &y.memory],
                &[word(x.cols), norm.eps.to_bits()],
                [x.rows, 1, 1],
            );
        });
    }

    fn gated_rms_norm(
        &mut self,
        norm: &GatedNorm<WebGpu>,
        x: &WebGpuTensor,
        gate: Cols<WebGpuTensor>,
        y: &mut WebGpuTensor,
    ) {
        assert_eq!((x.cols, y.cols, gate.len), (y.cols, gate.len, x.cols));
        y.resize(x.rows);
        let work = Work::moving(norm.weight.bytes());
        self.op("mamba.norm", work, |recorder| {
            let width = x.cols / norm.n_groups;
            let sizes = [width, norm.n_groups, gate.start, gate.tensor.cols];
            let [width, n_groups, start, stride] = sizes.map(word);
            recorder.dispatch(
                Kernel::GatedRmsNorm,
                &[
                    &norm.weight.memory,
                    &x.memory,
                    &gate.tensor.memory,
                    &y.memory,
                ],
                &[width, n_groups, start, stride, norm.eps.to_bits()],
                [norm.n_groups, x.rows, 1],
            );
        });
    }

    fn linear(&mut self, linear: &Linear<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        self.multiply(linear, x, 0, y);
    }

    fn linear_add(&mut self, linear: &Linear<WebGpu>, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        self.multiply(linear, x, ADD_TO_Y, y);
    }

    fn causal_conv1d(
        &mut self,
        conv: &Conv1d<WebGpu>,
        x: Cols<WebGpuTensor>,
        state: &mut WebGpuTensor,
        y: &mut WebGpuTensor,
    ) {
        let (rows, channels) = (x.tensor.rows, x.len);
        assert_eq!((conv.bias.cols, y.cols), (channels, channels));
        y.resize(rows);
        let work = Work {
            flops: 2 * product([rows, conv.weight.rows, channels]),
            bytes: (conv.weight.bytes() + conv.bias.bytes() + 2 * state.bytes()) as u64,
        };
        self.op("mamba.conv1d", work, |recorder| {
            let uniforms = [rows, channels, conv.weight.rows, x.start, x.tensor.cols];
            let buffers = [
                &conv.weight.memory,
                &conv.bias.memory,
                &x.tensor.memory,
                &state.memory,
                &y.memory,
            ];
            let mut run = |kernel, rows| {
                let workgroups = per_number(channels, rows);
                recorder.dispatch(kernel, &buffers, &uniforms.map(word), workgroups);
            };
            if rows < MAT_FROM {
                run(Kernel::Conv1d, 1);
            } else {
                run(Kernel::Conv1dRows, rows);
                run(Kernel::Conv1dState, 1);
            }
        });
    }

    fn ssm_scan(
        &mut self,
        ssm: &Ssm<WebGpu>,
        input: SsmInput<WebGpuTensor>,
        state: &mut WebGpuTensor,
        y: &mut WebGpuTensor,
    ) {
        assert!(ssm.d_state <= WIDEST_STATE, "the state is too wide");
        let SsmInput {
            x,
            b,
            c,
            dt,
            dt_min,
        } = input;
        let xbc = x.tensor;
        assert!(
            std::ptr::eq(xbc, b.tensor) && std::ptr::eq(xbc, c.tensor),
            "x, b and c are columns of one tensor, which kernels bind once"
        );
        let (rows, n_heads) = (xbc.rows, ssm.n_heads);
        assert_eq!((x.len, y.cols), (n_heads * ssm.head_dim, x.len));
        y.resize(rows);
        let parameters = [&ssm.a, &ssm.d, &ssm.dt_bias].map(WebGpuTensor::bytes);
        let work = Work {
            // The recurrence, as on every device: a decay, two for the input and two for the output of each number of
            // the state; dt·x and D·x for each channel.
            flops: product([
                rows,
                n_heads,
                5 * ssm.head_dim * ssm.d_state + 3 * ssm.head_dim,
            ]),
            bytes: (parameters.iter().sum::<usize>() + 2 * state.bytes()) as u64,
        };
        let span = self.open_op("mamba.ssm");
        let uniforms = |first: usize, n_tokens: usize| {
            let sizes = [
                first,
                n_tokens,
                n_heads,
                ssm.head_dim,
                ssm.d_state,
                ssm.n_groups,
                x.start,
                b.start,
                c.start,
                xbc.cols,
                dt.start,
                dt.tensor.cols,
            ];
            let mut uniforms = sizes.map(word).to_vec();
            uniforms.push(dt_min.to_bits());
            uniforms
        };
        let recorder = &mut self.recorder;
        let dt = [&dt.tensor.memory, &ssm.dt_bias.memory, &ssm.a.memory];
        if rows < DUAL_FROM {
            recorder.dispatch(
                Kernel::SsmScan,
                &[
                    &xbc.memory,
                    dt[0],
                    dt[1],
                    dt[2],
                    &ssm.d.memory,
                    &state.memory,
                    &y.memory,
                ],
                &uniforms(0, rows),
                [x.len.div_ceil(SCAN_CHANNELS), 1, 1],
            );
            self.close_op(span, work);
            return;
        }
        let cb = (self.ssm_cb).at_least(recorder, ssm.n_groups * CHUNK * CHUNK);
        let left = (self.ssm_left).at_least(recorder, n_heads * CHUNK * (1 + CHUNK));
        for first in (0..rows).step_by(CHUNK) {
            let n_tokens = CHUNK.min(rows - first);
            let uniforms = uniforms(first, n_tokens);
            let [tokens, channels, states] =
                [n_tokens, ssm.head_dim, ssm.d_state].map(|n| n.div_ceil(PRODUCT_SIDE));
            recorder.dispatch(
                Kernel::SsmDecays,
                &[dt[0], dt[1], dt[2], left],
                &uniforms,
                [n_heads, 1, 1],
            );
            recorder.dispatch(
                Kernel::SsmCb,
                &[&xbc.memory, cb],
                &uniforms,
                [tokens, tokens, ssm.n_groups],
            );
            recorder.dispatch(
                Kernel::SsmOutputs,
                &[
                    &xbc.memory,
                    cb,
                    left,
                    &ssm.d.memory,
                    &state.memory,
                    &y.memory,
                ],
                &uniforms,
                [tokens, channels, n_heads],
            );
            recorder.dispatch(
                Kernel::SsmState,
                &[&xbc.memory, left, &state.memory],
                &uniforms,
                [channels, states, n_heads],
            );
        }
        self.close_op(span, work);
    }

    fn rope(&mut self, rope: &Rope, position: usize, x: &mut WebGpuTensor) {
        let span = self.open_op("self_attn.rope");
        self.turns(rope, position + x.rows);
        let table = self.rope_table.as_ref().expect("it was just made");
        let (half, n_pairs) = (rope.head_dim / 2, x.cols / 2);
        self.recorder.dispatch(
            Kernel::Rope,
            &[&table.turns, &x.memory],
            &[position, half, n_pairs].map(word),
            per_number(n_pairs, x.rows),
        );
        self.close_op(span, Work::NONE);
    }

    fn append_kv(&mut self, k: &WebGpuTensor, v: &WebGpuTensor, cache: &mut KvCache<WebGpu>) {
        let (rows, len) = (&cache.rows, cache.len);
        assert!(len + k.rows <= rows.context, "the cache is full");
        let head_bytes = rows.format.head_bytes(rows.head_dim);
        let work = Work::moving(2 * rows.heads(k.rows) * head_bytes);
        let kernel = match rows.format {
            KvFormat::F32 => Kernel::AppendKvF32,
            KvFormat::I8 => Kernel::AppendKvI8,
        };
        self.op("self_attn.append_kv", work, |recorder| {
            recorder.dispatch(
                kernel,
                &[&k.memory, &v.memory, &rows.keys, &rows.values, &rows.scales],
                &[rows.n_kv_heads, rows.head_dim, len].map(word),
                [rows.n_kv_heads, k.rows, 2],
            );
        });
        cache.len += k.rows;
    }

    fn attention(
        &mut self,
        shape: &AttentionShape,
        q: &WebGpuTensor,
        cache: &KvCache<WebGpu>,
        y: &mut WebGpuTensor,
    ) {
        assert_eq!(q.cols, y.cols);
        y.resize(q.rows);
        let before = cache.len - q.rows;
        // Query t of these meets the keys before and t + 1 more; a pair is a product of heads and a sum of values.
        let pairs = product([q.rows, before]) + product([q.rows, q.rows + 1]) / 2;
        let work = Work {
            flops: 4 * q.cols as u64 * pairs,
            bytes: cache.rows.format.bytes(shape, cache.len),
        };
        let kernel = match cache.rows.format {
            KvFormat::F32 => Kernel::AttentionF32,
            KvFormat::I8 => Kernel::AttentionI8,
        };
        // Many queries fill a device by themselves.
        let wanted = if q.rows < MAT_FROM {
            cache.len.div_ceil(SPLIT_LEN).min(MOST_SPLITS)
        } else {
            1
        };
        let split_len = cache.len.div_ceil(wanted);
        let n_splits = cache.len.div_ceil(split_len);
        let n_fours = shape.head_dim.div_ceil(FOUR);
        let sizes = [
            shape.n_heads,
            shape.n_kv_heads,
            shape.head_dim,
            before + 1,
            n_splits,
            split_len,
            n_fours.next_power_of_two().min(THREADS),
        ];
        let [n_heads, n_kv_heads, head_dim, seen, splits, len, columns] = sizes.map(word);
        let part_numbers = q.rows * shape.n_heads * n_splits * (2 + shape.head_dim);
        let span = self.open_op("self_attn.attention");
        let rows = &cache.rows;
        let parts = if n_splits == 1 {
            &self.nothing
        } else {
            (self.attention_parts).at_least(&mut self.recorder, part_numbers)
        };
        let scale = shape.scale.to_bits();
        self.recorder.dispatch(
            kernel,
            &[
                &q.memory,
                &rows.keys,
                &rows.values,
                &rows.scales,
                &y.memory,
                parts,
            ],
            &[
                n_heads, n_kv_heads, head_dim, seen, scale, splits, len, columns,
            ],
            [shape.n_heads, q.rows, n_splits],
        );
        if n_splits > 1 {
            self.recorder.dispatch(
                Kernel::AttentionMerge,
                &[parts, &y.memory],
                &[n_heads, head_dim, splits],
                [shape.n_heads, q.rows, 1],
            );
        }
        self.close_op(span, work);
    }

    fn gelu_mul(&mut self, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!(x.cols, 2 * y.cols);
        y.resize(x.rows);
        self.op("feed_forward.act_fn", Work::NONE, |recorder| {
            recorder.dispatch(
                Kernel::GeluMul,
                &[&x.memory, &y.memory],
                &[word(y.cols)],
                per_number(y.cols, x.rows),
            );
        });
    }

    fn concat(&mut self, a: &WebGpuTensor, b: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!((a.rows, a.cols + b.cols), (b.rows, y.cols));
        y.resize(a.rows);
        self.op("shared_transformer.concat", Work::NONE, |recorder| {
            recorder.dispatch(
                Kernel::Concat,
                &[&a.memory, &b.memory, &y.memory],
                &[a.cols, b.cols].map(word),
                per_number(y.cols, a.rows),
            );
        });
    }

    fn add(&mut self, a: &WebGpuTensor, b: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!((a.rows, a.cols, a.cols), (b.rows, b.cols, y.cols));
        y.resize(a.rows);
        self.op("add", Work::NONE, |recorder| {
            recorder.dispatch(
                Kernel::Add,
                &[&a.memory, &b.memory, &y.memory],
                &[word(a.cols)],
                per_number(a.cols, a.rows),
            );
        });
    }

    fn last_row(&mut self, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!(x.cols, y.cols);
        y.resize(1);
        let from = Place {
            start: (x.rows - 1) * x.cols,
            ..whole(x)
        };
        self.recorder.set_span(self.profiler.innermost());
        copy_rows(&mut self.recorder, from, whole(y), 1, x.cols);
    }

    fn top(&mut self, logits: &WebGpuTensor, row: usize, y: &mut WebGpuTensor) {
        let (n, k) = (logits.cols, Top::places(y.cols));
        assert_eq!(logits.rows, 1);
        assert!((1..=Top::MOST).contains(&k) && n <= Top::MOST_VOCAB);
        y.resize(row + 1);
        let n_groups = n.div_ceil(TOP_GROUP);
        let numbers = n_groups * (2 + 2 * k);
        self.top_groups.at_least(&mut self.recorder, numbers);
        let span = self.open_op("sampling");
        self.recorder.dispatch(
            Kernel::TopGroups,
            &[&logits.memory, &self.top_groups.memory],
            &[n, k].map(word),
            [n_groups, 1, 1],
        );
        self.recorder.dispatch(
            Kernel::TopMerge,
            &[&self.top_groups.memory, &y.memory],
            &[n_groups, k, row * y.cols].map(word),
            [1, 1, 1],
        );
        self.close_op(span, Work::NONE);
    }

    fn embed_top(
        &mut self,
        table: &Linear<WebGpu>,
        top: &WebGpuTensor,
        row: usize,
        y: &mut WebGpuTensor,
    ) {
        let chosen = (top, row * top.cols + Top::FIRST_TOKEN);
        self.look_up(table, &[0], 0, Some(chosen), y);
    }

    fn copy(&mut self, x: &WebGpuTensor, y: &mut WebGpuTensor) {
        assert_eq!(x.cols, y.cols);
        y.resize(x.rows);
        self.recorder.set_span(self.profiler.innermost());
        copy_rows(&mut self.recorder, whole(x), whole(y), x.rows, x.cols);
    }

    fn flush(&mut self) {
        self.recorder.flush();
    }

    fn times_spans(&self) -> bool {
        self.facts.timestamp_period_ns.is_some() || CAN_WAIT
    }

    async fn fence(&mut self) -> Result<()> {
        // Reading waits for everything before it.
        self.recorder.read(&self.nothing, 4).await?;
        if let Some((block, start_us)) = self.unfenced.take() {
            self.profiler.note_device_time(block, start_us, now_us());
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        self.recorder.check()
    }

    async fn read(&mut self, x: &WebGpuTensor) -> Result<Vec<f32>> {
        let bytes = self.read_memory(&x.memory, x.bytes() as u64).await?;
        let numbers = bytes.as_chunks().0.iter();
        Ok(numbers.map(|number| f32::from_le_bytes(*number)).collect())
    }

    fn write(&mut self, values: &[f32], x: &mut WebGpuTensor) {
        assert_eq!(values.len(), self.numbers(x));
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.recorder.write(&x.memory, &bytes);
    }

    fn numbers(&self, x: &WebGpuTensor) -> usize {
        x.rows * x.cols
    }

    async fn read_kv(&mut self, cache: &KvCache<WebGpu>) -> Result<Vec<u8>> {
        let rows = &cache.rows;
        let (heads, kept_bytes) = (rows.heads(cache.len), rows.head_bytes());
        let bytes = product([heads, kept_bytes]);
        let keys = self.read_memory(&rows.keys, bytes).await?;
        let values = self.read_memory(&rows.values, bytes).await?;
        let scales = match rows.format {
            KvFormat::F32 => Vec::new(),
            KvFormat::I8 => self.read_memory(&rows.scales, 8 * heads as u64).await?,
        };
        let number_bytes = rows.number_bytes();
        let scale_bytes = rows.format.head_bytes(rows.head_dim) - number_bytes;
        let mut all = Vec::with_capacity(2 * heads * (number_bytes + scale_bytes));
        for head in 0..heads {
            for (half, kept) in [&keys, &values].into_iter().enumerate() {
                all.extend_from_slice(&kept[head * kept_bytes..][..number_bytes]);
                all.extend_from_slice(&scales[(2 * head + half) * scale_bytes..][..scale_bytes]);
            }
        }
        Ok(all)
    }

    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<WebGpu>) {
        cache.len = bytes.len() / self.kv_position_bytes(cache);
        let rows = &cache.rows;
        let scale_bytes = rows.format.head_bytes(rows.head_dim) - rows.number_bytes();
        let (mut kept, mut scales) = ([Vec::new(), Vec::new()], Vec::new());
        for (i, half) in bytes.chunks(rows.number_bytes() + scale_bytes).enumerate() {
            let (numbers, scale) = half.split_at(rows.number_bytes());
            let kept = &mut kept[i % 2];
            let end = kept.len() + rows.head_bytes();
            kept.extend_from_slice(numbers);
            kept.resize(end, 0);
            scales.extend_from_slice(scale);
        }
        let [keys, values] = kept;
        self.recorder.write(&rows.keys, &keys);
        self.recorder.write(&rows.values, &values);
        self.recorder.write(&rows.scales, &scales);
    }

    fn kv_position_bytes(&self, cache: &KvCache<WebGpu>) -> usize {
        let rows = &cache.rows;
        2 * rows.n_kv_heads * rows.format.head_bytes(rows.head_dim)
    }

    fn weight_bytes(&self, weight: &WebGpuWeight) -> usize {
        weight.bytes
    }

    fn kv_format(&self, rows: &WebGpuKvRows) -> KvFormat {
        rows.format
    }

    fn profiler(&mut self) -> &mut Profiler {
        &mut self.profiler
    }

    fn scope<R>(&mut self, name: NameId, body: impl FnOnce(&mut Self) -> R) -> R {
        let span = self.profiler.open_block(name);
        let (block, start_us) = (self.profiler.innermost(), now_us());
        let result = body(self);
        if self.profiler.level() >= Level::Block {
            self.end_work();
        }
        self.profiler.close(span, Work::NONE);
        // The outermost one of nested blocks closes last.
        self.unfenced = block.map(|block| (block, start_us));
        result
    }
}
