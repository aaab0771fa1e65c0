//! A container's record on disk, and its lock.
//!
//! ```text
//! ROOT/            0711, /run/skep or what --root says
//!   ID/            0700; making it takes the id
//!     state        line 1: the record as JSON; the rest: config.json as it was at creation
//!     start        FIFO: a byte starts the container; there until it has started
//!     result       FIFO: the outcome of its exec
//!     notify/      mounted into the container where the caller has NOTIFY_SOCKET; the socket is in it
//! ```
//!
//! The record is written to a temporary file and renamed, so a reader sees the old or the new one. It is not forced to the
//! disk: a machine that goes down takes everything with it that the record names (processes, groups, links), so a record
//! that outlived it would be of no use, and the default folder is in memory anyway. Where `--root` is on a disk, such a
//! crash can leave a file without its contents; that is taken for a record that was never written, and `delete` gives
//! the id back. One write to a disk is 1 to 3 ms, as much as half of a start. The lock is a flock on
//! the container's folder: whoever changes the record holds it, but never during hooks, a foreground run or an event
//! stream. `state`, `list` and `kill` only read and never wait.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::state::{State as Document, Status, Usage};
use serde::{Deserialize, Serialize};
use sys::fs::{self, FlockOperation, OFlags};
use sys::{Errno, ProcFs};

use crate::error::{Error, Result};
use crate::undo::Undo;
use crate::unit::Unit;

/// Version of the record's format. A newer one is refused, not guessed at.
pub const SCHEMA: u32 = 1;

const STATE: &str = "state";
/// FIFO that a byte comes through.
pub const START_FIFO: &str = "start";
/// FIFO that a failure comes back through.
pub const RESULT_FIFO: &str = "result";

/// Folder of the socket that tells that the program is ready.
pub const NOTIFY_FOLDER: &str = "notify";

/// A process that is named for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// As the runtime's pid namespace numbers it.
    pub pid: i32,
    /// Clock ticks since boot; tells a process from a later one with the same pid.
    pub start_time: u64,
}

/// How far a container's making has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// `create` is at work, or was when it ended without a word.
    Creating,
    /// Made. Whether it has been started is told by the start FIFO.
    Made,
}

/// What is remembered of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The container.
    pub id: String,
    /// Version of the specification that its definition names.
    pub oci_version: String,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system.
    pub rootfs: String,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    /// Who created it, by user id.
    pub owner: u32,
    /// How far its making has come.
    pub phase: Phase,
    /// The runtime that makes it.
    pub creator: ProcessId,
    /// Its first process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub init: Option<ProcessId>,
    /// Its groups.
    pub groups: Vec<cgroup::GroupPath>,
    /// What is undone when it goes.
    pub undo: Vec<Undo>,
    /// Ids of the device programs that are, or are about to be, on its unified group. After each change only one is.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub device_programs: Vec<u32>,
    /// Annotations of the definition.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
    /// Whether the death of its first process takes all others with it.
    #[serde(default)]
    pub own_pid_namespace: bool,
    /// What its standard streams were at creation, such as `pipe:[4711]`, where one of them was a pipe: CRIU connects
    /// those again by name.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub streams: Vec<String>,
    /// Whether CRIU has put it into a time namespace, asked for or not, so that its clocks go on.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub restored_clocks: bool,
    /// Whether it has its creator's session keyring in the place of its own.
    #[serde(default)]
    pub callers_keyring: bool,
}

impl Record {
    /// The service manager's unit, where it made the groups.
    #[must_use]
    pub fn unit(&self) -> Option<&Unit> {
        self.undo.iter().find_map(|undo| match undo {
            Undo::Unit { unit } => Some(unit),
            _ => None,
        })
    }
}

/// The folder of all containers.
#[derive(Debug)]
pub struct Store {
    dir: OwnedFd,
    path: String,
}

/// The folder of one container.
#[derive(Debug)]
pub struct Folder {
    dir: OwnedFd,
    id: String,
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    _held: OwnedFd,
}

