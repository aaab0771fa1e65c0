//! One container's groups: a folder in each hierarchy, held open.
//!
//! Making them, entering them and writing to them goes through the descriptors, so a hierarchy that is mounted over, or a
//! path that changes, in between cannot lead a write elsewhere.

mod apply;
mod controllers;
mod cpuset;
mod devices;
mod explain;
mod freeze;
mod guest;
mod kill;
mod procs;
mod reclaim;
mod remove;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::fs::OFlags;

pub use controllers::Below;
pub use devices::{DeviceProgram, Own, Placed};
pub use explain::why_no_process;
pub use freeze::Freezer;
pub use guest::is_device_rule;
pub use kill::{KILL_BOUND, Survivor};
pub use procs::is_occupied;
pub use remove::{REMOVE_BOUND, remove};

use crate::error::{Error, Result};
use crate::path::{GroupPath, clean_sub_group};

/// The groups of one container.
#[derive(Debug)]
pub struct Group {
    members: Vec<Member>,
}

/// The group in one hierarchy.
#[derive(Debug)]
struct Member {
    place: GroupPath,
    /// An O_PATH descriptor of the folder.
    dir: OwnedFd,
}

/// What is done with a group that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Present {
    /// It is taken where nothing is in it and it is not frozen. Its limits may not be those of a new group, so
    /// [`Group::read_current`] must be asked before limits are rendered.
    TakenIfIdle,
    /// It is somebody else's work for this container, with a process in it.
    Adopted,
}

/// A group below the container's, for an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubGroup {
    /// Controllers that it applies to; empty for all.
    pub controllers: Vec<String>,
    /// Path below the container's group. Clean or not; it may not climb out.
    pub path: String,
}

/// Descriptors through which a task enters.
#[derive(Debug)]
pub struct AttachFds {
    /// `tasks` of each v1 hierarchy, open for writing: memory first, so that what the child does next is charged to it;
    /// freezer last, since a frozen group stops the child there.
    pub tasks: Vec<AttachFd>,
    /// The folder in the unified hierarchy, for `clone3(CLONE_INTO_CGROUP)`.
    pub unified: Option<OwnedFd>,
}

/// `tasks` of one v1 hierarchy.
#[derive(Debug)]
pub struct AttachFd {
    /// Its controllers, separated by commas.
    pub controllers: String,
    /// The file, open for writing.
    pub fd: OwnedFd,
}

impl AttachFds {
    /// Moves the calling thread into each v1 group. To be called by a process that still has one thread; allocates only
    /// to tell about a failure.
    ///
    /// # Errors
    /// [`Error::Sys`] with the hierarchy. ENOSPC means a cpuset without CPUs or memory nodes.
    pub fn enter(&self) -> Result<()> {
        for attach in &self.tasks {
            sys::fs::write_all(attach.fd.as_fd(), b"0").map_err(|error| {
                sys::Error::new(format!("write(tasks of {}, \"0\")", attach.controllers), error.errno())
            })?;
        }
        Ok(())
    }
}

impl Group {
    /// Makes the group in each hierarchy, with the parents that are missing, or nothing at all.
    ///
    /// Parents that it makes in a cpuset hierarchy get their own parent's CPUs and memory nodes, and
    /// `cgroup.clone_children`, so that what is made in them starts with values. In the unified hierarchy, all controllers
    /// that its root offers are handed down; `below` says what happens below a group that has processes of its own.
    ///
    /// The parents of a container's groups stay when it is deleted, since another container may use them by then.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] and [`Error::Frozen`] for a group that is there already and in use; [`Error::Sys`] for what the
    /// kernel says; [`Error::Undo`] where, on top of that, a folder that was made could not be removed again.
    pub fn create(places: &[GroupPath], below: Below) -> Result<Group> {
        make_all(places, below, Present::TakenIfIdle)
    }

    /// Opens groups that somebody else has made with a process in them, and makes those that are missing.
    ///
    /// # Errors
    /// [`Error::Sys`]; [`Error::Undo`] as with [`Group::create`].
    pub fn adopt(places: &[GroupPath]) -> Result<Group> {
        make_all(places, Below::Ordinary, Present::Adopted)
    }

