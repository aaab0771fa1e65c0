//! The configuration of LXC containers, lxc.container.conf(5): from its text to what this project's definition says.
//!
//! ```text
//! text, includes ──► source: entries (file, line, key, value), old names translated
//!                       └──► config: typed keys ──► lower: a definition's fields, a fragment of config.json,
//!                                                          what only a manager can do, and the report
//! ```
//!
//! Nothing is opened here: files that are included, profiles of system calls and tables of mounts come by a function of
//! the caller. All findings are reported, each with its file and line. What cannot be translated is never passed over: it
//! stands in the [`Report`] with the reason.

mod config;
mod lower;
mod network;
mod report;
mod seccomp;
mod source;
mod value;

pub use config::{Config, HOOKS, HookVersion, Setting, parse, read_entries};
pub use lower::{Around, Hook, Kept, Layout, Lowered, Rootfs, lower, plan_resource};
pub use network::{Net, NetKind};
pub use report::{Fate, Item, Report};
pub use seccomp::parse_profile;
pub use source::{Found, Reader, Source};
pub use value::{MountEntry, parse_mount_entry};

use crate::Severity;

/// Where something was said: a file and a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// The file as it was named.
    pub file: String,
    /// The line, from 1; 0 is none, as for what a command line says.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// One thing that is wrong or odd in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Whether the configuration is refused because of it.
    pub severity: Severity,
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Key, value and reason, in one line.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Log {
    findings: Vec<Finding>,
    dropped: usize,
}

impl Log {
    /// More than a person reads. The rest is counted, so that a hostile file cannot fill the memory.
    const MAX: usize = 256;

    pub(crate) fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.push(Severity::Error, place, message.into());
    }

    pub(crate) fn warn(&mut self, place: &Place, message: impl Into<String>) {
        self.push(Severity::Warning, place, message.into());
    }

    fn push(&mut self, severity: Severity, place: &Place, message: String) {
        if self.findings.len() < Self::MAX {
            self.findings.push(Finding { severity, place: place.clone(), message });
        } else {
            self.dropped += 1;
        }
    }

    /// The findings, in the order in which they were made.
    pub(crate) fn into_findings(mut self) -> Vec<Finding> {
        if self.dropped > 0 {
            let message = format!("{} more findings are not shown", self.dropped);
            self.findings.push(Finding { severity: Severity::Error, place: Place::default(), message });
        }
        self.findings
    }
}

#[cfg(test)]
mod tests;
