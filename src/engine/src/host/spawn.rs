//! The clone, and the launcher where the clone alone is not enough.

use std::os::fd::{AsFd, OwnedFd};

use runtime_spec::model::NamespaceKind;
use sys::Errno;
use sys::fs::{FileType, OFlags};
use sys::process::Cloned;

use super::{Host, Spawned, idmap};
use crate::birth::Birth;
use crate::child::{Child, Progress, StartPipes, launch};
use crate::error::{Error, Result};
use crate::gate::{self, Channel, Up};
use crate::state::{Folder, ProcessId, RESULT_FIFO, START_FIFO};
use crate::step::{IdMaps, Launcher, Slot};

impl Host<'_> {
    pub(super) fn spawn(
        &mut self,
        namespaces: &[NamespaceKind],
        into_cgroup: bool,
        launcher: Option<&Launcher>,
        pid_namespace: Option<Slot>,
    ) -> Result<()> {
        let flags = namespaces.iter().fold(0, |flags, kind| flags | kind.clone_flag());
        let mut unified = self.attach.as_mut().and_then(|attach| attach.unified.take()).filter(|_| into_cgroup);
        let start = match &self.recorder {
            Some(recorder) if recorder.start_by_other => Some(make_start_pipes(recorder.folder)?),
            _ => None,
        };
        let (ours, theirs) = Channel::pair()?;
        let home = self.enter_pid_namespace(pid_namespace)?;
        // A launcher clones into the namespaces and the group itself, but from a cgroup namespace that it has joined the
        // kernel finds no group outside (nsdelegate): there it begins in the group, and its child with it.
        let cloned = match launcher {
            None => self.birth(flags, unified.as_ref()).clone_process(0),
            Some(launcher) if launcher.join.iter().any(|(kind, _)| *kind == NamespaceKind::Cgroup) => {
                self.birth(0, unified.take().as_ref()).clone_process(0)
            }
            Some(_) => sys::process::clone3(0, None).map_err(Error::from),
        };
        if matches!(cloned, Ok(Cloned::Child)) {
            drop(ours);
            self.be_child(theirs, start, launcher, flags, unified);
        }
        if let Some(home) = home {
            sys::namespace::join(home.as_fd(), NamespaceKind::Pid.clone_flag())?;
        }
        let Cloned::Parent { pid, pidfd } = cloned? else { unreachable!("the child has left above") };
        // Only the child keeps its ends open, so that its end is seen.
        drop((theirs, start, unified));
        self.attach = None;
        let (pid, pidfd) = match launcher {
            None => (pid, pidfd),
            Some(launcher) => self.follow_launcher(&ours, (pid, pidfd), launcher.new_user_namespace.as_ref())?,
        };
        let id = ProcessId { pid, start_time: self.proc.start_time(pid)? };
        self.spawned = Some(Spawned { id, pidfd, channel: ours });
        self.record_init()
    }

    /// Only children are born there; the runtime itself stays where it is.
    fn enter_pid_namespace(&self, slot: Option<Slot>) -> Result<Option<OwnedFd>> {
        let Some(fd) = slot.and_then(|slot| self.slots[slot].as_ref()) else { return Ok(None) };
        let home = self.proc.open_own_namespace("pid")?;
        sys::namespace::join(fd.as_fd(), NamespaceKind::Pid.clone_flag())?;
        Ok(Some(home))
    }

    fn birth<'a>(&'a self, flags: u64, unified: Option<&'a OwnedFd>) -> Birth<'a> {
        Birth { flags, unified: unified.map(AsFd::as_fd), group: self.group.as_ref(), beside: self.beside }
    }

    /// Runs in the new process and never returns.
    fn be_child(
        &mut self,
        channel: Channel,
        start: Option<StartPipes>,
        launcher: Option<&Launcher>,
        flags: u64,
        unified: Option<OwnedFd>,
    ) -> ! {
        // A lock belongs to the open file: the child's copy would hold it for as long as the child waits.
        self.recorder = None;
        let attach = self.attach.take().unwrap_or_else(|| cgroup::AttachFds { tasks: Vec::new(), unified: None });
        let mut child = Child {
            plan: self.plan,
            channel,
            slots: std::mem::take(&mut self.slots),
            proc: self.proc,
            attach,
            start,
            hook_state: self.hook_state.clone(),
            trace: self.trace || self.timeline.is_some(),
            progress: Progress::default(),
        };
        if let Some(launcher) = launcher {
            launch(&mut child, launcher, &self.birth(flags, unified.as_ref()));
        }
        child.run()
    }

    /// Serves the launcher until it has handed over the container's first process.
    fn follow_launcher(
        &mut self,
        channel: &Channel,
        (launcher, pidfd): (i32, OwnedFd),
        maps: Option<&IdMaps>,
    ) -> Result<(i32, OwnedFd)> {
        let outcome = self.serve_launcher(channel, (launcher, &pidfd), maps);
        if outcome.is_err() {
            match sys::process::pidfd_send_signal(pidfd.as_fd(), sys::signal::SIGKILL) {
                Err(error) if !error.is(Errno::SRCH) => return Err(error.into()),
                _ => {}
            }
        }
        sys::process::wait(launcher)?;
        outcome
    }

    fn serve_launcher(
        &self,
        channel: &Channel,
        (launcher, pidfd): (i32, &OwnedFd),
        maps: Option<&IdMaps>,
    ) -> Result<(i32, OwnedFd)> {
        loop {
            match gate::next(channel, pidfd.as_fd())? {
                Up::NeedsMaps => {
                    let maps = maps.ok_or_else(|| sys::Error::new("no mappings were planned", Errno::PROTO))?;
                    idmap::map_ids(self.proc, launcher, maps)?;
                    channel.go(&[])?;
                }
                Up::Spawned(pid, fds) => {
                    let pidfd = fds.into_iter().next().ok_or_else(|| sys::Error::new("no pidfd came", Errno::PROTO))?;
                    channel.go(&[])?;
                    return Ok((pid, pidfd));
                }
                Up::Failed(error) => return Err(error),
                _ => {
                    let during = "launching the container's first process".to_owned();
                    return Err(Error::ChildDied { during, how: "no reason given".to_owned() });
                }
            }
        }
    }
}

/// Makes both FIFOs and opens the child's ends. The child reads the start from a descriptor that can also write, so it
/// never sees an end of file; it alone can write the result, so that its exec is the end of that file.
fn make_start_pipes(folder: &Folder) -> Result<StartPipes> {
    for name in [START_FIFO, RESULT_FIFO] {
        sys::fs::mknod_at(folder.as_fd(), name, FileType::Fifo, 0o600, 0)?;
    }
    let start = sys::fs::open_at(folder.as_fd(), START_FIFO, OFlags::RDWR | OFlags::NOFOLLOW, 0)?;
    let both = sys::fs::open_at(folder.as_fd(), RESULT_FIFO, OFlags::RDWR | OFlags::NOFOLLOW, 0)?;
    let result = sys::fs::open_at(folder.as_fd(), RESULT_FIFO, OFlags::WRONLY | OFlags::NOFOLLOW, 0)?;
    drop(both);
    Ok(StartPipes { start, result })
}
