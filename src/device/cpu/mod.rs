//! The CPU device: ops compute at once, on the calling thread and the thread pool. Each op is in the file of its group.

mod attention;
mod ceilings;
mod conv1d;
mod elementwise;
mod embed;
mod kv_cache;
mod linear;
mod norm;
mod ssm_scan;
mod tensor;
mod top;

use crate::base::error::Result;
use crate::base::quant::WeightFormat;
pub use crate::base::simd::Width;
use crate::ops::device::{AttentionShape, Ceilings, Device, KvCache, KvFormat, Storage};
use crate::threads::pool::{Pieces, Pool};
pub use kv_cache::CpuKvRows;
use linear::Activations;
use linear::trusted_width;
pub use linear::{ArrivingWeight, CpuWeight};
use ssm_scan::ScanScratch;
pub use tensor::CpuTensor;

pub struct Cpu {
    pool: Pool,
    width: Width,
    activations: Activations,
    scan: ScanScratch,
}

impl Cpu {
    /// A device with `threads` threads, including the caller's.
    pub fn new(threads: usize) -> Cpu {
        Cpu::with_width(threads, trusted_width())
    }

    /// A device with vectors of one of the widths that this CPU has. The width changes the time taken, not the results.
    pub fn with_width(threads: usize, width: Width) -> Cpu {
        Cpu {
            pool: Pool::new(threads),
            width,
            activations: Activations::default(),
            scan: ScanScratch::default(),
        }
    }

    /// Number of threads in use.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Sets the number of threads in use, clamped to those that exist.
    pub fn set_threads(&mut self, threads: usize) {
        self.pool.set_threads(threads);
    }

    /// Measures the peak rates of this machine with these threads, for a model of `weights_bytes`: reads a buffer of
    /// this size, but 96 to 384 MiB. Takes one to three seconds.
    pub fn ceilings(&self, weights_bytes: u64) -> Ceilings {
        ceilings::measure(&self.pool, self.width, weights_bytes)
    }
}

impl Storage for Cpu {
    type Tensor = CpuTensor;
    type Weight = CpuWeight;
    type ArrivingWeight = ArrivingWeight;
    type KvRows = CpuKvRows;
    type Readback = Vec<f32>;
}

impl Device for Cpu {
    // Enough to reuse a weight while it is in a register, few enough that the widest activation of the 7B model stays
    // within 8 MB.
    const CHUNK_ROWS: usize = 64;
    const MAX_STEPS_IN_FLIGHT: usize = 1;
    // Only the scan's dual form sums in another order.
    const MAX_EXACT_ROWS: usize = ssm_scan::DUAL_FROM - 1;
    const USES_HOST_MEMORY: bool = true;
    const FUSES_RESIDUAL: bool = false;
    /// Two clock reads per block.
    const TIMES_BLOCKS_FREELY: bool = true;

    fn tensor(&mut self, rows: usize, cols: usize) -> CpuTensor {
        CpuTensor::new(rows, cols, vec![0.0; rows * cols])
    }

    fn constant(&mut self, rows: usize, cols: usize, values: Vec<f32>) -> CpuTensor {
        CpuTensor::new(rows, cols, values)
    }

    fn for_each_piece(
        &self,
        data: &mut [u8],
        piece: usize,
        body: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) {
        let pieces = data.len().div_ceil(piece);
        self.pool.run(pieces, Pieces::new(data, piece), body);
    }

    fn begin_weight(&mut self, format: WeightFormat, rows: usize, cols: usize) -> ArrivingWeight {
        ArrivingWeight::new(format, rows, cols)
    }

    fn push_rows(&mut self, weight: &mut ArrivingWeight, rows: &[u8]) {
        weight.push_rows(&self.pool, rows);
    }

    fn finish_weight(&mut self, weight: ArrivingWeight) -> CpuWeight {
        weight.finish()
    }

    fn kv_rows(&mut self, shape: &AttentionShape, context: usize, format: KvFormat) -> CpuKvRows {
        CpuKvRows::new(shape, context, format)
    }

    fn kv_format(&self, rows: &CpuKvRows) -> KvFormat {
        rows.format()
    }

    fn clear(&mut self, x: &mut CpuTensor) {
        x.clear();
    }

    fn write(&mut self, values: &[f32], x: &mut CpuTensor) {
        x.values_mut().copy_from_slice(values);
    }

    fn weight_bytes(&self, weight: &CpuWeight) -> usize {
        weight.bytes()
    }

    fn flush(&mut self) {}

    fn begin_read(&mut self, xs: &[&CpuTensor]) -> Vec<f32> {
        xs.iter().flat_map(|x| x.values()).copied().collect()
    }

    async fn finish_read(&mut self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    async fn read_kv(&mut self, cache: &KvCache<Cpu>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for position in 0..cache.len {
            cache.rows.save(position, &mut bytes);
        }
        Ok(bytes)
    }

    fn write_kv(&mut self, bytes: &[u8], cache: &mut KvCache<Cpu>) {
        let position_bytes = cache.format.bytes(&cache.shape, 1) as usize;
        for (position, bytes) in bytes.chunks(position_bytes).enumerate() {
            cache.rows.restore(position, bytes);
        }
    }
}
