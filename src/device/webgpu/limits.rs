//! Checks that a model's sizes are supported by the kernels and fit the adapter's bindings.

use crate::base::error::{Error, Fact, Result};
use crate::device::webgpu::attention::MAX_HEAD_DIM;
use crate::device::webgpu::kv_cache::padded_head_bytes;
use crate::device::webgpu::product;
use crate::device::webgpu::ssm_scan::MAX_STATE;
use crate::ops::device::ModelSizes;

/// # Errors
/// [`Error::DeviceLimit`] with the size that is too large.
pub fn check_sizes(sizes: &ModelSizes, max_binding_bytes: u64) -> Result<()> {
    let ModelSizes {
        attention,
        d_state,
        context,
        kv_format,
    } = sizes;
    let head_dim = attention.head_dim;
    // Keys and values are one binding each.
    let head_bytes = padded_head_bytes(*kv_format, head_dim);
    let key_bytes = product([*context, attention.n_kv_heads, head_bytes]);
    let fact = if head_dim > MAX_HEAD_DIM {
        Fact::new("wide_heads")
            .with("head_dim", head_dim)
            .with("limit", MAX_HEAD_DIM)
    } else if *d_state > MAX_STATE {
        Fact::new("wide_states")
            .with("d_state", *d_state)
            .with("limit", MAX_STATE)
    } else if key_bytes > max_binding_bytes {
        Fact::new("large_keys")
            .with("context", *context)
            .with("kv_bytes", key_bytes)
            .with("limit_bytes", max_binding_bytes)
    } else {
        return Ok(());
    };
    Err(Error::DeviceLimit { fact })
}
