//! The commands of the native binary and what they share: arguments, failures, output. They reach the model through the
//! library only, and have no arithmetic of the model.

mod bench;
mod bench_conversation;
mod bench_kernels;
mod bench_lookup;
mod chat;
mod check;
mod completions;
mod device;
mod eval;
mod generate;
mod grammar;
mod interrupt;
mod logits;
mod make_checkpoint;
mod number_flags;
mod pack;
mod profile;
mod progress;
mod terminal;
mod tokenize;
mod verify;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde_json::json;
use zamba2::base::error::{Error, ErrorInWords};
use zamba2::base::quant::WeightFormat;
use zamba2::folder;
use zamba2::model::NumericSettings;
use zamba2::session::{LoadSettings, Session};

use device::{BackendChoice, CliDevice, Opened};

/// The help of every `--weights` that chooses a format.
fn weights_help() -> String {
    format!(
        "The form in which matrices are held: {}",
        WeightFormat::names()
    )
}

/// Run Zamba2 language models on this machine's CPU or graphics adapter.
///
/// A checkpoint is a folder with config.json, model.safetensors (or its shards and their index) and, for text,
/// tokenizer.json: a download of Zyphra/Zamba2-1.2B, -2.7B or -7B is one. What `zamba2 pack` writes is one, too.
#[derive(Parser)]
#[command(name = "zamba2", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,

    /// Print one JSON object on standard output, for errors too.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    Logits(logits::Arguments),
    Generate(generate::Arguments),
    Chat(chat::Arguments),
    MakeCheckpoint(make_checkpoint::Arguments),
    Pack(pack::Arguments),
    Check(check::Arguments),
    Bench(bench::Arguments),
    BenchConversation(bench_conversation::Arguments),
    BenchKernels(bench_kernels::Arguments),
    BenchLookup(bench_lookup::Arguments),
    Profile(profile::Arguments),
    Tokenize(tokenize::Arguments),
    Eval(eval::Arguments),
    Verify(verify::Arguments),
    Completions(completions::Arguments),
    /// Print the manual page, for `man`.
    Man,
}

/// How commands that run a model open it. The weight format is an option of each command, with different defaults.
#[derive(Args, Clone)]
struct OpenArguments {
    /// The checkpoint folder.
    dir: PathBuf,

    /// Threads to compute on. Default: as many as the machine has, or fewer for a small model if a trial of a tenth of
    /// a second finds that faster.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,

    /// The most tokens of prompt and answer together.
    #[arg(long)]
    context: Option<usize>,

    /// The backend to compute on.
    #[arg(long, value_enum, default_value_t = BackendChoice::Cpu)]
    backend: BackendChoice,

    /// Graphics adapter: use the first variant of each kernel instead of the fastest one, which a trial of about 0.3 s
    /// finds.
    #[arg(long)]
    no_tune: bool,
}

impl OpenArguments {
    fn threads(&self) -> usize {
        let available = || thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(available, usize::from)
    }

    fn backend(&self, weights: WeightFormat) -> Result<Opened, Error> {
        let config = || {
            self.check_dir()?;
            folder::read_config(&self.dir)
        };
        self.backend.open(self.threads(), config, weights)
    }

    fn check_dir(&self) -> Result<(), Error> {
        match self.dir.is_dir() {
            true => Ok(()),
            false => Err(Error::MissingFile {
                file: self.dir.display().to_string(),
            }),
        }
    }