    /// Refuses groups that are there already and in use, before a process that a service manager moves into them becomes
    /// part of another container, or stops in a frozen group and never says a word again.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::Frozen`], [`Error::Sys`].
    pub fn refuse_in_use(places: &[GroupPath]) -> Result<()> {
        Group::open(places)?.members.iter().try_for_each(refuse_in_use)
    }

    /// The same for groups that may hold processes, such as those of a slice.
    ///
    /// # Errors
    /// [`Error::Frozen`], [`Error::Sys`].
    pub fn refuse_frozen(places: &[GroupPath]) -> Result<()> {
        Group::open(places)?.members.iter().try_for_each(refuse_frozen)
    }

    /// Whether a process is in the group that stands for all of them: the unified one, or the named one of systemd.
    ///
    /// # Errors
    /// [`Error::Sys`].
    pub fn is_tracked(&self, pid: i32) -> Result<bool> {
        let named = |member: &&Member| member.place.has("name=systemd");
        let Some(member) = self.members.iter().find(named).or_else(|| self.unified_member()) else { return Ok(false) };
        Ok(procs::below(member.dir.as_fd())?.contains(&pid))
    }

    /// Opens the groups of a container that is there. One that has vanished is left out.
    ///
    /// # Errors
    /// [`Error::Sys`].
    pub fn open(places: &[GroupPath]) -> Result<Group> {
        let mut members = Vec::with_capacity(places.len());
        for place in places {
            match open_place(place) {
                Ok(dir) => members.push(Member { place: place.clone(), dir }),
                Err(error) if error.is(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Group { members })
    }

    /// Opens the groups of a container that runs, all of them.
    ///
    /// # Errors
    /// [`Error::Vanished`] for one that is not there: the container's processes are elsewhere then, and what is done to the
    /// group would not reach them. [`Error::Sys`].
    pub fn open_all(places: &[GroupPath]) -> Result<Group> {
        let open = |place: &GroupPath| match open_place(place) {
            Ok(dir) => Ok(Member { place: place.clone(), dir }),
            Err(error) if error.is(Errno::NOENT) => Err(Error::Vanished { dir: place.dir() }),
            Err(error) => Err(error.into()),
        };
        Ok(Group { members: places.iter().map(open).collect::<Result<_>>()? })
    }

    /// Whether there is none at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where the groups are.
    pub fn places(&self) -> impl Iterator<Item = &GroupPath> {
        self.members.iter().map(|member| &member.place)
    }

    /// The folder in the unified hierarchy, where there is one.
    #[must_use]
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified_member().map(|member| member.dir.as_fd())
    }

    /// The folder that has a controller.
    #[must_use]
    pub fn dir(&self, controller: &str) -> Option<BorrowedFd<'_>> {
        self.member(controller).map(|member| member.dir.as_fd())
    }

    /// Opens what a task needs to enter the groups, or groups below them.
    ///
    /// # Errors
    /// [`Error::NoGroup`] for a controller that the container has no group of, [`Error::Path`] for a sub-group that climbs
    /// out, [`Error::Sys`], ENOENT for one that is not there.
    pub fn open_attach(&self, subs: &[SubGroup]) -> Result<AttachFds> {
        for controller in subs.iter().flat_map(|sub| &sub.controllers) {
            if self.member(controller).is_none() {
                return Err(Error::NoGroup { controller: controller.clone() });
            }
        }
        let mut tasks = Vec::with_capacity(self.members.len());
        for member in self.members.iter().filter(|member| !member.place.is_unified()) {
            let file = join(&sub_path(member, subs)?, "tasks");
            let fd = sys::fs::open_beneath(member.dir.as_fd(), &file, OFlags::WRONLY)
                .map_err(|error| member.named("open", &file, &error))?;
            tasks.push(AttachFd { controllers: member.place.controllers.join(","), fd });
        }
        tasks.sort_by_key(|attach| attach_rank(&attach.controllers));
        let open_unified = |member: &Member| -> Result<OwnedFd> {
            let path = join(&sub_path(member, subs)?, ".");
            let opened = sys::fs::open_beneath(member.dir.as_fd(), &path, OFlags::PATH | OFlags::DIRECTORY);
            Ok(opened.map_err(|error| member.named("open", &path, &error))?)
        };
        Ok(AttachFds { tasks, unified: self.unified_member().map(open_unified).transpose()? })
    }

