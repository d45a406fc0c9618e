//! The choice of kernel variants on a graphics device, and the benchmark of all of them.

use js_sys::Function;
use wasm_bindgen::prelude::*;

use crate::api::js::{JsResult, from_js, to_js, to_js_error};
use crate::api::{AnySession, Engine, out_of_order};
use crate::base::error::Error;
use crate::bench::grid::{self, GridSettings, Selection};
use crate::ops::device::KernelChoice;
use crate::session::TRIAL_US;

#[wasm_bindgen]
impl Engine {
    /// After `test_device`, if [`Engine::choose_kernels`] will measure: begins to compile what it compares, while the
    /// weights arrive.
    pub fn compile_variants(&mut self) -> JsResult<()> {
        let weights = self.settings.weights;
        if let AnySession::WebGpu(session) = self.session_mut().map_err(to_js_error)? {
            session.compile_variants(weights);
        }
        Ok(())
    }

    /// After `finish`, on a graphics device: measures the variants of its kernels for about 0.3 s and uses the fastest.
    /// `kept` is null or the result of an earlier call for this device, which is used again if its variants still give
    /// the same results. Returns `[{ op, variant, of }]`; empty on the CPU, and if the device fails its self-test with
    /// the choice.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn choose_kernels(&mut self, kept: JsValue) -> JsResult<JsValue> {
        let kept: Option<Vec<KernelChoice>> = from_js("kernels", &kept)?;
        let AnySession::WebGpu(session) = self.session_mut().map_err(to_js_error)? else {
            return to_js(&[(); 0]);
        };
        let kept = kept.unwrap_or_default();
        let chosen = session.choose_kernels(&kept, TRIAL_US).await;
        let chosen = chosen.map_err(to_js_error)?;
        match self.test_device_again().await {
            Ok(()) => to_js(&chosen),
            Err(Error::SelfTest { .. }) => {
                if let AnySession::WebGpu(session) = self.session_mut().map_err(to_js_error)? {
                    session.forget_kernels();
                }
                to_js(&[(); 0])
            }
            Err(error) => Err(to_js_error(error)),
        }
    }

    /// Compares and measures every variant of the kernels of the device of `open_webgpu`, and calls `on_line` with each
    /// line of `zamba2 bench-kernels --backend webgpu`. No measurement begins after `seconds`. Returns the number of
    /// remaining cells. `selection` is null or selects cells; with `only_check` nothing is measured; the lines name the
    /// adapter `adapter_name`. Afterwards the device is closed.
    ///
    /// # Errors
    /// The device's own failure.
    pub async fn bench_grid(
        &mut self,
        seconds: f64,
        selection: JsValue,
        only_check: bool,
        adapter_name: String,
        on_line: Function,
    ) -> JsResult<usize> {
        let selection: Option<Selection> = from_js("selection", &selection)?;
        let webgpu = self.webgpu.take();
        let webgpu = webgpu.ok_or_else(|| to_js_error(out_of_order("before_plan")))?;
        let settings = GridSettings {
            selection: selection.unwrap_or_default(),
            seconds,
            only_check,
            adapter_name: Some(adapter_name),
        };
        let emit = |line: &str| {
            // Errors of the listener are ignored.
            let _ = on_line.call1(&JsValue::NULL, &line.into());
            Ok(())
        };
        grid::run(webgpu, &settings, "", emit)
            .await
            .map_err(to_js_error)
    }
}
