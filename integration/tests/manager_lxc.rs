//! Containers from configurations of LXC: `create --lxc-config`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use integration::defined::{Defined, text};
use integration::net::Net;
use integration::requires::Need;
use integration::{Output, Sandbox, case_with, json};

/// A folder as LXC has it: a configuration and a root file system, which is put where `ROOT` stands in `keys`.
fn lxc_folder(sb: &Sandbox, d: &Defined<'_>, keys: &str) -> (PathBuf, PathBuf) {
    let folder = sb.host_dir("lxc");
    let root = folder.join("rootfs");
    fs::rename(d.base(), &root).expect("move the root file system");
    let config = folder.join("config");
    let keys = keys.replace("ROOT", text(&root)).replace("DIR", text(&folder));
    fs::write(&config, format!("lxc.rootfs.path = dir:{}\n{keys}", root.display())).expect("write");
    (config, root)
}

#[track_caller]
fn create(d: &Defined<'_>, sb: &Sandbox, name: &str, config: &Path, options: &[&str]) -> Output {
    let parent = format!("/{}", sb.name);
    d.call(&[&["create", name, "--lxc-config", text(config), "--cgroup-parent", &parent], options].concat())
}

#[test]
fn a_container_of_lxc_is_adopted_where_it_lies() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let keys = "lxc.uts.name = inside\nlxc.init.cmd = /bin/sh -c \"while :; do sleep 0.1; done\"\nlxc.init.cwd = /tmp\n\
                    lxc.environment = COLOUR=blue\nlxc.cap.drop = sys_time mknod\nlxc.cgroup.memory.limit_in_bytes = 64M\n\
                    lxc.cgroup2.memory.max = 64M\nlxc.cgroup.pids.max = 30\nlxc.cgroup2.pids.max = 30\n\
                    lxc.prlimit.nofile = 100\nlxc.sysctl.kernel.msgmax = 4096\nlxc.mount.auto = proc:mixed sys:ro\n\
                    lxc.mount.entry = DIR/shared shared none bind,ro,create=dir 0 0\n\
                    lxc.mount.entry = /no/such none none bind,optional,create=dir 0 0\n\
                    lxc.mount.entry = etc etc-again none bind,relative,create=dir 0 0\n\
                    lxc.mount.fstab = DIR/fstab\nlxc.signal.halt = SIGTERM\nlxc.tty.max = 4\n";
        let (config, root) = lxc_folder(sb, &d, keys);
        let folder = config.parent().expect("a folder");
        fs::create_dir(folder.join("shared")).expect("make");
        fs::write(folder.join("shared/file"), "of the host\n").expect("write");
        fs::write(folder.join("fstab"), "tmpfs mem tmpfs size=64k,create=dir 0 0\n").expect("write");
        let before = fs::metadata(&root).expect("a root");
        let web = d.name("web");
        let created = create(&d, sb, &web, &config, &[]);
        assert!(created.stderr.contains("1 keys of"), "{}", created.stderr);
        assert_eq!(created.ok(), web);
        assert_eq!(d.listed(&web)["from"], text(&root));
        d.call(&["start", &web]).ok();
        let script = "hostname; pwd; echo $COLOUR; cat /shared/file; touch /shared/x 2>/dev/null; ls /none 2>/dev/null; \
                      ulimit -n; cat /proc/sys/kernel/msgmax; ls -d /etc-again; df -k /mem | tail -n 1 | awk '{print $2}'; \
                      echo mine > /mine; (echo 1 > /proc/sys/kernel/msgmni) 2>/dev/null || echo closed";
        let said = sb.exec_with(&web, &["--cwd", "/tmp", "--env", "COLOUR=blue"], &["sh", "-c", script]).ok();
        assert_eq!(said, "inside\n/tmp\nblue\nof the host\n100\n4096\n/etc-again\n64\nclosed");
        sb.cgroup_is("memory", &web, "memory.limit_in_bytes", &(64 << 20).to_string());
        sb.cgroup_is("pids", &web, "pids.max", "30");
        let status = sb.exec_sh(&web, "grep CapBnd /proc/1/status").ok();
        let bits = u64::from_str_radix(status.split_whitespace().last().expect("a set"), 16).expect("a number");
        assert!(bits & (1 << 25) == 0 && bits & (1 << 27) == 0 && bits & (1 << 21) != 0, "{bits:x}");
        // What it changes, it changes in its own root, and the folder has the owner and the inode that it had.
        assert_eq!(fs::read_to_string(root.join("mine")).expect("read"), "mine\n");
        let after = fs::metadata(&root).expect("a root");
        assert_eq!((after.ino(), after.uid(), after.mode()), (before.ino(), before.uid(), before.mode()));
        d.call(&["snapshot", &web]).fails_saying("cannot be frozen");
        d.call(&["diff", &web]).fails_saying("nothing says how it was before");
        d.call(&["stop", "--time", "0", &web]).ok();
        d.call(&["destroy", &web]).ok();
        assert!(root.join("mine").exists() && config.exists());
    });
}

