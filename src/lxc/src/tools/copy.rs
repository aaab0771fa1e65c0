//! `lxc-copy` and `lxc-clone`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::clone::{self, Keep, Place, Way};
use crate::options::Call;
use crate::output;
use crate::places;
use crate::skep::Skep;
use crate::tools::{create, find, run};

/// The name by which this program is called to remove a container when it ends.
pub(super) const REAPER: &str = "lxc-reap";

/// Makes a container from another, or gives it another name, or starts one that goes when it ends.
pub(super) fn copy(skep: &Skep, call: &Call) -> Result<u8> {
    let (from, newpath) = source(call)?;
    let name = match call.get("newname") {
        Some(name) => name.to_owned(),
        None if call.has("ephemeral") => free_name(&from, &newpath)?,
        None => {
            call.tell("Error: You must provide a NEWNAME for the clone");
            return Ok(1);
        }
    };
    let to = Place::named(newpath, &name)?;
    if call.has("rename") {
        rename(skep, call, &from, &to)?;
        return Ok(0);
    }
    if call.has("tmpfs") && !call.has("ephemeral") {
        bail!("--tmpfs is for a copy that goes when it ends: say -e too");
    }
    let layered = call.has("snapshot") || call.has("ephemeral") || is_layered(call)?;
    let keep = Keep { name: call.has("keepname"), mac: call.has("keepmac") };
    let way = match layered {
        true if call.has("tmpfs") => Way::Memory,
        true => Way::Overlay,
        false => Way::Copy,
    };
    duplicate(skep, call, (&from, &to), way, keep)?;
    if call.has("ephemeral") {
        return begin_ephemeral(skep, call, &from, &to);
    }
    Ok(0)
}

/// The older form: `lxc-clone [OPTIONS] ORIGINAL NEW`.
pub(super) fn clone(skep: &Skep, call: &Call) -> Result<u8> {
    let operand = |at: usize| call.operands.get(at).cloned();
    let (first, second) = if call.has("orig") { (None, operand(0)) } else { (operand(0), operand(1)) };
    let (Some(orig), Some(new)) =
        (call.get("orig").map(str::to_owned).or(first), call.get("new").map(str::to_owned).or(second))
    else {
        output::tell("lxc-clone: want the name of the original and of the new container\n");
        return Ok(1);
    };
    let one = Call { name: orig, ..call.clone() };
    let (from, lxcpath) = source(&one)?;
    let to = Place::named(lxcpath, &new)?;
    let way = if call.has("snapshot") || is_layered(call)? { Way::Overlay } else { Way::Copy };
    let keep = Keep { name: call.has("keepname"), mac: call.has("keepmac") };
    duplicate(skep, &one, (&from, &to), way, keep)?;
    let what = if way == Way::Overlay { "snapshot" } else { "copy" };
    output::write(&format!("Created container {} as {what} of {}\n", to.name, from.name))?;
    Ok(0)
}

fn source(call: &Call) -> Result<(Place, PathBuf)> {
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let newpath = match call.get("newpath") {
        Some(path) => std::path::absolute(path).context("cannot tell the current folder")?,
        None => lxcpath.clone(),
    };
    Ok((Place { lxcpath, name: call.name.clone() }, newpath))
}

/// Whether a store of layers is asked for.
fn is_layered(call: &Call) -> Result<bool> {
    match call.get("backingstorage") {
        None | Some("dir" | "best") => Ok(false),
        Some("overlay" | "overlayfs") => Ok(true),
        Some(other) => bail!("a root file system lies in a folder: {other:?} is not possible"),
    }
}

fn duplicate(skep: &Skep, call: &Call, (from, to): (&Place, &Place), way: Way, keep: Keep) -> Result<()> {
    if !from.exists() {
        bail!("Container {} does not exist", from.name);
    }
    // A layer below one that changes shows what nobody has written.
    if find(skep, call)?.is_alive() && !(call.has("allowrunning") && way != Way::Copy) {
        bail!("Original container ({}) is running", from.name);
    }
    clone::make(from, to, way, keep)?;
    let hooks = clone::run_hooks(from, to, &call.operands);
    if hooks.is_err() {
        clone::leave_origin(to)?;
        create::remove(&to.folder())?;
    }
    hooks
}

/// Another name is another folder: the configuration says it in several places.
fn rename(skep: &Skep, call: &Call, from: &Place, to: &Place) -> Result<()> {
    if !from.exists() || to.exists() {
        bail!("{}", if from.exists() { "the new name is taken" } else { "Container is not defined" });
    }
    let target = find(skep, call)?;
    if target.is_alive() {
        bail!("{} is running", from.name);
    }
    if clone::has_clones(from)? {
        bail!("{} has clones", from.name);
    }
    let text = fs::read_to_string(from.config()).with_context(|| format!("cannot read {}", from.config().display()))?;
    fs::rename(from.folder(), to.folder()).with_context(|| format!("cannot rename {}", from.folder().display()))?;
    let text = plan_renamed(&text, from, to);
    fs::write(to.config(), text).with_context(|| format!("cannot write {}", to.config().display()))?;
    clone::rename_in_origin(from, to)?;
    if target.defined {
        skep.ok(&["destroy", &from.name])?;
    }
    Ok(())
}

