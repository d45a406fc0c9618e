//! The self-test of a graphics device. A device that fails is opened again with fewer optional features: a driver with
//! wrong results for subgroups or f16 then only loses these features.

use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::api::js::{JsResult, to_js, to_js_error};
use crate::api::{AnySession, Engine};
use crate::base::error::{ErrorReport, Result};
use crate::device::webgpu::{AdapterOptions, Feature, FeatureFallback};
use crate::ops::trace::Level;
use crate::self_test;
use crate::session;

#[derive(Serialize)]
struct TestedDevice {
    /// The resolution of timestamps in microseconds; none if there are no timestamps or if they never advance.
    timestamp_step_us: Option<f64>,
    subgroups: bool,
    f16: bool,
    dropped: Vec<DroppedFeature>,
}

/// A feature that was left out, and the failure of the self-test while it was in use.
#[derive(Serialize)]
struct DroppedFeature {
    feature: Feature,
    fault: ErrorReport,
}

#[wasm_bindgen]
impl Engine {
    /// After `plan` and before any weights: compares the kernels of a graphics device with the CPU's, if necessary with
    /// fewer features: `{ timestamp_step_us, subgroups, f16, dropped: [{ feature, fault }] }`. `null` on the CPU, which
    /// needs no self-test.
    ///
    /// # Errors
    /// `self_test`, or the device's own failure: the model cannot run on this device.
    pub async fn test_device(&mut self) -> JsResult<JsValue> {
        let mut fallback = None;
        loop {
            let weights = self.settings.weights;
            let session = match self.session_mut().map_err(to_js_error)? {
                AnySession::Cpu(_) => return Ok(JsValue::NULL),
                AnySession::WebGpu(session) => session,
            };
            let config = session.config().clone();
            let ops = session.ops_mut();
            // Timestamps are needed to find their resolution.
            ops.profiler().set_level(Level::Module);
            let kv = session::kv_format(weights);
            let tested = self_test::run(ops, &config, weights, kv).await;
            ops.profiler().set_level(Level::Off);
            ops.profiler().discard();
            let device = ops.device();
            let fallback = fallback.get_or_insert_with(|| FeatureFallback::new(device.options()));
            let facts = device.adapter();
            let Err(fault) = tested else {
                let dropped = fallback.dropped(facts).into_iter();
                let dropped = dropped.map(|(feature, fault)| DroppedFeature {
                    feature,
                    fault: fault.report(),
                });
                return to_js(&TestedDevice {
                    timestamp_step_us: device.timestamp_step_us(),
                    subgroups: facts.subgroups,
                    f16: facts.f16,
                    dropped: dropped.collect(),
                });
            };
            let options = fallback.next(facts, fault).map_err(to_js_error)?;
            self.reopen(options).await.map_err(to_js_error)?;
        }
    }
}

impl Engine {
    /// Replaces the session, which has no weights yet, by one on another device.
    async fn reopen(&mut self, options: AdapterOptions) -> Result<()> {
        let tokenizer = match self.session.take() {
            Some(AnySession::WebGpu(session)) => session.into_tokenizer(),
            _ => None,
        };
        // The old device is closed by now, because two would need twice the memory.
        self.webgpu = Some(self.open_adapter(options).await?);
        self.open_session(tokenizer).map(drop)
    }

    /// The short part of the self-test, with the weights in the device's memory.
    pub(super) async fn test_device_again(&mut self) -> Result<()> {
        let weights = self.settings.weights;
        match self.session_mut()? {
            AnySession::Cpu(_) => Ok(()),
            AnySession::WebGpu(session) => {
                let config = session.config().clone();
                let kv = session::kv_format(weights);
                self_test::run_decode_step(session.ops_mut(), &config, weights, kv).await
            }
        }
    }
}
