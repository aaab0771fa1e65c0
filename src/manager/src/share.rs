//! What a defined container has of a link of the host that containers share: whose packets are whose.
//!
//! | its network | packets are told by |
//! |---|---|
//! | a managed one, one of CNI, or a veth | its addresses, when the host forwards them |
//! | the host's | the number of its sockets in v1 net_cls, else its v2 group |
//! | anything else | nothing: its packets do not pass the host |

use anyhow::{Context, Result, bail};
use network::uplink::{self, Uplinks};
use network::{LinkKind, LinkSpec, Member, Share};
use serde_json::{Value, json};

use crate::cni;
use crate::definition::{Definition, Network};
use crate::places::{Places, find_program};
use crate::run::Manager;

/// Checks what a container that is being defined wants.
///
/// # Errors
/// Its packets cannot be told from others.
pub fn check(definition: &Definition) -> Result<()> {
    let is_veth = |link: &LinkSpec| matches!(link.link, LinkKind::Veth(_)) && !link.addresses.is_empty();
    let told = match definition.network {
        Network::Managed { .. } | Network::Cni { .. } | Network::Host => true,
        Network::None => definition.links.iter().any(is_veth),
    };
    if definition.share.is_some() && !told {
        bail!("--class needs a managed network or one of CNI, a veth with an address, or --network host");
    }
    Ok(())
}

fn open(places: &Places) -> Result<Uplinks> {
    Ok(Uplinks::open(places.data.to_str().context("the path of the data folder is not text")?)?)
}

fn enter(manager: &Manager, name: &str, share: &Share, of: &[Member]) -> Result<()> {
    Ok(uplink::join(&open(&manager.places)?, find_program("nft").as_deref(), name, share, of)?)
}

/// Gives a container that is to be started with these links its class, if its packets are known by then.
///
/// # Errors
/// What the network library says.
pub fn join(manager: &Manager, definition: &Definition, links: &[LinkSpec]) -> Result<()> {
    let Some(share) = &definition.share else { return Ok(()) };
    let of: Vec<Member> = match definition.network {
        Network::Host if has_net_cls()? => vec![Member::NetCls { class_id: uplink::plan_class_id(&definition.name) }],
        // Its group, or what the plugins say, is known later.
        Network::Host | Network::Cni { .. } => return Ok(()),
        _ => addresses_of(links),
    };
    enter(manager, &definition.name, share, &of)
}

/// The addresses that the host forwards for: those of veths.
fn addresses_of(links: &[LinkSpec]) -> Vec<Member> {
    let veths = links.iter().filter(|link| matches!(link.link, LinkKind::Veth(_)));
    veths.flat_map(|link| &link.addresses).map(|address| Member::Address { ip: address.ip }).collect()
}

/// Whether its class can be given when it has a process only: its v2 group is there by then.
///
/// # Errors
/// What the kernel says.
pub fn needs_process(definition: &Definition) -> Result<bool> {
    Ok(definition.share.is_some() && definition.network == Network::Host && !has_net_cls()?)
}

/// Gives a container its class by what is known when it has a process: what CNI plugins have answered, or its v2 group.
///
/// # Errors
/// It has no group; what the network library says.
pub fn join_process(manager: &Manager, definition: &Definition, pid: u32) -> Result<()> {
    let Some(share) = &definition.share else { return Ok(()) };
    let of = match definition.network {
        Network::Cni { .. } => {
            let found = cni::addresses(&manager.places)?.remove(&definition.name).unwrap_or_default();
            let found = found.into_iter().map(|ip| Member::Address { ip });
            found.chain(addresses_of(&definition.links)).collect()
        }
        Network::Host if !has_net_cls()? => vec![Member::CgroupV2 { path: read_group(pid)? }],
        _ => return Ok(()),
    };
    enter(manager, &definition.name, share, &of)
}

/// The v2 group of a process, without a slash in front.
fn read_group(pid: u32) -> Result<String> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let group = text.lines().find_map(|line| line.strip_prefix("0::/")).filter(|group| !group.is_empty());
    Ok(group.context("--class with --network host needs v1 net_cls, or cgroup v2 alone")?.to_owned())
}

/// Adds the number of its sockets to a container's bundle, where that tells its packets.
///
/// # Errors
/// What the kernel says.
pub fn complete(definition: &Definition, config: &mut Value) -> Result<()> {
    if definition.share.is_some() && definition.network == Network::Host && has_net_cls()? {
        config["linux"]["resources"]["network"] = json!({ "classID": uplink::plan_class_id(&definition.name) });
    }
    Ok(())
}

/// Takes back what a container has of shared links. May be repeated.
///
/// # Errors
/// What the network library says.
pub fn leave(manager: &Manager, name: &str) -> Result<()> {
    // Opening makes the folder: there never was a class without it.
    if manager.places.data.join("uplinks").is_dir() {
        uplink::leave(&open(&manager.places)?, find_program("nft").as_deref(), name)?;
    }
    Ok(())
}

/// Whether the v1 hierarchy is mounted that numbers sockets.
fn has_net_cls() -> Result<bool> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts of the host")?;
    Ok(text.lines().any(|line| {
        let (_, rest) = line.split_once(" - cgroup ").unwrap_or_default();
        rest.split([' ', ',']).any(|option| option == "net_cls")
    }))
}
