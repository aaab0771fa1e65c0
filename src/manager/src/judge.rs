//! What the values of a definition may be, once its form is right. All of this is pure.

use std::path::Path;

use runtime_spec::Severity;

use crate::args::LOG_FILES_MAX;
use crate::base::User;
use crate::bundle::{Surroundings, render_config};
use crate::definition::{Definition, First, From, Network, Ready, Restart, Upper, validate_device};
use crate::places::validate_name;
use crate::validate::{validate_hostname, validate_inside, validate_memory, validate_signal};

/// All that is wrong: the way to each key, and what is wrong there. `name` is that of the container, where it is known.
#[must_use]
pub fn judge(definition: &Definition, name: Option<&str>) -> Vec<(String, String)> {
    let mut findings = Vec::new();
    let mut told = |key: &str, result: Result<(), String>| {
        if let Err(said) = result {
            findings.push((key.to_owned(), said));
        }
    };
    told("name", validate_name("container", &definition.name).map_err(|error| error.to_string()));
    if let Some(name) = name.filter(|name| *name != definition.name) {
        told("name", Err(format!("the container is {name:?}: skep rename gives it another name")));
    }
    // A name of its own has what it has.
    if definition.hostname != definition.name {
        told("hostname", validate_hostname(&definition.hostname));
    }
    told("stop_signal", validate_signal(&definition.stop_signal));
    let limits = &definition.limits;
    told("limits.memory", limits.memory.map_or(Ok(()), |bytes| validate_memory(bytes).map(drop)));
    told("limits.millicpus", within(limits.millicpus, 10, 1_000_000_000));
    told("limits.pids", within(limits.pids, 1, i64::MAX));
    told("limits.disk", within(limits.disk, 4096, i64::MAX as u64));
    told("log.files", within(Some(i64::from(definition.log.files)), 0, LOG_FILES_MAX));
    if let Some((first, count)) = definition.ids {
        let end = first.checked_add(count).filter(|end| first > 0 && count > 0 && *end < u32::MAX);
        told("ids", end.map(drop).ok_or_else(|| format!("ids go from 1 to {}", u32::MAX - 1)));
    }
    judge_process(definition, &mut told);
    judge_places(definition, &mut told);
    judge_network(definition, &mut told);
    judge_autostart(definition, &mut told);
    judge_piece(definition, &mut told);
    findings
}

/// What a change makes wrong: the findings of `after` that `before` has not. `before` is `None` for what is being defined.
#[must_use]
pub fn judge_change(before: Option<&Definition>, after: &Definition) -> Vec<(String, String)> {
    let known = before.map(|before| judge(before, None)).unwrap_or_default();
    let mut findings = judge(after, before.map(|before| before.name.as_str()));
    findings.retain(|finding| !known.contains(finding));
    let Some(before) = before else { return findings };
    let fixed = [
        ("created", before.created == after.created, ""),
        ("from", before.from == after.from, ""),
        ("changes", before.changes == after.changes, ": skep restore changes it"),
        ("storage", before.storage == after.storage, ": skep copy makes another container"),
        ("limits.disk", before.limits.disk == after.limits.disk, ": skep copy makes another container"),
    ];
    let changed = fixed.into_iter().filter(|(_, is_kept, _)| !is_kept);
    findings
        .extend(changed.map(|(key, _, hint)| (key.to_owned(), format!("it is not changed once it is defined{hint}"))));
    findings
}

/// What the piece of config.json makes of the rendered one that the runtime refuses. What the host has to be asked for at a
/// start is made up.
fn judge_piece(definition: &Definition, told: &mut impl FnMut(&str, Result<(), String>)) {
    if !definition.oci.is_object() {
        return;
    }
    let user = User::default();
    let around = Surroundings::bare(Path::new("/"), &user);
    let errors = |definition: &Definition| -> Vec<String> {
        let config = render_config(definition, &around).to_string();
        let findings = runtime_spec::load(config.as_bytes()).findings;
        findings.into_iter().filter(|found| found.severity == Severity::Error).map(|found| found.message).collect()
    };
    let others = errors(&Definition { oci: serde_json::Value::Null, ..definition.clone() });
    for error in errors(definition).into_iter().filter(|error| !others.contains(error)) {
        told("oci", Err(error));
    }
}

