//! Hooks: moments of LXC as moments of config.json, and the variables that programs find.

use serde_json::{Value, json};

use super::{Hook, Lowering};
use crate::lxc::config::{Config, HookVersion};
use crate::lxc::network::{self, Net, NetKind};

/// A kind of hooks, the point of config.json that it runs at, and what is different there; `None` is not at all or the
/// manager's.
const POINTS: [(&str, &str, Option<&str>); 6] = [
    ("mount", "createContainer", None),
    ("autodev", "createContainer", None),
    ("start-host", "createRuntime", Some("it runs before pivot_root, not just before the program")),
    ("start", "startContainer", None),
    ("stop", "poststop", Some("without the container's namespaces, which are gone by then")),
    ("post-stop", "poststop", None),
];

/// Hooks that run outside of a start and an end.
const MANAGED: [&str; 3] = ["pre-start", "clone", "destroy"];

/// Lowers hooks and the scripts of links.
pub(super) fn lower(config: &Config, to: &mut Lowering<'_>) {
    let version = if config.is_on("lxc.hook.version", false) { HookVersion::Variables } else { HookVersion::Arguments };
    to.lowered.kept.hook_version = version;
    let common = variables(config, version, to);
    if let Some(setting) = config.get("lxc.hook.version") {
        to.translated(setting, "how hooks are told what they are called for");
    }
    scripts(config, "up", "createRuntime", &common, to);
    for (kind, point, differs) in POINTS {
        let key = format!("lxc.hook.{kind}");
        for setting in config.all(&key) {
            if kind == "autodev" && !config.is_on("lxc.autodev", true) {
                to.not_possible(setting, "lxc.autodev is 0");
                continue;
            }
            let mut env = common.clone();
            if matches!(kind, "stop" | "post-stop") {
                env.push("LXC_TARGET=stop".to_owned());
            }
            let hook = render(&setting.value, ("lxc", kind, &[]), version, env, to.around.name);
            to.merge(json!({ "hooks": { point: [hook] } }));
            match differs {
                None => to.translated(setting, format!("hooks.{point}")),
                Some(differs) => to.approximated(setting, format!("hooks.{point}: {differs}")),
            }
        }
    }
    scripts(config, "down", "poststop", &common, to);
    for kind in MANAGED {
        for setting in config.all(&format!("lxc.hook.{kind}")) {
            to.lowered.kept.hooks.push(Hook { kind: kind.to_owned(), command: setting.value.clone() });
            to.translated(setting, format!("run by {}", if kind == "pre-start" { "start" } else { "the verb" }));
        }
    }
    to.lowered.kept.hook_env = common;
    for setting in config.all("lxc.hook.pre-mount") {
        to.not_possible(setting, "nothing runs in the container's mount namespace before its mounts");
    }
}

/// Variables of every hook.
fn variables(config: &Config, version: HookVersion, to: &Lowering<'_>) -> Vec<String> {
    const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let number = if version == HookVersion::Variables { 1 } else { 0 };
    let mut env = vec![PATH.to_owned()];
    env.extend(to.lowered.kept.hook_env.iter().cloned());
    env.extend([
        format!("LXC_NAME={}", to.around.name),
        format!("LXC_CONFIG_FILE={}", to.around.file),
        format!("LXC_ROOTFS_MOUNT={}", to.root()),
        format!("LXC_HOOK_VERSION={number}"),
        "LXC_CGNS_AWARE=1".to_owned(),
    ]);
    let others = [
        ("lxc.rootfs.path", "LXC_ROOTFS_PATH"),
        ("lxc.console.path", "LXC_CONSOLE"),
        ("lxc.console.logfile", "LXC_CONSOLE_LOGPATH"),
    ];
    for (key, name) in others {
        env.extend(config.get(key).map(|setting| format!("{name}={}", setting.value)));
    }
    let level = config.get("lxc.log.level").map_or("ERROR", |setting| &setting.value);
    env.push(format!("LXC_LOG_LEVEL={level}"));
    env
}

/// A hook of config.json. A shell runs it, as LXC has it: a value may have arguments.
fn render(
    command: &str,
    (section, kind, more): (&str, &str, &[(&str, String)]),
    version: HookVersion,
    mut env: Vec<String>,
    name: &str,
) -> Value {
    let command = match version {
        HookVersion::Arguments => {
            let more: Vec<String> = more.iter().map(|(_, value)| format!(" {value}")).collect();
            format!("{command} {name} {section} {kind}{}", more.concat())
        }
        HookVersion::Variables => {
            env.extend([format!("LXC_HOOK_TYPE={kind}"), format!("LXC_HOOK_SECTION={section}")]);
            env.extend(more.iter().map(|(variable, value)| format!("{variable}={value}")));
            command.to_owned()
        }
    };
    json!({ "path": "/bin/sh", "args": ["sh", "-c", command], "env": env })
}

/// Scripts of links.
fn scripts(config: &Config, kind: &str, point: &str, common: &[String], to: &mut Lowering<'_>) {
    for net in network::links(config) {
        let Some(setting) = net.get(&format!("script.{kind}")) else { continue };
        if matches!(net.kind, NetKind::None) {
            to.not_possible(setting, "the network is the host's");
            continue;
        }
        let version = to.lowered.kept.hook_version;
        let hook = render(&setting.value, ("net", kind, &told(&net)), version, common.to_vec(), to.around.name);
        to.merge(json!({ "hooks": { point: [hook] } }));
        to.translated(setting, format!("hooks.{point}"));
    }
}

/// What a script of a link is told besides.
fn told(net: &Net<'_>) -> Vec<(&'static str, String)> {
    let value = |key: &str| net.get(key).map(|setting| setting.value.clone());
    let mut more = vec![("LXC_NET_TYPE", net.kind.name().to_owned())];
    more.extend(value("link").map(|link| ("LXC_NET_PARENT", link)));
    more.extend(value("veth.pair").map(|peer| ("LXC_NET_PEER", peer)));
    more
}
