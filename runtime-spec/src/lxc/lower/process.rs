//! The first process: what it runs, as whom, and what it may.

use serde_json::{Value, json};

use super::{Around, Lowering};
use crate::capabilities;
use crate::lxc::config::{ARCHITECTURES, Config, Setting};
use crate::lxc::value::{parse_limit, split_words};
use crate::model::CapSet;
use crate::signal::parse_signal;

/// What a container runs that says nothing (lxc.container.conf(5), init command).
const INIT: &str = "/sbin/init";

/// RLIM_INFINITY (include/uapi/asm-generic/resource.h).
const UNLIMITED: u64 = u64::MAX;

/// Lowers it.
pub(super) fn lower(config: &Config, to: &mut Lowering<'_>) {
    command(config, to);
    identity(config, to);
    environment(config, to);
    signals(config, to);
    may(config, to);
    limits(config, to);
    groups(config, to);
}

fn command(config: &Config, to: &mut Lowering<'_>) {
    let set = config.get("lxc.init.cmd");
    to.lowered.args = set.map_or_else(Vec::new, |setting| split_words(&setting.value));
    if to.lowered.args.is_empty() {
        to.lowered.args.push(INIT.to_owned());
    }
    if let Some(setting) = set {
        to.translated(setting, "the command");
    }
    if let Some(setting) = config.get("lxc.init.cwd") {
        to.lowered.cwd = Some(setting.value.clone());
        to.translated(setting, "the working folder");
    }
    if let Some(setting) = config.get("lxc.uts.name") {
        to.lowered.hostname = Some(setting.value.clone());
        to.translated(setting, "the host name");
    }
    if let Some(setting) = config.get("lxc.arch") {
        let has_32_bits = ARCHITECTURES.iter().any(|(name, narrow)| *name == setting.value && *narrow);
        let domain = if has_32_bits { "LINUX32" } else { "LINUX" };
        to.merge(json!({ "linux": { "personality": { "domain": domain } } }));
        to.translated(setting, "linux.personality");
    }
}

fn identity(config: &Config, to: &mut Lowering<'_>) {
    let number = |key: &str| config.get(key).and_then(|setting| setting.value.parse::<u32>().ok()).unwrap_or(0);
    let (uid, gid) = (number("lxc.init.uid"), number("lxc.init.gid"));
    if (uid, gid) != (0, 0) {
        to.lowered.user = Some(format!("{uid}:{gid}"));
    }
    for setting in ["lxc.init.uid", "lxc.init.gid"].into_iter().filter_map(|key| config.get(key)) {
        to.translated(setting, "the user");
    }
    if let Some(setting) = config.get("lxc.init.groups") {
        let ids = setting.value.split([' ', ',']).filter_map(|word| word.parse::<u32>().ok()).collect::<Vec<_>>();
        to.merge(json!({ "process": { "user": { "additionalGids": ids } } }));
        to.translated(setting, "process.user.additionalGids");
    }
}

/// `KEY=VALUE`, or the caller's own value of `KEY`.
fn variable(around: &Around<'_>, setting: &Setting) -> Option<String> {
    if setting.value.contains('=') {
        return Some(setting.value.clone());
    }
    (around.variable)(&setting.value).map(|value| format!("{}={value}", setting.value))
}

fn environment(config: &Config, to: &mut Lowering<'_>) {
    // Programs look for the name: OpenRC knows few others (librc, RC_SYS_LXC), systemd takes any.
    let mut inside = vec!["container=lxc".to_owned()];
    let mut hooks = Vec::new();
    for setting in &config.settings {
        let (in_container, in_hooks) = match setting.key.as_str() {
            "lxc.environment" => (true, true),
            "lxc.environment.runtime" => (true, false),
            "lxc.environment.hooks" => (false, true),
            _ => continue,
        };
        match variable(to.around, setting) {
            Some(entry) => {
                if in_container {
                    inside.push(entry.clone());
                }
                if in_hooks {
                    hooks.push(entry);
                }
                to.translated(setting, "a variable");
            }
            None => to.not_possible(setting, "the caller has no such variable"),
        }
    }
    to.lowered.env = inside;
    to.lowered.kept.hook_env = hooks;
}

