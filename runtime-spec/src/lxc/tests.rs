//! Whole configurations.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fragment;
use crate::model::CapSet;

/// Reads from a table of files; a path that ends in a slash is a folder.
fn reader<'a>(files: &'a [(&'a str, &'a str)]) -> impl FnMut(&str) -> Result<Found, String> + 'a {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    move |path| {
        if path.ends_with('/') {
            let inside: Vec<String> =
                files.keys().filter(|file| file.starts_with(path)).map(|file| (*file).to_owned()).collect();
            return if inside.is_empty() {
                Err("there is no such folder".to_owned())
            } else {
                Ok(Found::Folder(inside))
            };
        }
        files.get(path).map(|text| Found::File((*text).to_owned())).ok_or_else(|| "there is no such file".to_owned())
    }
}

fn read(text: &str, files: &[(&str, &str)]) -> (Config, Vec<Finding>) {
    parse(Source { name: "config", text }, &mut reader(files))
}

fn around<'a>(layout: Layout) -> Around<'a> {
    Around {
        name: "web1",
        file: "/c/web1/config",
        mount_point: "/data/containers/web1/rootfs",
        layout,
        architectures: &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        call_name: &|_| None,
        capabilities: CapSet::ALL,
        apparmor: true,
        selinux: true,
        halt: "SIGPWR",
        variable: &|name| (name == "TERM").then(|| "xterm".to_owned()),
        addresses: &|_| vec!["10.0.3.1".parse().unwrap()],
    }
}

#[track_caller]
fn lowered_on(layout: Layout, text: &str, files: &[(&str, &str)]) -> (Lowered, Report) {
    let (config, findings) = read(text, files);
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning), "{findings:?}");
    let (lowered, report, findings) = lower(&config, &around(layout), &mut reader(files));
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning), "{findings:?}");
    (lowered, report)
}

#[track_caller]
fn lowered(text: &str) -> (Lowered, Report) {
    lowered_on(Layout::Legacy, text, &[])
}

fn values(config: &Config, key: &str) -> Vec<String> {
    config.all(key).map(|setting| setting.value.clone()).collect()
}

#[track_caller]
fn messages(text: &str, files: &[(&str, &str)]) -> Vec<String> {
    read(text, files).1.iter().map(ToString::to_string).collect()
}

#[test]
fn lines_are_keys_comments_or_nothing() {
    let text = "# first\n  \n  lxc.uts.name =  a # b  \nlxc.group=\"x y\"\nlxc.group = 'z'\nlxc.group = \"q'\n";
    let (config, findings) = read(text, &[]);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(values(&config, "lxc.uts.name"), ["a # b"]);
    assert_eq!(values(&config, "lxc.group"), ["x y", "z", "\"q'"]);
}

#[test]
fn every_finding_has_its_file_and_line() {
    let files = [("/inc", "\nlxc.nothing = 1\n")];
    let text = "lxc.start.auto = 2\nfoo = 1\nlxc.uts.name\nlxc.include = /inc\nlxc.idmap = u 0\nlxc.include = /gone\n";
    assert_eq!(
        messages(text, &files),
        [
            "config:1: lxc.start.auto must be 0 or 1, not \"2\"",
            "config:2: \"foo = 1\" is no key of a container: it is passed over",
            "config:3: \"lxc.uts.name\" is not of the form key = value",
            "/inc:2: lxc.nothing is no key of LXC's",
            "config:5: lxc.idmap must be u or g and three numbers: first inside, first outside, how many, not \"u 0\"",
            "config:6: lxc.include /gone: there is no such file",
        ]
    );
}