#[test]
fn hooks_of_lxc_run_at_their_moments() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let kinds = ["pre-start", "mount", "autodev", "start-host", "stop", "post-stop", "destroy"];
        let keys: String = kinds.iter().map(|kind| format!("lxc.hook.{kind} = DIR/hook {kind}-given\n")).collect();
        let keys =
            format!("{keys}lxc.hook.start = /hook\nlxc.init.cmd = sleep 1000\nlxc.environment.hooks = EXTRA=1\n");
        for version in [0, 1] {
            let keys = format!("{keys}lxc.hook.version = {version}\n");
            let (config, root) = lxc_folder(sb, &d, &keys);
            let folder = config.parent().expect("a folder").to_owned();
            let told = folder.join("told");
            let say =
                "$LXC_NAME $LXC_HOOK_VERSION ${LXC_HOOK_TYPE:--} ${LXC_HOOK_SECTION:--} ${LXC_TARGET:--} $EXTRA $*";
            let hook = format!(
                "#!/bin/sh\necho \"{say}\" >> {}\n[ -d \"$LXC_ROOTFS_MOUNT/bin\" ] || exit 1\n",
                told.display()
            );
            write_program(&folder.join("hook"), &hook);
            write_program(&root.join("hook"), &format!("#!/bin/sh\necho \"{say}\" > /started\n"));
            let web = d.name(&format!("web{version}"));
            create(&d, sb, &web, &config, &["--start"]).ok();
            d.call(&["stop", "--time", "0", &web]).ok();
            d.call(&["destroy", &web]).ok();
            let line = |kind: &str, given: &str, target: &str| match version {
                0 => format!("{web} 0 - - {target} 1 {given}{web} lxc {kind}"),
                _ => format!("{web} 1 {kind} lxc {target} 1 {given}").trim_end().to_owned(),
            };
            let expected: Vec<String> = ["pre-start", "start-host", "mount", "autodev", "stop", "post-stop", "destroy"]
                .into_iter()
                .map(|kind| {
                    let target = if kind.ends_with("stop") { "stop" } else { "-" };
                    let given = if version == 0 { format!("{kind}-given ") } else { format!("{kind}-given") };
                    line(kind, &given, target)
                })
                .collect();
            let found = fs::read_to_string(&told).expect("the hooks ran");
            let found: Vec<&str> = found.lines().map(str::trim_end).collect();
            assert_eq!(found, expected);
            let started = fs::read_to_string(root.join("started")).expect("the start hook ran");
            assert_eq!(started.trim_end(), line("start", "", "-").trim_end());
            fs::rename(&root, sb.dir.join("base")).expect("move back");
            fs::remove_dir_all(&folder).expect("remove");
        }
    });
}

fn write_program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, script).expect("write");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[test]
fn a_hook_that_fails_stops_what_it_is_for() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let keys = "lxc.hook.pre-start = test -e DIR/ready\nlxc.hook.destroy = test -e DIR/ready\nlxc.init.cmd = sleep 1000\n\
                    lxc.hook.version = 1\n";
        let (config, root) = lxc_folder(sb, &d, keys);
        let web = d.name("web");
        create(&d, sb, &web, &config, &[]).ok();
        d.call(&["start", &web]).fails_saying("the pre-start hook");
        d.call(&["destroy", &web]).fails_saying("the destroy hook");
        fs::write(root.with_file_name("ready"), "").expect("write");
        d.call(&["start", &web]).ok();
        d.call(&["destroy", "-f", &web]).ok();
        assert!(root.exists());
    });
}

#[test]
fn layers_and_mapped_ids_are_adopted() {
    case_with(&[Need::Skep, Need::IdmappedTmpfs], |sb| {
        let d = Defined::new(sb);
        let (config, root) = lxc_folder(sb, &d, "lxc.init.cmd = sleep 1000\nlxc.idmap = u 0 200000 65536\n");
        let keys = fs::read_to_string(&config).expect("read");
        let upper = root.with_file_name("delta");
        fs::create_dir(&upper).expect("make");
        let text_of = |keys: &str, path: &str| {
            keys.replace(&format!("dir:{}", root.display()), path) + "lxc.idmap = g 0 200000 65536\n"
        };
        let overlay = format!("overlay:{}:{}", root.display(), upper.display());
        for path in [overlay, root.display().to_string()] {
            let options = "lxc.rootfs.options = idmap=container\n";
            fs::write(&config, text_of(&keys, &path) + options).expect("write");
            let web = d.name(if path.starts_with('/') { "plain" } else { "layers" });
            create(&d, sb, &web, &config, &["--start"]).ok();
            let pid = sb.state(&web)["pid"].as_i64().expect("a pid");
            assert_eq!(fs::metadata(format!("/proc/{pid}")).expect("a process").uid(), 200_000);
            sb.exec_sh(&web, "echo mine > /mine").ok();
            assert_eq!(sb.exec_sh(&web, "stat -c %u /mine /bin").ok(), "0\n0");
            let mine = if path.starts_with('/') { &root } else { &upper }.join("mine");
            assert_eq!(fs::metadata(&mine).expect("a file").uid(), 0);
            d.call(&["destroy", "-f", &web]).ok();
            assert!(mine.exists());
        }
    });
}

