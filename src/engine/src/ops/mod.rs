//! One file per operation.

pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod exec;
pub mod foreground;
pub mod inside;
pub mod kill;
pub mod list;
pub mod pause;
pub mod restore;
pub mod run;
pub mod start;
pub mod update;

use std::time::Duration;

use runtime_spec::ContainerSpec;
use runtime_spec::state::{State as Document, Status};
use runtime_spec::timeline::{Side, Timeline};
use sys::ProcFs;

use crate::error::{Error, Result};
use crate::host::Log;
use crate::state::{Folder, Record, Store};
use crate::{clock, hooks};

/// What every operation works with.
pub struct Context<'a> {
    /// Folder of all containers.
    pub root: String,
    /// The host's procfs.
    pub proc: ProcFs,
    /// Takes warnings and performed steps.
    pub log: Log<'a>,
    /// Whether performed steps are told.
    pub trace: bool,
    /// Where phases and steps put down the time that they took; `None` measures nothing.
    pub timeline: Option<&'a Timeline>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("root", &self.root).field("trace", &self.trace).finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    /// Opens the host's `/proc`; the folder of containers is opened when it is needed.
    ///
    /// # Errors
    /// When `/proc` is not a procfs.
    pub fn new(root: impl Into<String>, log: Log<'a>, trace: bool) -> Result<Context<'a>> {
        Ok(Context { root: root.into(), proc: ProcFs::open()?, log, trace, timeline: None })
    }

    /// When a phase begins, where that is put down.
    #[must_use]
    pub fn mark(&self) -> Option<Duration> {
        self.timeline.map(|_| clock::now())
    }

    /// Puts a phase down that began at a [`mark`](Context::mark) and has just ended.
    pub fn spent(&self, phase: &str, mark: Option<Duration>) {
        if let (Some(timeline), Some(begin)) = (self.timeline, mark) {
            timeline.add(Side::Host, phase, begin, clock::now());
        }
    }

    /// The folder of a container, and its store.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InvalidId`], or what the kernel says.
    pub fn find(&self, id: &str) -> Result<(Store, Folder)> {
        crate::state::validate_id(id)?;
        let store = Store::open_existing(&self.root)?.ok_or(Error::NotFound)?;
        let folder = store.folder(id)?;
        Ok((store, folder))
    }

    fn warn(&self, text: &str) {
        (self.log)(crate::host::Level::Warning, text);
    }
}

/// The state document of a container.
///
/// # Errors
/// [`Error::NotFound`], or a record that makes no sense.
pub fn state(context: &Context<'_>, id: &str) -> Result<Document> {
    let (_, folder) = context.find(id)?;
    let ((record, _), status) = folder.judge(&context.proc)?;
    match status {
        Status::Stopped => stopped(&record),
        status => Folder::document(&record, status),
    }
}

/// The document of one that has stopped, with what it used in all, for who puts down its end. A list reads that on demand alone.
fn stopped(record: &Record) -> Result<Document> {
    let mut document = Folder::document(record, Status::Stopped)?;
    document.usage = crate::state::usage(record)?;
    Ok(document)
}

/// The groups of a container, opened, with its record.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Unsupported`] where it has none.
pub fn open_group(context: &Context<'_>, id: &str) -> Result<(Record, cgroup::Group)> {
    let (_, folder) = context.find(id)?;
    let record = folder.read_record()?;
    if record.groups.is_empty() {
        return Err(Error::Unsupported("the container has no cgroup".to_owned()));
    }
    let group = cgroup::Group::open(&record.groups)?;
    Ok((record, group))
}

/// Pids of all processes of a container, as the runtime sees them.
///
/// # Errors
/// [`Error::NotFound`], or what the kernel says.
pub fn pids(context: &Context<'_>, id: &str) -> Result<Vec<i32>> {
    let (_, folder) = context.find(id)?;
    let ((record, _), status) = folder.judge(&context.proc)?;
    if record.groups.is_empty() {
        let alive = status != Status::Stopped;
        return Ok(record.init.filter(|_| alive).map(|init| init.pid).into_iter().collect());
    }
    Ok(cgroup::Group::open(&record.groups)?.procs()?)
}

/// The definition as it was at creation.
pub(crate) fn spec_of(id: &str, config: &[u8]) -> Result<ContainerSpec> {
    runtime_spec::load(config)
        .spec
        .ok_or_else(|| Error::State { id: id.to_owned(), reason: "its definition is not valid any more".to_owned() })
}

/// What hooks are told.
pub(crate) fn hook_state(record: &Record) -> hooks::State {
    hooks::State {
        document: Document {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: None,
            status: Status::Creating,
            bundle: record.bundle.clone(),
            rootfs: None,
            created: None,
            annotations: record.annotations.clone(),
            owner: None,
            oom_kills: None,
            usage: None,
            process_start: None,
        },
        pid: record.init.map(|init| init.pid),
    }
}