fn signals(config: &Config, to: &mut Lowering<'_>) {
    let halt = config.get("lxc.signal.halt");
    to.lowered.stop_signal = halt.map_or(to.around.halt, |setting| &setting.value).trim_start_matches("SIG").to_owned();
    if let Some(setting) = halt {
        to.translated(setting, "the signal that asks it to end");
    }
    if let Some(setting) = config.get("lxc.signal.stop") {
        match parse_signal(&setting.value) {
            Some(signal) if signal.0 == 9 => to.translated(setting, "what does not end is killed"),
            _ => to.not_possible(setting, "what does not end is killed by SIGKILL"),
        }
    }
}

/// Capabilities and no_new_privs.
fn may(config: &Config, to: &mut Lowering<'_>) {
    let words = |key: &str| {
        config.all(key).flat_map(|setting| setting.value.split_whitespace()).map(str::to_owned).collect::<Vec<_>>()
    };
    let keep = words("lxc.cap.keep");
    let all = to.around.capabilities;
    // `none` clears what stands before it; alone it keeps nothing.
    let after_none = keep.iter().rposition(|word| word == "none").map_or(0, |at| at + 1);
    let set = if keep.is_empty() {
        all.without(set_of(&words("lxc.cap.drop")))
    } else {
        all.and(set_of(&keep[after_none..]))
    };
    let names: Vec<&str> = set.names().collect();
    to.merge(json!({ "process": { "capabilities": {
        "bounding": names, "effective": names, "permitted": names,
    } } }));
    for setting in config.all("lxc.cap.drop") {
        if keep.is_empty() {
            to.translated(setting, "process.capabilities");
        } else {
            to.not_possible(setting, "lxc.cap.keep is set, which says all that is kept");
        }
    }
    for setting in config.all("lxc.cap.keep") {
        to.translated(setting, "process.capabilities");
    }
    if let Some(setting) = config.get("lxc.no_new_privs") {
        to.merge(json!({ "process": { "noNewPrivileges": setting.value == "1" } }));
        to.translated(setting, "process.noNewPrivileges");
    }
}

fn set_of(words: &[String]) -> CapSet {
    let bit =
        |word: &String| capabilities::bit(&format!("CAP_{}", word.to_ascii_uppercase())).or_else(|| word.parse().ok());
    CapSet(words.iter().filter_map(bit).filter(|bit| *bit < 64).fold(0, |set, bit| set | 1 << bit))
}

/// Resource limits, kernel parameters, files of `/proc/PID`.
fn limits(config: &Config, to: &mut Lowering<'_>) {
    let mut rlimits = Vec::new();
    for setting in &config.settings {
        if let Some(name) = setting.key.strip_prefix("lxc.prlimit.") {
            let Ok((soft, hard)) = parse_limit(&setting.value) else { continue };
            rlimits.push(json!({
                "type": format!("RLIMIT_{}", name.to_ascii_uppercase()),
                "soft": soft.unwrap_or(UNLIMITED), "hard": hard.unwrap_or(UNLIMITED),
            }));
            to.translated(setting, "process.rlimits");
        } else if let Some(name) = setting.key.strip_prefix("lxc.sysctl.") {
            let value: Value = json!(setting.value);
            to.merge(json!({ "linux": { "sysctl": { name: value } } }));
            to.translated(setting, "linux.sysctl; only parameters of the container's own namespaces are set");
        } else if setting.key == "lxc.proc.oom_score_adj" {
            match setting.value.parse::<i32>() {
                Ok(value) => {
                    to.merge(json!({ "process": { "oomScoreAdj": value } }));
                    to.translated(setting, "process.oomScoreAdj");
                }
                Err(_) => to.not_possible(setting, "its value is no number"),
            }
        }
    }
    if !rlimits.is_empty() {
        to.merge(json!({ "process": { "rlimits": rlimits } }));
    }
}

/// Where its group is.
fn groups(config: &Config, to: &mut Lowering<'_>) {
    if let Some(setting) = config.get("lxc.cgroup.dir") {
        let path = setting.value.trim_matches('/');
        to.lowered.cgroup_parent = Some(format!("/{path}"));
        to.translated(setting, "the parent of its group");
    }
    if let Some(setting) = config.get("lxc.cgroup.dir.container") {
        let path = format!("/{}", setting.value.trim_matches('/'));
        to.merge(json!({ "linux": { "cgroupsPath": path } }));
        to.translated(setting, "linux.cgroupsPath");
    }
}
