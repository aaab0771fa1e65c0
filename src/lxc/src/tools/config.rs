//! `lxc-config` and `lxc-checkconfig`.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

use crate::options::{Call, LXCPATH};
use crate::output;
use crate::skep::Skep;

/// Where the settings of the host are (lxc.system.conf(5)).
const FILE: &str = "/etc/lxc/lxc.conf";
/// The configuration that new containers begin with.
pub(super) const DEFAULT_CONFIG: &str = "/etc/lxc/default.conf";

/// The items and their values where the file says nothing.
const ITEMS: [(&str, &str); 7] = [
    ("lxc.default_config", DEFAULT_CONFIG),
    ("lxc.lxcpath", LXCPATH),
    ("lxc.bdev.lvm.vg", "lxc"),
    ("lxc.bdev.lvm.thin_pool", "lxc"),
    ("lxc.bdev.zfs.root", "lxc"),
    ("lxc.cgroup.use", ""),
    ("lxc.cgroup.pattern", ""),
];

/// Prints a setting of the host, or lists which there are.
pub(super) fn config(_skep: &Skep, call: &Call) -> Result<u8> {
    if call.has("list") {
        output::write(&ITEMS.map(|(name, _)| format!("{name}\n")).concat())?;
        return Ok(0);
    }
    let Some(wanted) = call.operands.first() else {
        output::write(&format!("Usage: {} -l | ITEM\n", call.tool))?;
        return Ok(0);
    };
    let Some((_, default)) = ITEMS.iter().find(|(name, _)| name == wanted) else {
        output::write(&format!("Unknown configuration item: {wanted}\n"))?;
        return Ok(1);
    };
    let text = match fs::read_to_string(FILE) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("cannot read {FILE}"))?,
    };
    output::write(&format!("{}\n", find(&text, wanted).unwrap_or(default)))?;
    Ok(0)
}

fn find<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .map(|(key, value)| (key.trim(), value.trim()))
        .filter(|(key, _)| *key == wanted)
        .map(|(_, value)| value)
        .next_back()
}

/// Prints what the host offers.
pub(super) fn check(skep: &Skep, _call: &Call) -> Result<u8> {
    output::write(&skep.ok(&["features", "--host"])?)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        let text = "# a comment\nlxc.lxcpath = /a\nlxc.lxcpath=/b\nlxc.bdev.lvm.vg = v\n";
        assert_eq!((find(text, "lxc.lxcpath"), find(text, "lxc.cgroup.use")), (Some("/b"), None));
    }
}
