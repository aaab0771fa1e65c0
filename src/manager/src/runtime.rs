//! `skep` as a program: what it is asked and how it answers.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use runtime_spec::monitor::file;
use runtime_spec::state::{NOT_THERE, State, Status};
use sys::procfs::ProcFs;

use crate::bundle::CPU_PERIOD_US;
use crate::definition::Limits;
use crate::places::remove_if_there;
use crate::trace::Clock;

/// The runtime and the options that all of its verbs get.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Its program.
    pub program: PathBuf,
    /// Options that stand before the verb.
    pub options: Vec<String>,
    /// Where its calls put down their time.
    pub clock: Clock,
}

impl Runtime {
    /// Whether it has systemd make cgroups.
    #[must_use]
    pub fn uses_systemd(&self) -> bool {
        let last = self.options.iter().rposition(|option| option == "--cgroup-manager");
        let manager = last.and_then(|at| self.options.get(at + 1)).is_some_and(|manager| manager == "systemd");
        manager || self.options.iter().any(|option| option == "--systemd-cgroup")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.options).arg(verb).stdin(Stdio::null());
        command
    }

    fn output(&self, verb: &str, args: &[&str]) -> Result<Output> {
        self.output_of(verb, args, Stdio::null())
    }

    fn output_of(&self, verb: &str, args: &[&str], input: Stdio) -> Result<Output> {
        let mark = self.clock.mark();
        let output = self.command(verb).args(args).stdin(input).output();
        self.clock.spent(&format!("skep {verb}"), mark);
        output.with_context(|| format!("cannot run {}", self.program.display()))
    }

    fn ok(&self, verb: &str, args: &[&str]) -> Result<Vec<u8>> {
        self.ok_of(verb, args, Stdio::null())
    }

    fn ok_of(&self, verb: &str, args: &[&str], input: Stdio) -> Result<Vec<u8>> {
        let output = self.output_of(verb, args, input)?;
        if !output.status.success() {
            bail!("{}", told(verb, &output.stderr));
        }
        Ok(output.stdout)
    }

    /// Whether a verb ends with 0, within a time: what takes longer is killed. What it writes is dropped, for it may come from
    /// a container.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn succeeds(&self, verb: &str, args: &[&str], limit: Duration) -> Result<bool> {
        let mut command = self.command(verb);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let process = sys::process::pidfd_open(i32::try_from(child.id())?)?;
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        if !sys::process::poll_readable(&[process.as_fd()], Some(limit_ms))?[0].readable {
            child.kill().context("cannot kill what takes too long")?;
        }
        Ok(child.wait().context("cannot wait for the runtime")?.success())
    }

    /// The state of a container; `None` where the runtime has none of the name.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn state(&self, name: &str) -> Result<Option<State>> {
        let output = self.output("state", &[name])?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).context("cannot read the answer of state").map(Some);
        }
        if String::from_utf8_lossy(&output.stderr).contains(NOT_THERE) {
            return Ok(None);
        }
        bail!("{}", told("state", &output.stderr))
    }

    /// Whether a container has a process.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn is_alive(&self, name: &str) -> Result<bool> {
        Ok(self.state(name)?.is_some_and(|state| state.status.is_alive()))
    }

    /// The states of all containers.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn list(&self) -> Result<Vec<State>> {
        self.list_with(&[])
    }

    fn list_with(&self, options: &[&str]) -> Result<Vec<State>> {
        let answer = self.ok("list", &[&["--format", "json"], options].concat())?;
        let states: Option<Vec<State>> = serde_json::from_slice(&answer).context("cannot read the answer of list")?;
        Ok(states.unwrap_or_default())
    }

    /// What a verb prints of a container that runs; `None` where it has ended.
    fn of_running(&self, verb: &str, options: &[&str], name: &str) -> Result<Option<Vec<u8>>> {
        match self.ok(verb, &[options, &[name]].concat()) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => match self.state(name)?.map(|state| state.status) {
                Some(status) if status.is_alive() => Err(error),
                _ => Ok(None),
            },
        }
    }

    /// The command that starts a bundle in the background and ends when it runs, with its messages in a file of JSON lines.
    /// `console` is the socket that a terminal's master is sent to.
    ///
    /// # Errors
    /// A path is no text.
    pub fn start_command(
        &self,
        name: &str,
        bundle: &Path,
        run: &Path,
        console: bool,
        links: &[String],
    ) -> Result<Vec<String>> {
        let text =
            |path: &Path| path.to_str().map(str::to_owned).with_context(|| format!("{} is no text", path.display()));
        let mut command = self.command_line()?;
        command.extend(["--log".to_owned(), text(&messages(bundle))?, "--log-format".to_owned(), "json".to_owned()]);
        command.extend(["run", "--detach", "--bundle"].map(str::to_owned));
        command.extend([text(bundle)?, "--pid-file".to_owned(), text(&run.join(file::PID))?]);
        if console {
            command.extend(["--console-socket".to_owned(), text(&run.join(file::CONSOLE))?]);
        }
        for link in links {
            command.extend(["--link".to_owned(), link.clone()]);
        }
        command.push(name.to_owned());
        Ok(command)
    }

    /// The program and the options before a verb.
    ///
    /// # Errors
    /// The program's path is no text.
    pub fn command_line(&self) -> Result<Vec<String>> {
        let program = self.program.to_str().with_context(|| format!("{} is no text", self.program.display()))?;
        Ok(std::iter::once(program.to_owned()).chain(self.options.iter().cloned()).collect())
    }

    /// Starts a bundle in the background. What its process writes goes to `log`.
    ///
    /// # Errors
    /// What the runtime says, which it also writes to the log.
    pub fn run(&self, name: &str, bundle: &Path, links: &[String], log: &File) -> Result<()> {
        let mut args = vec!["--detach".to_owned()];
        for link in links {
            args.extend(["--link".to_owned(), link.clone()]);
        }
        match self.run_with(name, bundle, &args, log)? {
            (_, Some(said)) => bail!("{said}"),
            (status, None) if status.success() => Ok(()),
            (status, None) => bail!("{} run ended with {status}", self.program.display()),
        }
    }

    /// Runs a bundle and waits for its end. What its process writes goes to `log`.
    ///
    /// # Errors
    /// What the runtime says; the process did not end with 0.
    pub fn run_to_end(&self, name: &str, bundle: &Path, log: &File) -> Result<()> {
        match self.run_with(name, bundle, &[], log)? {
            (status, _) if status.success() => Ok(()),
            (_, Some(said)) => bail!("{said}"),
            (status, None) => bail!("it ended with {status}"),
        }
    }

    /// `run` with these options: how it ended, and the error that it told if it failed.
    fn run_with(&self, name: &str, bundle: &Path, args: &[String], log: &File) -> Result<(ExitStatus, Option<String>)> {
        // Its own messages go to a file that the container does not get: standard error is the container's.
        let messages = messages(bundle);
        let mut command = Command::new(&self.program);
        command.args(&self.options).arg("--log").arg(&messages).args(["--log-format", "json", "run", "--bundle"]);
        command.arg(bundle).args(args).arg(name).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log.try_clone()?);
        remove_if_there(&messages)?;
        let status = command.status().with_context(|| format!("cannot run {}", self.program.display()))?;
        let said = std::fs::read_to_string(&messages).unwrap_or_default();
        remove_if_there(&messages)?;
        Ok((status, last_message(&said).filter(|_| !status.success())))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn kill(&self, name: &str, signal: &str) -> Result<()> {
        self.ok("kill", &[name, signal]).map(drop)
    }

    /// Runs a program in a container to its end.
    ///
    /// # Errors
    /// What the runtime says; the program did not end with 0.
    pub fn exec(&self, name: &str, program: &[&str], limit: Duration) -> Result<()> {
        if !self.succeeds("exec", &[&[name], program].concat(), limit)? {
            bail!("{} failed, or took more than {} s", program.join(" "), limit.as_secs());
        }
        Ok(())
    }

    /// Freezes or thaws. `false` where there is nobody to do it to, as its process has ended in between.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn set_frozen(&self, name: &str, frozen: bool) -> Result<bool> {
        match self.ok(if frozen { "pause" } else { "resume" }, &[name]) {
            Ok(_) => Ok(true),
            Err(error) => match self.state(name)?.map(|state| state.status) {
                // Somebody else was faster: a signal that ends it lets it go on, too.
                Some(status) if status.is_alive() && (status == Status::Paused) == frozen => Ok(true),
                Some(status) if status.is_alive() => Err(error),
                _ => Ok(false),
            },
        }
    }

    /// The states of all containers, with what those that run use.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn list_usage(&self) -> Result<Vec<State>> {
        self.list_with(&["--usage"])
    }

    /// The processes of a container as the host numbers them; none where it has ended.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn pids(&self, name: &str) -> Result<Vec<u32>> {
        let Some(answer) = self.of_running("ps", &["--format", "json"], name)? else { return Ok(Vec::new()) };
        let pids: Option<Vec<u32>> = serde_json::from_slice(&answer).context("cannot read the answer of ps")?;
        Ok(pids.unwrap_or_default())
    }

    /// What the host offers, as `features --host` tells it.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn features_of_host(&self) -> Result<serde_json::Value> {
        let answer = self.ok("features", &["--host", "--format", "json"])?;
        serde_json::from_slice(&answer).context("cannot read the answer of features")
    }

    /// What a container uses, as `events --stats` tells it; `None` where it has ended.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn stats(&self, name: &str) -> Result<Option<serde_json::Value>> {
        let Some(answer) = self.of_running("events", &["--stats"], name)? else { return Ok(None) };
        serde_json::from_slice(&answer).context("cannot read the answer of events").map(Some)
    }

    /// Gives a container that runs these limits; what is `None` is without one.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn update(&self, name: &str, limits: Limits) -> Result<()> {
        let memory = limits.memory.map_or("-1".to_owned(), |bytes| bytes.to_string());
        let quota = limits.millicpus.map_or("-1".to_owned(), |cpus| (cpus * CPU_PERIOD_US / 1000).to_string());
        let pids = limits.pids.unwrap_or(-1).to_string();
        let period = CPU_PERIOD_US.to_string();
        let options = ["--memory", &memory, "--cpu-quota", &quota, "--cpu-period", &period, "--pids-limit", &pids];
        self.ok("update", &[&options[..], &[name]].concat()).map(drop)
    }

    /// Replaces the rules for devices of a container that runs, as `linux.resources.devices` has them.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn set_device_rules(&self, name: &str, rules: &[serde_json::Value]) -> Result<()> {
        let document = serde_json::to_vec(&serde_json::json!({ "devices": rules }))?;
        let document = sys::memory::data_file("rules", &document)?;
        self.ok_of("update", &["--resources", "-", name], document.into()).map(drop)
    }

    /// Changes what is mounted in a container that runs: the words of `inside` behind its name.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn inside(&self, name: &str, words: &[&str]) -> Result<()> {
        self.ok("inside", &[&[name], words].concat()).map(drop)
    }

    /// Kills what runs and removes what is left at run time. What it was at its end; `None` where nothing of it had begun.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn delete(&self, name: &str) -> Result<Option<State>> {
        let answer = self.ok("delete", &["--force", "--usage", name])?;
        if answer.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&answer).context("cannot read the answer of delete").map(Some)
    }
}

