//! Runs other programs as named steps: one line per step with its duration, and its output only on failure.
//!
//! What to run is decided by the callers. A step's output is kept in `target/logs/`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::shown;

/// A shorter step had nothing to do and gets no line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Only the end of a failed step's output is shown; the log has all of it.
const SHOWN_LINES: usize = 200;

/// Cores of the machine on which `usual_s` was measured.
const USUAL_CORES: usize = 2;

const REDRAW: Duration = Duration::from_millis(250);

/// A step and its description.
#[derive(Clone, Copy)]
pub struct Step {
    pub name: &'static str,
    pub purpose: &'static str,
    /// Seconds of a first run on two cores; later estimates use the last run on this machine.
    pub usual_s: u32,
}

/// The result of a step. The caller decides which exit statuses are failures.
pub struct Finished {
    pub succeeded: bool,
    pub output: String,
}

/// Runs steps, in parallel if called from several threads.
pub struct Steps {
    board: Arc<Mutex<Board>>,
    logs: PathBuf,
    times: PathBuf,
}

#[derive(Default)]
struct Board {
    running: Vec<(Step, Instant)>,
    /// Seconds of each step's last run that had work to do.
    last_s: BTreeMap<String, f32>,
    /// Width of the progress line on a terminal.
    drawn: usize,
}

impl Steps {
    pub fn new(target: &std::path::Path) -> Result<Self> {
        let logs = target.join("logs");
        fs::create_dir_all(&logs)
            .with_context(|| format!("cannot make the folder {}", logs.display()))?;
        let times = target.join("logs/times");
        let board = Arc::new(Mutex::new(Board {
            last_s: read_times(&fs::read_to_string(&times).unwrap_or_default()),
            ..Board::default()
        }));
        if io::stdout().is_terminal() {
            let board = Arc::downgrade(&board);
            // The thread ends together with `Steps`.
            thread::spawn(move || {
                while let Some(board) = board.upgrade() {
                    lock(&board).draw();
                    thread::sleep(REDRAW);
                }
            });
        }
        Ok(Self { board, logs, times })
    }

    /// Estimated seconds of a step on this machine.
    pub fn estimate_s(&self, step: &Step) -> f32 {
        lock(&self.board).estimate_s(step)
    }

    /// Runs a command to completion; failure is an error, and the command's output is printed.
    pub fn run(&self, step: &Step, command: &mut Command) -> Result<()> {
        let finished = self.finish(step, command)?;
        if !finished.succeeded {
            self.print_line(&tail(&finished.output));
            bail!("`{}` failed; its output is above", shown(command));
        }
        Ok(())
    }

    /// Runs a command to completion and returns its output.
    pub fn finish(&self, step: &Step, command: &mut Command) -> Result<Finished> {
        let path = self.logs.join(format!("{}.log", step.name));
        let log =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let errors = log.try_clone().context("cannot share the log file")?;
        let color = if io::stdout().is_terminal() {
            "always"
        } else {
            "never"
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .env("CARGO_TERM_COLOR", color)
            .env("CARGO_TERM_PROGRESS_WHEN", "never")
            .spawn();
        let mut child = child.with_context(|| format!("cannot start `{}`", shown(command)))?;
        let start = Instant::now();
        lock(&self.board).running.push((*step, start));
        let status = child.wait();
        let took = start.elapsed();
        self.end(step, took);
        let status =
            status.with_context(|| format!("`{}` could not be waited for", shown(command)))?;
        let output = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Finished {
            succeeded: status.success(),
            output: String::from_utf8_lossy(&output).into_owned(),
        })
    }

    fn end(&self, step: &Step, took: Duration) {
        let mut board = lock(&self.board);
        board.running.retain(|(other, _)| other.name != step.name);
        if took < WORTH_A_LINE {
            return;
        }
        let seconds = took.as_secs_f32();
        board.last_s.insert(step.name.to_owned(), seconds);
        // If the times cannot be saved, only the next estimate is affected.
        fs::write(&self.times, write_times(&board.last_s)).ok();
        board.print(&format!(
            "  {:<16} {:>4.0} s  {}",
            step.name, seconds, step.purpose
        ));
    }

    /// Prints a line between those of the steps.
    pub fn print_line(&self, line: &str) {
        lock(&self.board).print(line);
    }
}

