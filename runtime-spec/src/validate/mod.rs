//! Judges a definition and lowers it to the typed model in one pass.
//!
//! What the specification forbids, and what the kernel is certain to refuse, is an error; what other runtimes accept
//! although it is odd is a warning. Everything is judged from the bytes alone: whether a path exists, whether the host
//! has a controller or a namespace file is of the right kind is for those who can look. Every function here goes on
//! after an error, so that one run tells everything; the model that comes out of a failed run is thrown away.

mod config;
mod devices;
mod hooks;
mod landlock;
mod list;
pub(crate) mod memory_policy;
pub(crate) mod mount_options;
mod mounts;
pub(crate) mod namespaces;
mod net_devices;
mod overlay;
mod process;
mod rdt;
mod resources;
mod scheduling;
pub(crate) mod seccomp;
pub mod sysctl;
mod version;

use std::fmt;

use crate::finding::{Finding, Log, Path, Severity};
use crate::model::{ContainerSpec, Process, Resources};
use crate::oci;

pub(crate) use hooks::POINTS as HOOK_POINTS;
pub use resources::Purpose;

/// The outcome for a whole definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// All findings, in the order of the text where they are about types, else topic by topic.
    pub findings: Vec<Finding>,
    /// The definition, typed. Present exactly when no finding is an error.
    pub spec: Option<ContainerSpec>,
}

impl Report {
    /// The findings for which the definition is refused.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// The findings with which the definition is used all the same.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Warning)
    }
}

/// Judges and lowers a definition that was read or made.
#[must_use]
pub fn validate(config: &oci::Config) -> Report {
    let mut log = Log::default();
    let spec = config::lower(config, &mut log);
    finish(Some(spec), log, |findings, spec| Report { findings, spec })
}

/// Reads, judges and lowers the bytes of a `config.json`.
#[must_use]
pub fn load(bytes: &[u8]) -> Report {
    let mut log = Log::default();
    let spec = oci::read::<oci::Config>(bytes, &mut log).map(|config| config::lower(&config, &mut log));
    finish(spec, log, |findings, spec| Report { findings, spec })
}

/// Judges and lowers a process alone. Pointers begin at the process.
#[must_use]
pub fn validate_process(process: &oci::Process) -> (Vec<Finding>, Option<Process>) {
    let mut log = Log::default();
    let process = process::lower(process, &Path::Root, &mut log);
    finish(Some(process), log, |findings, process| (findings, process))
}

/// Reads, judges and lowers the bytes of a process, as `exec --process` takes it.
#[must_use]
pub fn load_process(bytes: &[u8]) -> (Vec<Finding>, Option<Process>) {
    let mut log = Log::default();
    let process = oci::read::<oci::Process>(bytes, &mut log).map(|p| process::lower(&p, &Path::Root, &mut log));
    finish(process, log, |findings, process| (findings, process))
}

/// Judges and lowers limits alone. Pointers begin at the limits.
#[must_use]
pub fn validate_resources(resources: &oci::LinuxResources, purpose: Purpose) -> (Vec<Finding>, Option<Resources>) {
    let mut log = Log::default();
    let resources = resources::lower(resources, purpose, &Path::Root, &mut log);
    finish(Some(resources), log, |findings, resources| (findings, resources))
}

/// Reads, judges and lowers the bytes of limits, as `update --resources` takes them.
#[must_use]
pub fn load_resources(bytes: &[u8]) -> (Vec<Finding>, Option<Resources>) {
    let mut log = Log::default();
    let resources = oci::read::<oci::LinuxResources>(bytes, &mut log)
        .map(|r| resources::lower(&r, Purpose::Update, &Path::Root, &mut log));
    finish(resources, log, |findings, resources| (findings, resources))
}

/// Withholds the value when there was an error.
fn finish<T, R>(value: Option<T>, log: Log, join: impl FnOnce(Vec<Finding>, Option<T>) -> R) -> R {
    let value = value.filter(|_| !log.failed());
    join(log.into_findings(), value)
}

/// A value for a message: quoted, control characters escaped, cut where it gets long.
pub(crate) fn quote(text: &str) -> Quoted<'_> {
    Quoted(text)
}

/// See [`quote`].
pub(crate) struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 100;
        match self.0.char_indices().nth(MAX) {
            Some((end, _)) => write!(f, "{:?}...", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// The entries of an optional array.
fn items<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// An optional string; the empty one counts as absent, because callers written in Go print it either way.
fn text(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

/// The same as an owned string for the kernel, which cannot take a NUL.
fn kernel_text(value: &Option<String>, at: &Path<'_>, section: &'static str, log: &mut Log) -> Option<String> {
    let value = text(value)?;
    check_nul(value, at, section, log);
    Some(value.to_owned())
}

/// Refuses a string that the kernel would cut at a NUL.
fn check_nul(value: &str, at: &Path<'_>, section: &'static str, log: &mut Log) {
    if value.contains('\0') {
        log.error(at, section, format_args!("must not contain a NUL character: {}", quote(value)));
    }
}

/// Refuses strings that the kernel would cut at a NUL, and copies them.
fn kernel_texts(list: &Option<Vec<String>>, at: &Path<'_>, section: &'static str, log: &mut Log) -> Vec<String> {
    for (index, value) in items(list).iter().enumerate() {
        check_nul(value, &at.item(index), section, log);
    }
    items(list).to_vec()
}

/// Refuses a path that is not absolute.
fn check_absolute(path: &str, at: &Path<'_>, section: &'static str, log: &mut Log) {
    if !path.starts_with('/') {
        log.error(at, section, format_args!("must be an absolute path, not {}", quote(path)));
    }
    check_nul(path, at, section, log);
}

/// A number whose absence is an error.
fn required<T: Copy + Default>(value: Option<T>, at: &Path<'_>, section: &'static str, log: &mut Log) -> T {
    if value.is_none() {
        log.error(at, section, "is required");
    }
    value.unwrap_or_default()
}

/// Looks a name up in a table, and refuses one that is not there.
fn lookup<T: Copy>(table: &[(&str, T)], name: &str, at: &Path<'_>, section: &'static str, log: &mut Log) -> Option<T> {
    let found = table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if found.is_none() {
        log.error(at, section, format_args!("has no value {}; known are {}", quote(name), Names(table)));
    }
    found
}

/// The names of a table, for a message.
struct Names<'a, T>(&'a [(&'a str, T)]);

impl<T> fmt::Display for Names<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, _)) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