fn plan_renamed(text: &str, from: &Place, to: &Place) -> String {
    let (old, new) = (format!("{}/", from.folder().display()), format!("{}/", to.folder().display()));
    let line = |line: &str| match line.split_once('=').map(|(key, _)| key.trim()) {
        Some("lxc.uts.name" | "lxc.utsname") => format!("lxc.uts.name = {}\n", to.name),
        _ => format!("{}\n", line.replace(&old, &new)),
    };
    text.lines().map(line).collect()
}

/// `NAME_` and six characters, as LXC calls containers that nobody names.
fn free_name(from: &Place, lxcpath: &std::path::Path) -> Result<String> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    for _ in 0..100 {
        let tail: String =
            clone::random::<6>()?.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect();
        let name = format!("{}_{tail}", from.name);
        if !lxcpath.join(&name).exists() {
            return Ok(name);
        }
    }
    bail!("no name is free for a copy of {}", from.name)
}

/// Starts a copy that is removed when it ends, unless its data is to be kept.
fn begin_ephemeral(skep: &Skep, call: &Call, from: &Place, to: &Place) -> Result<u8> {
    let mut more = String::new();
    for mount in call.all("mount") {
        more.push_str(&render_mount(mount)?);
    }
    if !call.has("keepdata") {
        more.push_str("lxc.ephemeral = 1\n");
    }
    let appended = OpenOptions::new().append(true).open(to.config()).and_then(|mut f| f.write_all(more.as_bytes()));
    appended.with_context(|| format!("cannot write {}", to.config().display()))?;
    output::write(&format!("Created {} as clone of {}\n", to.name, from.name))?;
    let one = Call {
        tool: call.tool.clone(),
        name: to.name.clone(),
        options: Vec::new(),
        operands: Vec::new(),
        lxcpath: to.lxcpath.clone(),
    };
    let started = run::create(skep, &one, &to.config(), !call.has("foreground"));
    if let Err(error) = started {
        create::destroy(skep, &one)?;
        return Err(error);
    }
    if call.has("foreground") {
        let status = skep.attached(&["start", "--foreground", &to.name])?;
        if !call.has("keepdata") {
            create::destroy(skep, &one)?;
        }
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
    }
    if !call.has("keepdata") {
        leave_reaper(skep, to)?;
    }
    Ok(0)
}

/// Leaves a process behind that waits for the end of a container and removes it then.
fn leave_reaper(skep: &Skep, to: &Place) -> Result<()> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut command = Command::new(program);
    command.arg0("skep-lxc").args(skep.options()).arg(REAPER);
    command.arg("-P").arg(&to.lxcpath).args(["-n", &to.name]);
    command.env(crate::skep::PROGRAM, skep.program()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().context("cannot leave a process behind")?;
    Ok(())
}

/// What that process does.
pub(super) fn reap(skep: &Skep, call: &Call) -> Result<u8> {
    skep.ok(&["wait", &call.name])?;
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let config = places::config_path(&lxcpath, &call.name);
    // Somebody may have destroyed it, or kept it by taking the key out.
    if !config.is_file() || !places::read(&config)?.is_on("lxc.ephemeral", false) {
        return Ok(0);
    }
    create::destroy(skep, call)
}

/// `bind=/src` or `bind=/src:/dst` as an entry of a configuration.
fn render_mount(text: &str) -> Result<String> {
    let Some(paths) = text.strip_prefix("bind=") else {
        bail!("mount {text:?}: only bind=/SOURCE[:/DESTINATION] is possible");
    };
    let (source, target) = paths.split_once(':').unwrap_or((paths, paths));
    if !source.starts_with('/') || !target.starts_with('/') {
        bail!("mount {text:?}: paths must be absolute");
    }
    let create = if std::path::Path::new(source).is_dir() { "dir" } else { "file" };
    let escape = |path: &str| path.replace(' ', "\\040");
    let (source, target) = (escape(source), escape(target.trim_start_matches('/')));
    Ok(format!("lxc.mount.entry = {source} {target} none bind,create={create} 0 0\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_a_copy_are_entries() {
        assert_eq!(render_mount("bind=/etc:/mnt").unwrap(), "lxc.mount.entry = /etc mnt none bind,create=dir 0 0\n");
        assert_eq!(
            render_mount("bind=/a b").unwrap(),
            "lxc.mount.entry = /a\\040b a\\040b none bind,create=file 0 0\n"
        );
        for text in ["overlay=/a", "bind=a", "bind=/a:b", ""] {
            render_mount(text).unwrap_err();
        }
    }

    #[test]
    fn a_new_name_is_in_all_paths() {
        let place = |name: &str| Place { lxcpath: "/p".into(), name: name.to_owned() };
        let text = "lxc.uts.name = a\nlxc.rootfs.path = dir:/p/a/rootfs\nlxc.hook.start = /p/ab/x\n";
        assert_eq!(
            plan_renamed(text, &place("a"), &place("b")),
            "lxc.uts.name = b\nlxc.rootfs.path = dir:/p/b/rootfs\nlxc.hook.start = /p/ab/x\n"
        );
    }
}
