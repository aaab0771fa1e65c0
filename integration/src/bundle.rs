//! Builds a bundle: a config.json that starts from the well-known default, and a root file system of one static busybox.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

/// The static busybox that every rootfs gets a copy of (package busybox-static of Debian).
pub const BUSYBOX: &str = "/bin/busybox";

/// Folders of a fresh rootfs. `tmp` is 1777, `root` 0700, the others 0755.
const FOLDERS: &[&str] = &["bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var"];

/// A bundle folder, its configuration and the id that its container will have.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The id that verbs get.
    pub id: String,
    /// The folder with `config.json` and `rootfs`.
    pub dir: PathBuf,
    /// The configuration as it will be written.
    pub spec: Value,
}

impl Bundle {
    /// Makes the folder with a rootfs and the default configuration. `cgroup` is the parent of the container's group.
    pub fn create(dir: &Path, id: &str, cgroup: &str) -> Bundle {
        let rootfs = dir.join("rootfs");
        fs::create_dir_all(&rootfs).expect("create the rootfs");
        fill_rootfs(&rootfs);
        let mut spec = default_spec();
        spec["linux"]["cgroupsPath"] = json!(format!("/{cgroup}/{id}"));
        Bundle { id: id.to_owned(), dir: dir.to_owned(), spec }
    }

    /// The root file system's folder.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Sets the program and its arguments.
    pub fn args(self, args: &[&str]) -> Bundle {
        self.set("/process/args", json!(args))
    }

    /// Runs this script with the rootfs' shell.
    pub fn sh(self, script: &str) -> Bundle {
        self.args(&["sh", "-c", script])
    }

    /// Sleeps far longer than a test takes.
    pub fn sleeper(self) -> Bundle {
        self.args(&["sleep", "1000"])
    }

    /// Makes the rootfs writable.
    pub fn writable(self) -> Bundle {
        self.set("/root/readonly", json!(false))
    }

    /// Sets the value at a JSON pointer; objects on the way are made.
    pub fn set(mut self, pointer: &str, value: Value) -> Bundle {
        *at(&mut self.spec, pointer) = value;
        self
    }

    /// Removes the member that a JSON pointer names.
    pub fn unset(mut self, pointer: &str) -> Bundle {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer starts with a slash");
        if let Some(object) = self.spec.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(name);
        }
        self
    }

    /// Appends to the array at a JSON pointer.
    pub fn push(mut self, pointer: &str, value: Value) -> Bundle {
        let slot = at(&mut self.spec, pointer);
        match slot {
            Value::Array(list) => list.push(value),
            _ => *slot = json!([value]),
        }
        self
    }

    /// Adds a mount.
    pub fn mount(self, source: &str, destination: &str, fstype: &str, options: &[&str]) -> Bundle {
        let mount = json!({ "source": source, "destination": destination, "type": fstype, "options": options });
        self.push("/mounts", mount)
    }

    /// Adds a bind mount with these further options.
    pub fn bind(self, source: &Path, destination: &str, options: &[&str]) -> Bundle {
        let mut all = vec!["bind"];
        all.extend(options);
        self.mount(source.to_str().expect("test paths are UTF-8"), destination, "none", &all)
    }

    /// Removes the mount at this destination.
    pub fn without_mount(mut self, destination: &str) -> Bundle {
        if let Some(list) = self.spec["mounts"].as_array_mut() {
            list.retain(|m| m["destination"] != destination);
        }
        self
    }

    /// Adds a namespace, new or (with a path) joined. One of this kind that is there already is replaced.
    pub fn namespace(self, kind: &str, path: Option<&str>) -> Bundle {
        let entry = match path {
            Some(path) => json!({ "type": kind, "path": path }),
            None => json!({ "type": kind }),
        };
        self.without_namespace(kind).push("/linux/namespaces", entry)
    }

    /// Removes a kind of namespace, so that the container shares the host's.
    pub fn without_namespace(mut self, kind: &str) -> Bundle {
        if let Some(list) = self.spec["linux"]["namespaces"].as_array_mut() {
            list.retain(|n| n["type"] != kind);
        }
        self
    }

    /// Gives the container a new user namespace: ids 0..65536 are 100000.. on the host, and the rootfs is theirs.
    pub fn user_namespace(self) -> Bundle {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        let id = 100_000;
        for path in walk(&self.rootfs()) {
            std::os::unix::fs::lchown(&path, Some(id), Some(id)).expect("chown the rootfs");
        }
        self.namespace("user", None).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// Adds a hook of this kind that runs `script` with the host's shell. It starts without an environment.
    pub fn hook(self, kind: &str, script: &str) -> Bundle {
        self.push(&format!("/hooks/{kind}"), json!({ "path": "/bin/sh", "args": ["sh", "-c", script] }))
    }

    /// Sets the five capability sets alike.
    pub fn capabilities(self, names: &[&str]) -> Bundle {
        let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
        sets.iter().fold(self, |b, set| b.set(&format!("/process/capabilities/{set}"), json!(names)))
    }

    /// Shows the host's perl to the container, read-only: it can make any system call. See [`crate::requires::PERL`].
    pub fn with_perl(self) -> Bundle {
        let shown = ["/usr", "/lib", "/lib64"].into_iter().filter(|path| Path::new(path).is_dir());
        shown.fold(self, |b, path| {
            let real = fs::canonicalize(path).expect("a folder of the host");
            b.mount(real.to_str().expect("UTF-8"), path, "none", &["rbind", "ro"])
        })
    }

    /// Writes a file into the rootfs, with its folders.
    pub fn file(self, path: &str, content: &str, mode: u32) -> Bundle {
        let target = self.rootfs().join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("below the rootfs")).expect("create folders in the rootfs");
        fs::write(&target, content).expect("write a file of the rootfs");
        fs::set_permissions(&target, fs::Permissions::from_mode(mode)).expect("chmod a file of the rootfs");
        self
    }

    /// Makes a folder in the rootfs.
    pub fn folder(self, path: &str) -> Bundle {
        fs::create_dir_all(self.rootfs().join(path.trim_start_matches('/'))).expect("create a folder of the rootfs");
        self
    }

    /// Makes a symbolic link in the rootfs in place of what is there.
    pub fn link(self, path: &str, target: &str) -> Bundle {
        let place = self.rootfs().join(path.trim_start_matches('/'));
        match fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&place).expect("remove a folder of the rootfs"),
            Ok(_) => fs::remove_file(&place).expect("remove a file of the rootfs"),
            Err(_) => {}
        }
        symlink(target, &place).expect("create a symbolic link in the rootfs");
        self
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.spec).expect("render config.json");
        fs::write(self.dir.join("config.json"), text).expect("write config.json");
    }
}

