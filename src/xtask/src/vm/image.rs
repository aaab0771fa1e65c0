//! The image: one root file system for all boots, and a kernel with its initrd for each kernel line.
//!
//! It is made of Debian's packages, from the mirrors that this machine's own apt is set up with, and kept in a cache folder
//! that is named by the recipe and by the versions of its packages:
//!
//! ```text
//! CACHE/KEY/root.img         ext4, never written again
//! CACHE/KEY/KERNEL/{vmlinuz,initrd,version}
//! CACHE/KEY/BOOT.{qcow2,state}   what a boot wrote until it was ready, and its memory at that moment
//! CACHE/KEY.lock             held while it is made, and by everybody who uses it
//! ```

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::command::{bound_to_us, read_output, run};
use super::recipe;

/// How long the packages may take to come and be unpacked: 80 s were measured.
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(600);

/// For each other step; the longest, filling the file system, takes 10 s.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// An image that is ready to boot.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) dir: PathBuf,
    /// Held as long as the image is used, so that nobody removes it.
    _lock: File,
}

/// The folder of all images: `XDG_CACHE_HOME`, else `~/.cache`, below it `skep/vm`.
pub(super) fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("skep/vm"))
}

/// Finds the image in the cache, or makes it.
pub(super) fn prepare() -> Result<Image> {
    let cache = cache_dir()?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let sources = read_sources()?;
    let key = render_key(&sources)?;
    let path = cache.join(format!("{key}.lock"));
    let lock = File::options().append(true).create(true).open(&path);
    let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
    let dir = cache.join(&key);
    let fail = || format!("cannot lock {}", path.display());
    // Shared first: who runs a machine holds it, and must not be waited for.
    lock.lock_shared().with_context(fail)?;
    if !dir.join("root.img").exists() {
        lock.unlock().and_then(|()| lock.lock()).with_context(fail)?;
        if !dir.join("root.img").exists() {
            remove_others(&cache, &key)?;
            make(&cache, &dir, &sources)?;
        }
        lock.unlock().and_then(|()| lock.lock_shared()).with_context(fail)?;
    }
    Ok(Image { dir, _lock: lock })
}

/// Debian's suites as apt on this machine knows them, one line of `sources.list` for each.
fn read_sources() -> Result<String> {
    let format = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)";
    let filters = ["indextargets", "--format", format, "Created-By: Packages", "Origin: Debian"];
    let text = read_output("apt-get", &filters)?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    ensure!(!lines.is_empty(), "apt-get knows no suite of Debian");
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let signed = if Path::new(keyring).exists() { format!("deb [signed-by={keyring}]") } else { "deb".to_owned() };
    Ok(lines.iter().map(|line| format!("{signed}{}\n", line.trim_start_matches("deb"))).collect())
}

/// Changes with the recipe, the suites, and the version of any package.
fn render_key(sources: &str) -> Result<String> {
    let kernels = recipe::BOOTS.map(|boot| boot.kernel);
    let policy = [&["policy"][..], &recipe::PACKAGES, &kernels].concat();
    let policy = read_output("apt-cache", &policy)?;
    let versions: Vec<&str> = policy.lines().filter(|line| line.contains("Candidate:")).collect();
    let mut hasher = DefaultHasher::new();
    (recipe::render_recipe(), sources, versions).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

/// Removes images of other recipes that nobody uses: each takes about 1.5 GB.
fn remove_others(cache: &Path, key: &str) -> Result<()> {
    for entry in fs::read_dir(cache).context("cannot list the cache")? {
        let path = entry.context("cannot list the cache")?.path();
        let Some(other) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".lock")) else { continue };
        let lock = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        if other == key || lock.try_lock().is_err() {
            continue;
        }
        remove_dir(&cache.join(other))?;
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

pub(super) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn make(cache: &Path, dir: &Path, sources: &str) -> Result<()> {
    let begin = Instant::now();
    println!("making the image of the virtual machine in {}", dir.display());
    remove_dir(dir)?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let log = dir.join("log");
    let list = dir.join("sources.list");
    write(&list, sources)?;
    let root = dir.join("root");
    let made = bootstrap(&root, &list, &recipe::PACKAGES, &log).and_then(|()| fill(dir, &root, &log));
    // Half an image must not be taken for one, and its files not stay when it cannot be made.
    remove_dir(&root)?;
    if made.is_err() {
        fs::rename(&log, cache.join("log")).context("cannot keep the log")?;
        remove_dir(dir)?;
    }
    made?;
    println!("made the image in {} s", begin.elapsed().as_secs());
    Ok(())
}

/// Makes a root file system of Debian's essential packages and these; `place` is a folder for what that needs.
///
/// # Errors
/// A package or a mirror cannot be had.
pub(crate) fn install_debian(root: &Path, place: &Path, packages: &[&str], log: &Path) -> Result<()> {
    let list = place.join("sources.list");
    write(&list, &read_sources()?)?;
    bootstrap(root, &list, packages, log)
}

fn bootstrap(root: &Path, sources: &Path, packages: &[&str], log: &Path) -> Result<()> {
    let mut command = bound_to_us("mmdebstrap");
    command.args(["--mode=root", "--format=directory", "--variant=minbase"]);
    command.args(["--aptopt=APT::Install-Recommends \"false\"", "--include", &packages.join(",")]);
    for pattern in recipe::LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    for line in read_output("apt-config", &["dump"])?.lines() {
        // How this machine reaches its mirrors.
        if line.starts_with("Acquire::") && line.contains("::Proxy") {
            command.arg(format!("--aptopt={}", line.trim_end_matches(';')));
        }
    }
    command.arg(read_codename()?).arg(root).arg(sources);
    run(command, BOOTSTRAP_LIMIT, log).context("cannot install Debian into a folder")
}

fn read_codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release has no VERSION_CODENAME")?.trim_matches('"').to_owned())
}

