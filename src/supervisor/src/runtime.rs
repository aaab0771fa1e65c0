//! `skep` as a program: replicas are started, stopped and looked at by its command line and its JSON.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use runtime_spec::signal::{Signal, signal_name};
use runtime_spec::state::State;
use sys::process::{Exit, exit_of};
use sys::procfs::ProcFs;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::definition::{Definition, Unit};

/// Calls at once: a start is work for a processor, and hundreds at once only wait for each other.
const CALLS: usize = 8;
/// Longest wait for the end of what was killed.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// The runtime.
#[derive(Debug)]
pub struct Runtime {
    program: PathBuf,
    options: Vec<String>,
    logs: PathBuf,
    calls: Semaphore,
    defined: Mutex<HashSet<String>>,
}

/// Longest wait for the status of a process that has ended: without it the reason is unknown, and the restart matters more.
const REAP_WAIT: Duration = Duration::from_millis(10);

/// A replica's process, held by its descriptor.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    fd: OwnedFd,
}

impl Process {
    /// Opens the first process of a container; `None` where it has ended.
    fn open(state: &State) -> Result<Option<Process>, String> {
        let Some(pid) = state.pid.filter(|pid| *pid > 0 && state.status.is_alive()) else { return Ok(None) };
        let number = i32::try_from(pid).map_err(|error| error.to_string())?;
        let start = state.process_start.ok_or("the runtime does not say when its process began")?;
        let proc = ProcFs::open().map_err(|error| error.to_string())?;
        let fd = proc.open_process(number, start).map_err(|error| error.to_string())?;
        Ok(fd.map(|fd| Process { pid, fd }))
    }

    /// Waits for its end, and says how it was.
    ///
    /// # Errors
    /// The kernel does not let it be waited for.
    // The safe way is deprecated for descriptors that lend another one each time they are asked; an OwnedFd is not like that.
    #[expect(deprecated)]
    pub async fn ended(self) -> Result<String, String> {
        let fd = AsyncFd::with_interest(self.fd, Interest::READABLE).map_err(|error| error.to_string())?;
        let mut ready = fd.readable().await.map_err(|error| error.to_string())?;
        let read = || exit_of(fd.get_ref().as_fd()).map_err(|error| error.to_string());
        let mut exit = read()?;
        if exit.is_none() {
            // Its parent has not reaped it yet. The kernel tells when it has, and knows the status from then on.
            ready.clear_ready();
            let reaped = tokio::time::timeout(REAP_WAIT, fd.readable()).await;
            drop(reaped.unwrap_or(Ok(ready)).map_err(|error| error.to_string())?);
            exit = read()?;
        }
        Ok(match exit {
            Some(Exit::Code(code)) => format!("exited with {code}"),
            Some(Exit::Signal(signal)) => match signal_name(Signal(signal)) {
                Some(name) => format!("killed by {name}"),
                None => format!("killed by signal {signal}"),
            },
            None => "ended".to_owned(),
        })
    }
}

/// The container of a replica.
#[must_use]
pub fn container(service: &str, index: u32) -> String {
    format!("{service}.{index}")
}

impl Runtime {
    /// A runtime with options that stand before each verb; what bundles write goes to files in `logs`.
    #[must_use]
    pub fn new(program: PathBuf, options: Vec<String>, logs: PathBuf) -> Runtime {
        Runtime { program, options, logs, calls: Semaphore::new(CALLS), defined: Mutex::default() }
    }

