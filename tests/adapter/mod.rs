//! Opens this machine's graphics adapter for a test.

use pollster::block_on;
use zamba2::base::error::Result;
use zamba2::device::webgpu::{AdapterOptions, HostThreads, WebGpu};

/// The system's default adapter, with one host thread for quantising.
pub fn open(options: AdapterOptions) -> Result<WebGpu> {
    let one_thread: HostThreads = Box::new(|data, piece, body| {
        let pieces = data.chunks_mut(piece).enumerate();
        pieces.for_each(|(i, piece)| body(i, piece));
    });
    block_on(WebGpu::open(options, one_thread))
}
