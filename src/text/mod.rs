//! Text around the model: tokens, streamed pieces, stop strings, chat templates, and sampling of the next token.
//! Nothing here depends on the model or a device.

pub mod chat;
pub mod sampling;
pub mod stop_strings;
pub mod stream;
pub mod tokenizer;
