//! `zamba2 chat`: a conversation with an instruct model, one message per line. The model's state is kept between turns,
//! so each turn prefills only what is new.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use pollster::block_on;
use serde::{Deserialize, Serialize};
use zamba2::base::clock::now_us;
use zamba2::base::error::{Error, Fact};
use zamba2::base::local_time::LocalTime;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::session::{GenerateOptions, Session, snapshot_note};
use zamba2::text::chat::{ChatTemplate, Content, Message};

use super::device::{CliDevice, on_device};
use super::generate::{Answer, GenerationArguments, answer, summary};
use super::interrupt::{self, Answering};
use super::{Failure, OpenArguments, print, print_json, say};

const SCHEMA: &str = "zamba2-chat/1";
const HELP: &str = "/save FILE keeps the conversation with the model's state, /load FILE opens one, \
                    /reset starts a new one, /quit ends; a line that begins with // is a message that begins with /";

/// Talk with an instruct model: each line of standard input is a message.
///
/// Answers go to standard output, figures and remarks to standard error; with --json there is one object per answer
/// instead. Lines that begin with / are commands: /help lists them. If standard input is a terminal, an error is shown
/// and the conversation continues; with a file or a pipe the first error ends it. Ctrl-C ends the answer that is being
/// generated, which is kept as it is; without one it ends the program.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: OpenArguments,

    /// The system message. Default: none.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,

    /// Continue a conversation saved with /save; its system message is kept.
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    load: Option<PathBuf>,

    #[command(flatten)]
    generation: GenerationArguments,
}

/// The note of a snapshot that /save writes.
#[derive(Serialize, Deserialize)]
struct Note {
    schema: String,
    messages: Vec<Message>,
}

#[derive(Debug, PartialEq)]
enum Line<'a> {
    Empty,
    Message(&'a str),
    Save(&'a Path),
    Load(&'a Path),
    Reset,
    Help,
    Quit,
    Unknown,
}

impl Line<'_> {
    fn parse(line: &str) -> Line<'_> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return match line {
                "" => Line::Empty,
                text => Line::Message(text),
            };
        };
        if command.starts_with('/') {
            return Line::Message(command);
        }
        let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
        match (name, argument.trim()) {
            ("save", file) if !file.is_empty() => Line::Save(Path::new(file)),
            ("load", file) if !file.is_empty() => Line::Load(Path::new(file)),
            ("reset", "") => Line::Reset,
            ("help", "") => Line::Help,
            ("quit", "") => Line::Quit,
            _ => Line::Unknown,
        }
    }
}

struct Chat<B: CliDevice> {
    session: Session<B>,
    template: ChatTemplate,
    options: GenerateOptions,
    /// The system message, if there is one, and all messages and answers so far.
    messages: Vec<Message>,
    json: bool,
}

fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.into(),
        content: content.into(),
    }
}

pub fn run(arguments: &Arguments, json: bool) -> Result<(), Failure> {
    let template = folder::chat_template(&arguments.open.dir)?.ok_or(Error::NoChatTemplate)?;
    // Before anything is opened, so that a wrong option is reported at once.
    let options = arguments.generation.options()?;
    let opened = arguments.open.backend(arguments.generation.weights)?;
    on_device!(opened, device => run_on(*device, arguments, template, options, json))
}

fn run_on<B: CliDevice>(
    device: B,
    arguments: &Arguments,
    template: ChatTemplate,
    mut options: GenerateOptions,
    json: bool,
) -> Result<(), Failure> {
    let weights = arguments.generation.weights;
    let session = (arguments.open).open(device, weights, NumericSettings::default())?;
    let end_token = template.special_tokens().get("eos_token");
    let tokenizer = session.tokenizer()?;
    (options.end_tokens).extend(end_token.and_then(|token| tokenizer.token_id(token)));
    let system = arguments.system.iter();
    let mut chat = Chat {
        session,
        template,
        options,
        messages: system.map(|text| message("system", text)).collect(),
        json,
    };
    if let Some(file) = &arguments.load {
        chat.load(file)?;
    }
    interrupt::install();
    chat.converse()
}

