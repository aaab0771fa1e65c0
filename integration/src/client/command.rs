//! Commands of a client, each with a deadline and its output in files.
//!
//! Output goes to files and not to pipes: a process that outlives its client while it holds the client's standard
//! output would otherwise keep the reader waiting, and the test could not tell which command leaked it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::leftovers::read_processes;

/// How long one client command may take. Generous, because the machine may run other tests at the same time.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The end of one command.
#[derive(Debug)]
pub struct Done {
    /// The whole command line, for messages.
    pub line: String,
    /// The exit code, or 128 plus the signal that ended it.
    pub code: i32,
    /// Standard output without the white space at its end.
    pub out: String,
    /// Standard error without the white space at its end.
    pub err: String,
}

impl Done {
    /// Returns the standard output of a command that ended with 0.
    ///
    /// # Errors
    /// Any other code, with the standard error.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "`{}` ended with {}: {} {}", self.line, self.code, self.err, self.out);
        Ok(self.out)
    }

    /// Checks that the command ended with this code, and returns its two outputs in one string.
    ///
    /// # Errors
    /// Any other code, with both outputs.
    pub fn code(self, code: i32) -> Result<String> {
        let text = format!("{}\n{}", self.out, self.err);
        ensure!(self.code == code, "`{}` ended with {}, not {code}: {text}", self.line, self.code);
        Ok(text)
    }
}

/// A program with the options that come first in every call, such as the address of a private daemon.
#[derive(Debug)]
pub struct Cli {
    program: Vec<OsString>,
    outputs: PathBuf,
    count: AtomicUsize,
}

impl Cli {
    /// Prepares calls of `program`, whose outputs are kept below `dir`, one folder for each program.
    ///
    /// # Errors
    /// The folder for the outputs cannot be made.
    pub fn new<S: AsRef<str>>(dir: &Path, program: &[S]) -> Result<Self> {
        let name = program.first().context("a command needs a program")?.as_ref().replace('/', "-");
        let outputs = dir.join("outputs").join(name);
        fs::create_dir_all(&outputs).with_context(|| format!("cannot make {}", outputs.display()))?;
        Ok(Self { program: program.iter().map(|word| word.as_ref().into()).collect(), outputs, count: 0.into() })
    }

    /// Runs one call with the words of `words` and, when it is not empty, `last` as one more argument.
    ///
    /// # Errors
    /// The program cannot be started or takes longer than [`DEADLINE`].
    pub fn run(&self, words: &str, last: &str) -> Result<Done> {
        self.run_with(&split(words, last), Stdio::null())
    }

    /// Runs one call with these arguments, which may hold blanks.
    ///
    /// # Errors
    /// As [`Cli::run`].
    pub fn run_words(&self, arguments: &[&str]) -> Result<Done> {
        self.run_with(arguments, Stdio::null())
    }

    /// Runs one call as [`Cli::run`] does, with `input` to read.
    ///
    /// # Errors
    /// As [`Cli::run`].
    pub fn run_with_input(&self, words: &str, last: &str, input: &str) -> Result<Done> {
        let path = self.next_output().with_extension("in");
        fs::write(&path, input)?;
        self.run_with(&split(words, last), File::open(&path)?.into())
    }

    fn next_output(&self) -> PathBuf {
        self.outputs.join(self.count.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn run_with(&self, arguments: &[&str], input: Stdio) -> Result<Done> {
        let mut command = self.command();
        command.args(arguments).stdin(input);
        let line = render_line(&command);
        let base = self.next_output();
        let (out, err) = (base.with_extension("out"), base.with_extension("err"));
        command.stdout(File::create(&out)?).stderr(File::create(&err)?);
        let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        let status = wait_until(&mut child, DEADLINE).with_context(|| format!("`{line}`"))?;
        let read = |path: &Path| -> Result<String> {
            let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
        };
        let Some(status) = status else {
            let running = read_processes()?.into_iter().collect::<Vec<_>>().join("\n");
            bail!("`{line}` did not end in {DEADLINE:?}: {} {}\nprocesses:\n{running}", read(&out)?, read(&err)?);
        };
        Ok(Done { line, code: exit_code(status), out: read(&out)?, err: read(&err)? })
    }

    /// Returns the command with its first options, for callers that redirect its input and output themselves.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]);
        command
    }
}

/// Splits `words` at white space and adds `last` unless it is empty.
fn split<'a>(words: &'a str, last: &'a str) -> Vec<&'a str> {
    words.split_whitespace().chain(Some(last).filter(|last| !last.is_empty())).collect()
}

/// Renders a command line for a message.
#[must_use]
pub fn render_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Gives the exit code as a shell does: 128 plus the number for a signal.
#[must_use]
pub fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// Waits for a child at most `limit`; kills and reaps it after that and returns `None`.
///
/// # Errors
/// The child cannot be watched or reaped.
pub fn wait_until(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a child has a pid above 0")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
    let mut watch = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    if poll_until(&mut watch, Instant::now() + limit)? {
        return Ok(Some(child.wait()?));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Polls until one descriptor is ready (`true`) or the deadline has passed (`false`).
///
/// # Errors
/// poll(2) fails with anything but EINTR.
pub fn poll_until(watch: &mut [PollFd<'_>], deadline: Instant) -> Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: i64::try_from(left.as_secs())?, tv_nsec: left.subsec_nanos().into() };
        match poll(watch, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
    }
}

/// Calls `check` every 50 ms until it returns `true`.
///
/// # Errors
/// `check` fails, or is still `false` after `limit`.
pub fn until(what: &str, limit: Duration, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !check()? {
        ensure!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
