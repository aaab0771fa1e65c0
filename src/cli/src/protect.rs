//! Protection of the program's own file against the containers that it enters (CVE-2019-5736).
//!
//! A process of a container that can look at ours through `/proc/PID/exe` could open the program for writing once it is
//! not executed any more. So the commands that enter a container execute themselves once more, from a detached read-only
//! copy of the mount that the file is on: no path leads there and nothing can be written through it. Where no mount can be
//! copied (without CAP_SYS_ADMIN), a sealed copy in memory does the same.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use anyhow::{Context, bail};
use sys::fs::OFlags;
use sys::process::CStrings;

use crate::trace;

const SELF: &str = "/proc/self/exe";
/// ST_RDONLY of statvfs(3): the file is seen through a read-only mount.
const ST_RDONLY: u64 = 1;

/// Returns in a program that is protected already and has no descriptor open but the standard ones and the `kept_fds` that
/// follow them; else executes this program again from a protected file, and tells it when this one began where that is traced.
///
/// # Errors
/// Neither kind of copy can be made.
pub fn protect(kept_fds: u32, traced_from: Option<Duration>) -> anyhow::Result<()> {
    // What the caller left open is nobody's business here: not the hooks', not the container's.
    sys::process::close_on_exec_from(3_u32.saturating_add(kept_fds))?;
    let own = sys::fs::open(SELF, OFlags::RDONLY).context("cannot open the program's own file")?;
    if is_protected(&own)? {
        return Ok(());
    }
    // `--process <(...)` names a descriptor that the protected program still has to read.
    for number in std::env::args_os().filter_map(|arg| named_descriptor(arg.to_str()?)) {
        match sys::process::keep_on_exec(number) {
            // Whoever opens it says that it is not there.
            Err(error) if !error.is(sys::Errno::BADF) => return Err(error.into()),
            _ => {}
        }
    }
    let copy = match sys::mount::clone_read_only(SELF) {
        Err(error) if error.is(sys::Errno::PERM) || error.is(sys::Errno::NOSYS) => sealed_copy(&own)?,
        other => other.context("cannot protect the program's own file")?,
    };
    let args = CStrings::from_bytes(std::env::args_os().map(OsString::into_vec))?;
    let env = std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        entry
    });
    let began = traced_from.map(|began| format!("{}={}", trace::BEGAN, began.as_nanos()).into_bytes());
    let env = CStrings::from_bytes(env.chain(began))?;
    Err(sys::process::execve_fd(copy.as_fd(), &args, &env)).context("cannot execute the protected program")
}

/// The descriptor behind `/dev/fd/N` or `/proc/self/fd/N`, alone or as the value of an option.
fn named_descriptor(arg: &str) -> Option<i32> {
    let path = arg.split_once('=').map_or(arg, |(_, value)| value);
    path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?.parse().ok()
}

fn is_protected(own: &OwnedFd) -> anyhow::Result<bool> {
    let read_only = sys::fs::statfs(own.as_fd())?.f_flags as u64 & ST_RDONLY != 0;
    Ok(read_only || sys::memory::is_sealed(own.as_fd()))
}

fn sealed_copy(own: &OwnedFd) -> anyhow::Result<OwnedFd> {
    let copy = sys::memory::create_file("skep")?;
    sys::fs::copy_contents(own.as_fd(), copy.as_fd())?;
    sys::memory::seal(copy.as_fd())?;
    if !sys::memory::is_sealed(copy.as_fd()) {
        bail!("the copy in memory could not be sealed");
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_known_by_their_paths() {
        for (arg, expected) in
            [("/dev/fd/63", Some(63)), ("--process=/proc/self/fd/9", Some(9)), ("/dev/fd/", None), ("/dev/fdx/3", None)]
        {
            assert_eq!(named_descriptor(arg), expected, "{arg}");
        }
    }
}