fn within<T: PartialOrd + std::fmt::Display>(value: Option<T>, least: T, most: T) -> Result<(), String> {
    match value {
        Some(value) if value < least || value > most => Err(format!("{value}: want {least} to {most}")),
        _ => Ok(()),
    }
}

fn absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') { Ok(()) } else { Err(format!("{path:?} must be an absolute path")) }
}

fn judge_process(definition: &Definition, told: &mut impl FnMut(&str, Result<(), String>)) {
    let process = &definition.process;
    let program = process.args.first().is_some_and(|program| !program.is_empty());
    told("process.args", if program { Ok(()) } else { Err("there is nothing to run".to_owned()) });
    told("process.cwd", absolute(&process.cwd));
    for entry in &process.env {
        // Images have entries without a value, too.
        let named = !entry.is_empty() && !entry.starts_with('=');
        told("process.env", if named { Ok(()) } else { Err(format!("{entry:?}: want KEY=value")) });
    }
    if !definition.monitor && (process.terminal || definition.restart != Restart::No) {
        told("monitor", Err("the monitor holds a terminal and starts it again: both need one".to_owned()));
    }
    if let Some(system) = &definition.system {
        let fits = system.machine_id.len() == 32 && system.machine_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        told("system.machine_id", if fits { Ok(()) } else { Err("want 32 hexadecimal digits".to_owned()) });
        told("system.ttys", within(Some(system.ttys), 0, runtime_spec::ttys::MAX));
        if system.ttys > 0 && !process.terminal {
            told("system.ttys", Err("more terminals need the first one: process.terminal".to_owned()));
        }
        if process.first == First::SkepInit {
            told("process.first", Err("a whole system has an init of its own".to_owned()));
        }
    }
}

fn judge_places(definition: &Definition, told: &mut impl FnMut(&str, Result<(), String>)) {
    match &definition.from {
        From::Folder { path } | From::Adopted { path, .. } => told("from.path", absolute(&path.to_string_lossy())),
        From::Host { hide, show } => {
            hide.iter().for_each(|path| told("from.hide", absolute(path)));
            show.iter().for_each(|path| told("from.show", absolute(path)));
        }
        From::Image { .. } | From::Template { .. } => {}
    }
    if matches!(definition.upper, Upper::Memory(_)) && definition.limits.disk.is_some() {
        told("limits.disk", Err("changes go to memory: upper.memory bounds them".to_owned()));
    }
    for (at, volume) in definition.volumes.iter().enumerate() {
        told(&format!("volumes[{at}].source"), absolute(&volume.source));
        told(&format!("volumes[{at}].destination"), validate_inside(&volume.destination));
    }
    for (at, device) in definition.devices.iter().enumerate() {
        told(&format!("devices[{at}]"), validate_device(device));
    }
}

fn judge_network(definition: &Definition, told: &mut impl FnMut(&str, Result<(), String>)) {
    for text in &definition.publish {
        let parsed: Result<network::managed::PortForward, _> = text.parse();
        told("publish", parsed.map(drop).map_err(|error| error.to_string()));
    }
    let connected = matches!(definition.network, Network::Managed { .. } | Network::Cni { .. });
    if !definition.publish.is_empty() && !connected {
        told("publish", Err("it needs a managed network, or one of CNI".to_owned()));
    }
    if let Network::Managed { addresses, .. } | Network::Cni { addresses, .. } = &definition.network {
        for text in addresses {
            let parsed: Result<std::net::IpAddr, _> = text.parse();
            told("network.addresses", parsed.map(drop).map_err(|_| format!("{text:?} is no address")));
        }
    }
    if let Some(share) = &definition.share {
        told("share.priority", within(Some(share.priority), 0, 7));
    }
}

fn judge_autostart(definition: &Definition, told: &mut impl FnMut(&str, Result<(), String>)) {
    let Some(autostart) = &definition.autostart else { return };
    for name in &autostart.after {
        told("autostart.after", validate_name("container", name).map_err(|error| error.to_string()));
    }
    match &autostart.ready {
        Some(Ready::Tcp(0)) => told("autostart.ready.tcp", Err("want a port from 1 to 65535".to_owned())),
        Some(Ready::Exec(line)) if line.trim().is_empty() => {
            told("autostart.ready.exec", Err("there is no command".to_owned()));
        }
        _ => {}
    }
}