    async fn call_with(&self, args: &[&str], output: Option<File>) -> Result<Vec<u8>, String> {
        let _one = self.calls.acquire().await.map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.program);
        command.args(&self.options).args(args).stdin(Stdio::null());
        match output {
            // What the container writes goes there, too.
            Some(file) => {
                let errors = file.try_clone().map_err(|error| error.to_string())?;
                let status = command.stdout(file).stderr(errors).status().await.map_err(|error| self.cannot(&error))?;
                if status.success() { Ok(Vec::new()) } else { Err(format!("skep {} ended with {status}", args[0])) }
            }
            None => {
                let output = command.output().await.map_err(|error| self.cannot(&error))?;
                if output.status.success() { Ok(output.stdout) } else { Err(render_error(&output.stderr)) }
            }
        }
    }

    fn cannot(&self, error: &std::io::Error) -> String {
        format!("cannot run {}: {error}", self.program.display())
    }

    async fn call(&self, args: &[&str]) -> Result<Vec<u8>, String> {
        self.call_with(args, None).await
    }

    /// All containers that have a process.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn list(&self) -> Result<Vec<State>, String> {
        let answer = self.call(&["list", "--format", "json"]).await?;
        let states: Option<Vec<State>> =
            serde_json::from_slice(&answer).map_err(|error| format!("cannot read the answer of list: {error}"))?;
        Ok(states.unwrap_or_default())
    }

    /// The state of a container; `None` where there is none.
    async fn state(&self, name: &str) -> Result<Option<State>, String> {
        match self.call(&["state", name]).await {
            Ok(answer) => {
                serde_json::from_slice(&answer).map(Some).map_err(|error| format!("cannot read state: {error}"))
            }
            Err(error) if error.contains(runtime_spec::state::NOT_THERE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes hold of a container that runs.
    ///
    /// # Errors
    /// The kernel does not let its process be opened.
    pub fn adopt(&self, state: &State) -> Result<Option<Process>, String> {
        Process::open(state)
    }

    async fn running(&self, name: &str) -> Result<Option<Process>, String> {
        self.state(name).await?.as_ref().map_or(Ok(None), Process::open)
    }

    /// Starts a replica, or takes hold of it where it runs already.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn start(&self, definition: &Definition, index: u32) -> Result<Process, String> {
        let name = container(&definition.name, index);
        let started = match &definition.unit {
            Unit::Container { .. } => self.start_container(definition, index, &name).await,
            Unit::Bundle { path } => self.start_bundle(&path.replace("{}", &index.to_string()), &name).await,
        };
        let running = self.running(&name).await?;
        match (started, running) {
            (_, Some(process)) => Ok(process),
            (Err(error), None) => {
                self.forget(&name);
                Err(error)
            }
            (Ok(()), None) => Err("it ended at once".to_owned()),
        }
    }

    async fn start_container(&self, definition: &Definition, index: u32, name: &str) -> Result<(), String> {
        self.provision(definition, index).await?;
        self.call(&["start", name]).await.map(drop)
    }

    async fn start_bundle(&self, path: &str, name: &str) -> Result<(), String> {
        match self.state(name).await? {
            Some(state) if state.status.is_alive() => return Ok(()),
            Some(_) => drop(self.call(&["delete", name]).await?),
            None => {}
        }
        fs::create_dir_all(&self.logs).map_err(|error| format!("cannot make {}: {error}", self.logs.display()))?;
        let log = self.logs.join(format!("{name}.log"));
        let file = File::options().append(true).create(true).open(&log);
        let file = file.map_err(|error| format!("cannot open {}: {error}", log.display()))?;
        let started = self.call_with(&["run", "--detach", "--bundle", path, name], Some(file)).await;
        started.map(drop).map_err(|error| format!("{error}: see {}", log.display()))
    }

    /// Defines the container of a replica, where it is not.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn provision(&self, definition: &Definition, index: u32) -> Result<(), String> {
        let Unit::Container { from, command, options } = &definition.unit else { return Ok(()) };
        let name = container(&definition.name, index);
        if self.defined.lock().map_err(|error| error.to_string())?.contains(&name) {
            return Ok(());
        }
        if self.call(&["info", "--format", "json", &name]).await.is_err() {
            // This program restarts it: two who do would start it twice.
            let mut args = vec!["create", name.as_str(), "--from", from.as_str(), "--restart", "no"];
            args.extend(options.iter().map(String::as_str));
            if !command.is_empty() {
                args.push("--");
                args.extend(command.iter().map(String::as_str));
            }
            self.call(&args).await?;
        }
        self.defined.lock().map_err(|error| error.to_string())?.insert(name);
        Ok(())
    }

    /// Removes the container of a replica with what it changed, where it is defined.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn unprovision(&self, definition: &Definition, index: u32) -> Result<(), String> {
        let name = container(&definition.name, index);
        self.forget(&name);
        match &definition.unit {
            Unit::Container { .. } => {
                if self.call(&["info", "--format", "json", &name]).await.is_err() {
                    return Ok(());
                }
                self.call(&["destroy", &name]).await.map(drop)
            }
            Unit::Bundle { .. } => self.call(&["delete", "--force", &name]).await.map(drop),
        }
    }

    fn forget(&self, name: &str) {
        // A list of what need not be asked for again: where it cannot be changed, nothing depends on it.
        if let Ok(mut defined) = self.defined.lock() {
            defined.remove(name);
        }
    }

    /// Stops a replica; returns when it has no process any more.
    ///
    /// # Errors
    /// What the runtime says, or that it still runs.
    pub async fn stop(&self, definition: &Definition, index: u32) -> Result<(), String> {
        let name = container(&definition.name, index);
        let asked = match &definition.unit {
            Unit::Container { .. } => {
                let seconds = definition.stop_timeout.as_millis().div_ceil(1000).to_string();
                self.call(&["stop", "--time", &seconds, &name]).await.map(drop)
            }
            Unit::Bundle { .. } => self.stop_bundle(&name, definition.stop_timeout).await,
        };
        match self.running(&name).await? {
            None => Ok(()),
            Some(process) => Err(asked.err().unwrap_or_else(|| format!("process {} still runs", process.pid))),
        }
    }

    async fn stop_bundle(&self, name: &str, timeout: Duration) -> Result<(), String> {
        if let Some(process) = self.running(name).await? {
            self.call(&["kill", name, "TERM"]).await?;
            let ended = tokio::time::timeout(timeout, process.ended()).await;
            if ended.is_err()
                && let Some(process) = self.running(name).await?
            {
                self.call(&["kill", "--all", name, "KILL"]).await?;
                tokio::time::timeout(KILL_WAIT, process.ended())
                    .await
                    .map_err(|_| "it survives SIGKILL".to_owned())??;
            }
        }
        self.call(&["delete", "--force", name]).await.map(drop)
    }

    /// Whether a program in a container ends with 0.
    ///
    /// # Errors
    /// What it or the runtime says.
    pub async fn exec(&self, name: &str, command: &[String]) -> Result<(), String> {
        let args = ["exec", name].into_iter().chain(command.iter().map(String::as_str));
        self.call(&args.collect::<Vec<_>>()).await.map(drop)
    }

    /// Whether the kernel killed the last run of a container for want of memory.
    pub async fn was_oom(&self, name: &str) -> bool {
        let Ok(answer) = self.call(&["info", "--format", "json", name]).await else { return false };
        let info: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        let info = info.get(0).unwrap_or(&info);
        info["last"]["reason"] == "oom"
    }
}

/// The message of a program in one line.
fn render_error(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = text.lines().map(|line| line.trim().trim_start_matches("error: ").trim_start_matches("caused by: "));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("hint: ")).collect();
    if lines.is_empty() { "it failed and said nothing".to_owned() } else { lines.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let said = b"error: cannot start \"a\"\n  caused by: mount: EPERM\nhint: be root\n";
        assert_eq!(render_error(said), "cannot start \"a\": mount: EPERM");
        assert_eq!(render_error(b"\n"), "it failed and said nothing");
    }
}
