//! One sandbox per test: a folder, a `--root`, ids and a cgroup subtree of its own. Dropping it removes all of that,
//! after a panic too, and fails the test when the runtime left something that `delete --force` should have removed.

use std::cell::{Cell, OnceCell};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::group;
use crate::host::{self, Mount};
use crate::rootless::User;
use crate::runtime::{Call, Output, Runtime};

/// The place in which one test works.
#[derive(Debug)]
pub struct Sandbox {
    /// Unique on the machine; also the name of the cgroup that is the parent of all containers.
    pub name: String,
    /// The sandbox's own folder.
    pub dir: PathBuf,
    /// What `--root` gets.
    pub root: PathBuf,
    /// Who is tested.
    pub runtime: Runtime,
    next: Cell<u32>,
    lenient: Cell<bool>,
    user: OnceCell<User>,
}

/// A container that runs in the background.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The pid of its init, seen from the host.
    pub pid: i32,
    /// The call that made it; its `stdout_now` is what the container has printed since.
    pub output: Output,
}

impl Sandbox {
    /// Makes a sandbox for the runtime under test.
    pub fn new() -> Sandbox {
        Sandbox::with(Runtime::under_test().clone())
    }

    /// Makes a sandbox for this runtime.
    pub fn with(runtime: Runtime) -> Sandbox {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let temp = std::env::temp_dir();
        loop {
            let name = format!("sk{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let dir = temp.join(&name);
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(e) => panic!("create {}: {e}", dir.display()),
            }
            // Root of a container's user namespace must be able to reach the rootfs.
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod the sandbox");
            let root = dir.join("state");
            return Sandbox {
                name,
                dir,
                root,
                runtime,
                next: Cell::new(0),
                lenient: Cell::new(false),
                user: OnceCell::new(),
            };
        }
    }

    /// Lets leftovers pass: for tests that break a runtime on purpose, and for known deviations of an oracle.
    pub fn tolerate_leftovers(&self) {
        self.lenient.set(true);
    }

    /// Lets all verbs run as this user.
    pub(crate) fn set_user(&self, user: User) {
        self.user.set(user).expect("a sandbox has one user");
    }