/// The pid of a container's first process with a descriptor of it; `None` where it has ended.
///
/// # Errors
/// What the kernel says.
pub fn open_process(state: &State) -> Result<Option<(i32, OwnedFd)>> {
    let (Some(pid), Some(start)) = (state.pid.filter(|_| state.status.is_alive()), state.process_start) else {
        return Ok(None);
    };
    let number = i32::try_from(pid)?;
    Ok(ProcFs::open()?.open_process(number, start)?.map(|process| (number, process)))
}

/// Waits until a process has ended, at most for this long; whether it has.
///
/// # Errors
/// What the kernel says.
pub fn wait_process(process: &OwnedFd, limit: Duration) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let left_ms = sys::process::left_ms(end);
        if sys::process::poll_readable(&[process.as_fd()], Some(left_ms))?[0].readable {
            return Ok(true);
        }
        if left_ms == 0 {
            return Ok(false);
        }
    }
}

/// What the runtime wrote to its standard error, without its own heading.
fn told(verb: &str, stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    match text.trim() {
        "" => format!("{verb} failed without a word"),
        text => text.strip_prefix("error: ").unwrap_or(text).to_owned(),
    }
}

/// Where the messages of a start are, until somebody has read them.
#[must_use]
pub fn messages(bundle: &Path) -> PathBuf {
    bundle.join("messages")
}

/// The last error of the runtime's log, which is one JSON object a line.
#[must_use]
pub fn last_message(log: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.filter(|line| line.level == "error").map(|line| line.msg).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_error_of_the_log() {
        let log = "{\"level\":\"warning\",\"msg\":\"odd\",\"time\":\"x\"}\nnoise\n\
                   {\"level\":\"error\",\"msg\":\"cannot \\\"do\\\" it\",\"time\":\"x\"}\n";
        assert_eq!(last_message(log).as_deref(), Some("cannot \"do\" it"));
        assert_eq!(last_message("nothing"), None);
        assert_eq!(told("kill", b"error: no such thing\n"), "no such thing");
        assert_eq!(told("kill", b""), "kill failed without a word");
    }
}
