//! Traffic classes: who shares a link, and how.
//!
//! ```text
//! the link's device sends ──► htb 1: ──► 1:1 the link's rate ─┬─► 1:10 rate, ceil, priority   what nft put into it
//!                                                             ├─► 1:11 ...
//!                                                             └─► 1:other                     the rest
//! nft, before sending:  meta cgroup 0x10010 meta priority set 1:10       sockets of a v1 net_cls class
//!                       socket cgroupv2 level 2 "a/b" ... set 1:11       sockets below a v2 group
//!                       iifname "veth7" meta priority set 1:12           all of a container, by its link: no cgroup at all
//!                       ip saddr 10.20.0.2 meta priority set 1:13        the same on a bridge, by its address
//! ```
//! htb takes a packet's priority for a class when its upper half is the handle of htb. `meta cgroup` needs the socket's own
//! network namespace: rules by cgroup are for the namespace whose processes are told apart (a container's, or the host's
//! for containers without a network of their own). A packet that crosses a veth has lost socket and priority; there, on
//! the host, the link tells whose it is, on v1 and v2 alike.

use std::fmt::Write;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Place};
use crate::link;
use crate::rate::Rate;
use crate::socket::Socket;
use crate::tc;

/// The class of what belongs to no other.
const OTHER: u16 = 0xffff;
/// The class that all the others share.
const WHOLE: u16 = 1;
/// The name of the table; the device's name is part of it, so that each link's rules come and go alone.
const TABLE: &str = "skep-classes-";

/// Classes of one link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// The device that sends.
    pub device: String,
    /// What the device may send in all.
    pub rate: Rate,
    /// At most 255.
    pub classes: Vec<Class>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Which packets: those of any of these.
    pub of: Vec<Member>,
    /// What it is sure of.
    pub rate: Rate,
    /// What it may have when others leave it; None for all of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceil: Option<Rate>,
    /// Who is served first of what is left: 0 before 7.
    #[serde(default)]
    pub priority: u8,
}

/// How packets of a class are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Member {
    /// Their socket's class in v1 net_cls (`net_cls.classid`, `linux.resources.network.classID`).
    NetCls {
        /// The number.
        class_id: u32,
    },
    /// Their socket's v2 group, or one below it. nft 1.0.0, Linux 5.13.
    CgroupV2 {
        /// Path below the hierarchy's mount, without a slash in front; the group exists.
        path: String,
    },
    /// Their sender's address, before the host stands in for it: a container's on a bridge, where its own end cannot be told
    /// from others any more when packets are routed.
    Address {
        /// The address.
        ip: IpAddr,
    },
    /// The device that they came in by: a container's end on the host.
    Device {
        /// Its name.
        name: String,
    },
}

/// The number of a class by its place in the list.
fn minor(position: usize) -> u16 {
    u16::try_from(position).unwrap_or(u16::MAX).saturating_add(0x10)
}

/// Renders the transaction for nft(8) that puts packets into their classes.
#[must_use]
pub fn render_class_rules(classes: &Classes) -> String {
    let table = format!("table inet {TABLE}{}", quoted(&classes.device));
    let mut text = format!("{table}\ndelete {table}\n{table} {{\n");
    let hooks = [("sent", "output", "mangle"), ("passed", "forward", "mangle")];
    for (chain, hook, priority) in hooks {
        let forwarded = hook == "forward";
        let passes = |member: &&Member| matches!(member, Member::Device { .. } | Member::Address { .. }) == forwarded;
        if !classes.classes.iter().flat_map(|class| &class.of).any(|member| passes(&member)) {
            continue;
        }
        let mut line = |line: &str| writeln!(text, "\t{line}").expect("writing to a string cannot fail");
        line(&format!("chain {chain} {{"));
        line(&format!("\ttype filter hook {hook} priority {priority}; policy accept;"));
        for (position, class) in classes.classes.iter().enumerate() {
            let minor = minor(position);
            for member in class.of.iter().filter(passes) {
                let member = render_member(member);
                line(&format!("\toifname {:?} {member} meta priority set 1:{minor:x}", classes.device));
            }
        }
        line("}");
    }
    text.push_str("}\n");
    text
}

