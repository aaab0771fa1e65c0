//! The bundles that every runtime runs: one root file system, the first runtime's `spec`, and three commands.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount, umount};
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
    /// Runs `true` with a definition of [`LARGE`] bytes.
    pub(crate) large: PathBuf,
    /// Runs `true` with [`MASKS`] masked paths.
    pub(crate) masked: PathBuf,
    /// Runs `true` in a user namespace.
    pub(crate) userns: PathBuf,
    /// Runs `true` on a folder of its own, which an overlay is mounted on.
    pub(crate) overlay: PathBuf,
    /// The root file system of all the others.
    rootfs: PathBuf,
}

/// An overlay that is mounted for one run.
pub(crate) struct Mounted {
    pub(crate) bundle: PathBuf,
    target: PathBuf,
}

impl Bundles {
    /// Stacks an empty upper folder on the root file system.
    pub(crate) fn mount_overlay(&self) -> Result<Mounted> {
        let (upper, work, target) =
            (self.overlay.join("upper"), self.overlay.join("work"), self.overlay.join("merged"));
        let options =
            format!("lowerdir={},upperdir={},workdir={}", self.rootfs.display(), upper.display(), work.display());
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("cannot mount an overlay on {}", target.display()))?;
        Ok(Mounted { bundle: self.overlay.clone(), target })
    }

    /// A copy of a bundle whose definition has this memory limit, in bytes.
    pub(crate) fn with_memory_limit(&self, limit: u64) -> Result<PathBuf> {
        let path = self.short.join("config.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut config: Value = serde_json::from_str(&text)?;
        config["linux"]["resources"]["memory"] = json!({ "limit": limit });
        let dir = self.short.with_file_name("limited");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        std::fs::write(dir.join("config.json"), config.to_string()).context("cannot write config.json")?;
        Ok(dir)
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

pub(crate) fn prepare(work: &Path, runtime: &Runtime) -> Result<Bundles> {
    let rootfs = work.join("rootfs");
    rootfs_tools::busybox(&rootfs, Path::new(BUSYBOX)).context("cannot make the root file system")?;
    make_masks(&rootfs).context("cannot make the paths to mask")?;
    // Who is root in a user namespace is nobody here.
    std::fs::set_permissions(work, std::fs::Permissions::from_mode(0o755)).context("cannot open the folder")?;
    let spec = read_spec(work, runtime)?;
    let bundle = |name: &str, command: &[&str], change: &dyn Fn(&mut Value)| -> Result<PathBuf> {
        let dir = work.join(name);
        std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut config = edit(spec.clone(), &rootfs, command);
        change(&mut config);
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
        short: bundle("short", &["true"], &|_| ())?,
        long: bundle("long", &["sleep", "1000"], &|_| ())?,
        profile: profile
            .map(|profile| bundle("profile", &["true"], &|config| config["linux"]["seccomp"] = profile.clone()))
            .transpose()?,
        large: bundle("large", &["true"], &enlarge)?,
        masked: bundle("masked", &["true"], &mask_many)?,
        userns: bundle("userns", &["true"], &map_ids)?,
        overlay: {
            let dir = work.join("overlay");
            let merged = json!(dir.join("merged"));
            bundle("overlay", &["true"], &|config| config["root"]["path"] = merged.clone())?;
            for name in ["upper", "work", "merged"] {
                std::fs::create_dir(dir.join(name)).context("cannot make the folders of the overlay")?;
            }
            dir
        },
        rootfs: rootfs.clone(),
    })
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
