//! Device programs of the unified hierarchy: ours is put in place and exchanged, those of others stay.
//!
//! All programs of a group must let an access pass. systemd has its own on a unit's group, another tool may have more, and
//! the kernel runs them beside ours. Which one is ours is known by the ids that the caller keeps; an id alone could name a
//! program of somebody else by now, so the name has to fit too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::bpf::{self, DEVICE_PROGRAM_NAME};
use sys::fs::OFlags;

use super::{Group, Member};
use crate::error::{Error, Result};

/// A device program that the kernel has taken, attached or not.
#[derive(Debug)]
pub struct DeviceProgram {
    fd: OwnedFd,
    id: u32,
}

impl DeviceProgram {
    /// Loads a program from its bytes, eight for an instruction.
    ///
    /// # Errors
    /// [`Error::Sys`] with the verifier's words.
    pub fn load(bytes: &[u8]) -> Result<DeviceProgram> {
        let fd = bpf::load_device_program(bytes)?;
        let id = bpf::program_info(fd.as_fd())?.id;
        Ok(DeviceProgram { fd, id })
    }

    /// The kernel's number, to find the program again.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

/// Which attached programs are the container's own.
#[derive(Debug, Clone, Copy)]
pub enum Own<'a> {
    /// Those that an earlier container left on a group that is used again.
    Leftovers,
    /// Those with these ids, which the caller kept.
    Ids(&'a [u32]),
}

/// What [`Group::put_device_program`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// A program of the container was exchanged.
    Exchanged,
    /// The container had no program there, and now has.
    Added {
        /// Programs of others beside it.
        others: usize,
    },
}

impl Group {
    /// Puts a device program on the container's unified group, in the place of the container's own earlier one.
    ///
    /// At no time is the group without rules: the exchange is one call of the kernel. Before Linux 5.6, which had no such
    /// call, both are attached for a moment, so that what either refuses is refused.
    ///
    /// # Errors
    /// [`Error::NoGroup`] without a unified group, [`Error::DevicesExclusive`] where somebody has a program on the group
    /// or above it that allows none beside it, [`Error::Sys`].
    pub fn put_device_program(&self, program: &DeviceProgram, own: Own<'_>) -> Result<Placed> {
        let no_group = || Error::NoGroup { controller: "unified".to_owned() };
        let member = self.unified_member().ok_or_else(no_group)?;
        let dir = member.dir.as_fd();
        let attached = bpf::query_device_programs(dir)?;
        let mut ours = own_programs(&attached.ids, own)?;
        let others = attached.ids.len() - ours.len();
        let Some(first) = (if ours.is_empty() { None } else { Some(ours.remove(0)) }) else {
            bpf::attach_device_program(dir, program.fd.as_fd(), None).map_err(|error| member.exclusive(error))?;
            return Ok(Placed::Added { others });
        };
        match bpf::attach_device_program(dir, program.fd.as_fd(), Some(first.as_fd())) {
            // KERNEL(5.6): no BPF_F_REPLACE.
            Err(error) if error.is(Errno::INVAL) => {
                bpf::attach_device_program(dir, program.fd.as_fd(), None)?;
                bpf::detach_device_program(dir, first.as_fd())?;
            }
            other => other?,
        }
        // Left by a runtime that was killed between attaching and detaching.
        ours.iter().try_for_each(|old| bpf::detach_device_program(dir, old.as_fd()))?;
        Ok(Placed::Exchanged)
    }
}

fn own_programs(attached: &[u32], own: Own<'_>) -> Result<Vec<OwnedFd>> {
    let mut ours = Vec::new();
    for id in attached {
        if matches!(own, Own::Ids(kept) if !kept.contains(id)) {
            continue;
        }
        let program = match bpf::program_by_id(*id) {
            // Somebody has taken it off meanwhile.
            Err(error) if error.is(Errno::NOENT) => continue,
            other => other?,
        };
        if bpf::program_info(program.as_fd())?.name == DEVICE_PROGRAM_NAME {
            ours.push(program);
        }
    }
    Ok(ours)
}

impl Member {
    /// Says who has a program that allows no other, where that is why attaching was refused.
    fn exclusive(&self, error: sys::Error) -> Error {
        if !error.is(Errno::PERM) {
            return error.into();
        }
        let mut path = self.place.path.as_str();
        while !path.is_empty() {
            let dir = format!("{}{path}", self.place.mountpoint);
            if is_exclusive(&dir) {
                return Error::DevicesExclusive { dir };
            }
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        error.into()
    }
}

fn is_exclusive(dir: &str) -> bool {
    let asked = |dir: BorrowedFd<'_>| bpf::query_device_programs(dir);
    // Only to explain: a group that cannot be asked is not the one.
    sys::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY)
        .and_then(|fd| asked(fd.as_fd()))
        .is_ok_and(|attached| !attached.ids.is_empty() && !attached.multi)
}