/// The value at a JSON pointer, made of objects where it is missing.
fn at<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer.split('/').skip(1).fold(value, |value, key| match value {
        Value::Array(list) => {
            let index: usize = key.parse().unwrap_or_else(|_| panic!("{pointer}: {key} is no index"));
            &mut list[index]
        }
        other => {
            if !other.is_object() {
                *other = json!({});
            }
            &mut other[key]
        }
    })
}

/// Every file and folder below `top`, and `top` itself. Follows no link.
pub(crate) fn walk(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let is_folder = fs::symlink_metadata(top).is_ok_and(|meta| meta.is_dir());
    if is_folder {
        for entry in fs::read_dir(top).expect("list the rootfs").flatten() {
            found.extend(walk(&entry.path()));
        }
    }
    found
}

/// Fills a rootfs: folders, a copy of busybox (a copy, for hostile tests may write to it) and a link per applet.
fn fill_rootfs(rootfs: &Path) {
    for name in FOLDERS {
        fs::create_dir(rootfs.join(name)).expect("create a folder of the rootfs");
    }
    let mode = |name: &str, bits| {
        fs::set_permissions(rootfs.join(name), fs::Permissions::from_mode(bits)).expect("chmod a folder of the rootfs");
    };
    mode("tmp", 0o1777);
    mode("root", 0o700);
    fs::copy(BUSYBOX, rootfs.join("bin/busybox")).unwrap_or_else(|e| panic!("{BUSYBOX} (busybox-static): {e}"));
    for applet in applets().iter().filter(|name| *name != "busybox") {
        symlink("busybox", rootfs.join("bin").join(applet)).expect("link an applet");
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n")
        .expect("write /etc/passwd of the rootfs");
    fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")
        .expect("write /etc/group of the rootfs");
}

/// The names of busybox's applets.
fn applets() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let said = Command::new(BUSYBOX).arg("--list").output();
        let said = said.unwrap_or_else(|e| panic!("{BUSYBOX} (busybox-static): {e}"));
        String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect()
    })
}

/// The configuration that `runc spec` is known for, without a terminal and with a cgroup namespace.
pub fn default_spec() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "skep-test",
        "mounts": default_mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" }
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

fn default_mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
    ])
}
