//! The conversation with the CRIU that restores a container, and what it leaves to be done by others.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use runtime_spec::model::NamespaceKind;
use sys::Errno;
use sys::fs::OFlags;
use sys::process::{Cloned, Exit};

use super::{Host, Level, Spawned};
use crate::criu::rpc::{self, InheritedFd, Kind, Notification, Options, Response};
use crate::criu::{self, Answer, Folders};
use crate::error::{Error, Result};
use crate::gate::{Channel, Up, encode_failure};
use crate::plan::checkpoint;
use crate::state::{self, ProcessId};
use crate::step::{RestoreImages, Slot};

const LOG: &str = "restore.log";

/// The CRIU that the child has become.
struct Criu {
    socket: OwnedFd,
    pid: i32,
    pidfd: OwnedFd,
}

impl Host<'_> {
    pub(super) fn open_rpc(&mut self, slot: Slot) -> Result<()> {
        let (ours, theirs) = sys::socket::pair()?;
        self.rpc = Some(ours);
        self.slots[slot] = Some(theirs);
        Ok(())
    }

    /// Restores, and waits until CRIU is gone.
    pub(super) fn restore_images(&mut self, images: &RestoreImages) -> Result<()> {
        let criu = self.await_criu(images.rpc)?;
        let common = &images.options.criu;
        let log_path = common.work.as_deref().unwrap_or(&common.images);
        let folders = Folders::adopt(std::mem::take(&mut self.opened_inside), log_path)?;
        let options = self.restore_request(images, &folders)?;
        criu::send(criu.socket.as_fd(), &rpc::request(Kind::Restore, Some(&options), false))?;
        let outcome = self.converse(&criu, images, &folders);
        let Criu { socket, pid, .. } = criu;
        drop(socket);
        let outcome = outcome.and_then(|response| match sys::process::wait(pid)? {
            Exit::Code(0) => Ok(response),
            _ => Err(criu::failure(Kind::Restore, Some(&response), Some((&folders, LOG)))),
        })?;
        match outcome.restored {
            Some(pid) => self.adopt(pid),
            None => Ok(()),
        }
    }

    /// The child's end of the gate closes when it becomes CRIU.
    fn await_criu(&mut self, theirs: Slot) -> Result<Criu> {
        self.slots[theirs] = None;
        self.await_exec()?;
        let socket = self.rpc.take().ok_or(Error::NotRunning)?;
        let spawned = self.spawned()?;
        Ok(Criu { socket, pid: spawned.id.pid, pidfd: sys::process::dup(spawned.pidfd.as_fd())? })
    }

    fn restore_request(&self, images: &RestoreImages, folders: &Folders) -> Result<Options> {
        let common = &images.options.criu;
        let mut options = Options {
            log_file: LOG,
            root: images.root.clone(),
            evasive_devices: true,
            restore_sibling: true,
            tcp_established: common.tcp_established,
            tcp_close: images.options.tcp_close,
            ext_unix_sk: common.external_unix_sockets,
            shell_job: common.shell_job,
            file_locks: common.file_locks,
            auto_dedup: common.auto_dedup,
            lazy_pages: common.lazy_pages,
            cgroups_mode: checkpoint::cgroups_mode(common.cgroups),
            network_lock: common.network_lock.map(checkpoint::network_lock),
            cgroup_roots: self.cgroup_roots(),
            external_mounts: self.external_mounts(images)?,
            join_namespaces: images.joined.iter().map(|(kind, path)| (kind.proc_name(), path.clone())).collect(),
            config_file: images.config_file.clone(),
            lsm_profile: images.lsm_profile.clone(),
            lsm_mount_context: images.options.lsm_mount_context.clone(),
            ..Options::default()
        };
        folders.fill(&mut options);
        for (kind, slot) in &images.inherited {
            let fd = self.slots[*slot].as_ref().map_or(-1, AsRawFd::as_raw_fd);
            options.inherited.push(InheritedFd { key: checkpoint::namespace_key(*kind).to_owned(), fd });
        }
        for (fd, name) in (0..).zip(folders.read_descriptors()?) {
            if name.starts_with("pipe:") {
                options.inherited.push(InheritedFd { key: name, fd });
            }
        }
        Ok(options)
    }

    /// The groups that were made for this container, in the place of those in the images, for each controller.
    fn cgroup_roots(&self) -> Vec<(String, String)> {
        let roots = self.plan.groups.iter().flat_map(|group| {
            let names = if group.is_unified() { vec![String::new()] } else { group.controllers.clone() };
            names.into_iter().map(|name| (name, group.path.clone()))
        });
        roots.collect()
    }

    fn external_mounts(&self, images: &RestoreImages) -> Result<Vec<rpc::ExternalMount>> {
        let root = sys::fs::open_dir(&images.rootfs)?;
        let named = images.mounts.iter().map(|mount| {
            let key = criu::mount_point(self.proc, root.as_fd(), &images.rootfs, &mount.destination)?;
            Ok(rpc::ExternalMount { key, value: self.plain_path(&mount.source)? })
        });
        // What files are hidden behind, by the name that the dump gives it.
        let null = "/dev/null".to_owned();
        named.chain([Ok(rpc::ExternalMount { key: null.clone(), value: null })]).collect()
    }

    /// The path of a source without links and dots, as CRIU looks for it among the mounts. One that is not there is as it
    /// was written: whoever needs it says so.
    fn plain_path(&self, path: &str) -> Result<String> {
        match sys::fs::open(path, OFlags::PATH) {
            Err(error) if error.is(Errno::NOENT) => Ok(path.to_owned()),
            other => Ok(self.proc.path_of(other?.as_fd())?),
        }
    }

    /// Answers what CRIU tells until it tells the end. Where something fails here CRIU is told, so that it takes back what
    /// it has done; what failed is then the error.
    fn converse(&mut self, criu: &Criu, images: &RestoreImages, folders: &Folders) -> Result<Response> {
        let mut failed = None;
        loop {
            let answer = criu::receive(criu.socket.as_fd(), criu.pidfd.as_fd())?;
            match answer {
                Some(Answer { response, fds }) if response.kind == Some(Kind::Notify) && response.success => {
                    let heard = self.notified(response.notification.unwrap_or_default(), fds, images);
                    let success = heard.is_ok();
                    failed = failed.or(heard.err());
                    criu::send(criu.socket.as_fd(), &rpc::notified(success))?;
                }
                Some(Answer { response, .. }) if response.kind == Some(Kind::Restore) && response.success => {
                    return failed.map_or(Ok(response), Err);
                }
                other => {
                    let response = other.map(|answer| answer.response);
                    let error = || criu::failure(Kind::Restore, response.as_ref(), Some((folders, LOG)));
                    return Err(failed.unwrap_or_else(error));
                }
            }
        }
    }

    fn notified(&mut self, notification: Notification, fds: Vec<OwnedFd>, images: &RestoreImages) -> Result<()> {
        if self.trace {
            (self.log)(Level::Debug, &format!("criu {}", notification.point));
        }
        match (notification.point.as_str(), notification.pid) {
            ("setup-namespaces", Some(pid)) => {
                self.adopt(pid)?;
                images.inside.iter().try_for_each(|planned| self.perform(&planned.step))
            }
            ("post-restore", Some(pid)) => {
                self.adopt(pid)?;
                self.record_clocks(pid)
            }
            ("orphan-pts-master", _) => self.hand_over_terminal(fds, images.console),
            _ => Ok(()),
        }
    }

    /// Takes the restored process for the container's first.
    fn adopt(&mut self, pid: i32) -> Result<()> {
        if self.spawned()?.id.pid == pid {
            return Ok(());
        }
        let id = ProcessId { pid, start_time: self.proc.start_time(pid)? };
        let pidfd = state::open_process(self.proc, id)?.ok_or(Error::NotRunning)?;
        let spawned = self.spawned.take().ok_or(Error::NotRunning)?;
        self.spawned = Some(Spawned { id, pidfd, channel: spawned.channel });
        self.record_init()
    }

    /// CRIU makes a time namespace so that the clocks of the processes go on from where they were.
    fn record_clocks(&mut self, pid: i32) -> Result<()> {
        let restored = match self.proc.open_namespace(pid, "time") {
            // KERNEL(5.6): before, there are none.
            Err(error) if error.is(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        let own = self.proc.open_own_namespace("time")?;
        if let Some(recorder) = &mut self.recorder {
            recorder.record.restored_clocks = !super::same_file(restored.as_fd(), own.as_fd())?;
            recorder.write()?;
        }
        Ok(())
    }

    fn hand_over_terminal(&mut self, fds: Vec<OwnedFd>, console: Option<Slot>) -> Result<()> {
        let master = fds.into_iter().next();
        let socket = console.and_then(|slot| self.slots[slot].take());
        match (master, socket) {
            (Some(master), Some(socket)) => {
                Ok(sys::socket::send(socket.as_fd(), b"orphan-pts-master", &[master.as_fd()])?)
            }
            _ => {
                (self.log)(Level::Warning, "a terminal of the container has nobody at its other end");
                Ok(())
            }
        }
    }

    /// CRIU makes a network namespace with a loopback device that is down.
    pub(super) fn bring_loopback_up(&self) -> Result<()> {
        let netns = self.proc.open_namespace(self.pid()?, "net")?;
        let (ours, theirs) = Channel::pair()?;
        match sys::process::clone3(0, None)? {
            Cloned::Child => {
                drop(ours);
                let join = sys::namespace::join(netns.as_fd(), NamespaceKind::Network.clone_flag());
                let outcome = join.map_err(Error::from).and_then(|()| Ok(network::loopback_up()?));
                let told = match outcome {
                    Ok(()) => true,
                    Err(error) => sys::fs::write_all(theirs.as_fd(), &encode_failure(&error)).is_ok(),
                };
                sys::process::exit_now(i32::from(!told))
            }
            Cloned::Parent { pid, .. } => {
                drop(theirs);
                let heard = ours.receive();
                match (sys::process::wait(pid)?, heard?) {
                    (_, Up::Failed(error)) => Err(error),
                    (Exit::Code(0), _) => Ok(()),
                    _ => Err(sys::Error::new("bring lo up", Errno::CHILD).into()),
                }
            }
        }
    }
}
