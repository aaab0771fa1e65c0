//! `config.json` as it is written: one struct per object, one optional field per name, strings left as strings.
//!
//! Nothing here knows what a value means: names of capabilities, actions or policies are text, and a value that a
//! caller got wrong is a [`Finding`], not a reason to stop. [`validate`](mod@crate::validate) gives
//! the meaning. The structs serialize in the order in which runc prints them, and absent fields are left out.
//!
//! Names that this module does not know, and the parts for other platforms (`windows`, `solaris`, `vm`, `zos`,
//! `freebsd`), are passed over. Whoever needs them has the bytes.

#[macro_use]
mod object;
mod config;
mod landlock;
mod linux;
mod overlay;
mod process;
mod read;
mod resources;

pub use config::{Config, Hook, Hooks, IdMapping, Mount, Root};
pub use landlock::{Landlock, LandlockPaths, LandlockPorts, LandlockRules, LandlockRuleset};
pub use linux::{
    Device, IntelRdt, Linux, MemoryPolicy, Namespace, NetDevice, Personality, Seccomp, SeccompArg, SeccompSyscall,
    TimeOffset,
};
pub use overlay::Overlay;
pub use process::{Capabilities, ConsoleSize, ExecCpuAffinity, IoPriority, Process, Rlimit, Scheduler, User};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, LinuxResources, Memory, Network, Pids, Rdma,
    ThrottleDevice, WeightDevice,
};

use crate::finding::{Finding, Log};

/// The section that every wrong type offends.
pub(crate) const SECTION: &str = "config.md, valid values";

/// A document that can be read on its own.
pub trait Document: sealed::Sealed {}

mod sealed {
    /// Keeps [`Document`](super::Document) to the types of this crate, so that the reader stays private.
    pub trait Sealed: Sized {
        #[doc(hidden)]
        fn from_json(bytes: &[u8], log: &mut SealedLog<'_>) -> Option<Self>;
    }

    /// Wraps the log for the same reason.
    #[derive(Debug)]
    pub struct SealedLog<'a>(pub(in crate::oci) &'a mut crate::finding::Log);
}

macro_rules! documents {
    ($($type:ty)*) => {$(
        impl sealed::Sealed for $type {
            fn from_json(bytes: &[u8], log: &mut sealed::SealedLog<'_>) -> Option<Self> {
                read::read_document(bytes, &crate::finding::Path::Root, log.0)
            }
        }
        impl Document for $type {}
    )*};
}

documents!(Config Process LinuxResources);

/// Reads a document and says what is wrong with the types of its values, in the order of the text.
///
/// `None` when the bytes are not JSON or not an object. A wrong value is absent from the result.
#[must_use]
pub fn parse<T: Document>(bytes: &[u8]) -> (Option<T>, Vec<Finding>) {
    let mut log = Log::default();
    let document = read(bytes, &mut log);
    (document, log.into_findings())
}

/// The same into a log that the caller goes on with.
pub(crate) fn read<T: Document>(bytes: &[u8], log: &mut Log) -> Option<T> {
    T::from_json(bytes, &mut sealed::SealedLog(log))
}

/// Reads a document that stands as text at a place of another one; findings point into it from there.
pub(crate) fn read_embedded<T: read::Read>(text: &str, at: &crate::finding::Path<'_>, log: &mut Log) -> Option<T> {
    read::read_document(text.as_bytes(), at, log)
}
