//! NUMA memory policy (set_mempolicy(2)).

use super::{items, list, lookup, quote, text};
use crate::finding::{Log, Path};
use crate::model::MemoryPolicy;
use crate::oci;

const SECTION: &str = "config-linux.md, memory policy";

const DEFAULT: u32 = 0;
const PREFERRED: u32 = 1;
const BIND: u32 = 2;
const INTERLEAVE: u32 = 3;
const LOCAL: u32 = 4;
const PREFERRED_MANY: u32 = 5;
const WEIGHTED_INTERLEAVE: u32 = 6;

/// Modes by name (include/uapi/linux/mempolicy.h).
pub(crate) const MODES: [(&str, u32); 7] = [
    ("MPOL_BIND", BIND),
    ("MPOL_DEFAULT", DEFAULT),
    ("MPOL_INTERLEAVE", INTERLEAVE),
    ("MPOL_LOCAL", LOCAL),
    ("MPOL_PREFERRED", PREFERRED),
    ("MPOL_PREFERRED_MANY", PREFERRED_MANY),
    ("MPOL_WEIGHTED_INTERLEAVE", WEIGHTED_INTERLEAVE),
];

const NUMA_BALANCING: u32 = 1 << 13;
const RELATIVE_NODES: u32 = 1 << 14;
const STATIC_NODES: u32 = 1 << 15;

/// Flags by name (include/uapi/linux/mempolicy.h).
pub(crate) const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", NUMA_BALANCING),
    ("MPOL_F_RELATIVE_NODES", RELATIVE_NODES),
    ("MPOL_F_STATIC_NODES", STATIC_NODES),
];

/// Judges and lowers `memoryPolicy`. The rules on modes, nodes and flags are those of mm/mempolicy.c.
pub(super) fn lower(policy: &oci::MemoryPolicy, at: &Path<'_>, log: &mut Log) -> Option<MemoryPolicy> {
    let flags_at = at.key("flags");
    let mut flags = 0;
    for (index, name) in items(&policy.flags).iter().enumerate() {
        flags |= lookup(&FLAGS, name, &flags_at.item(index), SECTION, log).unwrap_or(0);
    }
    let nodes_at = at.key("nodes");
    let nodes = match text(&policy.nodes).map(list::parse) {
        None => Vec::new(),
        Some(Ok(nodes)) => nodes,
        Some(Err(reason)) => {
            let value = policy.nodes.as_deref().unwrap_or_default();
            log.error(&nodes_at, SECTION, format_args!("{} is not a list of nodes: {reason}", quote(value)));
            return None;
        }
    };
    let Some(name) = text(&policy.mode) else {
        log.error(&at.key("mode"), SECTION, "is required");
        return None;
    };
    let mode = lookup(&MODES, name, &at.key("mode"), SECTION, log)?;
    match mode {
        DEFAULT | LOCAL if !nodes.is_empty() => log.error(&nodes_at, SECTION, format_args!("must be empty for {name}")),
        BIND | INTERLEAVE | PREFERRED_MANY | WEIGHTED_INTERLEAVE if nodes.is_empty() => {
            log.error(&nodes_at, SECTION, format_args!("must name at least one node for {name}"));
        }
        _ => {}
    }
    check_flags(mode, name, flags, nodes.is_empty(), &flags_at, log);
    Some(MemoryPolicy { mode, flags, nodes })
}

fn check_flags(mode: u32, name: &str, flags: u32, no_nodes: bool, at: &Path<'_>, log: &mut Log) {
    const NODE_FLAGS: u32 = STATIC_NODES | RELATIVE_NODES;
    if flags & NODE_FLAGS == NODE_FLAGS {
        log.error(at, SECTION, "cannot have both MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES");
    }
    if flags & NUMA_BALANCING != 0 && !matches!(mode, BIND | PREFERRED_MANY) {
        log.error(at, SECTION, format_args!("cannot have MPOL_F_NUMA_BALANCING with {name}"));
    }
    if flags & NODE_FLAGS != 0 && (mode == LOCAL || (mode == PREFERRED && no_nodes)) {
        log.error(at, SECTION, format_args!("cannot say how nodes are meant: {name} has none here"));
    }
}
