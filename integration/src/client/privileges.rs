//! What this machine's root may not do, and clients ask for nevertheless.

use anyhow::{Context, Result};

/// Whether this machine lacks CAP_SYS_RESOURCE (bit 24 of the bounding set), as a restricted virtual machine may.
///
/// Every container that asks for all capabilities, a raised limit or a lowered OOM score then ends in an error.
///
/// # Errors
/// The own status has another form.
pub fn lacks_resource_capability() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("CapBnd:")).context("no CapBnd in /proc/self/status")?;
    Ok(u64::from_str_radix(line.trim(), 16)? & 1 << 24 == 0)
}
