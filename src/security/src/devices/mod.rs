//! Device rules: from a list in which later rules win to a set, and from the set to what the kernel takes.
//!
//! ```text
//! rules in order -> emulate() -> RuleSet -> initial(), transition() -> lines for devices.allow, devices.deny   (v1)
//!                                        -> program()               -> eBPF, BPF_PROG_TYPE_CGROUP_DEVICE       (v2)
//! ```
//!
//! Both mean the same: what a v1 cgroup does with its list of exceptions (security/device_cgroup.c of the kernel).

mod program;
mod set;
mod transition;

use runtime_spec::model::{DeviceRule, DeviceRuleKind};

pub use program::{BpfInsn, program};
pub use set::{Access, DeviceError, Exception, RuleSet, emulate};
pub use transition::{V1File, V1Line, initial, transition};

/// The rules that every container gets besides its own: mknod of anything, the usual six memory and terminal devices,
/// pseudo terminals and their multiplexer, and the tunnel device. runc's list (`AllowedDevices`); it appends them to
/// those of the definition.
#[must_use]
pub fn default_rules() -> Vec<DeviceRule> {
    let any_mknod = |kind| DeviceRule {
        allow: true,
        kind: Some(kind),
        major: None,
        minor: None,
        read: false,
        write: false,
        mknod: true,
    };
    let mut rules = vec![any_mknod(DeviceRuleKind::Char), any_mknod(DeviceRuleKind::Block)];
    rules.extend(DEFAULT_NODES.iter().map(|(_, major, minor)| DeviceRule {
        allow: true,
        kind: Some(DeviceRuleKind::Char),
        major: Some(*major),
        minor: *minor,
        read: true,
        write: true,
        mknod: true,
    }));
    rules
}

/// Path, major and minor number (`None` is any) of the default character devices, in runc's order.
static DEFAULT_NODES: [(&str, u32, Option<u32>); 9] = [
    ("/dev/null", 1, Some(3)),
    ("/dev/random", 1, Some(8)),
    ("/dev/full", 1, Some(7)),
    ("/dev/tty", 5, Some(0)),
    ("/dev/zero", 1, Some(5)),
    ("/dev/urandom", 1, Some(9)),
    ("/dev/pts/*", 136, None),
    ("/dev/ptmx", 5, Some(2)),
    ("/dev/net/tun", 10, Some(200)),
];