impl Board {
    fn estimate_s(&self, step: &Step) -> f32 {
        let cores = thread::available_parallelism().map_or(USUAL_CORES, usize::from);
        let usual_s = step.usual_s as f32 * USUAL_CORES as f32 / cores.max(USUAL_CORES) as f32;
        self.last_s.get(step.name).copied().unwrap_or(usual_s)
    }

    fn print(&mut self, line: &str) {
        self.erase();
        println!("{line}");
    }

    fn draw(&mut self) {
        let running: Vec<String> = self
            .running
            .iter()
            .filter(|(_, start)| start.elapsed() >= WORTH_A_LINE)
            .map(|(step, start)| {
                let seconds = start.elapsed().as_secs();
                let about = self.estimate_s(step);
                format!("{}: {seconds} s of about {about:.0} s", step.name)
            })
            .collect();
        self.erase();
        let line = running.join(" · ");
        self.drawn = line.chars().count();
        print!("{line}");
        // Output errors are ignored: a closed terminal needs no progress.
        io::stdout().flush().ok();
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            print!("\r{:width$}\r", "", width = self.drawn);
            self.drawn = 0;
        }
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of an output, as much as is shown.
pub fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    shown.join("\n")
}

fn read_times(text: &str) -> BTreeMap<String, f32> {
    let pair = |line: &str| {
        let (name, seconds) = line.split_once(' ')?;
        Some((name.to_owned(), seconds.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn write_times(times: &BTreeMap<String, f32>) -> String {
    let line = |(name, seconds): (&String, &f32)| format!("{name} {seconds:.1}\n");
    times.iter().map(line).collect()
}

/// A duration in words.
pub fn in_words(seconds: f32) -> String {
    if seconds < 90.0 {
        return format!("{seconds:.0} s");
    }
    format!("{:.1} min", seconds / 60.0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Step, Steps, in_words, read_times, tail, write_times};

    const STEP: Step = Step {
        name: "trial",
        purpose: "a trial",
        usual_s: 40,
    };

    fn steps(name: &str) -> Steps {
        let folder =
            std::env::temp_dir().join(format!("zamba2-steps-{name}-{}", std::process::id()));
        Steps::new(&folder).unwrap()
    }

    #[test]
    fn a_failed_command_is_an_error_that_names_it() {
        let error = steps("failed").run(&STEP, Command::new("cargo").arg("--no-such-option"));
        let text = format!("{:#}", error.unwrap_err());
        assert!(text.contains("`cargo --no-such-option` failed"), "{text}");
    }

    #[test]
    fn the_whole_output_of_a_command_is_returned() {
        let finished = steps("output").finish(&STEP, Command::new("cargo").arg("--version"));
        let finished = finished.unwrap();
        assert!(finished.succeeded);
        assert!(finished.output.starts_with("cargo "), "{}", finished.output);
    }

    #[test]
    fn a_command_that_cannot_be_started_is_an_error() {
        let error = steps("missing").run(&STEP, &mut Command::new("no-such-program-anywhere"));
        assert!(format!("{:#}", error.unwrap_err()).contains("cannot start"));
    }

    #[test]
    fn times_are_read_as_they_were_written() {
        let times = read_times("page 12.5\nbroken\nengine 70.0\n");
        assert_eq!(times.len(), 2);
        assert_eq!(read_times(&write_times(&times)), times);
    }

    #[test]
    fn the_next_estimate_is_the_last_duration_on_this_machine() {
        let steps = steps("estimate");
        assert!(steps.estimate_s(&STEP) <= 40.0);
        steps.end(&STEP, std::time::Duration::from_secs(7));
        assert_eq!(steps.estimate_s(&STEP), 7.0);
        // A run that had nothing to do does not change the estimate.
        steps.end(&STEP, std::time::Duration::from_millis(3));
        assert_eq!(steps.estimate_s(&STEP), 7.0);
    }

    #[test]
    fn long_outputs_are_shown_from_their_end() {
        let output: Vec<String> = (0..500).map(|i| i.to_string()).collect();
        assert!(tail(&output.join("\n")).starts_with("300\n"));
        assert_eq!(tail("one"), "one");
    }

    #[test]
    fn durations_are_worded_in_seconds_and_then_in_minutes() {
        assert_eq!(in_words(42.4), "42 s");
        assert_eq!(in_words(168.0), "2.8 min");
    }
}
