//! Inspections of the model: the results of `session::inspect`, with weights and half-lives as typed arrays.
//! `on_step(done, of)` returns a promise of a boolean, whether to continue; a call that it ends returns undefined.

use js_sys::{Array, Float32Array, Function, Object, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::api::Engine;
use crate::api::js::{JsResult, from_js, set, to_js, to_js_error};
use crate::session::{Ablation, InspectOptions, PredictionLengths};

#[wasm_bindgen]
impl Engine {
    /// Prefills `ids` in a pass of its own, which keeps the sequence: `{ texts, lens, half_lives, attention }`.
    pub async fn inspect(
        &mut self,
        ids: &[u32],
        options: JsValue,
        on_step: Function,
    ) -> JsResult<JsValue> {
        let options: InspectOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        let inspection =
            on_session!(session, s => s.inspect(ids, &options, goes_on(on_step)).await);
        let Some(inspection) = inspection.map_err(to_js_error)? else {
            return Ok(JsValue::UNDEFINED);
        };
        let array = |values: &[f32]| JsValue::from(Float32Array::from(values));
        let half_lives: Array = inspection.half_lives.iter().map(|row| array(row)).collect();
        let attention = Array::new();
        for visit in &inspection.attention {
            let object = Object::new();
            set(&object, "block", visit.block.into())?;
            set(&object, "shared", visit.shared.into())?;
            set(&object, "weights", array(&visit.weights))?;
            attention.push(&object);
        }
        let object = Object::new();
        set(&object, "texts", to_js(&inspection.texts)?)?;
        set(&object, "lens", to_js(&inspection.lens)?)?;
        set(&object, "half_lives", half_lives.into())?;
        set(&object, "attention", attention.into())?;
        Ok(object.into())
    }

    /// Predictions after `ids` with and without a part of the model, `{ block, part: "block" | "shared" }`: `{ kl_nats,
    /// whole, ablated }`. Keeps the sequence.
    pub async fn ablate(
        &mut self,
        ids: &[u32],
        ablation: JsValue,
        top_k: usize,
        max_tokens: usize,
        on_step: Function,
    ) -> JsResult<JsValue> {
        let ablation: Ablation = from_js("options", &ablation)?;
        let lengths = PredictionLengths { top_k, max_tokens };
        let session = self.session_mut().map_err(to_js_error)?;
        let effect =
            on_session!(session, s => s.ablate(ids, ablation, lengths, goes_on(on_step)).await);
        match effect.map_err(to_js_error)? {
            Some(effect) => to_js(&effect),
            None => Ok(JsValue::UNDEFINED),
        }
    }
}

/// A function that throws also ends the call.
fn goes_on(on_step: Function) -> impl AsyncFnMut(usize, usize) -> bool {
    async move |done, of| {
        let promise = on_step.call2(&JsValue::NULL, &done.into(), &of.into());
        match promise.map(|promise| JsFuture::from(Promise::from(promise))) {
            Ok(answer) => answer.await.is_ok_and(|goes_on| goes_on.is_truthy()),
            Err(_) => false,
        }
    }
}
