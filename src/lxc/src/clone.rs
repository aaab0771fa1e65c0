//! One container made from another: its files copied, or stacked below a layer of its own, and its configuration rewritten.
//!
//! ```text
//! NAME/config, hooks in NAME      with the new place and name; other paths stay
//! NAME/rootfs                     the copied files
//! NAME/overlay/delta              what the stacked one changes; with `-t` overlay is a tmpfs
//! NAME/lxc_rdepends               the container whose files are below: its path and name
//! ORIGIN/lxc_snapshots            the containers that are above these files: a path and a name each
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rootfs_tools::Stack;
use runtime_spec::model::MountAttr;
use sys::mount::{FsContext, UnmountFlags};

use crate::places::{self, config_path};

/// The folder of a layer.
const LAYER: &str = "overlay";
/// What mountinfo has as the source of a layer in memory.
const MEMORY: &str = "lxc-copy";
/// Containers whose files are above this one's.
const SNAPSHOTS: &str = "lxc_snapshots";
/// The container whose files are below.
const DEPENDS: &str = "lxc_rdepends";

/// A container by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path of containers.
    pub lxcpath: PathBuf,
    /// Its name.
    pub name: String,
}

impl Place {
    /// A container that is to be made.
    ///
    /// # Errors
    /// The name is none: its folder would lie elsewhere.
    pub fn named(lxcpath: PathBuf, name: &str) -> Result<Place> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            bail!("{name:?} is no name of a container");
        }
        Ok(Place { lxcpath, name: name.to_owned() })
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.lxcpath.join(&self.name)
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        config_path(&self.lxcpath, &self.name)
    }

    /// Whether there is such a container.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.config().is_file()
    }
}

/// How the files of a container become those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// All of them are copied.
    Copy,
    /// A layer above them takes the changes.
    Overlay,
    /// The same in memory: a tmpfs on the folder of the layer, which goes with the container ([`unmount_layer`]).
    Memory,
}

/// What stays as it is in the configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// The host name.
    pub name: bool,
    /// Hardware addresses.
    pub mac: bool,
}

/// A root file system of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The folder that takes changes.
    pub upper: PathBuf,
    /// Layers below it, the uppermost first.
    pub lower: Vec<PathBuf>,
}

/// Reads `dir:PATH`, `PATH`, or `overlay:LOWER:…:UPPER`.
///
/// # Errors
/// It is something that has to be attached first.
pub fn parse_files(value: &str) -> Result<Files> {
    let parts = value.strip_prefix("overlay:").or_else(|| value.strip_prefix("overlayfs:"));
    if let Some(parts) = parts {
        let mut paths: Vec<PathBuf> = parts.split(':').map(PathBuf::from).collect();
        return match paths.pop() {
            Some(upper) if !paths.is_empty() => Ok(Files { upper, lower: paths }),
            _ => bail!("{value:?} has no layers"),
        };
    }
    let path = value.strip_prefix("dir:").unwrap_or(value);
    if !path.starts_with('/') {
        bail!("the root file system {value:?} is no folder: only folders and layers can be copied");
    }
    Ok(Files { upper: PathBuf::from(path), lower: Vec::new() })
}