#[test]
fn links_of_lxc_are_made() {
    case_with(&[Need::Skep], |sb| {
        let net = Net::new(sb);
        let d = Defined::within(sb, &net);
        let keys = "lxc.init.cmd = sleep 1000\nlxc.net.0.type = veth\nlxc.net.0.link = br0\nlxc.net.0.flags = up\n\
                    lxc.net.0.name = lan\nlxc.net.0.hwaddr = 4a:49:43:49:79:bf\nlxc.net.0.ipv4.address = 10.2.3.5/24 10.2.3.255\n\
                    lxc.net.0.ipv4.gateway = auto\nlxc.net.0.script.up = echo up > DIR/up; true\n";
        let (config, root) = lxc_folder(sb, &d, keys);
        net.ip("link add br0 type bridge");
        net.ip("addr add 10.2.3.1/24 dev br0");
        net.ip("link set br0 up");
        let web = d.name("web");
        create(&d, sb, &web, &config, &["--start"]).ok();
        let seen = sb.exec_sh(&web, "ip -4 addr show lan; cat /sys/class/net/lan/address; ip route").ok();
        for part in ["10.2.3.5/24", "4a:49:43:49:79:bf", "default via 10.2.3.1"] {
            assert!(seen.contains(part), "{part} is not in {seen}");
        }
        assert!(root.with_file_name("up").exists());
        d.call(&["destroy", "-f", &web]).ok();
    });
}

#[test]
fn what_cannot_be_is_told_and_nothing_is_defined() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (config, _) = lxc_folder(sb, &d, "lxc.tty.max = 4\nlxc.utsname = old\nlxc.init.cmd = sleep 1\n");
        let web = d.name("web");
        let report = create(&d, sb, &web, &config, &["--check", "--report", "json"]).json();
        assert_eq!(report["findings"][0]["line"], 3);
        assert_eq!(report["not_possible"][0]["key"], "lxc.tty.max");
        assert_eq!(report["translated"][0]["file"], text(&config));
        create(&d, sb, &web, &config, &["--check", "--lxc-set", "lxc.nothing=1"]).fails_saying("is no key of LXC's");
        fs::write(&config, "lxc.start.auto = 2\nlxc.bogus = 1\n").expect("write");
        let failed = create(&d, sb, &web, &config, &[]);
        assert!(failed.stderr.contains("config:1: lxc.start.auto") && failed.stderr.contains("config:2: lxc.bogus"));
        failed.fails_saying("2 of its lines are wrong");
        fs::write(&config, "lxc.uts.name = a\n").expect("write");
        create(&d, sb, &web, &config, &[]).fails_saying("names no root file system");
        fs::write(&config, "lxc.rootfs.path = loop:/x\n").expect("write");
        create(&d, sb, &web, &config, &[]).fails_saying("names no root file system");
        assert_eq!(d.call(&["ls", "-o", "json"]).json(), json!([]));
    });
}

/// Files that others wrote, as far as they are installed.
#[test]
fn configurations_of_lxc_s_package_are_read() {
    case_with(&[Need::Skep, Need::Program("/usr/bin/lxc-start")], |sb| {
        let d = Defined::new(sb);
        for folder in ["/usr/share/lxc/config", "/usr/share/doc/lxc/examples", "/etc/lxc"] {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for path in entries.map(|entry| entry.expect("an entry").path()) {
                let name = path.to_string_lossy().into_owned();
                if !name.ends_with(".conf") || name.contains("seccomp") {
                    continue;
                }
                let report = d.call(&["create", "any", "--lxc-config", &name, "--check", "--report", "json"]).json();
                let findings = report["findings"].as_array().expect("a list");
                // A table of mounts that an example names need not be there.
                let is_ours = |finding: &&integration::Value| {
                    let message = finding["message"].as_str().expect("a text");
                    !message.contains("No such file")
                };
                assert_eq!(
                    findings.iter().filter(is_ours).collect::<Vec<_>>(),
                    Vec::<&integration::Value>::new(),
                    "{name}"
                );
            }
        }
        for name in ["seccomp-v1", "seccomp-v2", "seccomp-v2-denylist"] {
            let profile = format!("/usr/share/doc/lxc/examples/{name}.conf");
            if Path::new(&profile).exists() {
                let config = sb.dir.join("config");
                fs::write(&config, format!("lxc.seccomp.profile = {profile}\n")).expect("write");
                d.call(&["create", "any", "--lxc-config", text(&config), "--check"]).ok();
            }
        }
    });
}
