//! Networks that CNI plugins make: how a container's definition becomes an attachment, and how that is taken back.
//!
//! ```text
//! start     the runtime calls this program as a hook when the container has its network namespace: connect
//! connect   mounts the namespace on <data>/cni/netns/NAME, ADD; the result is in the cache, and in /etc/hosts
//! undo      DEL of all that the cache has of a container, then the namespace is let go: at stop, start and destroy
//! gc        the same for containers that ended by themselves
//! ```
//! The namespace is held so that plugins find it at DEL, after whatever end of the container: one that has moved a device
//! of the host into it has to bring it back.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use network::Rate;
use network::cni::{self, Attachment, Cached, NetworkList, Paths, parse_list};
use network::managed::{PortForward, check_listeners};
use serde_json::{Map, Value, json};

use crate::definition::{Definition, Network, Rates};
use crate::links::FIRST;
use crate::places::{Lock, Places, make_closed_dir};
use crate::run::Manager;

/// Where configurations are, as with other programs that call plugins.
pub const CONF: &str = "/etc/cni/net.d";
/// Where plugins are: the project's own place, and Debian's.
pub const PLUGINS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// How much may go at once, as a part of a second, as [`network`]'s own limits have it.
const BURST_PER_SECOND: u64 = 20;

/// Checks what a container that is being defined wants of its network.
///
/// # Errors
/// There is no such network, or no plugin of it that can do what is asked for.
pub fn check(definition: &Definition) -> Result<()> {
    let Network::Cni { name, conf, .. } = &definition.network else { return Ok(()) };
    let list = read_list(conf, name)?;
    for (capability, _) in capabilities(definition)? {
        if !list.can(&capability) {
            let option = match capability.as_str() {
                "portMappings" => "--publish",
                "ips" => "--ip",
                _ => "--egress and --ingress",
            };
            bail!("{option}: no plugin of CNI network {name:?} declares the capability {capability:?}");
        }
    }
    Ok(())
}

/// Finds a network among the configurations of a folder: the first one of that name, in the order of the files' names.
fn read_list(conf: &Path, name: &str) -> Result<NetworkList> {
    let cannot = || format!("cannot read the CNI networks of {}", conf.display());
    let mut files = Vec::new();
    let entries = match fs::read_dir(conf) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        other => Some(other.with_context(cannot)?),
    };
    for entry in entries.into_iter().flatten() {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|ending| ["conflist", "conf", "json"].iter().any(|known| ending == *known)) {
            files.push(path);
        }
    }
    files.sort_unstable();
    let (mut known, mut broken) = (Vec::new(), Vec::new());
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        match parse_list(&text) {
            Ok(list) if list.name == name => return Ok(list),
            Ok(list) => known.push(list.name),
            // Another program's may have a version that we do not speak.
            Err(error) => broken.push(format!("{}: {error}", path.display())),
        }
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let broken = broken.iter().map(|text| format!("; {text}")).collect::<String>();
    bail!("there is no CNI network {name:?} in {}: {known} is there{broken}", conf.display())
}

/// The ports of the host that lead to a container.
///
/// # Errors
/// What is wrong with a text.
pub fn forwards(definition: &Definition) -> Result<Vec<PortForward>> {
    let parse = |text: &String| text.parse().with_context(|| format!("--publish {text}"));
    definition.publish.iter().map(parse).collect()
}

/// What a container asks of plugins. Names are those of the conventions of CNI.
fn capabilities(definition: &Definition) -> Result<Map<String, Value>> {
    let Network::Cni { addresses, rates, .. } = &definition.network else { return Ok(Map::new()) };
    let mut wanted = Map::new();
    let mut ports = Vec::new();
    for forward in forwards(definition)? {
        for step in 0..forward.count {
            let mut port = json!({
                "hostPort": forward.host_port + step, "containerPort": forward.container_port + step,
                "protocol": forward.protocol.name(),
            });
            if let Some(ip) = forward.address {
                port["hostIP"] = json!(ip);
            }
            ports.push(port);
        }
    }
    if !ports.is_empty() {
        wanted.insert("portMappings".to_owned(), Value::Array(ports));
    }
    if !addresses.is_empty() {
        for text in addresses {
            text.parse::<IpAddr>().with_context(|| format!("--ip {text:?} is no address"))?;
        }
        wanted.insert("ips".to_owned(), json!(addresses));
    }
    if !rates.is_empty() {
        wanted.insert("bandwidth".to_owned(), bandwidth(*rates));
    }
    Ok(wanted)
}