/// Makes a container from another, which does not run. What was made is removed again when that fails.
///
/// # Errors
/// There is one already; its files are nothing that can be copied; what the kernel says.
pub fn make(from: &Place, to: &Place, way: Way, keep: Keep) -> Result<()> {
    let folder = to.folder();
    if to.exists() {
        bail!("Container {} already exists", to.name);
    }
    let is_new = !folder.exists();
    let made = fill(from, to, way, keep);
    if made.is_err() && is_new && folder.exists() {
        unmount_layer(&folder)?;
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    made
}

fn fill(from: &Place, to: &Place, way: Way, keep: Keep) -> Result<()> {
    let text = fs::read_to_string(from.config()).with_context(|| format!("cannot read {}", from.config().display()))?;
    let config = places::read(&from.config())?;
    let files = config.get("lxc.rootfs.path").map(|setting| parse_files(&setting.value)).transpose()?;
    let folder = to.folder();
    make_folder(&folder)?;
    let mut rootfs = None;
    if let Some(files) = files {
        make_folder(&folder.join("rootfs"))?;
        rootfs = Some(match way {
            Way::Copy => copy_files(&files, &folder.join("rootfs"))?,
            Way::Overlay | Way::Memory => {
                let delta = folder.join(LAYER).join("delta");
                if way == Way::Memory {
                    make_folder(&folder.join(LAYER))?;
                    mount_layer(&folder)?;
                }
                make_folder(&delta)?;
                // Its root shows as that of the files below.
                let mode =
                    fs::metadata(&files.upper).with_context(|| format!("cannot use {}", files.upper.display()))?;
                fs::set_permissions(&delta, fs::Permissions::from_mode(mode.permissions().mode()))?;
                std::os::unix::fs::chown(&delta, Some(owner(&mode).0), Some(owner(&mode).1))?;
                let below = std::iter::once(&files.upper).chain(&files.lower).map(|path| path.display().to_string());
                format!("overlay:{}:{}", below.collect::<Vec<_>>().join(":"), delta.display())
            }
        });
    }
    for hook in own_files(&text, from) {
        let name = hook.file_name().with_context(|| format!("{} has no name", hook.display()))?;
        fs::copy(&hook, folder.join(name)).with_context(|| format!("cannot copy {}", hook.display()))?;
    }
    let text = rewrite(&text, (from, to), keep, rootfs.as_deref())?;
    fs::write(to.config(), text).with_context(|| format!("cannot write {}", to.config().display()))?;
    if way != Way::Copy {
        let path = folder.join(DEPENDS);
        fs::write(&path, pair_of(from)).with_context(|| format!("cannot write {}", path.display()))?;
        enter_origin(&from.folder(), to)?;
    }
    Ok(())
}

/// Mounts memory where the layer of a container will be. Root inside may make devices on no file system of its own.
fn mount_layer(folder: &Path) -> Result<()> {
    let place = folder.join(LAYER);
    let context = FsContext::open("tmpfs")?;
    context.set_string("source", MEMORY)?;
    context.set_string("mode", "0755")?;
    let mount = context.mount(MountAttr::NODEV.bits())?;
    let place = sys::fs::open_dir(place.to_str().with_context(|| format!("{} is no text", place.display()))?)?;
    Ok(sys::mount::attach(mount.as_fd(), place.as_fd())?)
}

/// Unmounts the memory with the layer of a container, if it has one.
///
/// # Errors
/// The container still uses it; what the kernel says.
pub fn unmount_layer(folder: &Path) -> Result<()> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts of the host")?;
    let place = folder.join(LAYER);
    let is_ours =
        |mount: &sys::mountinfo::Mount| mount.source == MEMORY && Path::new(&mount.mountpoint) == place.as_path();
    if sys::mountinfo::parse(&mountinfo).any(|mount| is_ours(&mount)) {
        let text = place.to_str().with_context(|| format!("{} is no text", place.display()))?;
        sys::mount::unmount(text, UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

/// Puts a container into the list of the one below it.
fn enter_origin(origin: &Path, to: &Place) -> Result<()> {
    let path = origin.join(SNAPSHOTS);
    let list = OpenOptions::new().create(true).append(true).open(&path);
    list.and_then(|mut list| list.write_all(pair_of(to).as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The lines of a list that name a container.
fn pair_of(place: &Place) -> String {
    format!("{}\n{}\n", place.lxcpath.display(), place.name)
}

fn owner(meta: &fs::Metadata) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    (meta.uid(), meta.gid())
}

/// As LXC: others may not look into what a container's root has made (lxc.conf(5)).
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o770).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

/// Copies what layers show into a folder, with all that a file has; what cannot be had is told.
fn copy_files(files: &Files, to: &Path) -> Result<String> {
    let layers: Vec<&PathBuf> = std::iter::once(&files.upper).chain(&files.lower).collect();
    let stack = Stack::open(&layers)?;
    let folder: OwnedFd = File::open(to).with_context(|| format!("cannot open {}", to.display()))?.into();
    for left_out in rootfs_tools::copy_stack(&stack, folder)? {
        crate::output::tell(&format!("note: {left_out}\n"));
    }
    Ok(format!("dir:{}", to.display()))
}

/// Files in a container's folder that its hooks and its table of mounts are.
fn own_files(text: &str, from: &Place) -> Vec<PathBuf> {
    let folder = from.folder();
    let entries = text.lines().filter_map(|line| line.split_once('='));
    let named = entries.filter(|(key, _)| key.trim().starts_with("lxc.hook.") || key.trim() == "lxc.mount.fstab");
    let paths = named.filter_map(|(_, value)| value.split_whitespace().next().map(PathBuf::from));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.parent() == Some(folder.as_path()) && path.is_file()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// The configuration of the new container.
fn rewrite(text: &str, (from, to): (&Place, &Place), keep: Keep, rootfs: Option<&str>) -> Result<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        match key {
            "lxc.rootfs.path" | "lxc.rootfs" => {}
            "lxc.uts.name" | "lxc.utsname" if !keep.name => {}
            _ if !keep.mac && is_address(key) => lines.push(format!("{key} = {}", new_address()?)),
            _ if key.starts_with("lxc.hook.") || key == "lxc.mount.fstab" => {
                let (old, new) = (from.folder().display().to_string() + "/", to.folder().display().to_string() + "/");
                lines.push(line.replace(&old, &new));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines.extend(rootfs.map(|rootfs| format!("lxc.rootfs.path = {rootfs}")));
    if !keep.name {
        lines.push(format!("lxc.uts.name = {}", to.name));
    }
    Ok(lines.join("\n") + "\n")
}

fn is_address(key: &str) -> bool {
    key.ends_with(".hwaddr") && (key.starts_with("lxc.net.") || key.starts_with("lxc.network."))
}

/// A hardware address as LXC makes them.
fn new_address() -> Result<String> {
    let bytes = random::<3>()?;
    Ok(format!("00:16:3e:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2]))
}

/// Random bytes.
///
/// # Errors
/// What the kernel says.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read random numbers")?;
    Ok(bytes)
}

/// Whether other containers are above the files of this one.
///
/// # Errors
/// What the kernel says.
pub fn has_clones(place: &Place) -> Result<bool> {
    Ok(!read_pairs(&place.folder().join(SNAPSHOTS))?.is_empty())
}

/// Takes a container that is to be removed out of the list of the one below it.
///
/// # Errors
/// What the kernel says.
pub fn leave_origin(place: &Place) -> Result<()> {
    leave(&place.folder(), place)
}

/// Gives a container that has been renamed its new name in the list of the one below it: the new one first, so that the files
/// below are somebody's at every moment.
///
/// # Errors
/// What the kernel says.
pub fn rename_in_origin(from: &Place, to: &Place) -> Result<()> {
    for (lxcpath, name) in read_pairs(&to.folder().join(DEPENDS))? {
        enter_origin(&Path::new(&lxcpath).join(name), to)?;
    }
    leave(&to.folder(), from)
}

/// Takes a container whose folder this is out of the list of the one below it.
fn leave(folder: &Path, place: &Place) -> Result<()> {
    for (lxcpath, name) in read_pairs(&folder.join(DEPENDS))? {
        let path = Path::new(&lxcpath).join(&name).join(SNAPSHOTS);
        let own = (place.lxcpath.display().to_string(), place.name.clone());
        let mut left = read_pairs(&path)?;
        let before = left.len();
        left.retain(|pair| *pair != own);
        if left.is_empty() && before > 0 {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        } else if left.len() < before {
            let text: String = left.iter().map(|(lxcpath, name)| format!("{lxcpath}\n{name}\n")).collect();
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// Lines in pairs: a path of containers, a name.
fn read_pairs(path: &Path) -> Result<Vec<(String, String)>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect())
}

/// Runs the hooks of a configuration that are for a copy, as LXC does: the name, the section and the kind, then `args`.
///
/// # Errors
/// One of them fails.
pub fn run_hooks(from: &Place, to: &Place, args: &[String]) -> Result<()> {
    let config = places::read(&to.config())?;
    let root = config.get("lxc.rootfs.path").map_or("", |setting| setting.value.as_str());
    let mount = root.strip_prefix("dir:").unwrap_or(root).rsplit(':').next().unwrap_or_default();
    for hook in config.all("lxc.hook.clone") {
        // What follows the line for the shell are words that it must not read.
        let line = format!("{} {} lxc clone \"$@\"", hook.value, to.name);
        let status = Command::new("/bin/sh")
            .args(["-c", &line, "hook"])
            .args(args)
            .env("LXC_SRC_NAME", &from.name)
            .env("LXC_NAME", &to.name)
            .env("LXC_CONFIG_FILE", to.config())
            .env("LXC_ROOTFS_PATH", root)
            .env("LXC_ROOTFS_MOUNT", mount)
            .env("LXC_HOOK_TYPE", "clone")
            .env("LXC_HOOK_SECTION", "lxc")
            .status()
            .with_context(|| format!("cannot run the hook {}", hook.value))?;
        if !status.success() {
            bail!("the hook {} ended with {status}", hook.value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place { lxcpath: PathBuf::from("/p"), name: name.to_owned() }
    }

    #[test]
    fn a_configuration_gets_its_new_place() {
        let text = "lxc.uts.name = one\nlxc.rootfs.path = dir:/p/one/rootfs\nlxc.net.0.hwaddr = 00:16:3e:11:22:33\n\
                    # a comment\nlxc.hook.start = /p/one/hook.sh\nlxc.mount.entry = /p/one/x x none bind 0 0\n";
        let (from, to) = (place("one"), place("two"));
        let keep = Keep { name: false, mac: true };
        assert_eq!(
            rewrite(text, (&from, &to), keep, Some("dir:/p/two/rootfs")).unwrap(),
            "lxc.net.0.hwaddr = 00:16:3e:11:22:33\n# a comment\nlxc.hook.start = /p/two/hook.sh\n\
             lxc.mount.entry = /p/one/x x none bind 0 0\nlxc.rootfs.path = dir:/p/two/rootfs\nlxc.uts.name = two\n"
        );
        let new = rewrite(text, (&from, &to), Keep { name: true, mac: false }, None).unwrap();
        assert!(
            new.starts_with("lxc.uts.name = one\nlxc.net.0.hwaddr = 00:16:3e:") && !new.contains("11:22:33"),
            "{new}"
        );
        assert!(!new.contains("lxc.uts.name = two") && !new.contains("rootfs"), "{new}");
    }

    #[test]
    fn files_are_folders_or_layers() {
        let plain = Files { upper: "/a".into(), lower: Vec::new() };
        assert_eq!((parse_files("/a").unwrap(), parse_files("dir:/a").unwrap()), (plain.clone(), plain));
        let layers = parse_files("overlay:/l1:/l2:/u").unwrap();
        assert_eq!(layers, Files { upper: "/u".into(), lower: vec!["/l1".into(), "/l2".into()] });
        for text in ["overlay:/u", "loop:/x", "zfs:tank/x", "rel"] {
            parse_files(text).unwrap_err();
        }
    }

    #[test]
    fn a_clone_that_goes_is_forgotten_by_its_origin() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| Place { lxcpath: dir.path().to_owned(), name: name.to_owned() };
        let one = place("one");
        fs::create_dir_all(one.folder().join("rootfs/etc")).unwrap();
        let config = format!("lxc.rootfs.path = {}\n", one.folder().join("rootfs").display());
        fs::write(one.config(), config).unwrap();
        for name in ["two", "three"] {
            make(&one, &place(name), Way::Overlay, Keep::default()).unwrap();
        }
        assert!(make(&one, &place("two"), Way::Copy, Keep::default()).is_err());
        assert!(has_clones(&one).unwrap() && !has_clones(&place("two")).unwrap());
        leave_origin(&place("two")).unwrap();
        assert!(has_clones(&one).unwrap());
        leave_origin(&place("three")).unwrap();
        assert!(!has_clones(&one).unwrap());
    }
}
