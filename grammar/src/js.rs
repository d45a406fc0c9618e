//! The interface to JavaScript. `www/engine/constraint.js` loads this module when a call asks for it.

use wasm_bindgen::prelude::*;

use crate::{Constraint, Form, Result, TokenBytes, Vocabulary};

#[wasm_bindgen(js_name = Vocabulary)]
pub struct JsVocabulary(Vocabulary);

#[wasm_bindgen(js_class = Vocabulary)]
impl JsVocabulary {
    /// As [`Vocabulary::new`]. Fails with a sentence.
    #[wasm_bindgen(constructor)]
    pub fn new(
        bytes: &[u8],
        ends: &[u32],
        not_first: &[u32],
        end_tokens: &[u32],
    ) -> Result<JsVocabulary> {
        let vocabulary = Vocabulary::new(TokenBytes {
            bytes,
            ends,
            not_first,
            end_tokens,
        });
        vocabulary.map(JsVocabulary)
    }

    /// A text that follows a JSON schema, given as JSON.
    pub fn follow_schema(&self, schema: &str) -> Result<JsConstraint> {
        Constraint::new(&self.0, Form::JsonSchema, schema).map(JsConstraint)
    }

    /// A text that follows a grammar.
    pub fn follow_grammar(&self, grammar: &str) -> Result<JsConstraint> {
        Constraint::new(&self.0, Form::Grammar, grammar).map(JsConstraint)
    }
}

#[wasm_bindgen(js_name = Constraint)]
pub struct JsConstraint(Constraint);

#[wasm_bindgen(js_class = Constraint)]
impl JsConstraint {
    /// The tokens that may come next, one bit per id.
    pub fn allowed(&mut self) -> Result<Vec<u32>> {
        self.0.allowed().map(<[u32]>::to_vec)
    }

    pub fn commit(&mut self, token: u32) -> Result<()> {
        self.0.commit(token)
    }
}
