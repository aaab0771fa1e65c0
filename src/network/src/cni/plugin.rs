//! One plugin, once.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Attachment;
use crate::program;

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Absolute paths of folders with plugins, the first first (`/opt/cni/bin`, `/usr/lib/cni`).
    pub plugins: Vec<String>,
    /// Absolute path of the folder with what was made (`/var/lib/skep/cni`).
    pub cache: String,
}

/// What a plugin is to do. Section 4 of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Version,
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Version => "VERSION",
        }
    }
}

/// A plugin that could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// There is none of that name.
    #[error("no plugin {name:?} in {folders}")]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        folders: String,
    },
    /// It could not be started, or did not read.
    #[error("plugin {plugin} {command}")]
    Start {
        /// Its path.
        plugin: String,
        /// What it was to do.
        command: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It said no.
    #[error("plugin {plugin} {command}: {message} (code {code})")]
    Failed {
        /// Its path.
        plugin: String,
        /// What it was to do.
        command: &'static str,
        /// Its own words, or what it wrote to its error output.
        message: String,
        /// Its own code, or its exit code. Section 5 of the specification.
        code: i64,
    },
    /// Its answer is no JSON.
    #[error("plugin {plugin} {command} does not answer in JSON")]
    Answer {
        /// Its path.
        plugin: String,
        /// What it was to do.
        command: &'static str,
        /// What is wrong with the answer.
        #[source]
        source: serde_json::Error,
    },
}

/// Longest that a plugin may take. One that asks a DHCP server takes the longest, some minutes where none answers.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a plugin and returns its answer; `null` where it has none to give.
pub(super) fn run(
    paths: &Paths,
    command: Command,
    plugin: &Map<String, Value>,
    config: &Map<String, Value>,
    attachment: Option<&Attachment>,
) -> Result<Value, PluginError> {
    let name = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
    let path = find(paths, name)?;
    let command_name = command.name();
    let start = |source| PluginError::Start { plugin: path.clone(), command: command_name, source };
    let input = serde_json::to_vec(config).expect("plain data with text keys");
    let output = program::run(&path, &input, LIMIT, |process| {
        process.env("CNI_COMMAND", command_name).env("CNI_PATH", paths.plugins.join(":"));
        if let Some(attachment) = attachment {
            process.env("CNI_CONTAINERID", &attachment.container).env("CNI_IFNAME", &attachment.link);
            process.env("CNI_NETNS", &attachment.netns).env("CNI_ARGS", &attachment.args);
        }
    });
    let output = output.map_err(start)?;
    if !output.status.success() {
        return Err(failure(&path, command_name, &output));
    }
    if output.stdout.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let answer = |source| PluginError::Answer { plugin: path.clone(), command: command_name, source };
    serde_json::from_slice(&output.stdout).map_err(answer)
}

fn find(paths: &Paths, name: &str) -> Result<String, PluginError> {
    let candidates = paths.plugins.iter().map(|folder| format!("{folder}/{name}"));
    let found = candidates.into_iter().find(|path| sys::fs::may_execute(path).is_ok());
    found.ok_or_else(|| PluginError::Missing { name: name.to_owned(), folders: paths.plugins.join(", ") })
}

/// A plugin that fails writes an object with `code`, `msg` and `details` to its standard output.
fn failure(path: &str, command: &'static str, output: &std::process::Output) -> PluginError {
    let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let text = |key: &str| said.as_ref().and_then(|said| said.get(key)).and_then(Value::as_str);
    let message = match (text("msg"), text("details")) {
        (Some(message), Some(details)) if !details.is_empty() => format!("{message}: {details}"),
        (Some(message), _) => message.to_owned(),
        (None, _) => program::complaint(output),
    };
    let code = said.as_ref().and_then(|said| said.get("code")).and_then(Value::as_i64);
    let code = code.unwrap_or_else(|| output.status.code().map_or(-1, i64::from));
    PluginError::Failed { plugin: path.to_owned(), command, message, code }
}
