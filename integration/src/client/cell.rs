//! The place that a client runs in: namespaces and cgroups of its own, gone as a whole when the test ends.
//!
//! The test binary starts itself again as a child of `cell.sh`, as the only process besides an init in new mount,
//! network, pid, uts, ipc and cgroup namespaces. The kernel ends everything in the pid namespace when the test ends, by
//! whatever cause: the parent-death signal reaches `unshare`, whose own child is pid 1 there. What could outlive that
//! (cgroups, files) bears the name of the cell; [`in_cell`] removes it, checks that it is gone, and sweeps what cells
//! left whose test was killed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::command::{exit_code, wait_until};
use super::table::say;
use super::traces::Traces;

/// A program that a client needs, with the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The name of the program, looked up in [`PATH`], or an absolute path.
    pub program: &'static str,
    /// The package to install.
    pub package: &'static str,
}

/// Where programs are looked up in a cell: Debian's folders only, so that a client of another origin is not picked up.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What every cell needs.
const BASE: [Need; 6] = [
    Need { program: "bash", package: "bash" },
    Need { program: "unshare", package: "util-linux" },
    Need { program: "setpriv", package: "util-linux" },
    Need { program: "ip", package: "iproute2" },
    Need { program: "tini", package: "tini" },
    Need { program: "busybox", package: "busybox-static" },
];

/// How long the table of one client may take in all.
const LIMIT: Duration = Duration::from_secs(290);

const SCRIPT: &str = include_str!("cell.sh");
const PREFIX: &str = "clients-cell-";
const DIR_VARIABLE: &str = "CLIENTS_CELL";
const CGROUPS: &str = "/sys/fs/cgroup";

/// The runtime under test.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Its absolute path.
    pub path: PathBuf,
    /// The first word of its version: `runc`, `crun`, `skep`.
    pub name: String,
    /// The first line of its version.
    pub version: String,
}

/// The cell, as the code in it sees it.
#[derive(Debug)]
pub struct Cell {
    /// The folder of this cell, on the file system of the temporary files.
    pub dir: PathBuf,
    /// The runtime under test.
    pub runtime: Runtime,
}

/// Runs `body` in a new cell.
///
/// `test` is the name of the calling test function, which the cell's process is told to run alone. `body` is called there
/// only. Returns without having called it, after one line that starts with `skip`, when a program is missing or the user
/// is not root.
///
/// # Errors
/// The cell cannot be made, `body` failed, the time was up, or something was left behind on the host.
pub fn in_cell(test: &str, needs: &[Need], body: impl FnOnce(&Cell) -> Result<()>) -> Result<()> {
    if let Some(dir) = std::env::var_os(DIR_VARIABLE) {
        let cell = Cell { dir: dir.into(), runtime: read_runtime()? };
        return body(&cell);
    }
    if let Some(reason) = missing(needs) {
        say(&format!("skip {test}: {reason}"))?;
        return Ok(());
    }
    let runtime = read_runtime()?;
    sweep()?;
    let before = Traces::read()?;
    let home = Home::make(&runtime)?;
    let ended = home.run(test, &runtime);
    keep_logs(&home.dir, test)?;
    let removed = home.remove();
    let after = Traces::read()?;
    let left = before.compare(&after);
    let ended = ended?;
    removed.context("the cell left something behind")?;
    ensure!(left.is_empty(), "{test} changed the host: {}", left.join("; "));
    let meanwhile =
        if before.hierarchies == after.hierarchies { "" } else { "; meanwhile cgroup hierarchies came or went" };
    ensure!(ended == 0, "{test} failed in its cell with exit code {ended}{meanwhile}");
    Ok(())
}

/// Names what is missing for a cell, if anything is.
fn missing(needs: &[Need]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    let lacks = |need: &&Need| find_program(need.program).is_none();
    let need = BASE.iter().chain(needs).find(lacks)?;
    Some(format!("needs {} (apt-get install {})", need.program, need.package))
}

/// Looks a program up in [`PATH`].
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let candidates = PATH.split(':').map(|folder| Path::new(folder).join(name));
    candidates.into_iter().find(|path| path.metadata().is_ok_and(|found| found.permissions().mode() & 0o111 != 0))
}

