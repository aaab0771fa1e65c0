//! The bundles that every runtime runs: one root file system, the first runtime's `spec`, and three commands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::runtime::Runtime;

/// The seccomp profile that engines of the containers project install.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// A static busybox.
const BUSYBOX: &str = "/bin/busybox";

/// Folders with a config.json each; their root file system is the same.
pub(crate) struct Bundles {
    /// Runs `true`.
    pub(crate) short: PathBuf,
    /// Sleeps.
    pub(crate) long: PathBuf,
    /// Runs `true` under the profile, where the machine has it.
    pub(crate) profile: Option<PathBuf>,
}

pub(crate) fn prepare(work: &Path, runtime: &Runtime) -> Result<Bundles> {
    let rootfs = work.join("rootfs");
    rootfs_tools::busybox(&rootfs, Path::new(BUSYBOX)).context("cannot make the root file system")?;
    let spec = read_spec(work, runtime)?;
    let bundle = |name: &str, command: &[&str], profile: Option<&Value>| -> Result<PathBuf> {
        let dir = work.join(name);
        std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let config = edit(spec.clone(), &rootfs, command, profile);
        std::fs::write(dir.join("config.json"), config.to_string()).context("cannot write config.json")?;
        Ok(dir)
    };
    let profile = match std::fs::read_to_string(PROFILE) {
        Ok(text) => {
            Some(translate_profile(&serde_json::from_str(&text).with_context(|| format!("cannot parse {PROFILE}"))?))
        }
        Err(_) => None,
    };
    Ok(Bundles {
        short: bundle("short", &["true"], None)?,
        long: bundle("long", &["sleep", "1000"], None)?,
        profile: profile.map(|profile| bundle("profile", &["true"], Some(&profile))).transpose()?,
    })
}

/// Has the runtime write its default config.json and reads it.
fn read_spec(work: &Path, runtime: &Runtime) -> Result<Value> {
    let path = work.join("config.json");
    let dir = work.to_str().context("a path is not UTF-8")?;
    let status = runtime.command(&["spec", "--bundle", dir])?.status().context("cannot run spec")?;
    ensure!(status.success(), "{} spec ended with {status}: {}", runtime.name, runtime.last_words());
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))
}

fn edit(mut config: Value, rootfs: &Path, command: &[&str], profile: Option<&Value>) -> Value {
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(command);
    config["root"]["path"] = json!(rootfs);
    if let Some(profile) = profile {
        config["linux"]["seccomp"] = profile.clone();
    }
    config
}

/// Translates an engine's profile into the specification's form, as for a container without further capabilities.
fn translate_profile(profile: &Value) -> Value {
    let entries = profile["syscalls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let syscalls: Vec<Value> = entries.iter().filter(|entry| applies(entry)).map(translate_entry).collect();
    json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet").cloned().unwrap_or(json!(1)),
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": syscalls,
    })
}

/// An entry may hold for some architectures only, or for containers with some capability.
fn applies(entry: &Value) -> bool {
    let list = |side: &str, key: &str| {
        let values = entry[side][key].as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(Value::as_str).collect::<Vec<_>>()
    };
    let arches = list("includes", "arches");
    let here = ["amd64", "x86", "x32"];
    list("includes", "caps").is_empty() && (arches.is_empty() || arches.iter().any(|arch| here.contains(arch)))
}

fn translate_entry(entry: &Value) -> Value {
    let mut rule = json!({ "names": entry["names"], "action": entry["action"] });
    for key in ["args", "errnoRet"] {
        // The profile writes empty lists and nulls where the specification leaves the key out.
        if entry[key].as_array().is_none_or(|values| !values.is_empty()) && !entry[key].is_null() {
            rule[key] = entry[key].clone();
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_keeps_what_holds_without_capabilities() {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "syscalls": [
                { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {} },
                { "names": ["bpf"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": { "caps": ["CAP_BPF"] } },
                { "names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": { "caps": ["CAP_BPF"] } },
                { "names": ["s390_runtime_instr"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["s390"] } },
                { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["amd64", "x32"] } },
                { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
            ],
        });
        let translated = translate_profile(&profile);
        assert_eq!(translated["defaultErrnoRet"], 38);
        assert_eq!(
            translated["syscalls"],
            json!([
                { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
                { "names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
                { "names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW" },
                { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
            ])
        );
    }

    #[test]
    fn a_bundle_keeps_the_rest_of_the_spec() {
        let spec = json!({ "process": { "terminal": true, "cwd": "/" }, "root": { "path": "rootfs", "readonly": true }, "linux": {} });
        let config = edit(spec, Path::new("/r"), &["true"], Some(&json!({ "defaultAction": "SCMP_ACT_ALLOW" })));
        assert_eq!(config["process"], json!({ "terminal": false, "cwd": "/", "args": ["true"] }));
        assert_eq!(config["root"], json!({ "path": "/r", "readonly": true }));
        assert_eq!(config["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
    }
}
