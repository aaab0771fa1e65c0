//! An ordinary user for one sandbox: all verbs of the sandbox run as that user from then on.
//!
//! The machine's accounts stay as they are. Each verb runs in a private mount namespace in which `/etc/passwd`,
//! `/etc/group`, `/etc/subuid` and `/etc/subgid` are the sandbox's own, with no capability and no group but the user's.
//! The program under test is a copy that the user owns, which is the case that a hostile container would like best.
//!
//! Where a machine has a user for tests, whose service manager runs, [`User::of_machine`] is that one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::bundle::Bundle;
use crate::oracle::case_with;
use crate::requires::Need;
use crate::runtime::Call;
use crate::sandbox::Sandbox;

/// How many subordinate ids the user has.
pub const RANGE: u32 = 65_536;

/// Binds the user's files over those of the machine, then becomes the user.
/// Arguments: the folder of the files, the uid, the home, the program and its arguments.
const ENTER: &str = r#"
dir=$1 uid=$2 home=$3; shift 3
for name in passwd group subuid subgid; do mount --bind "$dir/$name" /etc/$name || exit 120; done
for group in $(cat "$dir/groups"); do echo $$ > "$group/cgroup.procs" || exit 122; done
cd "$home" || exit 121
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all -- \
    env HOME="$home" XDG_RUNTIME_DIR="$home/run" USER=skepuser "$@"
"#;

/// A [`case`](crate::case) in which an ordinary user calls the runtime.
///
/// # Panics
/// As [`case_with`].
#[track_caller]
pub fn user_case<F: FnOnce(&Sandbox, &User)>(body: F) {
    user_case_with(&[], body);
}

/// [`user_case`] on a machine that has all of these.
///
/// # Panics
/// As [`case_with`].
#[track_caller]
pub fn user_case_with<F: FnOnce(&Sandbox, &User)>(needs: &[Need], body: F) {
    let own = [Need::Program("/usr/bin/setpriv"), Need::Program("/usr/bin/newuidmap")];
    case_with(&[&own, needs].concat(), |sb| body(sb, &User::of(sb)));
}

/// The user of a sandbox.
#[derive(Debug, Clone)]
pub struct User {
    /// User and group id, of nobody else on the machine.
    pub uid: u32,
    /// First of its [`RANGE`] subordinate ids, for users and for groups.
    pub first: u32,
    /// Its home; `run` below is XDG_RUNTIME_DIR.
    pub home: PathBuf,
    files: PathBuf,
    /// Its own copy of the program under test.
    pub program: PathBuf,
    /// Its name, where the machine has it.
    account: Option<String>,
}

impl User {
    /// Makes the user of a sandbox, and the sandbox the user's.
    pub fn of(sb: &Sandbox) -> User {
        // Sandboxes that live at once, in one process or in several, should not share their ids.
        let number = std::process::id() % 1000 * 40 + sb.number() % 40;
        let user = User::with(sb, 70_000 + number, 0x1000_0000 + number * RANGE, None);
        user.write_accounts();
        fs::write(user.files.join("groups"), "").expect("write the list of groups");
        fs::create_dir(user.home.join("run")).expect("create the run-time folder");
        fs::set_permissions(user.home.join("run"), fs::Permissions::from_mode(0o700)).expect("chmod");
        user.own_sandbox(sb);
        user
    }

