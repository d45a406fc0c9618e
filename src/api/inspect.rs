//! Inspections of the model: what `session::inspect` gives, with weights and half-lives as typed arrays.

use js_sys::{Array, Float32Array, Object};
use wasm_bindgen::prelude::*;

use crate::api::Engine;
use crate::api::js::{JsResult, from_js, set, to_js, to_js_error};
use crate::session::{Ablation, InspectOptions};

#[wasm_bindgen]
impl Engine {
    /// Reads `ids` in a pass of its own, which leaves the sequence: `{ texts, lens, half_lives, attention }`.
    pub async fn inspect(&mut self, ids: &[u32], options: JsValue) -> JsResult<JsValue> {
        let options: InspectOptions = from_js("options", &options)?;
        let session = self.session_mut().map_err(to_js_error)?;
        let inspection = on_session!(session, s => s.inspect(ids, &options).await);
        let inspection = inspection.map_err(to_js_error)?;
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

    /// The distribution after `ids` with and without a part of the model, `{ block, part: "block" | "shared" }`:
    /// `{ kl_nats, whole, ablated }`. Leaves the sequence.
    pub async fn ablate(
        &mut self,
        ids: &[u32],
        ablation: JsValue,
        top_k: usize,
    ) -> JsResult<JsValue> {
        let ablation: Ablation = from_js("options", &ablation)?;
        let session = self.session_mut().map_err(to_js_error)?;
        let effect = on_session!(session, s => s.ablate(ids, ablation, top_k).await);
        to_js(&effect.map_err(to_js_error)?)
    }
}