/// From the folder of the root file system to files that a machine boots.
fn fill(dir: &Path, root: &Path, log: &Path) -> Result<()> {
    for (path, mode, text) in recipe::GUEST_FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a guest file has a folder")?).context("cannot make a folder")?;
        write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context("cannot set a mode")?;
    }
    set_units(root)?;
    set_user(root, log)?;
    let mut kernels = recipe::BOOTS.map(|boot| boot.kernel).to_vec();
    kernels.sort_unstable();
    kernels.dedup();
    for kernel in kernels {
        add_kernel(dir, root, kernel, log)?;
    }
    let image = dir.join("root.new");
    let mut command = bound_to_us("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-E", "nodiscard"]);
    run(
        {
            command.arg("-d").arg(root).arg(&image).arg(recipe::ROOT_SIZE);
            command
        },
        STEP_LIMIT,
        log,
    )?;
    // Last: an image that has this name is whole.
    fs::rename(&image, dir.join("root.img")).context("cannot name the image")
}

fn set_units(root: &Path) -> Result<()> {
    let units = root.join("etc/systemd/system");
    let link = |target: &str, name: &str| {
        let path = units.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(target, path)
    };
    for unit in recipe::MASKED {
        link("/dev/null", unit).with_context(|| format!("cannot mask {unit}"))?;
    }
    for entry in fs::read_dir(&units).context("cannot list the units")?.flatten() {
        if !entry.file_name().to_string_lossy().ends_with(".wants") {
            continue;
        }
        for unit in fs::read_dir(entry.path()).context("cannot list the units")?.flatten() {
            if recipe::DISABLED.iter().any(|prefix| unit.file_name().to_string_lossy().starts_with(prefix)) {
                fs::remove_file(unit.path()).context("cannot disable a unit")?;
            }
        }
    }
    link("/lib/systemd/system/multi-user.target", "default.target").context("cannot set the default target")?;
    fs::create_dir_all(units.join("multi-user.target.wants")).context("cannot make a folder")?;
    link("../job.service", "multi-user.target.wants/job.service").context("cannot enable the job")
}

fn set_user(root: &Path, log: &Path) -> Result<()> {
    let (name, uid) = recipe::USER;
    let uid = uid.to_string();
    for arguments in [&["useradd", "-m", "-s", "/bin/bash", "-u", &uid, name][..], &["passwd", "-q", "-d", "root"]] {
        let mut command = bound_to_us("chroot");
        command.arg(root).args(arguments);
        run(command, STEP_LIMIT, log)?;
    }
    let linger = root.join("var/lib/systemd/linger");
    fs::create_dir_all(&linger).context("cannot make a folder")?;
    write(&linger.join(name), "")
}

/// Unpacks one kernel: its modules into the root file system, itself and an initrd beside it.
fn add_kernel(dir: &Path, root: &Path, name: &str, log: &Path) -> Result<()> {
    let depends = read_output("apt-cache", &["depends", name])?;
    let mut packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let package = packages.find(|package| package.starts_with("linux-image-"));
    let package = package.with_context(|| format!("{name} depends on no kernel"))?;
    let version = package.trim_start_matches("linux-image-");
    let place = dir.join(name);
    let unpacked = place.join("unpacked");
    fs::create_dir_all(&unpacked).context("cannot make a folder")?;
    // As root: the user that apt otherwise downloads as may not write here.
    let mut download = bound_to_us("apt-get");
    download.args(["-qq", "-o", "APT::Sandbox::User=root", "download", package]).current_dir(&place);
    run(download, BOOTSTRAP_LIMIT, log).context("cannot download a kernel")?;
    let mut files = fs::read_dir(&place).context("cannot list a folder")?.flatten().map(|entry| entry.path());
    let deb = files.find(|path| path.extension().is_some_and(|end| end == "deb")).context("no kernel came")?;
    run(
        {
            let mut c = bound_to_us("dpkg-deb");
            c.arg("-x").arg(&deb).arg(&unpacked);
            c
        },
        STEP_LIMIT,
        log,
    )?;
    let modules = root.join("lib/modules");
    fs::create_dir_all(&modules).context("cannot make a folder")?;
    let moved = Path::new("lib/modules").join(version);
    run(
        {
            let mut c = bound_to_us("mv");
            c.arg(unpacked.join(&moved)).arg(&modules);
            c
        },
        STEP_LIMIT,
        log,
    )?;
    run(
        {
            let mut c = bound_to_us("chroot");
            c.arg(root).args(["depmod", version]);
            c
        },
        STEP_LIMIT,
        log,
    )?;
    fs::copy(unpacked.join(format!("boot/vmlinuz-{version}")), place.join("vmlinuz"))
        .context("cannot copy a kernel")?;
    write(&place.join("version"), version)?;
    make_initrd(&root.join(moved), root, &place, log)?;
    remove_dir(&unpacked)?;
    fs::remove_file(deb).context("cannot remove a package")
}