    /// Makes the sandbox that of the machine's own user for tests ([`crate::requires::Need::TestUser`]).
    ///
    /// # Panics
    /// When there is none, or it has no subordinate ids.
    pub fn of_machine(sb: &Sandbox) -> User {
        let name = std::env::var("TEST_USER").expect("TEST_USER is set");
        let line = |file: &str| {
            let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("read {file}: {e}"));
            let found = text.lines().find(|line| line.split(':').next() == Some(&name));
            found.unwrap_or_else(|| panic!("{file} has no {name}")).to_owned()
        };
        let field =
            |line: &str, at: usize| line.split(':').nth(at).and_then(|text| text.parse().ok()).expect("a number");
        let user = User::with(sb, field(&line("/etc/passwd"), 2), field(&line("/etc/subuid"), 1), Some(name));
        user.own_sandbox(sb);
        user
    }

    fn with(sb: &Sandbox, uid: u32, first: u32, account: Option<String>) -> User {
        let home = sb.host_dir("home");
        let program = home.join("runtime");
        User { uid, first, home, files: sb.host_dir("etc"), program, account }
    }

    /// Gives the user its copy of the runtime, and the folders that it writes to.
    fn own_sandbox(&self, sb: &Sandbox) {
        let copied = Command::new("cp").arg(&sb.runtime.path).arg(&self.program).status().expect("cp");
        assert!(copied.success(), "copy the runtime");
        sb.host_dir("out");
        for path in [&sb.dir, &self.home, &self.program, &self.home.join("run"), &sb.dir.join("out")] {
            if path.exists() {
                chown(path, Some(self.uid), Some(self.uid)).expect("chown to the user");
            }
        }
        sb.set_user(self.clone());
    }

    fn write_accounts(&self) {
        let (uid, home) = (self.uid, self.home.display());
        let add = |name: &str, line: String| {
            let machine = fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
            fs::write(self.files.join(name), format!("{machine}{line}\n")).expect("write an account file");
        };
        add("passwd", format!("skepuser:x:{uid}:{uid}::{home}:/bin/sh"));
        add("group", format!("skepuser:x:{uid}:"));
        for name in ["subuid", "subgid"] {
            let range = format!("skepuser:{}:{RANGE}\n", self.first);
            fs::write(self.files.join(name), range).expect("write an account file");
            if !Path::new("/etc").join(name).exists() {
                panic!("/etc/{name} is missing: there is nothing to cover (package uidmap)");
            }
        }
    }

    /// Takes the subordinate ids away.
    pub fn without_ranges(&self) {
        for name in ["subuid", "subgid"] {
            fs::write(self.files.join(name), "").expect("write an account file");
        }
    }

    /// Makes a cgroup the user's in the way of a delegation, and lets all that the user calls start in a group below it.
    /// The folder is there, with its controllers handed down as far as the test wants.
    pub fn delegate(&self, group: &Path) {
        let own = group.join("session");
        fs::create_dir(&own).expect("create a group");
        for folder in [group, &own] {
            chown(folder, Some(self.uid), Some(self.uid)).expect("chown a group");
            for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                chown(folder.join(file), Some(self.uid), Some(self.uid)).expect("chown a file of a group");
            }
        }
        fs::write(self.files.join("groups"), own.to_str().expect("UTF-8")).expect("write the list of groups");
    }

    /// Prepares a program that runs as the user.
    pub fn call(&self, program: &str, scratch: &Path) -> Call {
        if let Some(name) = &self.account {
            let (uid, run) = (self.uid.to_string(), format!("/run/user/{}", self.uid));
            let call = Call::new(Path::new("/usr/bin/setpriv"), scratch);
            let call = call.args(["--reuid", &uid, "--regid", &uid, "--init-groups", "--inh-caps=-all", "--"]);
            let call = call.args(["env", &format!("HOME={}", self.home.display()), &format!("USER={name}")]);
            let bus = format!("DBUS_SESSION_BUS_ADDRESS=unix:path={run}/bus");
            return call.args([&format!("XDG_RUNTIME_DIR={run}"), &bus, program]);
        }
        let call = Call::new(Path::new("/usr/bin/unshare"), scratch);
        let call = call.args(["--mount", "--propagation", "private", "/bin/sh", "-c", ENTER, "enter"]);
        call.arg(&self.files).arg(self.uid.to_string()).arg(&self.home).arg(program)
    }

    /// A bundle of the user's: its own id is root inside, the network is the host's, no place for a cgroup is named.
    pub fn bundle(&self, sb: &Sandbox) -> Bundle {
        let b = sb.bundle().namespace("user", None).without_namespace("network").without_mount("/sys");
        let b = b.without_mount("/sys/fs/cgroup").unset("/linux/cgroupsPath").unset("/linux/resources");
        let b = b.without_mount("/dev/pts");
        let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
        let b = b.mount("devpts", "/dev/pts", "devpts", &options);
        self.own(&b.dir, self.uid);
        let map = json!([{ "containerID": 0, "hostID": self.uid, "size": 1 }]);
        b.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// The same with the subordinate ids as 1 and following.
    pub fn bundle_with_ranges(&self, sb: &Sandbox) -> Bundle {
        let map = json!([
            { "containerID": 0, "hostID": self.uid, "size": 1 },
            { "containerID": 1, "hostID": self.first, "size": RANGE }
        ]);
        self.bundle(sb).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// Gives everything below a folder to this id. Follows no link.
    pub fn own(&self, top: &Path, id: u32) {
        for path in crate::bundle::walk(top) {
            lchown(&path, Some(id), Some(id)).expect("chown a file");
        }
    }

    /// Processes that run under one of the user's ids, with their command lines. Of a user of the machine, whose manager
    /// lives on, those that were called in the sandbox.
    pub fn processes(&self) -> Vec<String> {
        let mine = |uid: &str| {
            uid.parse::<u32>().is_ok_and(|uid| uid == self.uid || (uid >= self.first && uid - self.first < RANGE))
        };
        let place = self.home.parent().and_then(Path::to_str).expect("a sandbox has a UTF-8 path");
        let ours = |line: &String| self.account.is_none() || line.contains(place);
        let entries = fs::read_dir("/proc").expect("list /proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| crate::host::alive(*pid))
            .filter(|pid| {
                let ids = crate::host::status_field(*pid, "Uid").unwrap_or_default();
                ids.split_ascii_whitespace().any(mine)
            })
            .map(|pid| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                format!("{pid} {}", line.replace('\0', " "))
            })
            .filter(ours)
            .collect()
    }
}
