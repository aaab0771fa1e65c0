//! One runtime under test: how to call it, and what it left behind.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::sample::Cost;

/// A runtime, its options, and the state folder that only this measurement uses.
pub(crate) struct Runtime {
    pub(crate) name: String,
    program: PathBuf,
    options: Vec<String>,
    root: PathBuf,
    /// What it finds in its environment besides that of this program.
    environment: Vec<(&'static str, PathBuf)>,
    /// Where its error texts go: a pipe would have to be drained while the clock runs.
    log: PathBuf,
}

impl Runtime {
    /// Takes a name and a command with options that come before the verb; both are of one word each.
    pub(crate) fn new(name: &str, command: &str, work: &Path) -> Result<Runtime> {
        let mut words = command.split_whitespace();
        let program = words.next().with_context(|| format!("runtime {name} has no command"))?;
        let program = std::path::absolute(program).with_context(|| format!("cannot resolve {program}"))?;
        ensure!(program.is_file(), "{} is not a program", program.display());
        let root = work.join(format!("state-{name}"));
        std::fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let log = work.join(format!("log-{name}"));
        let options = words.map(str::to_owned).collect();
        Ok(Runtime { name: name.to_owned(), program, options, root, environment: Vec::new(), log })
    }

    /// The same with a variable in the environment of each command.
    pub(crate) fn with_variable(mut self, name: &'static str, value: PathBuf) -> Runtime {
        self.environment.push((name, value));
        self
    }

    pub(crate) fn command_line(&self) -> String {
        let words = std::iter::once(self.program.to_string_lossy().into_owned()).chain(self.options.iter().cloned());
        words.collect::<Vec<_>>().join(" ")
    }

    /// The first line of `--version`.
    pub(crate) fn version(&self) -> String {
        let output = Command::new(&self.program).arg("--version").output();
        let text =
            output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).into());
        text.lines().next().unwrap_or("no version").to_owned()
    }

    /// The command for a verb, with this measurement's state folder.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.options).arg("--root").arg(&self.root).args(words);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.quiet(&mut command)?;
        Ok(command)
    }

    /// Has a command write its errors to this runtime's log, and nothing else to anybody.
    pub(crate) fn quiet(&self, command: &mut Command) -> Result<()> {
        quiet(command, &self.log)
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Runs a verb to its end and says what it cost, from the spawn to the collected exit.
    pub(crate) fn measure<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<Cost> {
        measure(&mut self.command(words)?, &words[0].as_ref().to_string_lossy(), &self.log)
    }

    /// The same behind other words, such as those of nsenter.
    pub(crate) fn measure_after(&self, before: &[String], words: &[&str]) -> Result<Cost> {
        let own = self.command(words)?;
        let mut all = before.iter().map(OsStr::new).chain([own.get_program()]).chain(own.get_args());
        let mut command = Command::new(all.next().context("no words")?);
        command.args(all);
        quiet(&mut command, &self.log)?;
        measure(&mut command, words[0], &self.log)
    }

    /// The program of benches/floor is no whole runtime: it keeps no container and puts no limit on one.
    pub(crate) fn is_floor(&self) -> bool {
        self.name == "floor"
    }

    /// The last line that it wrote to its standard error.
    pub(crate) fn last_words(&self) -> String {
        last_words(&self.log)
    }

    /// Ids of the containers in this measurement's state folder.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let output = self.command(&["list", "--quiet"])?.stdout(Stdio::piped()).output().context("cannot list")?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Deletes every container in this measurement's state folder.
    pub(crate) fn delete_all(&self) -> Result<()> {
        for id in self.ids()? {
            let status = self.command(&["delete", "--force", &id])?.status().context("cannot delete")?;
            ensure!(status.success(), "delete --force {id} ended with {status}: {}", self.last_words());
        }
        Ok(())
    }
}

/// Gives a command nothing to read, nobody who listens, and a file for its error texts.
pub(crate) fn quiet(command: &mut Command, log: &Path) -> Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(log).context("cannot open the log")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Ok(())
}

/// Runs a command to its end and says what it cost. `what` is its name in the error text, `log` where it wrote its own.
///
/// # Errors
/// It cannot be run, or ends otherwise than well.
pub(crate) fn measure(command: &mut Command, what: &str, log: &Path) -> Result<Cost> {
    let cpu = children_cpu()?;
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let wall = start.elapsed();
    ensure!(status.success(), "{what} ended with {status}: {}", last_words(log));
    Ok(Cost { wall, cpu: children_cpu()?.saturating_sub(cpu) })
}

/// The last line of a log that says something.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

/// User and system time of all children that were collected, which is exact to the microsecond in their sum.
fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage(RUSAGE_CHILDREN)")?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.try_into().context("a negative time")?))
}

/// Times a piece of work that starts processes by itself; the cost is that of one of `count`.
pub(crate) fn measure_shared(count: u32, work: impl FnOnce() -> Result<()>) -> Result<Cost> {
    let cpu = children_cpu()?;
    let start = Instant::now();
    work()?;
    let wall = start.elapsed();
    Ok(Cost { wall: wall / count, cpu: children_cpu()?.saturating_sub(cpu) / count })
}

/// Waits until a process has ended, whoever its parent is; a zombie has ended.
pub(crate) fn wait_for_end(pid: &str) -> Result<()> {
    let stat = format!("/proc/{pid}/stat");
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let state = std::fs::read_to_string(&stat).ok().and_then(|text| {
            // The name in parentheses may hold anything; the state follows the last one.
            text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
        });
        match state {
            None | Some('Z' | 'X') => return Ok(()),
            Some(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    bail!("process {pid} still runs after 10 s")
}

/// The pid that a runtime wrote.
pub(crate) fn read_pid(path: &Path) -> Result<String> {
    let text = std::io::read_to_string(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)?;
    Ok(text.trim().to_owned())
}
