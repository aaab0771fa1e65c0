//! The bundles that every runtime runs: one root file system, and the first runtime's `spec` with changes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount, umount};
use serde_json::{Value, json};

use crate::docker;
use crate::net::Network;
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
    /// Runs `true` with a definition of [`LARGE`] bytes.
    pub(crate) large: PathBuf,
    /// Runs `true` with [`MASKS`] masked paths.
    pub(crate) masked: PathBuf,
    /// Runs `true` in a user namespace.
    pub(crate) userns: PathBuf,
    /// Runs `true` as docker has it, where the machine has the profile.
    pub(crate) docker: Option<PathBuf>,
    /// Runs `true` on an overlay.
    pub(crate) overlay: Overlay,
    /// The same in the inner one of [`Bundles::network`], where there is one.
    pub(crate) veth: Option<Overlay>,
    /// Namespaces that a veth joins; only root can make them.
    pub(crate) network: Option<Network>,
    /// The root file system of all of them.
    pub(crate) rootfs: PathBuf,
}

/// A bundle on a folder of its own, which an overlay is mounted on.
pub(crate) struct Overlay {
    pub(crate) bundle: PathBuf,
    rootfs: PathBuf,
}

/// An overlay that is mounted.
pub(crate) struct Mounted {
    target: PathBuf,
}

impl Overlay {
    /// Stacks an empty upper folder on the root file system.
    pub(crate) fn mount(&self) -> Result<Mounted> {
        let folder = |name| self.bundle.join(name);
        let (upper, work, target) = (folder("upper"), folder("work"), folder("merged"));
        let options =
            format!("lowerdir={},upperdir={},workdir={}", self.rootfs.display(), upper.display(), work.display());
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("cannot mount an overlay on {}", target.display()))?;
        Ok(Mounted { target })
    }
}

impl Bundles {
    /// Adds a folder with a copy of a bundle's definition, changed.
    pub(crate) fn derive(&self, from: &Path, name: &str, change: &dyn Fn(&mut Value)) -> Result<PathBuf> {
        let path = from.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut config: Value = serde_json::from_str(&text)?;
        change(&mut config);
        let dir = self.short.with_file_name(name);
        write_bundle(&dir, &config)?;
        Ok(dir)
    }

    /// Adds a bundle that sleeps on an overlay, which may be written to. The seccomp profile is added where it is wanted.
    pub(crate) fn derive_overlay(&self, name: &str) -> Result<Overlay> {
        let dir = self.short.with_file_name(name);
        let merged = json!(dir.join("merged"));
        let bundle = self.derive(&self.long, name, &|config| {
            config["root"] = json!({ "path": merged.clone(), "readonly": false });
        })?;
        make_overlay(&bundle, &self.rootfs)
    }

    /// A copy of a bundle whose definition has this memory limit, in bytes.
    pub(crate) fn with_memory_limit(&self, limit: u64) -> Result<PathBuf> {
        let change = |config: &mut Value| config["linux"]["resources"]["memory"] = json!({ "limit": limit });
        self.derive(&self.short, "limited", &change)
    }
}

impl Mounted {
    pub(crate) fn unmount(self) -> Result<()> {
        umount(&self.target).with_context(|| format!("cannot unmount {}", self.target.display()))
    }
}

/// Size of a definition as engines write them, with annotations, variables and mounts, in bytes.
const LARGE: usize = 23 * 1024;
/// More masked paths than any engine asks for.
const MASKS: usize = 300;
/// First id of the host that the user namespace maps, and how many.
const MAPPED: (u32, u32) = (100_000, 65_536);

