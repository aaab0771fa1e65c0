//! `lxc-create` and `lxc-destroy`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::clone::{self, Place};
use crate::options::Call;
use crate::places;
use crate::skep::Skep;
use crate::tools::config::DEFAULT_CONFIG;
use crate::tools::{find, run, snapshot};

/// Where templates are.
const TEMPLATES: &str = "/usr/share/lxc/templates";

/// Makes a container's folder and has a template fill it.
pub(super) fn create(skep: &Skep, call: &Call) -> Result<u8> {
    let Some(template) = call.get("template") else {
        call.tell("A template must be specified. Use \"none\" if you really want a container without a rootfs.");
        return Ok(1);
    };
    if let Some(store) = call.get("bdev").filter(|store| !matches!(*store, "dir" | "best" | "none")) {
        bail!("a root file system lies in a folder: {store:?} is not possible, mount it and say --dir");
    }
    let target = find(skep, call)?;
    if target.exists() {
        call.tell("Container already exists");
        return Ok(1);
    }
    let folder = target.config.parent().context("a configuration lies in a folder")?.to_owned();
    let made = fill(call, template, &folder, &target.config);
    if made.is_err() && folder.exists() {
        remove(&folder)?;
    }
    made.map(|()| 0)
}

fn fill(call: &Call, template: &str, folder: &Path, config: &Path) -> Result<()> {
    let program = match template {
        "none" => None,
        path if path.contains('/') => Some(PathBuf::from(path)),
        name => Some(Path::new(TEMPLATES).join(format!("lxc-{name}"))),
    };
    if let Some(program) = program.as_ref().filter(|program| !program.is_file()) {
        bail!("there is no template {}", program.display());
    }
    let source = call.get("config").unwrap_or(DEFAULT_CONFIG);
    let mut text = match fs::read_to_string(source) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !call.has("config") => String::new(),
        other => other.with_context(|| format!("cannot read {source}"))?,
    };
    clone::make_folder(folder)?;
    let rootfs = call.get("dir").map_or_else(|| folder.join("rootfs"), PathBuf::from);
    fs::create_dir_all(&rootfs).with_context(|| format!("cannot make {}", rootfs.display()))?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("lxc.rootfs.path = dir:{}\n", rootfs.display()));
    fs::write(config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let Some(program) = program else { return Ok(()) };
    let status = Command::new(&program)
        .arg(format!("--path={}", folder.display()))
        .arg(format!("--name={}", call.name))
        .arg(format!("--rootfs={}", rootfs.display()))
        .args(&call.operands)
        .status()
        .with_context(|| format!("cannot run the template {}", program.display()))?;
    if !status.success() {
        bail!("the template {} ended with {status}", program.display());
    }
    Ok(())
}

/// Why a container may not be removed: files of others are above its own, or it has snapshots that nobody gave up.
fn refusal(call: &Call) -> Result<Option<String>> {
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let place = Place { lxcpath, name: call.name.clone() };
    if clone::has_clones(&place)? {
        return Ok(Some(format!("{} has clones", call.name)));
    }
    let has_snapshots = !places::names(&place.folder().join(snapshot::FOLDER))?.is_empty();
    Ok((has_snapshots && !call.has("snapshots")).then(|| format!("{} has snapshots", call.name)))
}

/// Removes a container with its folder, unless others need it.
pub(super) fn destroy(skep: &Skep, call: &Call) -> Result<u8> {
    match refusal(call)? {
        Some(reason) => bail!("Destroying {} failed: {reason}", call.name),
        None => take_away(skep, call),
    }
}

/// Removes a container with its folder. A root file system that lies elsewhere stays.
pub(super) fn take_away(skep: &Skep, call: &Call) -> Result<u8> {
    let target = find(skep, call)?;
    if !target.exists() {
        bail!("Container is not defined");
    }
    if target.is_alive() {
        if !call.has("force") {
            call.tell(&format!("{} is running", call.name));
            return Ok(1);
        }
        skep.ok(&["stop", "--time", "0", &call.name])?;
    }
    let folder = target.config.parent().context("a configuration lies in a folder")?;
    let lies_elsewhere = || -> Result<Option<PathBuf>> {
        let config = places::read(&target.config)?;
        let has_hooks = config.get("lxc.hook.destroy").is_some();
        // The hooks are those of a definition.
        if has_hooks && !target.defined {
            run::create(skep, call, &target.config, false)?;
        }
        let root = config.get("lxc.rootfs.path").map(|setting| setting.value.trim_start_matches("dir:").to_owned());
        Ok(root.map(PathBuf::from).filter(|root| root.is_absolute() && !root.starts_with(folder)))
    };
    let elsewhere = if target.config.is_file() { lies_elsewhere()? } else { None };
    if skep.defined()?.iter().any(|(name, from)| *name == call.name && from.is_some()) {
        skep.ok(&["destroy", &call.name])?;
    }
    if folder.exists() {
        let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
        clone::leave_origin(&Place { lxcpath, name: call.name.clone() })?;
        remove(folder)?;
    }
    if let Some(root) = elsewhere {
        call.tell(&format!("note: {} stays", root.display()));
    }
    Ok(0)
}

/// Removes a folder in which nothing is mounted but a layer in memory.
pub(super) fn remove(folder: &Path) -> Result<()> {
    clone::unmount_layer(folder)?;
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts of the host")?;
    let folder = fs::canonicalize(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    if let Some(mount) =
        sys::mountinfo::parse(&mountinfo).find(|mount| Path::new(&mount.mountpoint).starts_with(&folder))
    {
        bail!("cannot remove {}: something is mounted on {}", folder.display(), mount.mountpoint);
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}