    /// Opens the group below the container's unified one that holds a process, `None` where the container's own does or
    /// none. A container whose processes hand controllers on to groups below (systemd, an engine in the container) has
    /// moved them out of its own group, which takes no process then: an exec goes to where the first process is.
    ///
    /// # Errors
    /// [`Error::Sys`].
    pub fn open_group_of(&self, pid: i32) -> Result<Option<OwnedFd>> {
        let Some(member) = self.unified_member() else { return Ok(None) };
        let (mut first, mut found) = (true, None);
        procs::walk(member.dir.as_fd(), &mut |group| {
            // The top of a threaded tree lists the processes of all: the lowest group that has it is where it is.
            if !std::mem::take(&mut first) && procs::in_group(group)?.contains(&pid) {
                found = Some(sys::fs::open_at(group, ".", OFlags::PATH | OFlags::DIRECTORY, 0)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn unified_member(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.place.is_unified())
    }

    /// The member that limits of a controller go to; `cgroup` is the unified one.
    fn member(&self, controller: &str) -> Option<&Member> {
        if controller == "cgroup" {
            return self.unified_member();
        }
        self.members.iter().find(|member| member.place.has(controller))
    }
}

/// The file that was written last.
struct LastFile<'a> {
    member: &'a Member,
    file: &'a str,
    fd: OwnedFd,
}

impl Member {
    fn open(&self, file: &str, flags: OFlags) -> sys::Result<OwnedFd> {
        sys::fs::open_at(self.dir.as_fd(), file, flags, 0).map_err(|error| self.named("open", file, &error))
    }

    fn read(&self, file: &str) -> sys::Result<String> {
        sys::fs::read_text_at(self.dir.as_fd(), file).map_err(|error| self.named("read", file, &error))
    }

    fn write(&self, file: &str, value: &str) -> sys::Result<()> {
        let call = || format!("write({:?}, {value:?})", self.path(file));
        sys::fs::write_value_at(self.dir.as_fd(), file, value).map_err(|error| sys::Error::new(call(), error.errno()))
    }

    /// Writes to a file that the last write may have left open: a device list has a line for each rule.
    fn write_on<'a>(&'a self, file: &'a str, value: &str, last: &mut Option<LastFile<'a>>) -> sys::Result<()> {
        let last = match last {
            Some(last) if std::ptr::eq(last.member, self) && last.file == file => last,
            other => other.insert(LastFile { member: self, file, fd: self.open(file, OFlags::WRONLY)? }),
        };
        let call = || format!("write({:?}, {value:?})", self.path(file));
        sys::fs::write_value(last.fd.as_fd(), value).map_err(|error| sys::Error::new(call(), error.errno()))
    }

    /// The path of a file, for people.
    fn path(&self, file: &str) -> String {
        format!("{}/{file}", self.place.dir())
    }

    /// The same failure with the path instead of a descriptor's number.
    fn named(&self, call: &str, file: &str, error: &sys::Error) -> sys::Error {
        sys::Error::new(format!("{call}({:?})", self.path(file)), error.errno())
    }
}

/// The controllers of each v1 group, in the order in which a task enters: that of [`AttachFds::tasks`].
#[must_use]
pub fn attach_order(places: &[GroupPath]) -> Vec<String> {
    let legacy = places.iter().filter(|place| !place.is_unified());
    let mut names: Vec<String> = legacy.map(|place| place.controllers.join(",")).collect();
    names.sort_by_key(|controllers| attach_rank(controllers));
    names
}

/// Memory first, freezer last.
fn attach_rank(controllers: &str) -> u8 {
    let has = |wanted: &str| controllers.split(',').any(|name| name == wanted);
    if has("freezer") {
        2
    } else if has("memory") {
        0
    } else {
        1
    }
}

fn sub_path(member: &Member, subs: &[SubGroup]) -> Result<String> {
    let names = |sub: &&SubGroup| sub.controllers.iter().any(|controller| member.place.has(controller));
    let chosen = subs.iter().find(names).or_else(|| subs.iter().find(|sub| sub.controllers.is_empty()));
    chosen.map_or_else(|| Ok(String::new()), |sub| clean_sub_group(&sub.path))
}

fn join(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

fn open_place(place: &GroupPath) -> sys::Result<OwnedFd> {
    let mount = sys::fs::open_dir(&place.mountpoint)?;
    open_below(mount.as_fd(), place)
}

fn open_below(mount: BorrowedFd<'_>, place: &GroupPath) -> sys::Result<OwnedFd> {
    sys::fs::open_beneath(mount, place.relative(), OFlags::PATH | OFlags::DIRECTORY)
        .map_err(|error| sys::Error::new(format!("open({:?})", place.dir()), error.errno()))
}

/// Makes all groups, or none.
fn make_all(places: &[GroupPath], below: Below, present: Present) -> Result<Group> {
    // Folders, parents before children.
    let mut made = Vec::new();
    let mut members = Vec::with_capacity(places.len());
    for place in places {
        match make(place, below, present, &mut made) {
            Ok(member) => members.push(member),
            Err(cause) => return Err(undo_made(&made, cause)),
        }
    }
    Ok(Group { members })
}

/// Makes one group and opens it.
fn make(place: &GroupPath, below: Below, present: Present, made: &mut Vec<String>) -> Result<Member> {
    let mount = sys::fs::open_dir(&place.mountpoint)?;
    let is_new = make_folder(place, mount.as_fd(), made).map_err(|error| match error.errno() {
        Errno::AGAIN if place.is_unified() => Error::TooManyGroups { dir: place.dir() },
        _ => error.into(),
    })?;
    let member = Member { place: place.clone(), dir: open_below(mount.as_fd(), place)? };
    if !is_new && present == Present::TakenIfIdle {
        refuse_in_use(&member)?;
    }
    if place.is_unified() {
        member.prepare_unified(mount.as_fd(), below)?;
    }
    Ok(member)
}

/// Makes the folder of a group, with the parents that are missing. `false` where it was there before.
fn make_folder(place: &GroupPath, mount: BorrowedFd<'_>, made: &mut Vec<String>) -> sys::Result<bool> {
    let outcome = match sys::fs::mkdir_at(mount, place.relative(), 0o755) {
        Err(error) if error.is(Errno::NOENT) => make_with_parents(place, mount, made),
        other => other,
    };
    match outcome {
        Ok(()) => {
            made.push(place.dir());
            Ok(true)
        }
        Err(error) if error.is(Errno::EXIST) => Ok(false),
        Err(error) => Err(sys::Error::new(format!("mkdir({:?})", place.dir()), error.errno())),
    }
}

fn make_with_parents(place: &GroupPath, mount: BorrowedFd<'_>, made: &mut Vec<String>) -> sys::Result<()> {
    for parent in place.parents() {
        match sys::fs::mkdir_at(mount, parent, 0o755) {
            Ok(()) => {
                made.push(format!("{}/{parent}", place.mountpoint));
                if place.has("cpuset") && !place.is_unified() {
                    cpuset::prepare_parent(mount, parent)?;
                }
            }
            Err(error) if error.is(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    sys::fs::mkdir_at(mount, place.relative(), 0o755)
}

fn refuse_in_use(member: &Member) -> Result<()> {
    let dir = member.place.dir();
    let count = procs::below(member.dir.as_fd())?.len();
    if count > 0 {
        return Err(Error::NotEmpty { dir, count });
    }
    refuse_frozen(member)
}

fn refuse_frozen(member: &Member) -> Result<()> {
    if freeze::is_frozen(member)? { Err(Error::Frozen { dir: member.place.dir() }) } else { Ok(()) }
}

/// Removes what was made, children first, after a failure.
fn undo_made(made: &[String], cause: Error) -> Error {
    let mut left = Vec::new();
    for dir in made.iter().rev() {
        match sys::fs::rmdir_at(sys::fs::CWD, dir) {
            // Busy: somebody else has put a group into a parent that we made; it is theirs now.
            Err(error) if !error.is(Errno::NOENT) && !error.is(Errno::BUSY) => left.push(error),
            _ => {}
        }
    }
    if left.is_empty() { cause } else { Error::Undo { cause: Box::new(cause), left } }
}