impl Store {
    /// Opens the folder, and makes it where it is not there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(path: &str) -> Result<Store> {
        match fs::open_dir(path) {
            Ok(dir) => return Ok(Store { dir, path: path.to_owned() }),
            Err(error) if error.is(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut made = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if path.starts_with('/') || !made.is_empty() {
                made.push('/');
            }
            made.push_str(part);
            match fs::mkdir_at(fs::CWD, &made, if made.len() == path.len() { 0o711 } else { 0o755 }) {
                Err(error) if !error.is(Errno::EXIST) => return Err(error.into()),
                _ => {}
            }
        }
        Ok(Store { dir: fs::open_dir(path)?, path: path.to_owned() })
    }

    /// Opens the folder only if it is there; without it there is no container.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_existing(path: &str) -> Result<Option<Store>> {
        match fs::open_dir(path) {
            Ok(dir) => Ok(Some(Store { dir, path: path.to_owned() })),
            Err(error) if error.is(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes an id: makes its folder, locked.
    ///
    /// # Errors
    /// [`Error::InvalidId`], [`Error::Exists`], or what the kernel says.
    pub fn take(&self, id: &str) -> Result<(Folder, Lock)> {
        validate_id(id)?;
        match fs::mkdir_at(self.dir.as_fd(), id, 0o700) {
            Err(error) if error.is(Errno::EXIST) => return Err(Error::Exists),
            other => other?,
        }
        let folder = self.folder(id)?;
        let lock = folder.lock()?;
        Ok((folder, lock))
    }

    /// The folder of a container that is there.
    ///
    /// # Errors
    /// [`Error::InvalidId`], [`Error::NotFound`], or what the kernel says.
    pub fn folder(&self, id: &str) -> Result<Folder> {
        validate_id(id)?;
        match fs::open_at(self.dir.as_fd(), id, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0) {
            Ok(dir) => Ok(Folder { dir, id: id.to_owned() }),
            Err(error) if error.is(Errno::NOENT) => Err(Error::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    /// All ids, sorted.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ids(&self) -> Result<Vec<String>> {
        let mut ids: Vec<String> = fs::list(self.dir.as_fd(), ".")?
            .into_iter()
            .filter(|(name, kind)| *kind == fs::FileType::Directory && validate_id(name).is_ok())
            .map(|(name, _)| name)
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Gives an id back: removes the files of its folder and of [`NOTIFY_FOLDER`], then the folder.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&self, folder: &Folder) -> Result<()> {
        for (name, kind) in fs::list(folder.dir.as_fd(), ".")? {
            if kind == fs::FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let inner = fs::open_at(folder.dir.as_fd(), &name, flags, 0)?;
                for (file, _) in fs::list(inner.as_fd(), ".")? {
                    unless_gone(fs::unlink_at(inner.as_fd(), &file))?;
                }
                unless_gone(fs::rmdir_at(folder.dir.as_fd(), &name))?;
            } else {
                unless_gone(fs::unlink_at(folder.dir.as_fd(), &name))?;
            }
        }
        unless_gone(fs::rmdir_at(self.dir.as_fd(), &folder.id))
    }
}

/// Somebody else may have removed it first.
fn unless_gone(outcome: sys::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if !error.is(Errno::NOENT) => Err(error.into()),
        _ => Ok(()),
    }
}

impl Folder {
    /// The container.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder itself, for the FIFOs.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the container went meanwhile, or what the kernel says.
    pub fn lock(&self) -> Result<Lock> {
        // A lock belongs to an open file, so it takes an open of its own.
        let held = fs::open_at(self.dir.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        fs::flock(held.as_fd(), FlockOperation::LockExclusive)?;
        #[allow(clippy::unnecessary_cast)] // st_nlink differs in width by architecture.
        if fs::stat(held.as_fd())?.st_nlink as u64 == 0 {
            return Err(Error::NotFound);
        }
        Ok(Lock { _held: held })
    }

    /// Writes the record with the definition that belongs to it.
    ///
    /// # Errors
    /// What the kernel says; a full disk leaves the old record.
    pub fn write(&self, record: &Record, config: &[u8]) -> Result<()> {
        let mut bytes = serde_json::to_vec(record).expect("a record has string keys alone");
        bytes.push(b'\n');
        bytes.extend_from_slice(config);
        let file = fs::open_at(
            self.dir.as_fd(),
            "state.new",
            OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW,
            0o600,
        )?;
        fs::write_all(file.as_fd(), &bytes)?;
        Ok(fs::rename_at(self.dir.as_fd(), "state.new", self.dir.as_fd(), STATE)?)
    }

    /// Reads the record and the bytes of the definition.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none (yet, or any more), [`Error::State`] for one that makes no sense.
    pub fn read(&self) -> Result<(Record, Vec<u8>)> {
        let mut bytes = match fs::read_at(self.dir.as_fd(), STATE) {
            Err(error) if error.is(Errno::NOENT) => return Err(Error::NotFound),
            other => other?,
        };
        // A name without contents, or with zeros in their place: the machine went down before they reached the disk.
        if bytes.first().is_none_or(|byte| *byte == 0) {
            return Err(Error::NotFound);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let config = if end < bytes.len() { bytes.split_off(end + 1) } else { Vec::new() };
        Ok((self.parse(&bytes)?, config))
    }

    /// Reads the record alone.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub fn read_record(&self) -> Result<Record> {
        self.read().map(|(record, _)| record)
    }

    fn parse(&self, line: &[u8]) -> Result<Record> {
        let bad = |reason: String| Error::State { id: self.id.clone(), reason };
        let record: Record = serde_json::from_slice(line).map_err(|error| bad(format!("not a record: {error}")))?;
        if record.schema > SCHEMA {
            return Err(bad(format!("written by a newer version (schema {}, known up to {SCHEMA})", record.schema)));
        }
        Ok(record)
    }

    /// Whether the container still waits for `start`.
    #[must_use]
    pub fn awaits_start(&self) -> bool {
        fs::stat_at(self.dir.as_fd(), START_FIFO).is_ok()
    }

    /// Reads the record with the definition, and what the container does now, for one who holds no lock.
    ///
    /// # Errors
    /// As [`Folder::read`] and [`Folder::status`].
    pub fn judge(&self, proc: &ProcFs) -> Result<((Record, Vec<u8>), Status)> {
        settle(|| self.read(), |record| self.status(record, proc))
    }

    /// What the container does now, as far as this record tells: it must have been read under the lock, else see
    /// [`Folder::judge`].
    ///
    /// # Errors
    /// What the kernel says of the freezer.
    pub fn status(&self, record: &Record, proc: &ProcFs) -> Result<Status> {
        let alive = record.init.is_some_and(|init| is_alive(proc, init));
        Ok(match (record.phase, alive) {
            (Phase::Creating, _) if is_alive(proc, record.creator) => Status::Creating,
            (_, false) | (Phase::Creating, true) => Status::Stopped,
            (Phase::Made, true) if self.awaits_start() => Status::Created,
            (Phase::Made, true) => match cgroup::Group::open_freezer(&record.groups)?.is_frozen()? {
                true => Status::Paused,
                false => Status::Running,
            },
        })
    }

    /// The state document that `state` prints.
    ///
    /// # Errors
    /// What the kernel says of the groups.
    pub fn document(record: &Record, status: Status) -> Result<Document> {
        let process = record.init.filter(|_| status != Status::Stopped);
        Ok(Document {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: u32::try_from(process.map_or(0, |process| process.pid)).ok(),
            status,
            bundle: record.bundle.clone(),
            rootfs: Some(record.rootfs.clone()),
            created: Some(record.created.clone()),
            annotations: record.annotations.clone(),
            owner: Some(String::new()),
            oom_kills: if status == Status::Stopped { oom_kills(record)? } else { None },
            usage: None,
            process_start: process.map(|process| process.start_time),
        })
    }
}

/// Reads a record and judges it, again where its creator ended in between: what that one wrote last counts.
///
/// Without it a container that has just been made would be seen as one whose making was broken off.
fn settle(
    read: impl Fn() -> Result<(Record, Vec<u8>)>,
    judge: impl Fn(&Record) -> Result<Status>,
) -> Result<((Record, Vec<u8>), Status)> {
    let found = read()?;
    let status = judge(&found.0)?;
    if found.0.phase != Phase::Creating || status != Status::Stopped {
        return Ok((found, status));
    }
    let last = read()?;
    let status = judge(&last.0)?;
    Ok((last, status))
}

/// What the kernel killed for want of memory, while the groups are still there to tell.
pub(crate) fn oom_kills(record: &Record) -> Result<Option<u64>> {
    let places: Vec<_> = record.groups.iter().filter(|place| place.has("memory")).cloned().collect();
    let kills = cgroup::oom::kills(&cgroup::Group::open(&places)?)?;
    Ok(Some(kills).filter(|kills| *kills > 0))
}

/// What the processes of a container use, or used, while the groups are still there to tell.
pub(crate) fn usage(record: &Record) -> Result<Option<Usage>> {
    if record.groups.is_empty() {
        return Ok(None);
    }
    let cgroup::stats::Usage { cpu_ns, memory, memory_peak, pids } = cgroup::stats::usage(&record.groups)?;
    let usage = Usage { cpu: cpu_ns, memory_peak, memory, pids };
    Ok((usage != Usage::default()).then_some(usage))
}

/// Whether a process runs: it is there, it is the same, and it is not a zombie.
#[must_use]
pub fn is_alive(proc: &ProcFs, id: ProcessId) -> bool {
    proc.runs(id.pid, id.start_time)
}

/// Opens a process that is still the one that was recorded; `None` where it has ended.
///
/// # Errors
/// What the kernel says.
pub fn open_process(proc: &ProcFs, id: ProcessId) -> Result<Option<OwnedFd>> {
    Ok(proc.open_process(id.pid, id.start_time)?)
}

/// The standard streams of this process, which are those of the container, by the names that the kernel gives them; none
/// where there is no pipe among them.
///
/// # Errors
/// What the kernel says.
pub(crate) fn read_streams(proc: &ProcFs) -> Result<Vec<String>> {
    let own = proc.own_thread()?;
    let streams: Vec<String> =
        (0..3).map(|number| proc.link(&format!("{own}/fd/{number}"))).collect::<sys::Result<_>>()?;
    Ok(if streams.iter().any(|name| name.starts_with("pipe:")) { streams } else { Vec::new() })
}

/// Checks an id: it becomes a folder's name and part of a group's path.
///
/// # Errors
/// [`Error::InvalidId`].
pub fn validate_id(id: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
    if id.is_empty() || id.len() > 1024 || id == "." || id == ".." || !id.chars().all(known) {
        return Err(Error::InvalidId(id.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            schema: SCHEMA,
            id: id.to_owned(),
            oci_version: "1.3.0".to_owned(),
            bundle: "/b".to_owned(),
            rootfs: "/b/rootfs".to_owned(),
            created: "2026-01-02T03:04:05.000000006Z".to_owned(),
            owner: 0,
            phase: Phase::Creating,
            creator: ProcessId { pid: 1, start_time: 0 },
            init: None,
            groups: Vec::new(),
            undo: Vec::new(),
            device_programs: Vec::new(),
            annotations: BTreeMap::new(),
            own_pid_namespace: true,
            streams: Vec::new(),
            restored_clocks: false,
            callers_keyring: false,
        }
    }

    fn with_store(name: &str, test: impl FnOnce(&Store)) {
        let path = std::env::temp_dir().join(format!("skep-state-{name}-{}", std::process::id()));
        let store = Store::open(path.to_str().unwrap()).unwrap();
        test(&store);
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn ids_are_names_not_paths() {
        for good in ["a", "web_1", "A+b-c.d", "...", &"x".repeat(1024)] {
            assert!(validate_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(1025)] {
            assert!(matches!(validate_id(bad), Err(Error::InvalidId(_))), "{bad}");
        }
    }

    #[test]
    fn a_record_and_its_definition_come_back() {
        with_store("roundtrip", |store| {
            let (folder, _lock) = store.take("web1").unwrap();
            assert!(matches!(folder.read(), Err(Error::NotFound)));
            folder.write(&record("web1"), b"{\n \"a\": 1\n}\n").unwrap();
            assert_eq!(folder.read().unwrap(), (record("web1"), b"{\n \"a\": 1\n}\n".to_vec()));
            assert!(matches!(store.take("web1"), Err(Error::Exists)));
            assert_eq!(store.ids().unwrap(), ["web1"]);
            store.remove(&folder).unwrap();
            assert!(matches!(store.folder("web1"), Err(Error::NotFound)));
        });
    }

    #[test]
    fn a_newer_or_broken_record_is_refused() {
        with_store("newer", |store| {
            let (folder, _lock) = store.take("web1").unwrap();
            folder.write(&Record { schema: SCHEMA + 1, ..record("web1") }, b"").unwrap();
            assert!(folder.read().unwrap_err().to_string().contains("newer version"));
            std::fs::write(std::path::Path::new(store.path()).join("web1/state"), "{\"schema\":1").unwrap();
            assert!(matches!(folder.read(), Err(Error::State { .. })));
        });
    }

    #[test]
    fn a_creator_that_ends_while_its_record_is_read_has_made_the_container() {
        let made = Record { phase: Phase::Made, ..record("web1") };
        let check = |records: &[&Record], expected: Status| {
            let next = std::cell::Cell::new(0);
            let read = || {
                let record = records[next.replace(next.get() + 1)];
                Ok((record.clone(), Vec::new()))
            };
            // The creator is gone by the time of the first look.
            let judge =
                |record: &Record| Ok(if record.phase == Phase::Made { Status::Created } else { Status::Stopped });
            let ((last, _), status) = settle(read, judge).unwrap();
            assert_eq!((&last, status, next.get()), (records[records.len() - 1], expected, records.len()));
        };
        check(&[&record("web1"), &made], Status::Created);
        check(&[&record("web1"), &record("web1")], Status::Stopped);
        check(&[&made], Status::Created);
    }

    #[test]
    fn a_record_that_a_crash_left_empty_was_never_written() {
        with_store("crash", |store| {
            let (folder, _lock) = store.take("web1").unwrap();
            folder.write(&record("web1"), b"{}").unwrap();
            let state = std::path::Path::new(store.path()).join("web1/state");
            for left in [Vec::new(), vec![0; 4096]] {
                std::fs::write(&state, left).unwrap();
                assert!(matches!(folder.read(), Err(Error::NotFound)));
            }
            store.remove(&folder).unwrap();
            assert!(store.ids().unwrap().is_empty());
        });
    }

    #[test]
    fn a_pid_that_was_used_again_is_not_opened() {
        let proc = ProcFs::open().unwrap();
        let pid = sys::process::own_pid();
        let own = ProcessId { pid, start_time: proc.start_time(pid).unwrap() };
        assert!(open_process(&proc, own).unwrap().is_some());
        assert!(open_process(&proc, ProcessId { start_time: own.start_time + 1, ..own }).unwrap().is_none());
        assert!(open_process(&proc, ProcessId { pid: 0, ..own }).unwrap().is_none());
    }

    #[test]
    fn whoever_waits_for_a_container_that_goes_is_told() {
        with_store("gone", |store| {
            let (folder, lock) = store.take("web1").unwrap();
            let other = store.folder("web1").unwrap();
            store.remove(&folder).unwrap();
            drop(lock);
            assert!(matches!(other.lock(), Err(Error::NotFound)));
        });
    }
}