#[test]
fn includes_come_where_they_stand_and_cycles_are_named() {
    let files = [("/d/a.conf", "lxc.group = a\n"), ("/d/b.conf", "lxc.group = b\nlxc.include = /d/b.conf\n")];
    let (config, findings) = read("lxc.group = 0\nlxc.include = /d/\nlxc.group = 1\nlxc.include = /none/\n", &files);
    assert_eq!(values(&config, "lxc.group"), ["0", "a", "b", "1"]);
    assert_eq!(
        findings[0].to_string(),
        "/d/b.conf:2: lxc.include: the files include each other: /d/b.conf -> /d/b.conf"
    );
    assert_eq!((findings.len(), findings[1].severity), (2, Severity::Warning));
    // A chain that is no cycle ends, too.
    let mut depth = 0;
    let mut endless = |_: &str| {
        depth += 1;
        Ok(Found::File(format!("lxc.include = /{depth}\nlxc.include = /{depth}x\n")))
    };
    let (_, findings) = parse(Source { name: "config", text: "lxc.include = /0\nlxc.group = a\n" }, &mut |path| {
        if path.ends_with('x') { Err("no".to_owned()) } else { endless(path) }
    });
    assert!(findings.iter().any(|finding| finding.message.contains("more than 32 deep")), "{findings:?}");
}

#[test]
fn an_empty_value_takes_back_what_was_said() {
    let text = "lxc.cap.drop = mknod\nlxc.cap.drop =\nlxc.cap.drop = sys_time\nlxc.net.0.type = veth\nlxc.net.1.type = empty\n\
                lxc.net.0 =\nlxc.cgroup.devices.deny = a\nlxc.cgroup.devices.allow = c 1:3 rwm\nlxc.cgroup.devices.deny =\n\
                lxc.hook.mount = /x\nlxc.hook.version = 1\nlxc.hook =\nlxc.environment.hooks = A=1\nlxc.environment = B=2\n\
                lxc.environment =\nlxc.uts.name = a\nlxc.uts.name =\n";
    let (config, findings) = read(text, &[]);
    assert!(findings.is_empty(), "{findings:?}");
    let keys: Vec<&str> = config.settings.iter().map(|setting| setting.key.as_str()).collect();
    assert_eq!(keys, ["lxc.cap.drop", "lxc.net.1.type", "lxc.cgroup.devices.allow", "lxc.environment.hooks"]);
    assert_eq!(messages("lxc.nothing =\n", &[]), ["config:1: lxc.nothing is no key of LXC's"]);
    assert!(read("lxc.net.0.type = veth\nlxc.net =\n", &[]).0.settings.is_empty());
}

#[test]
fn names_before_2_1_are_those_of_today() {
    let text = "lxc.utsname = a\nlxc.rootfs = /r\nlxc.network.type = veth\nlxc.network.link = br0\nlxc.network.ipv4 = 10.0.0.2/24\n\
                lxc.network.type = empty\nlxc.id_map = u 0 1 2\nlxc.limit.nofile = 5\nlxc.kmsg = 0\nlxc.aa_profile = unconfined\n";
    let (config, findings) = read(text, &[]);
    assert_eq!(findings.len(), 10);
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning));
    assert_eq!(findings[0].message, "lxc.utsname is the name of lxc.uts.name before LXC 2.1");
    let keys: Vec<&str> = config.settings.iter().map(|setting| setting.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "lxc.uts.name",
            "lxc.rootfs.path",
            "lxc.net.0.type",
            "lxc.net.0.link",
            "lxc.net.0.ipv4.address",
            "lxc.net.1.type",
            "lxc.idmap",
            "lxc.prlimit.nofile",
            "lxc.apparmor.profile"
        ]
    );
}

#[test]
fn a_command_line_adds_settings() {
    let mut config = read("lxc.uts.name = a\n", &[]).0;
    read_entries(&mut config, &["lxc.uts.name=b".to_owned(), "lxc.group = g".to_owned()]).unwrap();
    assert_eq!((values(&config, "lxc.uts.name"), values(&config, "lxc.group")), (vec!["b".into()], vec!["g".into()]));
    for text in ["lxc.uts.name", "=1", "lxc.nothing=1"] {
        let error = read_entries(&mut config, &[text.to_owned()]).unwrap_err();
        assert!(error.to_string().starts_with("the command line: "), "{error}");
    }
}