fn render_member(member: &Member) -> String {
    match member {
        Member::NetCls { class_id } => format!("meta cgroup {class_id:#x}"),
        Member::CgroupV2 { path } => format!("socket cgroupv2 level {} \"{path}\"", path.split('/').count()),
        Member::Address { ip: IpAddr::V4(ip) } => format!("ip saddr {ip}"),
        Member::Address { ip: IpAddr::V6(ip) } => format!("ip6 saddr {ip}"),
        Member::Device { name } => format!("iifname {name:?}"),
    }
}

/// Renders the transaction that takes the rules away.
#[must_use]
pub fn render_no_class_rules(device: &str) -> String {
    let table = format!("table inet {TABLE}{}", quoted(device));
    format!("{table}\ndelete {table}\n")
}

/// Names of devices may have bytes that a table's name may not.
fn quoted(device: &str) -> String {
    device.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte) } else { '_' }).collect()
}

/// Sets up the classes of a device of the caller's network namespace, in the place of those that it had. The rules are the
/// caller's to apply, before or after.
///
/// # Errors
/// [`Error::Missing`], [`Error::NoTrafficControl`], what the kernel says.
pub fn apply_classes(classes: &Classes) -> Result<(), Error> {
    let mut socket = Socket::open()?;
    let found = link::read_link(&mut socket, &classes.device, Place::Host)?;
    let link = found.ok_or_else(|| Error::Missing { name: classes.device.clone(), place: Place::Host })?;
    let device = (link.index, classes.device.as_str());
    // One scheduler cannot be changed into another with the same handle; for a moment the device has none.
    tc::delete_root(&mut socket, device)?;
    let mut apply = |request| tc::apply(&mut socket, request, "classes (htb)", device);
    apply(tc::render_htb(link.index, OTHER))?;
    apply(tc::render_htb_class(link.index, (0, WHOLE), classes.rate, classes.rate, 0))?;
    for (position, class) in classes.classes.iter().enumerate() {
        let ceil = class.ceil.unwrap_or(classes.rate);
        apply(tc::render_htb_class(link.index, (WHOLE, minor(position)), class.rate, ceil, class.priority.into()))?;
    }
    apply(tc::render_htb_class(link.index, (WHOLE, OTHER), Rate::LEAST, classes.rate, 7))
}

/// Takes the classes of a device away. False where it has none, or is gone.
///
/// # Errors
/// What the kernel says.
pub fn undo_classes(device: &str) -> Result<bool, Error> {
    let mut socket = Socket::open()?;
    match link::read_link(&mut socket, device, Place::Host)? {
        Some(link) => tc::delete_root(&mut socket, (link.index, device)),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(of: Member) -> Class {
        Class { of: vec![of], rate: "1mbit".parse().unwrap(), ceil: None, priority: 0 }
    }

    #[test]
    fn rules_of_each_sort() {
        let classes = Classes {
            device: "eth0.7".to_owned(),
            rate: "10mbit".parse().unwrap(),
            classes: vec![
                class(Member::NetCls { class_id: 0x0010_0001 }),
                class(Member::CgroupV2 { path: "skep/web".to_owned() }),
                Class {
                    of: vec![
                        Member::Device { name: "veth7".to_owned() },
                        Member::Address { ip: "10.0.0.2".parse().unwrap() },
                        Member::Address { ip: "fd00::2".parse().unwrap() },
                    ],
                    ..class(Member::NetCls { class_id: 0 })
                },
            ],
        };
        assert_eq!(
            render_class_rules(&classes),
            "table inet skep-classes-eth0_7\n\
             delete table inet skep-classes-eth0_7\n\
             table inet skep-classes-eth0_7 {\n\
             \tchain sent {\n\
             \t\ttype filter hook output priority mangle; policy accept;\n\
             \t\toifname \"eth0.7\" meta cgroup 0x100001 meta priority set 1:10\n\
             \t\toifname \"eth0.7\" socket cgroupv2 level 2 \"skep/web\" meta priority set 1:11\n\
             \t}\n\
             \tchain passed {\n\
             \t\ttype filter hook forward priority mangle; policy accept;\n\
             \t\toifname \"eth0.7\" iifname \"veth7\" meta priority set 1:12\n\
             \t\toifname \"eth0.7\" ip saddr 10.0.0.2 meta priority set 1:12\n\
             \t\toifname \"eth0.7\" ip6 saddr fd00::2 meta priority set 1:12\n\
             \t}\n\
             }\n"
        );
        assert_eq!(
            render_no_class_rules("eth0"),
            "table inet skep-classes-eth0\ndelete table inet skep-classes-eth0\n"
        );
    }
}