/// Makes the bundles. `network` is what the one with a veth gets.
pub(crate) fn prepare(work: &Path, runtime: &Runtime, network: Option<Network>) -> Result<Bundles> {
    let rootfs = work.join("rootfs");
    rootfs_tools::busybox(&rootfs, Path::new(BUSYBOX)).context("cannot make the root file system")?;
    make_masks(&rootfs).context("cannot make the paths to mask")?;
    // Who is root in a user namespace is nobody here.
    std::fs::set_permissions(work, std::fs::Permissions::from_mode(0o755)).context("cannot open the folder")?;
    let spec = read_spec(work, runtime)?;
    let bundle = |name: &str, command: &[&str], change: &dyn Fn(&mut Value)| -> Result<PathBuf> {
        let mut config = edit(spec.clone(), &rootfs, command);
        change(&mut config);
        let dir = work.join(name);
        write_bundle(&dir, &config)?;
        Ok(dir)
    };
    let overlay = |name: &str, change: &dyn Fn(&mut Value)| -> Result<Overlay> {
        let merged = json!(work.join(name).join("merged"));
        let dir = bundle(name, &["true"], &|config| {
            config["root"]["path"] = merged.clone();
            change(config);
        })?;
        make_overlay(&dir, &rootfs)
    };
    let profile = read_profile()?;
    let with_profile = |name, change: fn(&mut Value)| {
        let profiled = |profile: Value| {
            bundle(name, &["true"], &|config| {
                config["linux"]["seccomp"] = profile.clone();
                change(config);
            })
        };
        profile.clone().map(profiled).transpose()
    };
    let inside = |network: &Network| {
        let path = json!(network.inner.path());
        overlay("veth", &|config| set_network(config, &path))
    };
    Ok(Bundles {
        short: bundle("short", &["true"], &|_| ())?,
        long: bundle("long", &["sleep", "100000"], &|_| ())?,
        profile: with_profile("profile", |_| ())?,
        docker: with_profile("docker", docker::change)?,
        large: bundle("large", &["true"], &enlarge)?,
        masked: bundle("masked", &["true"], &mask_many)?,
        userns: bundle("userns", &["true"], &map_ids)?,
        overlay: overlay("overlay", &|_| ())?,
        veth: network.as_ref().map(inside).transpose()?,
        network,
        rootfs: rootfs.clone(),
    })
}

fn write_bundle(dir: &Path, config: &Value) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    std::fs::write(dir.join("config.json"), config.to_string()).context("cannot write config.json")
}

fn make_overlay(bundle: &Path, rootfs: &Path) -> Result<Overlay> {
    for name in ["upper", "work", "merged"] {
        std::fs::create_dir_all(bundle.join(name)).context("cannot make the folders of the overlay")?;
    }
    Ok(Overlay { bundle: bundle.to_owned(), rootfs: rootfs.to_owned() })
}

/// Has the container join a network namespace.
fn set_network(config: &mut Value, path: &Value) {
    let namespaces = config["linux"]["namespaces"].as_array_mut();
    let network = namespaces.into_iter().flatten().find(|namespace| namespace["type"] == "network");
    network.into_iter().for_each(|namespace| namespace["path"] = path.clone());
}

/// The profile in the specification's form, where the machine has one.
fn read_profile() -> Result<Option<Value>> {
    let Ok(text) = std::fs::read_to_string(PROFILE) else { return Ok(None) };
    let profile = serde_json::from_str(&text).with_context(|| format!("cannot parse {PROFILE}"))?;
    Ok(Some(translate_profile(&profile)))
}

/// Fills a definition up to [`LARGE`] with what engines put there.
fn enlarge(config: &mut Value) {
    let mut at = 0;
    while config.to_string().len() < LARGE {
        config["annotations"][format!("org.example.annotation.number-{at}")] =
            json!(format!("value of annotation {at}"));
        let env = config["process"]["env"].as_array_mut();
        env.into_iter().for_each(|env| env.push(json!(format!("VARIABLE_{at}=the value of variable {at}"))));
        at += 1;
    }
}

fn mask_many(config: &mut Value) {
    config["linux"]["maskedPaths"] = (0..MASKS).map(|at| format!("/{}", mask(at))).collect();
}

/// A path below the root file system that is there to be masked: a file or, every second one, a folder.
fn mask(at: usize) -> String {
    format!("etc/masked/{at}")
}

fn make_masks(rootfs: &Path) -> std::io::Result<()> {
    std::fs::create_dir(rootfs.join("etc/masked"))?;
    (0..MASKS).map(|at| (at, rootfs.join(mask(at)))).try_for_each(|(at, path)| match at % 2 {
        0 => std::fs::write(path, ""),
        _ => std::fs::create_dir(path),
    })
}

fn map_ids(config: &mut Value) {
    let (first, count) = MAPPED;
    let maps = json!([{ "containerID": 0, "hostID": first, "size": count }]);
    config["linux"]["uidMappings"] = maps.clone();
    config["linux"]["gidMappings"] = maps;
    let namespaces = config["linux"]["namespaces"].as_array_mut();
    namespaces.into_iter().for_each(|list| list.push(json!({ "type": "user" })));
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

fn edit(mut config: Value, rootfs: &Path, command: &[&str]) -> Value {
    // Older runtimes refuse a newer version than they know; nothing in the bundles is newer than this one.
    config["ociVersion"] = json!("1.0.2");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(command);
    config["root"]["path"] = json!(rootfs);
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
        let mut config = edit(spec, Path::new("/r"), &["true"]);
        assert_eq!(config["process"], json!({ "terminal": false, "cwd": "/", "args": ["true"] }));
        assert_eq!(config["root"], json!({ "path": "/r", "readonly": true }));
        enlarge(&mut config);
        assert!((LARGE..LARGE + 200).contains(&config.to_string().len()));
    }
}