/// A configuration with every key there is, and something of every family.
const EVERYTHING: &str = "\
lxc.arch = x86_64\nlxc.uts.name = web\nlxc.rootfs.path = dir:/srv/root\nlxc.rootfs.options = idmap=container,ro,noatime\n\
lxc.rootfs.mount = /mnt\nlxc.rootfs.managed = 0\nlxc.init.cmd = /sbin/init \"a b\"\nlxc.init.cwd = /srv\nlxc.init.uid = 1\n\
lxc.init.gid = 2\nlxc.init.groups = 3,4\nlxc.execute.cmd = /x\nlxc.signal.halt = SIGRTMIN+3\nlxc.signal.reboot = SIGINT\n\
lxc.signal.stop = SIGTERM\nlxc.sched.core = 1\nlxc.proc.oom_score_adj = 10\nlxc.proc.coredump_filter = 1\nlxc.ephemeral = 1\n\
lxc.net.0.type = veth\nlxc.net.0.link = br0\nlxc.net.0.flags = up\nlxc.net.0.name = lan\nlxc.net.0.hwaddr = 00:16:3e:xx:xx:xx\n\
lxc.net.0.mtu = 1400\nlxc.net.0.l2proxy = 1\nlxc.net.0.ipv4.address = 10.0.3.2/24 10.0.3.255\nlxc.net.0.ipv4.gateway = auto\n\
lxc.net.0.ipv6.address = fd00::2\nlxc.net.0.ipv6.gateway = dev\nlxc.net.0.script.up = /up\nlxc.net.0.script.down = /down\n\
lxc.net.0.veth.pair = vweb\nlxc.net.0.veth.mode = bridge\nlxc.net.0.veth.ipv4.route = 10.1.0.0/16\n\
lxc.net.0.veth.ipv6.route = fd01::/64\nlxc.net.0.veth.n_rxqueues = 2\nlxc.net.0.veth.n_txqueues = 2\nlxc.net.0.veth.vlan.id = 5\n\
lxc.net.0.veth.vlan.tagged.id = 6\nlxc.net.1.type = vlan\nlxc.net.1.link = e0\nlxc.net.1.vlan.id = 7\n\
lxc.net.2.type = macvlan\nlxc.net.2.link = e0\nlxc.net.2.macvlan.mode = bridge\nlxc.net.3.type = ipvlan\nlxc.net.3.link = e0\n\
lxc.net.3.ipvlan.mode = l2\nlxc.net.3.ipvlan.isolation = vepa\nlxc.net.4.type = phys\nlxc.net.4.link = e1\nlxc.net.5.type = empty\n\
lxc.pty.max = 100\nlxc.console.buffer.size = auto\nlxc.console.size = 1MB\nlxc.console.logfile = /l\nlxc.console.rotate = 1\n\
lxc.console.path = none\nlxc.tty.max = 4\nlxc.tty.dir = lxc\nlxc.autodev = 1\nlxc.autodev.tmpfs.size = 600000\n\
lxc.mount.entry = /srv/www srv/www none bind,ro,create=dir,optional 0 0\nlxc.mount.entry = dev/null proc/kcore none bind,relative\n\
lxc.mount.entry = /lib /root/lib none bind\nlxc.mount.entry = /a b none bind,idmap=container\nlxc.mount.fstab = /fstab\n\
lxc.mount.auto = proc:mixed sys:rw cgroup:ro shmounts:/shm\nlxc.cgroup.cpu.shares = 512\nlxc.cgroup.memory.limit_in_bytes = 64M\n\
lxc.cgroup.pids.max = 50\nlxc.cgroup.blkio.throttle.read_bps_device = 8:0 1000\nlxc.cgroup.hugetlb.2MB.limit_in_bytes = 2M\n\
lxc.cgroup.net_cls.classid = 0x10001\nlxc.cgroup.odd.file = 1\nlxc.cgroup2.memory.max = 32M\nlxc.cgroup2.cpu.max = 50000 100000\n\
lxc.cgroup2.memory.high = 1G\nlxc.cgroup.devices.deny = a\nlxc.cgroup.devices.allow = c 1:3 rwm\nlxc.cgroup2.devices.deny = a\n\
lxc.cgroup.dir = box/first\nlxc.cgroup.dir.container = c\nlxc.cgroup.dir.container.inner = i\nlxc.cgroup.dir.monitor = m\n\
lxc.cgroup.dir.monitor.pivot = p\nlxc.cgroup.relative = 1\nlxc.cap.drop = sys_module\nlxc.cap.keep = chown 1\n\
lxc.namespace.clone = net pid\nlxc.namespace.keep = ipc\nlxc.namespace.share.uts = 1\nlxc.namespace.share.ipc = other\n\
lxc.time.offset.boot = 5s\nlxc.time.offset.monotonic = -1h\nlxc.prlimit.nofile = 100:unlimited\nlxc.sysctl.net.ipv4.ip_forward = 1\n\
lxc.apparmor.profile = generated\nlxc.apparmor.allow_incomplete = 1\nlxc.apparmor.allow_nesting = 1\nlxc.apparmor.raw = x\n\
lxc.selinux.context = a_t\nlxc.selinux.context.keyring = b_t\nlxc.keyring.session = 0\nlxc.seccomp.profile = /profile\n\
lxc.seccomp.allow_nesting = 1\nlxc.seccomp.notify.proxy = unix:/p\nlxc.seccomp.notify.cookie = c\nlxc.no_new_privs = 1\n\
lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\nlxc.hook.version = 1\nlxc.hook.pre-start = /h a\nlxc.hook.pre-mount = /h\n\
lxc.hook.mount = /h\nlxc.hook.autodev = /h\nlxc.hook.start-host = /h\nlxc.hook.start = /h\nlxc.hook.stop = /h\nlxc.hook.post-stop = /h\n\
lxc.hook.clone = /h\nlxc.hook.destroy = /h\nlxc.log.level = 0\nlxc.log.file = /l\nlxc.log.syslog = daemon\nlxc.start.auto = 1\n\
lxc.start.delay = 3\nlxc.start.order = -1\nlxc.monitor.unshare = 1\nlxc.monitor.signal.pdeath = SIGKILL\nlxc.group = onboot\n\
lxc.environment = A=1\nlxc.environment = TERM\nlxc.environment = NOBODY_HAS\nlxc.environment.runtime = B=1\n\
lxc.environment.hooks = C=1\n";