    fn open<B: CliDevice>(
        &self,
        device: B,
        weights: WeightFormat,
        numeric: NumericSettings,
    ) -> Result<Session<B>, Error> {
        self.check_dir()?;
        let settings = LoadSettings {
            weights,
            context: self.context,
            numeric,
            // Without a limit the system would kill the process while it loads, without any message.
            memory_limit_bytes: proc_bytes("/proc/meminfo", "MemAvailable"),
        };
        let on_read = progress::of_reading(&self.dir);
        let mut session = folder::open_watched(device, &self.dir, settings, on_read)?;
        if self.threads.is_none() {
            CliDevice::choose_threads(&mut session);
        }
        CliDevice::test_loaded(&mut session, weights)?;
        if !self.no_tune {
            CliDevice::choose_kernels(&mut session, weights)?;
        }
        Ok(session)
    }
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// The library's own errors.
    Model(Error),
    /// A checkpoint would be written over something.
    Occupied { dir: String },
    /// Output that could not be written.
    Write { file: String, fact: String },
    /// The other end of the pipe was closed, which is no error.
    OutputClosed,
    /// The failure is part of the command's output already.
    Reported,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Model(error)
    }
}

impl Failure {
    /// A failed write of a file.
    fn write(file: &Path, error: &io::Error) -> Failure {
        Failure::Write {
            file: file.display().to_string(),
            fact: error.to_string(),
        }
    }

    /// A failed write to standard output.
    fn output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::write(Path::new("standard output"), error),
        }
    }

    fn report(&self) -> Option<ErrorInWords> {
        Some(match self {
            Failure::Model(error) => error.in_words(),
            Failure::Occupied { dir } => Error::FolderNotEmpty { file: dir.clone() }.in_words(),
            Failure::Write { file, fact } => Error::Write {
                file: file.clone(),
                fact: fact[..].into(),
            }
            .in_words(),
            Failure::OutputClosed | Failure::Reported => return None,
        })
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let CommandLine { command, json } = CommandLine::parse();
    let done = match command {
        Command::Logits(arguments) => logits::run(&arguments),
        Command::Generate(arguments) => generate::run(arguments, json),
        Command::Chat(arguments) => chat::run(&arguments, json),
        Command::MakeCheckpoint(arguments) => make_checkpoint::run(&arguments, json),
        Command::Pack(arguments) => pack::run(&arguments, json),
        Command::Check(arguments) => check::run(&arguments, json),
        Command::Bench(arguments) => bench::run(&arguments, json),
        Command::BenchConversation(arguments) => bench_conversation::run(&arguments, json),
        Command::BenchKernels(arguments) => bench_kernels::run(&arguments, json),
        Command::BenchLookup(arguments) => bench_lookup::run(&arguments, json),
        Command::Profile(arguments) => profile::run(&arguments, json),
        Command::Tokenize(arguments) => tokenize::run(&arguments, json),
        Command::Eval(arguments) => eval::run(&arguments, json),
        Command::Verify(arguments) => verify::run(&arguments, json),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man => completions::man(),
    };
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };
    if let Failure::Reported = failure {
        return ExitCode::FAILURE;
    }
    let Some(report) = failure.report() else {
        return ExitCode::SUCCESS;
    };
    if json {
        // If this cannot be written either, only the exit code reports the failure.
        let _ = print_json(&json!({ "error": report }));
    } else {
        say(&format!(
            "error: {}\n  next: {}",
            report.message, report.next_step
        ));
    }
    ExitCode::FAILURE
}

/// Prints `value` as one line of JSON on standard output.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    let written = serde_json::to_writer(&mut output, value).map_err(io::Error::from);
    let written = written
        .and_then(|()| writeln!(output))
        .and_then(|()| output.flush());
    written.map_err(|error| Failure::output(&error))
}

/// Prints text on standard output and flushes, so that it is visible while the next piece is computed.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    let shown = terminal::shown(text, &output);
    let written = output
        .write_all(shown.as_bytes())
        .and_then(|()| output.flush());
    written.map_err(|error| Failure::output(&error))
}

/// Prints a remark on standard error. A failed write is ignored: whoever closed standard error wants no remarks.
fn say(text: &str) {
    let mut output = io::stderr().lock();
    let shown = terminal::shown(text, &output);
    let _ = writeln!(output, "{shown}");
}

/// A size from a file in `/proc` (`VmHWM:  123 kB`); none on systems other than Linux.
fn proc_bytes(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}
