//! The three suites: what is built of their checkouts, and how a job's folder is filled with it.
//!
//! Nothing is written into the checkouts. What is built lies in `target/conformance`, and one job's folder is
//!
//! ```text
//! run.sh  steps  environment    see steps.sh
//! runtime/NAME                  the runtime under test
//! shim/go                       answers `go env GOARCH`, which runc's tests ask
//! runtime-tools/bin/PROGRAM     started there, beside runtimetest and its root file system
//! runc/tests/integration        the bats files, with images in testdata
//! runc/tests/cmd/_bin           the programs that they call
//! python/libmount.py            for a machine without that module
//! crun/tests                    the Python files, and `init`, the program of all their containers
//! out/                          the results
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::vm::{bound_to_us, install_debian, read_output, run};

/// A checkout that a user has fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suite {
    RuntimeTools,
    Runc,
    Crun,
}

/// All of them, in the order in which they run.
pub(super) const SUITES: [Suite; 3] = [Suite::RuntimeTools, Suite::Runc, Suite::Crun];

/// How long one build or one packing may take.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

/// What the Debian root file system of runc's tests has besides the essential packages: the base of an image.
const DEBIAN_PACKAGES: [&str; 2] = ["apt", "mount"];

/// What crun's configure would have found, as far as its `init` asks. No seccomp: its one use needs the kernel's header alone.
const CRUN_CONFIG: &str = "#define HAVE_ERROR_H 1\n#define HAVE_LINUX_IOPRIO_H 1\n";

/// A module that crun's tests of mounts ask for.
const LIBMOUNT: &str = include_str!("libmount.py");

impl Suite {
    /// The name of the checkout's folder, and of the suite in results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Suite::RuntimeTools => "runtime-tools",
            Suite::Runc => "runc",
            Suite::Crun => "crun",
        }
    }

    /// The programs that a checkout has, sorted.
    pub(super) fn list_programs(self, checkout: &Path) -> Result<Vec<String>> {
        let (folder, end) = match self {
            Suite::RuntimeTools => ("validation", ""),
            Suite::Runc => ("tests/integration", ".bats"),
            Suite::Crun => ("tests", ".py"),
        };
        let dir = checkout.join(folder);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(end) else { continue };
            let wanted = match self {
                // The folder `util` is their library.
                Suite::RuntimeTools => entry.path().is_dir() && stem != "util",
                Suite::Runc => true,
                Suite::Crun => stem.starts_with("test_"),
            };
            names.extend(wanted.then(|| stem.to_owned()));
        }
        names.sort_unstable();
        ensure!(!names.is_empty(), "{} has no tests", dir.display());
        Ok(names)
    }

    /// Builds what the suite needs besides its scripts.
    pub(super) fn build(self, checkout: &Path, store: &Path) -> Result<()> {
        let built = store.join("built").join(self.name());
        fs::create_dir_all(&built).with_context(|| format!("cannot make {}", built.display()))?;
        let log = store.join(format!("{}.log", self.name()));
        match self {
            Suite::RuntimeTools => {
                let programs = self.list_programs(checkout)?.into_iter().map(|name| format!("./validation/{name}"));
                let packages: Vec<String> = programs.chain(["./cmd/runtimetest".to_owned()]).collect();
                run_go(checkout, &built, &packages, "0", &log)
            }
            Suite::Runc => {
                let commands = checkout.join("tests/cmd");
                let entries = fs::read_dir(&commands).with_context(|| format!("cannot list {}", commands.display()))?;
                let names = entries.flatten().filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
                let names = names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name != "_bin");
                let packages: Vec<String> = names.map(|name| format!("./tests/cmd/{name}")).collect();
                // With cgo: the agent of the seccomp tests uses the C library of that name.
                run_go(checkout, &built, &packages, "1", &log)?;
                ["busybox", "debian"].into_iter().try_for_each(|name| make_image(name, checkout, store, &log))
            }
            Suite::Crun => {
                let header = built.join("config.h");
                fs::write(&header, CRUN_CONFIG).with_context(|| format!("cannot write {}", header.display()))?;
                let mut command = bound_to_us("cc");
                command.args(["-O2", "-static", "-I"]).arg(&built).arg("-o").arg(built.join("init"));
                command.arg(checkout.join("tests/init.c"));
                run(command, BUILD_LIMIT, &log)
            }
        }
        .with_context(|| format!("cannot build what {} needs", self.name()))
    }

    /// Puts into a job's folder what its tests read.
    pub(super) fn fill(self, checkout: &Path, store: &Path, job: &Path) -> Result<()> {
        let built = store.join("built").join(self.name());
        let log = store.join("pack.log");
        let own = job.join(self.name());
        match self {
            Suite::RuntimeTools => {
                copy(&built, &own.join("bin"), &log)?;
                fs::rename(own.join("bin/runtimetest"), own.join("runtimetest")).context("no runtimetest was built")?;
                let image = format!("rootfs-{}.tar.gz", go_architecture());
                copy(&checkout.join(&image), &own.join(&image), &log)
            }
            Suite::Runc => {
                for folder in ["tests/integration", "tests/cmd"] {
                    copy(&checkout.join(folder), &own.join(folder), &log)?;
                }
                // What the checkout has built itself may be another version.
                remove(&own.join("tests/cmd/_bin"))?;
                copy(&built, &own.join("tests/cmd/_bin"), &log)?;
                for name in ["busybox", "debian"] {
                    let (name, image) = (image_name(name), find_image(name, checkout, store));
                    copy(&image, &own.join("tests/integration/testdata").join(name), &log)?;
                }
                let shim = job.join("shim/go");
                fs::create_dir_all(job.join("shim")).context("cannot make a folder")?;
                fs::write(&shim, format!("#!/bin/sh\necho {}\n", go_architecture()))
                    .context("cannot write a program")?;
                fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).context("cannot set a mode")
            }
            Suite::Crun => {
                fs::create_dir_all(job.join("python")).context("cannot make a folder")?;
                fs::write(job.join("python/libmount.py"), LIBMOUNT).context("cannot write a module")?;
                copy(&checkout.join("tests"), &own.join("tests"), &log)?;
                copy(&built.join("init"), &own.join("tests/init"), &log)
            }
        }
        .with_context(|| format!("cannot pack {}", self.name()))
    }
}

