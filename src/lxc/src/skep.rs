//! `skep` as a program.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use runtime_spec::state::{NOT_THERE, State, Status};
use serde_json::Value;

use crate::places::config_path;

/// The variable by which `skep` says where it is.
pub(crate) const PROGRAM: &str = "SKEP_PROGRAM";

/// The program, and the options that all of its verbs get.
#[derive(Debug)]
pub struct Skep {
    program: PathBuf,
    options: Vec<String>,
}

impl Skep {
    /// The one that handed over, or the one of the usual path.
    #[must_use]
    pub fn found(options: Vec<String>) -> Skep {
        let program = std::env::var_os(PROGRAM).map_or_else(|| PathBuf::from("skep"), PathBuf::from);
        Skep { program, options }
    }

    /// Its path.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The options that all of its verbs get.
    #[must_use]
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// A verb that goes on while this program reads what it prints.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn reading(&self, args: &[&str]) -> Result<Child> {
        let started = self.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        started.with_context(|| format!("cannot run {}", self.program.display()))
    }

    /// How the last run of a defined container ended; `None` where it has had none.
    ///
    /// # Errors
    /// What `skep` tells.
    pub fn last(&self, name: &str) -> Result<Option<Value>> {
        let text = self.ok(&["info", name, "--json"])?;
        let info: Value = serde_json::from_str(&text).context("cannot read the answer of info")?;
        Ok(Some(info["last"].clone()).filter(|last| !last.is_null()))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.options).args(args);
        command
    }

    /// What a verb prints.
    ///
    /// # Errors
    /// What it tells.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot run {}", self.program.display()))?;
        let told = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{}", join(&told));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a verb with the caller's own streams.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn attached(&self, args: &[&str]) -> Result<ExitStatus> {
        self.command(args).status().with_context(|| format!("cannot run {}", self.program.display()))
    }

    /// The same of a verb that has the standard input for itself: who writes to it is told by the kernel when the verb and
    /// its container read no more.
    ///
    /// # Errors
    /// It cannot be run; what the kernel says.
    pub fn attached_alone(&self, args: &[&str]) -> Result<ExitStatus> {
        let cannot = || format!("cannot run {}", self.program.display());
        let mut child = self.command(args).spawn().with_context(cannot)?;
        let null = File::open("/dev/null").context("cannot open /dev/null");
        let closed = null.and_then(|null| Ok(sys::process::dup_onto(null.as_fd(), 0)?));
        let status = child.wait().with_context(cannot)?;
        closed.map(|()| status)
    }

    /// The state of a container; `None` where there is none.
    ///
    /// # Errors
    /// What `skep` tells.
    pub fn state(&self, name: &str) -> Result<Option<State>> {
        match self.ok(&["state", name]) {
            Ok(text) => serde_json::from_str(&text).context("cannot read the answer of state").map(Some),
            Err(error) if error.to_string().contains(NOT_THERE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The states of all containers. One call.
    ///
    /// # Errors
    /// What `skep` tells.
    pub fn states(&self) -> Result<Vec<State>> {
        let text = self.ok(&["list", "--format", "json"])?;
        let states: Option<Vec<State>> = serde_json::from_str(&text).context("cannot read the answer of list")?;
        Ok(states.unwrap_or_default())
    }

    /// The defined containers: their names, and the configurations that they come from.
    ///
    /// # Errors
    /// What `skep` tells.
    pub fn defined(&self) -> Result<Vec<(String, Option<PathBuf>)>> {
        let text = self.ok(&["ls", "--format", "json", "--filter", "defined=true"])?;
        let rows: Vec<Value> = serde_json::from_str(&text).context("cannot read the answer of ls")?;
        let row = |row: &Value| Some((row["name"].as_str()?.to_owned(), row["lxc_config"].as_str().map(PathBuf::from)));
        Ok(rows.iter().filter_map(row).collect())
    }

    /// Names of the defined containers that come from configurations below a path of containers.
    ///
    /// # Errors
    /// What `skep` tells.
    pub fn defined_below(&self, lxcpath: &Path) -> Result<Vec<String>> {
        let fits = |(name, from): &(String, Option<PathBuf>)| from.as_ref() == Some(&config_path(lxcpath, name));
        Ok(self.defined()?.into_iter().filter(fits).map(|(name, _)| name).collect())
    }
}

/// The lines of an error as one.
fn join(told: &str) -> String {
    let lines = told.lines().map(str::trim).filter(|line| !line.starts_with("note: ") && !line.is_empty());
    let text: Vec<&str> =
        lines.map(|line| line.trim_start_matches("error: ").trim_start_matches("caused by: ")).collect();
    if text.is_empty() { "it failed without a word".to_owned() } else { text.join(": ") }
}

/// A state by LXC's name.
#[must_use]
pub fn render_status(state: Option<&State>) -> &'static str {
    match state.map(|state| state.status) {
        None | Some(Status::Stopped) => "STOPPED",
        Some(Status::Creating | Status::Created) => "STARTING",
        Some(Status::Running) => "RUNNING",
        Some(Status::Paused) => "FROZEN",
    }
}