fn bandwidth(rates: Rates) -> Value {
    let mut wanted = json!({});
    for (way, rate) in [("ingress", rates.ingress), ("egress", rates.egress)] {
        let Some(bits) = rate.map(Rate::bits) else { continue };
        // Ten full packets at least; the plugin has 32 bits for it.
        let burst = (bits / BURST_PER_SECOND).clamp(16 * 1024 * 8, u64::from(u32::MAX));
        wanted[format!("{way}Rate")] = json!(bits);
        wanted[format!("{way}Burst")] = json!(burst);
    }
    wanted
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("the path {} is not text", path.display()))
}

fn cache(places: &Places) -> PathBuf {
    places.data.join("cni")
}

/// Whether there ever was an attachment: reading the cache makes its folder.
fn has_any(places: &Places) -> bool {
    cache(places).is_dir()
}

fn read_cache(places: &Places) -> Result<Vec<Cached>> {
    if has_any(places) { Ok(cni::attachments(&text(&cache(places))?)?) } else { Ok(Vec::new()) }
}

/// The file that a container's network namespace is mounted on.
fn pin(places: &Places, container: &str) -> PathBuf {
    cache(places).join("netns").join(container)
}

/// Gives a container that is being started its link. `pid` is its first process.
///
/// # Errors
/// What a plugin says; then nothing is left.
pub fn connect(manager: &Manager, definition: &Definition, pid: u32) -> Result<()> {
    let Network::Cni { name, conf, plugins, .. } = &definition.network else { return Ok(()) };
    let places = &manager.places;
    let list = read_list(conf, name)?;
    check_listeners(&forwards(definition)?)?;
    let plugins = plugins.iter().map(|path| text(path)).collect::<Result<_>>()?;
    let paths = Paths { plugins, cache: text(&cache(places))? };
    let path = pin(places, &definition.name);
    make_closed_dir(&cache(places))?;
    make_closed_dir(&cache(places).join("netns"))?;
    let namespace = format!("/proc/{pid}/ns/net");
    let namespace = fs::File::open(&namespace).with_context(|| format!("cannot open {namespace}"))?;
    let path = text(&path)?;
    network::unpin_netns(&path)?;
    network::pin_netns(&path, namespace.as_fd())?;
    let attachment = Attachment {
        container: definition.name.clone(),
        netns: path.clone(),
        link: FIRST.to_owned(),
        args: "IgnoreUnknown=1".to_owned(),
        capabilities: capabilities(definition)?,
    };
    match cni::add(&paths, &list, &attachment) {
        Ok(_) => Ok(()),
        Err(error) => {
            network::unpin_netns(&path)?;
            Err(error.into())
        }
    }
}

/// Takes back what a container has of CNI networks, whatever its definition says by now. May be repeated.
///
/// # Errors
/// What a plugin says; the next call tries again.
pub fn undo(places: &Places, container: &str) -> Result<()> {
    let path = text(&pin(places, container))?;
    for mut cached in read_cache(places)?.into_iter().filter(|cached| cached.attachment.container == container) {
        if !network::is_pinned(&path)? {
            // Plugins are to do what they can without: the machine was started anew.
            cached.attachment.netns.clear();
        }
        let (paths, list) = made_with(places, &cached)?;
        cni::delete(&paths, &list, &cached.attachment)?;
    }
    network::unpin_netns(&path)?;
    Ok(())
}

fn made_with(places: &Places, cached: &Cached) -> Result<(Paths, NetworkList)> {
    let list = parse_list(&cached.list.to_string()).context("cannot use what the cache of CNI has")?;
    Ok((Paths { plugins: cached.plugins.clone(), cache: text(&cache(places))? }, list))
}

/// The addresses of every container in CNI networks, by what the plugins answered.
///
/// # Errors
/// The cache cannot be read.
pub fn addresses(places: &Places) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    let mut all: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for cached in read_cache(places)? {
        let found = cached.result.as_ref().map(parse_addresses).unwrap_or_default();
        all.entry(cached.attachment.container).or_default().extend(found);
    }
    Ok(all)
}