const FILES: [(&str, &str); 2] =
    [("/fstab", "# table\nproc proc proc nodev 0 0\n"), ("/profile", "2\ndenylist\nmknod errno 0\n")];

/// The config.json that the fragment is laid over must be one that is right.
#[track_caller]
fn check_whole(lowered: &Lowered) -> Value {
    let mut config = json!(crate::example::example(true));
    fragment::merge(&mut config, &lowered.oci);
    for mount in config["mounts"].as_array_mut().unwrap() {
        mount.as_object_mut().unwrap().remove("optional");
    }
    let report = crate::load(&serde_json::to_vec(&config).unwrap());
    let is_error = |finding: &&crate::Finding| finding.severity == Severity::Error;
    let errors: Vec<_> = report.findings.iter().filter(is_error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    config
}

#[test]
fn every_key_has_a_fate() {
    for layout in [Layout::Legacy, Layout::Unified] {
        let (config, findings) = read(EVERYTHING, &FILES);
        assert!(findings.is_empty(), "{findings:?}");
        let (lowered, report, _) = lower(&config, &around(layout), &mut reader(&FILES));
        for setting in &config.settings {
            let said = report.fates(&setting.key).len();
            let values = config.all(&setting.key).count();
            let is_script = setting.key.ends_with("options") || setting.key == "lxc.mount.auto";
            assert!(said == values || (is_script && said > values), "{}: {said} of {values}", setting.key);
        }
        let mut whole = lowered.clone();
        // `clone` without `user` and the offsets of a clock that is not cloned contradict each other on purpose above.
        whole.oci["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "user"}, {"type": "time"}, {"type": "network"}, {"type": "uts"}, {"type": "ipc"}]);
        whole.oci["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        whole.oci["linux"]["gidMappings"] = whole.oci["linux"]["uidMappings"].clone();
        let config = check_whole(&whole);
        assert_eq!(config["process"]["oomScoreAdj"], 10);
        let text = report.render();
        assert!(text.starts_with("translated:\n  lxc.rootfs.options = "), "{text}");
        assert!(text.contains("\nnot possible:\n"));
    }
}

#[test]
fn limits_are_those_of_the_layout_that_the_host_has() {
    let text = "lxc.cgroup.memory.limit_in_bytes = 64M\nlxc.cgroup2.memory.max = 32M\nlxc.cgroup2.cpu.max = 50000 100000\n\
                lxc.cgroup2.memory.high = 1G\nlxc.cgroup2.pids.max = 7\n";
    let (legacy, report) = lowered(text);
    assert_eq!((legacy.memory, legacy.pids), (Some(64 << 20), Some(7)));
    assert_eq!(legacy.oci["linux"]["resources"]["cpu"], json!({"quota": 50_000, "period": 100_000}));
    assert_eq!(report.fates("lxc.cgroup2.memory.high"), [Fate::NotPossible]);
    let (unified, report) = lowered_on(Layout::Unified, text, &[]);
    assert_eq!(unified.oci["linux"]["resources"]["unified"]["memory.max"], "32M");
    assert_eq!(report.fates("lxc.cgroup2.memory.high"), [Fate::Translated]);
    check_whole(&unified);
}

#[test]
fn rules_for_devices_follow_the_lines() {
    let text = "lxc.cgroup.devices.deny = a\nlxc.cgroup.devices.allow = c *:* m\nlxc.cgroup2.devices.allow = a\n";
    let rules = |layout| lowered_on(layout, text, &[]).0.oci["linux"]["resources"]["devices"].clone();
    let all = json!({"allow": true, "access": "rwm"});
    assert_eq!(
        rules(Layout::Legacy),
        json!([all, {"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "access": "m"}])
    );
    assert_eq!(rules(Layout::Unified), json!([all, all]));
    assert_eq!(lowered("").0.oci["linux"]["resources"]["devices"], json!([all]));
}

#[test]
fn links_are_texts() {
    let text = "lxc.net.0.type = veth\nlxc.net.0.link = br0\nlxc.net.0.ipv4.address = 10.0.0.2\nlxc.net.0.ipv4.gateway = auto\n\
                lxc.net.1.type = macvlan\nlxc.net.1.link = e0\nlxc.net.1.hwaddr = 4a:49:43:49:79:BD\n\
                lxc.net.2.type = phys\nlxc.net.2.link = e1\nlxc.net.3.type = veth\nlxc.net.3.veth.mode = router\n\
                lxc.net.3.ipv4.address = 192.0.2.1\n";
    assert_eq!(
        lowered(text).0.links,
        [
            "veth:name=eth0,bridge=br0,address=10.0.0.2/8,gateway=10.0.3.1",
            "macvlan:name=eth1,parent=e0,mac=4a:49:43:49:79:bd,mode=private",
            "phys:name=e1,device=e1",
            "veth:name=eth2,address=192.0.2.1/32,mode=routed"
        ]
    );
    let (host, _) = lowered("lxc.net.0.type = none\n");
    assert!(host.host_network && host.links.is_empty());
    assert!(!lowered("").0.host_network);
    assert_eq!(messages("lxc.net.0.link = br0\n", &[]).len(), 1);
    assert!(messages("lxc.net.0.type = vlan\n", &[])[1].contains("lxc.net.0.vlan.id is not set"));
    let address = |name| {
        let (config, _) = read("lxc.net.0.type = veth\nlxc.net.0.hwaddr = 00:16:3e:xx:xx:xx\n", &[]);
        let around = Around { name, ..around(Layout::Legacy) };
        lower(&config, &around, &mut reader(&[])).0.links.concat()
    };
    assert_eq!(address("a"), address("a"));
    assert_ne!(address("a"), address("b"));
    assert!(address("a").starts_with("veth:name=eth0,mac=00:16:3e:"));
}

#[test]
fn roots_lie_where_they_lie() {
    let root =
        |text: &str| lowered(&format!("lxc.rootfs.path = {text}\n")).0.rootfs.map(|root| (root.path, root.lower));
    assert_eq!(root("/r"), Some(("/r".into(), vec![])));
    assert_eq!(root("dir:/r"), Some(("/r".into(), vec![])));
    assert_eq!(root("overlay:/a:/b:/u"), Some(("/u".into(), vec!["/a".into(), "/b".into()])));
    for text in ["loop:/x", "zfs:tank/x", "overlay:/a", "overlay:a:/b", "dir:r", "what"] {
        assert_eq!(root(text), None, "{text}");
    }
}

#[test]
fn hooks_are_told_by_arguments_or_by_variables() {
    let hook = |version: u32| {
        let text = format!("lxc.hook.version = {version}\nlxc.hook.mount = /h x\nlxc.rootfs.path = /r\n");
        lowered(&text).0.oci["hooks"]["createContainer"][0].clone()
    };
    assert_eq!(hook(0)["args"], json!(["sh", "-c", "/h x web1 lxc mount"]));
    let env = |version| {
        hook(version)["env"].as_array().unwrap().iter().map(|e| e.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for entry in ["LXC_NAME=web1", "LXC_CONFIG_FILE=/c/web1/config", "LXC_ROOTFS_MOUNT=/r", "LXC_ROOTFS_PATH=/r"] {
        assert!(env(0).contains(&entry.to_owned()), "{entry}");
    }
    assert!(!env(0).iter().any(|entry| entry.starts_with("LXC_HOOK_TYPE")));
    assert_eq!(hook(1)["args"], json!(["sh", "-c", "/h x"]));
    assert!(env(1).contains(&"LXC_HOOK_TYPE=mount".to_owned()) && env(1).contains(&"LXC_HOOK_SECTION=lxc".to_owned()));
}

#[test]
fn capabilities_are_dropped_or_kept() {
    let set = |text: &str| {
        let names = lowered(text).0.oci["process"]["capabilities"]["bounding"].clone();
        names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(set("").len(), 41);
    assert_eq!(set("lxc.cap.drop = sys_time mknod\n").len(), 39);
    assert_eq!(set("lxc.cap.keep = chown none mknod\n"), ["CAP_MKNOD"]);
    assert!(set("lxc.cap.keep = none\n").is_empty());
}

#[test]
fn ids_are_a_range_or_maps() {
    let plain = lowered("lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n").0;
    assert_eq!(plain.ids, Some((100_000, 65_536)));
    let split = lowered("lxc.idmap = u 0 100000 1000\nlxc.idmap = u 1000 1000 1\nlxc.idmap = g 0 100000 1000\n").0;
    assert_eq!((split.ids, split.oci["linux"]["uidMappings"][1]["hostID"].as_u64()), (None, Some(1000)));
    assert!(check_whole(&split)["linux"]["namespaces"].as_array().unwrap().contains(&json!({"type": "user"})));
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in "(?s).{0,400}") {
        let (config, _) = parse(Source { name: "config", text: &text }, &mut |_| Err("no".to_owned()));
        let _unused = lower(&config, &around(Layout::Legacy), &mut |_| Err("no".to_owned()));
    }

    #[test]
    fn no_value_breaks_a_key(index in 0..200_usize, value in "[ -~]{0,60}", again in "[0-9a-z:,./= \\[\\]+-]{0,40}") {
        let keys: Vec<&str> = EVERYTHING.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
        let key = keys[index % keys.len()];
        let text = format!("lxc.net.0.type = veth\n{key} = {value}\n{key} = {again}\n{key} = {again}\n");
        let (config, findings) = read(&text, &FILES);
        for setting in &config.settings {
            prop_assert!(!setting.value.is_empty());
        }
        prop_assert!(findings.iter().all(|finding| finding.place.line <= 4));
        for layout in [Layout::Legacy, Layout::Unified] {
            let (_, report, _) = lower(&config, &around(layout), &mut reader(&FILES));
            prop_assert_eq!(report.render().is_empty(), config.settings.is_empty());
        }
    }

    #[test]
    fn no_profile_breaks_the_reader(text in "(1|2)\n(allowlist|denylist)[ a-z0-9]{0,12}\n([\\[\\]a-z0-9,=&<>! #\n-]{0,200})") {
        let _unused = parse_profile(Source { name: "p", text: &text }, &["SCMP_ARCH_X86_64"], &|_| None);
    }
}
