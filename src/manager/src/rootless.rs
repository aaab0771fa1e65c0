//! Containers of ordinary users: what stands in for root. Their data folder, the ids of a container, and what of a definition
//! needs root. Reading is apart from planning.
//!
//! A container's root is the user, so files that it makes as root are the user's; its other ids are those that `/etc/subuid`
//! and `/etc/subgid` give to the user, by `newuidmap` and `newgidmap`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::definition::{Definition, Network};
use crate::places::{find_program, read_or_empty};
use crate::system::ids::{Range, parse_subids};

/// Where root keeps things.
const OF_ROOT: &str = "/var/lib/skep";

/// Who calls, where it is not root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Users that it may give to a container; `None` for its own alone.
    pub uids: Option<Range>,
    /// The same of groups.
    pub gids: Option<Range>,
}

/// The data folder where nothing is said: root's, or the user's by the XDG Base Directory Specification.
///
/// # Errors
/// The user has no home.
pub fn data_folder() -> Result<PathBuf> {
    if sys::process::effective_uid() == 0 {
        return Ok(PathBuf::from(OF_ROOT));
    }
    let absolute = |key: &str| std::env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = || absolute("HOME").map(|home| home.join(".local/share"));
    let Some(share) = absolute("XDG_DATA_HOME").or_else(below_home) else {
        bail!("no place for containers: neither XDG_DATA_HOME nor HOME is set (see --data)");
    };
    Ok(share.join("skep"))
}

/// Who calls; `None` for root.
///
/// # Errors
/// A file cannot be read.
pub fn read_caller() -> Result<Option<Caller>> {
    let (uid, gid) = (sys::process::effective_uid(), sys::process::effective_gid());
    if uid == 0 {
        return Ok(None);
    }
    let passwd = read_or_empty("/etc/passwd")?;
    let ranges = |path: &str, program: &str| -> Result<Option<Range>> {
        let text = read_or_empty(path)?;
        Ok(plan_range(&text, &passwd, uid).filter(|_| find_program(program).is_some()))
    };
    let (uids, gids) = (ranges("/etc/subuid", "newuidmap")?, ranges("/etc/subgid", "newgidmap")?);
    Ok(Some(Caller { uid, gid, uids, gids }))
}

/// The first ids of a user in a file such as `/etc/subuid`, which has names or numbers.
fn plan_range(subids: &str, passwd: &str, uid: u32) -> Option<Range> {
    let number = uid.to_string();
    let is_own = |line: &&str| line.split(':').nth(2) == Some(number.as_str());
    let name = passwd.lines().find(is_own).and_then(|line| line.split(':').next()).unwrap_or_default();
    let of = |user: &str| parse_subids(subids, user).0.into_iter().next();
    Some(name).filter(|name| !name.is_empty()).and_then(of).or_else(|| of(&number))
}

/// Refuses what needs root.
///
/// # Errors
/// The first of it, and what to do.
pub fn check(definition: &Definition) -> Result<()> {
    let refused = match definition {
        Definition { system: Some(_), .. } => "a whole system (--init)",
        Definition { ids: Some(_), .. } => "ids of your choice (--ids): yours are those of /etc/subuid",
        Definition { network: Network::Managed { .. } | Network::Cni { .. }, .. } => {
            "a network with addresses: --network none or host is what a user can have"
        }
        Definition { share: Some(_), .. } => "a class of a device (--class)",
        Definition { links, .. } if !links.is_empty() => "links (--link)",
        Definition { devices, .. } if !devices.is_empty() => "devices (--device): --volume shows their nodes",
        Definition { limits, .. } if limits.disk.is_some() => "a limit on disk (--disk-size)",
        _ => return Ok(()),
    };
    bail!("container {:?} needs root for {refused}", definition.name)
}

/// Changes a rendered config.json to what a user can have: a user namespace, no rules for devices, of which a user can make
/// none, and no group that is root's.
pub fn apply(config: &mut Value, definition: &Definition, caller: &Caller) {
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.push(json!({ "type": "user" }));
    }
    let map = |own: u32, more: Option<Range>| {
        let first = json!({ "containerID": 0, "hostID": own, "size": 1 });
        let rest = more.map(|(first, count)| json!({ "containerID": 1, "hostID": first, "size": count }));
        Value::Array(std::iter::once(first).chain(rest).collect())
    };
    config["linux"]["uidMappings"] = map(caller.uid, caller.uids);
    config["linux"]["gidMappings"] = map(caller.gid, caller.gids);
    if let Some(resources) = config["linux"]["resources"].as_object_mut() {
        resources.remove("devices");
    }
    // The usual group is root's. Without any, the runtime takes one that the user may write, or goes without.
    if definition.cgroup_parent.is_none()
        && let Some(linux) = config["linux"].as_object_mut()
    {
        linux.remove("cgroupsPath");
    }
    if caller.gids.is_none() {
        // Of its groups there is one.
        config["process"]["user"]["additionalGids"] = json!([]);
        for mount in config["mounts"].as_array_mut().into_iter().flatten() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| !option.as_str().is_some_and(|option| option.starts_with("gid=")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        assert_eq!(plan_range("bob:1:2\nann:100000:65536\n", passwd, 1000), Some((100_000, 65_536)));
        assert_eq!(plan_range("1001:200000:65536\n", passwd, 1001), Some((200_000, 65_536)));
        assert_eq!(plan_range("ann:100000:65536\n", passwd, 1001), None);
    }

    #[test]
    fn a_user_is_the_root_of_its_container() {
        let mut config = json!({
            "linux": { "namespaces": [], "cgroupsPath": "/skep/a", "resources": { "devices": [1], "pids": { "limit": 5 } } },
            "process": { "user": { "additionalGids": [5] } },
            "mounts": [{ "options": ["nosuid", "gid=5"] }],
        });
        let caller = Caller { uid: 1000, gid: 100, uids: Some((7, 9)), gids: None };
        let definition = crate::document::parse(
            "schema = 1\nname = 'a'\ncreated = 0\nhostname = 'a'\nstop_signal = 'TERM'\nfrom = { kind = 'folder', path = '/b' }\n\
             process = { args = ['true'], cwd = '/' }\nnetwork = { kind = 'none' }\nids = [100000, 65536]",
        )
        .unwrap();
        assert!(check(&definition).unwrap_err().to_string().contains("--ids"));
        apply(&mut config, &definition, &caller);
        assert_eq!(config["linux"]["uidMappings"][1], json!({ "containerID": 1, "hostID": 7, "size": 9 }));
        assert_eq!(config["linux"]["gidMappings"], json!([{ "containerID": 0, "hostID": 100, "size": 1 }]));
        assert_eq!(config["linux"]["resources"], json!({ "pids": { "limit": 5 } }));
        assert_eq!(config["linux"]["cgroupsPath"], Value::Null);
        assert_eq!(config["mounts"][0]["options"], json!(["nosuid"]));
    }
}