/// The addresses of a result. Section 5 of the specification: `ips`, each with `address` as `IP/LENGTH`.
fn parse_addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    let address = |ip: &Value| ip["address"].as_str()?.split('/').next()?.parse().ok();
    ips.iter().filter_map(address).collect()
}

/// The servers of names that the plugins of a container's network name; none where they leave it to the host.
///
/// # Errors
/// The cache cannot be read.
pub fn name_servers(places: &Places, container: &str) -> Result<Vec<String>> {
    let of_container = read_cache(places)?.into_iter().filter(|cached| cached.attachment.container == container);
    let servers = of_container.filter_map(|cached| cached.result?["dns"]["nameservers"].as_array().cloned());
    Ok(servers.flatten().filter_map(|server| server.as_str().map(str::to_owned)).collect())
}

/// Takes back what containers that do not run have, and lets the plugins of the networks do the same. Returns
/// `NETWORK/CONTAINER`.
///
/// # Errors
/// What a plugin says.
pub fn gc(manager: &Manager, dry_run: bool) -> Result<Vec<String>> {
    let places = &manager.places;
    // Whoever starts a container holds its lock; those of the dead are held until their links are gone.
    let held: RefCell<Vec<(String, Lock)>> = RefCell::default();
    let is_live = |attachment: &Attachment| {
        let name = &attachment.container;
        if held.borrow().iter().any(|(dead, _)| dead == name) {
            return false;
        }
        let Ok(Some(lock)) = places.try_lock(name) else { return true };
        // What cannot be asked may be alive.
        let alive =
            manager.runtime.state(name).map_or(true, |state| state.is_some_and(|state| state.status.is_alive()));
        if !alive {
            held.borrow_mut().push((name.clone(), lock));
        }
        alive
    };
    let all = read_cache(places)?;
    let network = |cached: &Cached| cached.list["name"].as_str().unwrap_or_default().to_owned();
    let row = |cached: &Cached| format!("{}/{}", network(cached), cached.attachment.container);
    let dead: Vec<String> = all.iter().filter(|cached| !is_live(&cached.attachment)).map(row).collect();
    if dry_run {
        return Ok(dead);
    }
    held.borrow_mut().clear();
    let (mut seen, mut gone) = (BTreeSet::new(), Vec::new());
    // One list of each network is enough: each attachment is taken back with its own.
    for cached in all.iter().filter(|cached| seen.insert(network(cached))) {
        let (paths, list) = made_with(places, cached)?;
        for container in cni::gc(&paths, &list, &is_live)? {
            network::unpin_netns(&text(&pin(places, &container))?)?;
            gone.push(format!("{}/{container}", list.name));
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_configuration_of_a_name_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        write("20-lan.conf", r#"{"cniVersion":"1.0.0","name":"lan","type":"second"}"#);
        write("10-lan.conflist", r#"{"cniVersion":"1.0.0","name":"lan","plugins":[{"type":"first"}]}"#);
        write("00-old.conf", r#"{"cniVersion":"0.1.0","name":"old","type":"x"}"#);
        write("readme", "no configuration");
        assert_eq!(read_list(dir.path(), "lan").unwrap().plugins[0]["type"], "first");
        let said = read_list(dir.path(), "wan").unwrap_err().to_string();
        assert!(said.contains("\"wan\"") && said.contains("lan, lan is there") && said.contains("00-old"), "{said}");
        assert!(read_list(&dir.path().join("nothing"), "lan").unwrap_err().to_string().contains("none is there"));
    }

    #[test]
    fn addresses_of_results() {
        let result = json!({ "ips": [{ "address": "10.0.0.2/24" }, { "address": "fd00::2/64" }, { "address": 7 }] });
        assert_eq!(parse_addresses(&result), ["10.0.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]);
        assert!(parse_addresses(&json!({})).is_empty());
    }

    #[test]
    fn limits_in_the_words_of_the_plugin() {
        let rates = Rates { egress: "10mbit".parse().ok(), ingress: None };
        assert_eq!(bandwidth(rates), json!({ "egressRate": 10_000_000, "egressBurst": 500_000 }));
    }
}
