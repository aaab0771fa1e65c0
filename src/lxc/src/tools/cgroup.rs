//! `lxc-cgroup`.

use std::fs::{self, OpenOptions};
use std::io::Write;

use anyhow::{Context, Result, bail};

use crate::options::Call;
use crate::output;
use crate::skep::Skep;
use crate::tools::find;
use crate::usage::cgroup_file;

/// Prints a file of a running container's group, or writes it.
pub(super) fn cgroup(skep: &Skep, call: &Call) -> Result<u8> {
    let Some(file) = call.operands.first() else {
        output::tell(&format!("{}: could not parse command line\n", call.tool));
        return Ok(1);
    };
    let target = find(skep, call)?;
    let place = format!("'{}:{}'", call.lxcpath.display(), call.name);
    let Some(pid) = target.state.as_ref().filter(|_| target.is_alive()).and_then(|state| state.pid) else {
        bail!("{place} is not running");
    };
    let path = cgroup_file(pid, file);
    match call.operands.get(1) {
        None => {
            let read = path.and_then(|path| Ok(fs::read_to_string(path)?));
            let text = read.with_context(|| format!("Failed to retrieve value of '{file}' for {place}"))?;
            output::write(&format!("{text}\n"))?;
        }
        Some(value) => {
            // One write, as the kernel wants it; nothing is made where the file is not.
            let write =
                path.and_then(|path| Ok(OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())?));
            write.with_context(|| format!("Failed to assign '{value}' value to '{file}' for {place}"))?;
        }
    }
    Ok(0)
}
