//! A daemon in the cell: started with its log in a file, awaited, and stopped at the end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::command::{render_line, until, wait_until};

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon and waits at most 30 s until `ready` says that it answers.
    ///
    /// # Errors
    /// It ends or does not answer; the end of its log is in the error.
    pub fn start(dir: &Path, command: &mut Command, ready: impl Fn() -> Result<bool>) -> Result<Self> {
        let name = Path::new(command.get_program()).file_name().context("a daemon needs a name")?.to_owned();
        let log = dir.join(name).with_extension("log");
        let file = File::create(&log)?;
        let line = render_line(command);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        let mut daemon = Self { child, log };
        let answered = until(&format!("an answer of `{line}`"), Duration::from_secs(30), || {
            let ended = daemon.child.try_wait()?;
            ensure!(ended.is_none(), "`{line}` ended: {ended:?}");
            ready()
        });
        answered.with_context(|| daemon.last_lines())?;
        Ok(daemon)
    }

    /// Asks the daemon to end and waits at most 20 s.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a child has a pid above 0")?;
        kill_process(pid, Signal::TERM).context("SIGTERM")?;
        let ended = wait_until(&mut self.child, Duration::from_secs(20))?;
        ensure!(ended.is_some(), "the daemon did not stop: {}", self.last_lines());
        Ok(())
    }

    fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}
