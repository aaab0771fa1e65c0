//! Groups of v1 below a container's own, whose limits are out of reach there.
//!
//! Root of the host's user namespace writes to every file of a group that it sees, so a guest must not see the group that has the
//! limits. Its cgroup namespace begins at the group that it is in.

use std::os::fd::AsFd;

use sys::Errno;

use super::{Group, Member, SubGroup};
use crate::error::Result;
use crate::limit::FileWrite;

/// The group that a guest is in, below the container's.
const GUEST: &str = "guest";

impl Group {
    /// Makes the groups of a guest. To be called after limits that an attach needs and the device rules were written, which a
    /// new group takes over: once it is there, the kernel denies nothing new to all below.
    ///
    /// Hierarchies without controllers limit nothing, and throttling of blkio on v1 counts for the group itself alone: the guest is
    /// in the container's own group there.
    ///
    /// # Errors
    /// [`crate::Error::Sys`].
    pub fn make_guest(&self) -> Result<Vec<SubGroup>> {
        let mut controllers = Vec::new();
        for member in self.members.iter().filter(|member| has_guest(member)) {
            if member.place.has("cpuset") {
                member.write("cgroup.clone_children", "1")?;
            }
            match sys::fs::mkdir_at(member.dir.as_fd(), GUEST, 0o755) {
                Err(error) if error.is(Errno::EXIST) => {}
                Err(error) => return Err(member.named("mkdir", GUEST, &error).into()),
                Ok(()) => {}
            }
            controllers.extend(member.place.controllers.iter().cloned());
        }
        Ok(sub_groups(controllers))
    }

    /// Where the guest of a running container is, for an exec: nothing where it has removed its groups, as no guest can.
    #[must_use]
    pub fn guest(&self) -> Vec<SubGroup> {
        let members = self.members.iter().filter(|member| has_guest(member));
        sub_groups(members.flat_map(|member| member.place.controllers.iter().cloned()).collect())
    }

    /// Writes device rules to the guest's group as well: what is allowed above is not allowed below by that.
    ///
    /// # Errors
    /// [`crate::Error::Sys`].
    pub fn apply_guest_devices(&self, writes: &[FileWrite]) -> Result<()> {
        let Some(member) = self.members.iter().find(|member| member.place.has("devices")) else { return Ok(()) };
        for write in writes.iter().filter(|write| is_device_rule(write)) {
            member.write(&format!("{GUEST}/{}", write.file), &write.value)?;
        }
        Ok(())
    }
}

/// Whether this is one of the rules that have to be there before a guest's group is made.
#[must_use]
pub fn is_device_rule(write: &FileWrite) -> bool {
    write.controller == "devices"
}

fn has_guest(member: &Member) -> bool {
    let limits = |name: &String| name != "blkio" && !name.starts_with("name=");
    !member.place.is_unified() && member.place.controllers.iter().all(limits)
}

/// None for no controllers: an empty list would stand for all.
fn sub_groups(controllers: Vec<String>) -> Vec<SubGroup> {
    if controllers.is_empty() { Vec::new() } else { vec![SubGroup { controllers, path: GUEST.to_owned() }] }
}