    /// Which of this process' sandboxes it is, from 0.
    pub(crate) fn number(&self) -> u32 {
        self.name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).expect("a name ends in a number")
    }

    /// Makes a bundle with an id of its own.
    pub fn bundle(&self) -> Bundle {
        let n = self.next.get();
        self.next.set(n + 1);
        let id = format!("{}-c{n}", self.name);
        Bundle::create(&self.dir.join(format!("b{n}")), &id, &self.name)
    }

    /// Makes a folder of the host inside the sandbox, mode 0755.
    pub fn host_dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).expect("create a folder in the sandbox");
        dir
    }

    /// The folder of this container in the hierarchy of a v1 controller, or in the one of v2.
    ///
    /// # Panics
    /// When no hierarchy has the controller.
    pub fn cgroup(&self, controller: &str, id: &str) -> PathBuf {
        group::hierarchy(controller).join(&self.name).join(id)
    }

    /// Reads a v1 file of the container's group without the white space around it; v2 is told in words of v1.
    #[track_caller]
    pub fn cgroup_read(&self, controller: &str, id: &str, file: &str) -> String {
        group::read(&self.cgroup(controller, id), file)
    }

    /// Asserts what a v1 file of the container's group says.
    #[track_caller]
    pub fn cgroup_is(&self, controller: &str, id: &str, file: &str, expected: &str) {
        group::check(&self.cgroup(controller, id), file, expected);
    }

    /// Prepares `RUNTIME --root ROOT ARGS`.
    pub fn call(&self, args: &[&str]) -> Call {
        self.plain_call().arg("--root").arg(&self.root).args(args)
    }

    /// Prepares `RUNTIME` alone: the folder of the state is its own choice then.
    pub fn plain_call(&self) -> Call {
        match self.user.get() {
            Some(user) => user.call(user.program.to_str().expect("test paths are UTF-8"), &self.scratch()),
            None => Call::new(&self.runtime.path, &self.scratch()),
        }
    }

    /// Prepares another program, with the same care.
    pub fn program(&self, path: &str) -> Call {
        Call::new(Path::new(path), &self.scratch())
    }

    fn scratch(&self) -> PathBuf {
        self.host_dir("out")
    }

    /// `run` in the foreground.
    pub fn run(&self, bundle: &Bundle) -> Output {
        self.verb("run", bundle, &[]).run()
    }

    /// The mounts that the first process of this bundle's container sees; its program is replaced by one that tells.
    #[track_caller]
    pub fn mounts_of(&self, bundle: Bundle) -> Vec<Mount> {
        host::parse_mountinfo(&self.run(&bundle.args(&["cat", "/proc/self/mountinfo"])).ok())
    }

    /// `create`.
    pub fn create(&self, bundle: &Bundle) -> Output {
        self.verb("create", bundle, &[]).run()
    }

    /// Prepares `create` or `run` of a bundle with further options.
    pub fn verb(&self, verb: &str, bundle: &Bundle, options: &[&str]) -> Call {
        bundle.write();
        self.call(&[verb, "--bundle"]).arg(&bundle.dir).args(options).arg(&bundle.id)
    }

    /// `run --detach`; asserts that it worked.
    #[track_caller]
    pub fn detached(&self, bundle: &Bundle) -> Container {
        self.detached_with(bundle, &[])
    }

    /// `run --detach` with further options; asserts that it worked.
    #[track_caller]
    pub fn detached_with(&self, bundle: &Bundle, options: &[&str]) -> Container {
        let file = self.dir.join(format!("{}.pid", bundle.id));
        let call =
            self.verb("run", bundle, &[&["--detach", "--pid-file", file.to_str().expect("UTF-8")], options].concat());
        let output = call.run();
        output.ok();
        let pid = read_pid(&file);
        Container { id: bundle.id.clone(), pid, output }
    }

    /// `start`.
    pub fn start(&self, id: &str) -> Output {
        self.call(&["start", id]).run()
    }

    /// `state`, parsed; asserts that it worked.
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        self.call(&["state", id]).run().json()
    }

    /// The `status` of `state`.
    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().expect("status is a string").to_owned()
    }

    /// The files of JSON in which the runtime keeps this container, whatever they are called: regular files that
    /// begin with a brace. A FIFO among them is passed over.
    ///
    /// # Panics
    /// When there is none: then a test of them would test nothing.
    #[track_caller]
    pub fn state_files(&self, id: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join(id)).expect("list the state").flatten();
        let plain = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_file())).map(|e| e.path());
        let files: Vec<_> = plain.filter(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"{"))).collect();
        assert!(!files.is_empty(), "no JSON file in the state of {id}");
        files
    }

    /// Waits until `state` says this status.
    #[track_caller]
    pub fn wait_status(&self, id: &str, status: &str) {
        host::eventually(&format!("{id} is {status}"), || self.status(id) == status);
    }

    /// `kill ID SIGNAL`.
    pub fn kill(&self, id: &str, signal: &str) -> Output {
        self.call(&["kill", id, signal]).run()
    }

    /// `delete`.
    pub fn delete(&self, id: &str) -> Output {
        self.call(&["delete", id]).run()
    }

    /// `delete --force`.
    pub fn delete_force(&self, id: &str) -> Output {
        self.call(&["delete", "--force", id]).run()
    }

    /// `exec ID ARGS`.
    pub fn exec(&self, id: &str, args: &[&str]) -> Output {
        self.exec_with(id, &[], args)
    }

    /// `exec OPTIONS ID ARGS`.
    pub fn exec_with(&self, id: &str, options: &[&str], args: &[&str]) -> Output {
        self.exec_call(id, options, args).run()
    }

    /// Prepares `exec OPTIONS ID ARGS`.
    pub fn exec_call(&self, id: &str, options: &[&str], args: &[&str]) -> Call {
        self.call(&["exec"]).args(options).arg(id).args(args)
    }

    /// `exec ID sh -c SCRIPT`.
    pub fn exec_sh(&self, id: &str, script: &str) -> Output {
        self.exec(id, &["sh", "-c", script])
    }

    /// Removes everything; says what was there that should not have been.
    fn clean(&self) -> Vec<String> {
        let mut problems = self.delete_all();
        problems.extend(self.clean_cgroups());
        let gone = |user: &User| host::within(Duration::from_secs(5), || user.processes().is_empty());
        if let Some(user) = self.user.get().filter(|user| !gone(user)) {
            problems.extend(user.processes().into_iter().map(|process| format!("process {process}")));
        }
        problems.extend(self.clean_mounts());
        if host::own_mounts().iter().any(|m| Path::new(&m.target).starts_with(&self.dir)) {
            // Removing files through a mount that would not go could reach files of the machine.
            problems.push(format!("mounts below {} stay", self.dir.display()));
        } else if let Err(e) = self.remove_files() {
            problems.push(format!("remove {}: {e}", self.dir.display()));
        }
        problems
    }

    /// An engine's clean-up, which it starts when a container ends, may still write what it has to say.
    fn remove_files(&self) -> std::io::Result<()> {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5) * host::time_factor();
        loop {
            match fs::remove_dir_all(&self.dir) {
                Err(error)
                    if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && std::time::Instant::now() < until =>
                {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    fn delete_all(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let mut problems = Vec::new();
        for id in entries.iter().filter(|e| e.path().is_dir()).map(|e| e.file_name().to_string_lossy().into_owned()) {
            let mut running = self.call(&["delete", "--force", &id]).spawn();
            if !host::within(Duration::from_secs(15), || running.ended()) {
                running.kill();
                problems.push(format!("delete --force {id} does not end"));
            } else if running.wait(Duration::from_secs(1)).code != 0 {
                problems.push(format!("delete --force {id} fails"));
            }
        }
        problems
    }

    /// Kills what is left in the own cgroups and removes them. The top folder is the test's, the rest the runtime's.
    fn clean_cgroups(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for top in host::group_roots().into_iter().map(|mount| mount.join(&self.name)).filter(|top| top.exists()) {
            let folders = host::folders_deepest_first(&top);
            for folder in folders.iter().filter(|folder| **folder != top) {
                problems.push(format!("cgroup {} was left", folder.display()));
            }
            let emptied = host::within(Duration::from_secs(10), || kill_tasks(&folders) == 0);
            let removed = emptied && host::within(Duration::from_secs(5), || remove_folders(&top));
            if !removed {
                problems.push(format!("cgroup {} cannot be removed", top.display()));
            }
        }
        problems
    }

    fn clean_mounts(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for mount in host::own_mounts().iter().rev().filter(|m| Path::new(&m.target).starts_with(&self.dir)) {
            if let Err(e) = rustix::mount::unmount(mount.target.as_str(), UnmountFlags::DETACH)
                // Where the host's root is shared, the end of one mount is the end of its copies.
                && host::own_mounts().iter().any(|other| other.target == mount.target)
            {
                problems.push(format!("unmount {}: {e}", mount.target));
            }
        }
        problems
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Sandbox::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let problems = self.clean();
        if !problems.is_empty() && !self.lenient.get() && !std::thread::panicking() {
            panic!("left behind: {problems:#?}");
        }
    }
}

/// Reads a pid file, which must hold digits and nothing else.
#[track_caller]
pub fn read_pid(file: &Path) -> i32 {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
    text.parse().unwrap_or_else(|e| panic!("pid file has {text:?}: {e}"))
}

/// Sends SIGKILL to all tasks of these groups, thawing v1 freezers. Says how many there were.
fn kill_tasks(folders: &[PathBuf]) -> usize {
    let mut count = 0;
    for folder in folders {
        thaw(&folder.join("freezer.state"), "THAWED");
        thaw(&folder.join("cgroup.freeze"), "0");
        let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
            count += 1;
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(e) => panic!("kill {pid:?} of {}: {e}", folder.display()),
            }
        }
    }
    count
}

/// Writes to a freezer file if it exists: the hierarchy may be another one, or the group may be gone by now.
fn thaw(file: &Path, word: &str) {
    if file.exists()
        && let Err(e) = fs::write(file, word)
        && file.exists()
    {
        panic!("write {}: {e}", file.display());
    }
}

/// Removes these groups, deepest first. Says whether all are gone; EBUSY passes when dying tasks are reaped.
fn remove_folders(top: &Path) -> bool {
    host::folders_deepest_first(top).iter().all(|folder| fs::remove_dir(folder).is_ok())
}
