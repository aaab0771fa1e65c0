//! `lxc-cgroup`.

use anyhow::{Context, Result, bail};

use crate::options::Call;
use crate::output;
use crate::skep::Skep;
use crate::tools::find;

/// Prints a file of a running container's group, or writes it.
pub(super) fn cgroup(skep: &Skep, call: &Call) -> Result<u8> {
    let Some(file) = call.operands.first() else {
        output::tell(&format!("{}: could not parse command line\n", call.tool));
        return Ok(1);
    };
    let target = find(skep, call)?;
    let place = format!("'{}:{}'", call.lxcpath.display(), call.name);
    if !target.is_alive() {
        bail!("{place} is not running");
    }
    match call.operands.get(1) {
        None => {
            let text = skep.ok(&["cgroup", "get", &call.name, file]);
            let text = text.with_context(|| format!("Failed to retrieve value of '{file}' for {place}"))?;
            output::write(&format!("{text}\n"))?;
        }
        Some(value) => {
            let set = skep.ok(&["cgroup", "set", &call.name, file, value]);
            set.with_context(|| format!("Failed to assign '{value}' value to '{file}' for {place}"))?;
        }
    }
    Ok(0)
}