impl<B: CliDevice> Chat<B> {
    /// Reads lines until the input or the conversation ends.
    fn converse(&mut self) -> Result<(), Failure> {
        let is_terminal = io::stdin().is_terminal();
        let mut lines = io::stdin().lock().lines();
        loop {
            if is_terminal {
                let _ = write!(io::stderr(), "> ");
            }
            let Some(line) = lines.next() else {
                return Ok(());
            };
            let line = line.map_err(|error| Error::Io {
                file: "standard input".into(),
                fact: error.to_string().into(),
            })?;
            let done = match Line::parse(&line) {
                Line::Quit => return Ok(()),
                line => self.take(line),
            };
            match done {
                Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
                Err(failure) if is_terminal => {
                    if let Some(report) = failure.report() {
                        say(&format!(
                            "error: {}\n  next: {}",
                            report.message, report.next_step
                        ));
                    }
                }
                done => done?,
            }
        }
    }

    fn take(&mut self, line: Line<'_>) -> Result<(), Failure> {
        match line {
            Line::Empty | Line::Quit => {}
            Line::Message(text) => self.reply_to(text)?,
            Line::Save(file) => self.save(file)?,
            Line::Load(file) => self.load(file)?,
            Line::Reset => {
                self.messages.retain(|message| message.role == "system");
                self.session.reset();
            }
            Line::Help => say(HELP),
            Line::Unknown => say(&format!("no such command: {HELP}")),
        }
        Ok(())
    }

    /// Answers a message. An error leaves the conversation unchanged.
    fn reply_to(&mut self, text: &str) -> Result<(), Failure> {
        let n_before = self.messages.len();
        self.messages.push(message("user", text));
        let answered = self.generate();
        match &answered {
            Ok(answer) => self.messages.push(message("assistant", &answer.text)),
            Err(_) => self.messages.truncate(n_before),
        }
        let answer = answered?;
        if self.json {
            return print_json(&answer);
        }
        print("\n")?;
        say(&summary(&answer));
        Ok(())
    }

    fn generate(&mut self) -> Result<Answer, Failure> {
        let start_us = now_us();
        let tokenizer = self.session.tokenizer()?;
        let now = LocalTime::now();
        let prompt = (self.template).encode(tokenizer, &self.messages, Content::Plain, now)?;
        let answering = Answering::begin();
        let json = self.json;
        let on_text = |text: &str| {
            if !json {
                print(text)?;
            }
            Ok(match answering.is_interrupted() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        };
        answer(
            &mut self.session,
            &prompt,
            self.options.clone(),
            start_us,
            on_text,
        )
    }

    fn save(&mut self, file: &Path) -> Result<(), Failure> {
        let note = Note {
            schema: SCHEMA.into(),
            messages: self.messages.clone(),
        };
        let note = serde_json::to_string(&note).expect("a conversation is plain data");
        let bytes = block_on(self.session.snapshot(&note))?;
        fs::write(file, bytes).map_err(|error| Failure::write(file, &error))?;
        say(&format!("saved in {}", file.display()));
        Ok(())
    }

    fn load(&mut self, file: &Path) -> Result<(), Failure> {
        let bytes = fs::read(file).map_err(|error| Error::Io {
            file: file.display().to_string(),
            fact: error.to_string().into(),
        })?;
        let note = serde_json::from_str::<Note>(&snapshot_note(&bytes)?).ok();
        let note = note.filter(|note| note.schema == SCHEMA);
        let note = note.ok_or_else(|| Error::Snapshot {
            fact: Fact::new("snapshot_no_chat"),
        })?;
        block_on(self.session.restore(&bytes))?;
        self.messages = note.messages;
        say(&format!(
            "{} messages from {}",
            self.messages.len(),
            file.display()
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_or_a_command() {
        assert_eq!(Line::parse("  "), Line::Empty);
        assert_eq!(Line::parse(" What is a/b? "), Line::Message("What is a/b?"));
        assert_eq!(
            Line::parse("//etc is a folder"),
            Line::Message("/etc is a folder")
        );
        assert_eq!(
            Line::parse("/save my talk.state"),
            Line::Save(Path::new("my talk.state"))
        );
        assert_eq!(Line::parse("/load a"), Line::Load(Path::new("a")));
        assert_eq!(Line::parse("/reset"), Line::Reset);
        assert_eq!(Line::parse("/quit "), Line::Quit);
        for line in ["/save", "/load ", "/reset now", "/sav x", "/"] {
            assert_eq!(Line::parse(line), Line::Unknown, "{line}");
        }
    }
}