/// An initrd of busybox, the modules of the root disk in the order of their loading, and [`recipe::INIT`].
fn make_initrd(modules: &Path, root: &Path, place: &Path, log: &Path) -> Result<()> {
    let dir = place.join("initrd.d");
    for folder in ["bin", "dev", "proc", "root", "modules"] {
        fs::create_dir_all(dir.join(folder)).context("cannot make a folder")?;
    }
    fs::copy(root.join("bin/busybox"), dir.join("bin/busybox")).context("cannot copy busybox")?;
    let read = |name: &str| fs::read_to_string(modules.join(name)).with_context(|| format!("cannot read {name}"));
    let (depends, builtin) = (read("modules.dep")?, read("modules.builtin")?);
    let mut order = String::new();
    for file in list_modules(&depends, &builtin, &recipe::EARLY_MODULES)? {
        let name = file.rsplit('/').next().unwrap_or(&file).trim_end_matches(".xz").to_owned();
        let (from, to) = (modules.join(&file), dir.join("modules").join(&name));
        if file.ends_with(".xz") {
            let mut command = Command::new("xz");
            command.arg("-dc").arg(&from).stdout(File::create(&to).context("cannot make a file")?);
            ensure!(command.status().context("cannot run xz")?.success(), "xz cannot read {}", from.display());
        } else {
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        order.push_str(&name);
        order.push('\n');
    }
    write(&dir.join("modules/order"), &order)?;
    write(&dir.join("init"), recipe::INIT)?;
    fs::set_permissions(dir.join("init"), fs::Permissions::from_mode(0o755)).context("cannot set a mode")?;
    let mut pack = bound_to_us("sh");
    pack.args(["-c", "set -e; find . | cpio --quiet -o -H newc | gzip -1 >../initrd"]).current_dir(&dir);
    run(pack, STEP_LIMIT, log)?;
    remove_dir(&dir)
}

/// The files of these modules and of what they depend on, each after its own dependencies. What is built in has none.
///
/// A line of `modules.dep` is `FILE: FILE FILE ...`: the last one is to be loaded first.
fn list_modules(depends: &str, builtin: &str, names: &[&str]) -> Result<Vec<String>> {
    let is = |file: &str, name: &str| {
        let stem = file.rsplit('/').next().unwrap_or(file).split(".ko").next().unwrap_or(file);
        stem.replace('-', "_") == name
    };
    let mut found: Vec<String> = Vec::new();
    for name in names {
        let Some((file, needs)) = depends.lines().filter_map(|l| l.split_once(':')).find(|(f, _)| is(f, name)) else {
            if builtin.lines().any(|file| is(file, name)) {
                continue;
            }
            bail!("the kernel has no {name}");
        };
        for file in needs.split_whitespace().rev().chain([file]) {
            if !found.iter().any(|other| other == file) {
                found.push(file.to_owned());
            }
        }
    }
    Ok(found)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let depends = "kernel/a/x-blk.ko.xz: kernel/b/ring.ko.xz kernel/b/bus.ko.xz\nkernel/b/ring.ko.xz:\n\
                       kernel/b/bus.ko.xz:\nkernel/c/pci.ko: kernel/b/bus.ko.xz\n";
        let check = |names: &[&str], expected: &[&str]| {
            assert_eq!(list_modules(depends, "kernel/fs/ext4.ko\n", names).unwrap(), expected);
        };
        check(&["x_blk"], &["kernel/b/bus.ko.xz", "kernel/b/ring.ko.xz", "kernel/a/x-blk.ko.xz"]);
        check(&["pci", "ring"], &["kernel/b/bus.ko.xz", "kernel/c/pci.ko", "kernel/b/ring.ko.xz"]);
        check(&["ext4"], &[]);
        assert!(list_modules(depends, "", &["ext4"]).is_err());
    }
}