/// Builds Go programs from the checkout and its folder `vendor` alone: nothing is downloaded.
fn run_go(checkout: &Path, built: &Path, packages: &[String], cgo: &str, log: &Path) -> Result<()> {
    let mut command = bound_to_us("go");
    command.args(["build", "-mod=vendor", "-buildvcs=false", "-trimpath", "-tags", "seccomp", "-ldflags", "-s -w"]);
    command.arg("-o").arg(format!("{}/", built.display())).args(packages).current_dir(checkout);
    command.env("GOPROXY", "off").env("GOFLAGS", "").env("GOTOOLCHAIN", "local").env("CGO_ENABLED", cgo);
    run(command, BUILD_LIMIT, log)
}

/// The name that Go has for this machine's processor, and with it the images.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn image_name(name: &str) -> String {
    format!("{name}-{}.tar.xz", go_architecture())
}

/// An image that the user has fetched into the checkout, else the one that [`make_image`] makes.
fn find_image(name: &str, checkout: &Path, store: &Path) -> PathBuf {
    let file = image_name(name);
    let fetched = checkout.join("tests/integration/testdata").join(&file);
    if fetched.exists() { fetched } else { store.join("images").join(file) }
}

/// Makes a root file system with the commands of the image that runc's tests would download.
fn make_image(name: &str, checkout: &Path, store: &Path, log: &Path) -> Result<()> {
    let image = find_image(name, checkout, store);
    if image.exists() {
        return Ok(());
    }
    let place = store.join("images");
    let root = place.join(name);
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    remove(&root)?;
    if name == "busybox" {
        rootfs_tools::busybox(&root, Path::new("/bin/busybox")).context("cannot make a root file system")?;
        // That image has neither, and tests put links there.
        for folder in ["proc", "sys"] {
            fs::remove_dir(root.join(folder)).with_context(|| format!("cannot remove {folder}"))?;
        }
    } else {
        install_debian(&root, &place, &DEBIAN_PACKAGES, log)?;
    }
    let new = image.with_extension("new");
    let mut pack = bound_to_us("tar");
    pack.arg("-C").arg(&root).args(["--exclude=./dev/*", "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/*"]);
    pack.args(["-I", "xz -1 -T0", "-cf"]).arg(&new).arg(".");
    run(pack, BUILD_LIMIT, log)?;
    remove(&root)?;
    fs::rename(&new, &image).with_context(|| format!("cannot name {}", image.display()))
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a file or a folder to a name whose folder is made when it is missing.
fn copy(from: &Path, to: &Path, log: &Path) -> Result<()> {
    let folder = to.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut command = bound_to_us("cp");
    command.args(["-a", "--no-target-directory"]).arg(from).arg(to);
    run(command, BUILD_LIMIT, log)
}

/// The programs that building and running need and that are not here.
pub(super) fn list_missing(suites: &[Suite]) -> Vec<&'static str> {
    let needed = suites.iter().flat_map(|suite| match suite {
        Suite::RuntimeTools => &["go", "tar"][..],
        Suite::Runc => &["go", "cc", "bats", "jq", "gawk", "xz", "mmdebstrap"],
        Suite::Crun => &["cc", "python3"],
    });
    let mut missing: Vec<&str> = needed.copied().filter(|name| !has(name)).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn has(program: &str) -> bool {
    read_output("sh", &["-c", "command -v \"$0\"", program]).is_ok()
}

/// A program without what only a debugger reads.
pub(super) fn strip(from: &Path, to: &Path, log: &Path) -> Result<()> {
    let mut command: Command = bound_to_us("strip");
    command.arg("-o").arg(to).arg(from);
    run(command, BUILD_LIMIT, log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_the_shape_of_a_checkout() {
        let dir = std::env::temp_dir().join(format!("xtask-suites-{}", std::process::id()));
        for folder in ["validation/mounts", "validation/util", "tests/integration"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for file in ["tests/test_a.py", "tests/tests_utils.py", "tests/integration/exec.bats", "tests/integration/x.sh"]
        {
            fs::write(dir.join(file), "").unwrap();
        }
        let check = |suite: Suite, expected: &[&str]| assert_eq!(suite.list_programs(&dir).unwrap(), expected);
        check(Suite::RuntimeTools, &["mounts"]);
        check(Suite::Runc, &["exec"]);
        check(Suite::Crun, &["test_a"]);
        fs::remove_dir_all(&dir).unwrap();
        assert!(Suite::Crun.list_programs(&dir).is_err());
    }
}
