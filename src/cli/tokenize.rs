//! `zamba2 tokenize`: the tokens of a text, without loading weights.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use zamba2::base::error::Error;
use zamba2::base::local_time::LocalTime;
use zamba2::folder;
use zamba2::text::chat::{Content, Message};
use zamba2::text::tokenizer::Tokenizer;

use super::{Failure, print, print_json};

/// Print the token ids of a text and the text of each token.
///
/// The text is tokenised like a prompt of `generate`: with the start token, if the checkpoint has one. Each line has
/// the id and the quoted text of one token.
#[derive(Args)]
pub struct Arguments {
    /// The checkpoint folder; only config.json, tokenizer.json and tokenizer_config.json are read.
    dir: PathBuf,

    /// The text.
    #[arg(allow_hyphen_values = true)]
    text: String,

    /// Treat the text as a user's message in a chat, with the checkpoint's template.
    #[arg(long)]
    chat: bool,

    /// What control tokens in that message become: text (plain) or tokens (control).
    #[arg(
        long,
        value_name = "plain|control",
        default_value = "plain",
        requires = "chat"
    )]
    content: Content,
}

#[derive(Serialize)]
struct Output {
    ids: Vec<u32>,
    tokens: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    id: u32,
    text: String,
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let dir = &arguments.dir;
    let missing = || Error::MissingFile {
        file: "tokenizer.json".into(),
    };
    let vocab_size = folder::read_config(dir)?.vocab_size;
    let tokenizer = folder::read_tokenizer(dir, vocab_size)?.ok_or_else(missing)?;
    let ids = ids(arguments, &tokenizer)?;
    let token = |&id: &u32| {
        let text = tokenizer.token_text(id)?;
        Ok(Token { id, text })
    };
    let tokens = ids.iter().map(token).collect::<Result<Vec<_>, Error>>()?;
    if json {
        return print_json(&Output { ids, tokens });
    }
    let lines = tokens
        .iter()
        .map(|Token { id, text }| format!("{id:>8}  {text:?}\n"));
    print(&lines.collect::<String>())
}

fn ids(arguments: &Arguments, tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
    let Arguments { dir, text, .. } = arguments;
    if !arguments.chat {
        return tokenizer.encode(text, true);
    }
    let template = folder::chat_template(dir)?.ok_or(Error::NoChatTemplate)?;
    let message = Message {
        role: "user".into(),
        content: text.clone(),
    };
    template.encode(tokenizer, &[message], arguments.content, LocalTime::now())
}