/// Finds the runtime under test: `RUNTIME`, or the `skep` that was built beside this test.
fn read_runtime() -> Result<Runtime> {
    let path = match std::env::var_os("RUNTIME") {
        Some(path) => PathBuf::from(path),
        None => built_runtime()?,
    };
    let path = fs::canonicalize(&path).with_context(|| format!("no runtime at {}", path.display()))?;
    let output = Command::new(&path).arg("--version").output().with_context(|| format!("run {}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().next().context("the runtime prints no version")?.to_owned();
    let name = version.split(' ').next().context("the runtime's version is empty")?.to_owned();
    Ok(Runtime { path, name, version })
}

/// The `skep` of the build that this test belongs to.
fn built_runtime() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let found = test.ancestors().map(|folder| folder.join("skep")).find(|path| path.is_file());
    found.context("no runtime: build `skep` first, or set RUNTIME to the path of one")
}

/// The cell's folder and cgroups, seen from the host.
struct Home {
    dir: PathBuf,
    name: String,
    groups: Vec<PathBuf>,
    /// Controllers of the hierarchies that are not mounted under `/sys/fs/cgroup`, where the cell has groups too.
    extra: String,
}

impl Home {
    /// Makes the folder and one cgroup in every hierarchy, below the test's own groups.
    fn make(runtime: &Runtime) -> Result<Self> {
        let name = format!("{PREFIX}{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join("cell.sh"), SCRIPT)?;
        fs::create_dir(dir.join("home"))?;
        let mut home = Self { dir, name, groups: Vec::new(), extra: list_extra(runtime)? };
        if let Err(error) = home.make_groups() {
            home.remove().context("after an error")?;
            return Err(error);
        }
        Ok(home)
    }

    fn make_groups(&mut self) -> Result<()> {
        for own in own_groups()? {
            let group = own.join(&self.name);
            fs::create_dir(&group).with_context(|| format!("cannot make cgroup {}", group.display()))?;
            self.groups.push(group.clone());
            // A cpuset group without CPUs refuses every task.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if group.join(file).exists() && own.join("tasks").exists() {
                    fs::write(group.join(file), fs::read(own.join(file))?)?;
                }
            }
        }
        Ok(())
    }

    /// Runs this test binary in the cell and returns its exit code.
    fn run(&self, test: &str, runtime: &Runtime) -> Result<i32> {
        let script = self.dir.join("cell.sh");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "bash"]).arg(&script).arg("enter").arg(&self.dir);
        command.arg(&self.extra).args(&self.groups).arg("--");
        command.arg(std::env::current_exe()?).args([test, "--exact", "--nocapture", "--test-threads=1"]);
        command.env_clear().envs(self.environment(runtime)).stdin(Stdio::null());
        let mut child = command.spawn().context("cannot start the cell")?;
        match wait_until(&mut child, LIMIT)? {
            Some(status) => Ok(exit_code(status)),
            None => bail!("{test} did not end within {LIMIT:?}"),
        }
    }

    /// The whole environment of the cell. Programs of other origins are hidden, and nobody's configuration is read.
    fn environment(&self, runtime: &Runtime) -> BTreeMap<&'static str, std::ffi::OsString> {
        let mut variables = BTreeMap::from([
            ("PATH", PATH.into()),
            ("HOME", self.dir.join("home").into()),
            ("LC_ALL", "C".into()),
            ("TERM", "xterm".into()),
            ("RUNTIME", runtime.path.clone().into()),
            (DIR_VARIABLE, self.dir.clone().into()),
        ]);
        for name in ["CASES"] {
            if let Some(value) = std::env::var_os(name) {
                variables.insert(name, value);
            }
        }
        variables
    }

    /// Removes the cgroups and the folder. Nothing may still run in them.
    fn remove(&self) -> Result<()> {
        let mut errors = Vec::new();
        for group in &self.groups {
            errors.extend(remove_group(group).err());
        }
        errors.extend(return_extra(&self.dir, &self.extra).err());
        errors.extend(fs::remove_dir_all(&self.dir).context("the cell's folder").err());
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Removes a cell's groups from the hierarchies that are not mounted on the host.
fn return_extra(dir: &Path, extra: &str) -> Result<()> {
    if extra.is_empty() {
        return Ok(());
    }
    let script = dir.join("cell.sh");
    let status =
        Command::new("unshare").args(["--mount", "bash"]).arg(script).arg("return").arg(dir).arg(extra).status()?;
    ensure!(status.success(), "hierarchies {extra}: {status}");
    Ok(())
}

/// Lists hierarchies that the cell needs beyond those under `/sys/fs/cgroup`, by their controllers, with blanks between.
///
/// First those that another program has mounted elsewhere: containerd's figures need a mount of every hierarchy in
/// `/proc/[pid]/cgroup`. Then hugetlb for crun 1.8, which takes a hybrid host for a broken one while its v2 hierarchy has
/// a controller left.
fn list_extra(runtime: &Runtime) -> Result<String> {
    let mut extra = Vec::new();
    for line in fs::read_to_string("/proc/self/cgroup")?.lines() {
        let controllers = line.split(':').nth(1).unwrap_or_default();
        if !controllers.is_empty() && !is_mounted(controllers) {
            extra.push(controllers.to_owned());
        }
    }
    let unified = Path::new(CGROUPS).join("unified/cgroup.controllers");
    if runtime.name == "crun" && unified.exists() {
        let left = fs::read_to_string(unified)?;
        extra.extend(left.split_whitespace().filter(|name| *name == "hugetlb").map(str::to_owned));
    }
    Ok(extra.join(" "))
}

/// Whether a v1 hierarchy is mounted under its usual name; a runtime may have left an empty folder of that name.
fn is_mounted(controllers: &str) -> bool {
    Path::new(CGROUPS).join(controllers.trim_start_matches("name=")).join("cgroup.procs").exists()
}

/// The groups of this process, one in each mounted hierarchy.
///
/// Format: cgroups(7), `/proc/[pid]/cgroup`. Hierarchies stand under their usual names below `/sys/fs/cgroup`.
fn own_groups() -> Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    for line in fs::read_to_string("/proc/self/cgroup")?.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            bail!("/proc/self/cgroup has a line of another form: {line}");
        };
        let unified = Path::new(CGROUPS).join("unified");
        let root = match controllers {
            "" if unified.exists() => unified,
            "" => PathBuf::from(CGROUPS),
            named => Path::new(CGROUPS).join(named.trim_start_matches("name=")),
        };
        let group = root.join(path.trim_start_matches('/'));
        if group.join("cgroup.procs").exists() {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// Removes a cgroup with all below it; waits at most 10 s for tasks that are just ending.
fn remove_group(group: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    for below in folders_below(group)? {
        loop {
            match fs::remove_dir(&below) {
                Ok(()) => break,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
                Err(error) if Instant::now() > deadline => {
                    let tasks = fs::read_to_string(below.join("cgroup.procs")).unwrap_or_default();
                    bail!("cgroup {}: {error}; its tasks: {tasks:?}", below.display());
                }
                Err(_) => sleep(Duration::from_millis(20)),
            }
        }
    }
    Ok(())
}

/// Lists a folder and all folders below it, the deepest first. An absent one gives an empty list.
///
/// # Errors
/// A folder cannot be read.
pub fn folders_below(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !top.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(top).with_context(|| format!("cannot list {}", top.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(folders_below(&entry.path())?);
        }
    }
    found.push(top.to_owned());
    Ok(found)
}

/// Removes what cells left whose test was killed: folders and cgroups with the pid of a process that is gone.
fn sweep() -> Result<()> {
    for group in own_groups()? {
        for old in abandoned(&group)? {
            remove_group(&old)?;
        }
    }
    for old in abandoned(&std::env::temp_dir())? {
        let mut extra = Vec::new();
        if old.join("extra").is_dir() {
            for entry in fs::read_dir(old.join("extra"))? {
                extra.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
        return_extra(&old, &extra.join(" "))?;
        fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(())
}

/// Lists the entries of `parent` that are named like a cell and whose process is gone.
fn abandoned(parent: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if let Some(pid) = name.strip_prefix(PREFIX)
            && !Path::new("/proc").join(pid).exists()
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// Copies the logs of the cell's daemons to the folder that `KEEP_LOGS` names.
fn keep_logs(dir: &Path, test: &str) -> Result<()> {
    let Some(target) = std::env::var_os("KEEP_LOGS") else { return Ok(()) };
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("log")) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            fs::copy(&path, Path::new(&target).join(format!("{test}-{name}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let need = Need { program: "no-such-program", package: "no-such-package" };
        let reason = missing(&[need]).unwrap();
        assert!(reason == "needs root" || reason.contains("(apt-get install "), "{reason}");
        // The body must not run where the client cannot.
        in_cell("no_test", &[need], |_| bail!("the body ran")).unwrap();
    }

    #[test]
    fn folders_come_after_those_below_them() {
        let top = std::env::temp_dir().join(format!("folders-below-{}", std::process::id()));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(top.join("c")).unwrap();
        let found = folders_below(&top).unwrap();
        fs::remove_dir_all(&top).unwrap();
        let at = |path: &str| found.iter().position(|folder| *folder == top.join(path)).unwrap();
        assert!(at("a/b") < at("a") && at("a") < at("") && at("c") < at(""), "{found:?}");
        assert!(folders_below(&top).unwrap().is_empty());
    }
}
