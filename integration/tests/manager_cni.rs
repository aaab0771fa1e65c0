//! CNI networks of defined containers: with Debian's plugins, and with one of the test's own that says what it was told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use integration::defined::{Defined, text};
use integration::host::eventually;
use integration::net::Net;
use integration::requires::Need;
use integration::{Sandbox, Value, case_with, json};

const DEBIAN: &str = "/usr/lib/cni";
const SLEEP: [&str; 2] = ["sleep", "1000"];

fn with_net(needs: &[Need], body: impl FnOnce(&Cni<'_>)) {
    let usual = [Need::Skep, Need::Program("/usr/bin/nsenter"), Need::Program("/usr/sbin/ip")];
    case_with(&[&usual, needs].concat(), |sb| {
        let net = Net::new(sb);
        let dir = sb.dir.join("cni");
        fs::create_dir_all(dir.join("plugins")).expect("make a folder");
        body(&Cni { sb, net: &net, d: Defined::within(sb, &net), dir });
    });
}

/// A host with folders of configurations and plugins.
struct Cni<'a> {
    sb: &'a Sandbox,
    net: &'a Net<'a>,
    d: Defined<'a>,
    dir: PathBuf,
}

impl Cni<'_> {
    fn list(&self, file: &str, list: &Value) {
        fs::write(self.dir.join(file), list.to_string()).expect("write a configuration");
    }

    /// A plugin that writes what it is asked, and does `rest`.
    fn plugin(&self, name: &str, rest: &str) {
        let log = self.dir.join("log");
        let script = format!(
            "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/bin\ninput=$(cat)\n\
             echo \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $input\" >>{}\n{rest}\n",
            text(&log)
        );
        let path = self.dir.join("plugins").join(name);
        fs::write(&path, script).expect("write a plugin");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    /// What the plugin was asked, the first words of each line.
    fn log(&self, words: usize) -> Vec<String> {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().map(|line| line.split(' ').take(words).collect::<Vec<_>>().join(" ")).collect()
    }

    fn create(&self, name: &str, options: &[&str]) -> integration::Output {
        let own = format!("{}/plugins", text(&self.dir));
        let folders = ["--cni-conf", text(&self.dir), "--cni-plugins", &own, "--cni-plugins", DEBIAN];
        self.d.create(name, text(&self.d.base()), &[&folders, options].concat(), &SLEEP)
    }

    /// No attachment is on disk, no namespace is held.
    #[track_caller]
    fn is_clean(&self) {
        let cache = self.d.data.join("cni");
        let files = fs::read_dir(&cache).expect("the cache").map(|file| file.expect("a file").file_name());
        let left: Vec<_> = files.filter(|file| file.to_string_lossy().ends_with(".json")).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(fs::read_dir(cache.join("netns")).expect("a folder").count(), 0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("proc");
        assert!(!mounts.contains(text(&self.sb.dir)), "a mount is left:\n{mounts}");
    }

    fn kill(&self, name: &str) {
        self.sb.call(&["kill", name, "KILL"]).run().ok();
        eventually("it is dead", || self.d.listed(name)["state"] == "stopped");
    }
}

fn lan(cni: &Cni<'_>, version: &str) -> Value {
    json!({ "cniVersion": version, "name": "lan", "plugins": [
        { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {
            "type": "host-local", "dataDir": cni.dir.join("ipam"),
            "ranges": [[{ "subnet": "10.40.0.0/24" }], [{ "subnet": "fd00:40::/64" }]],
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }] }, "capabilities": { "ips": true } },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ] })
}

#[test]
fn containers_in_a_network_of_debians_plugins() {
    let needs = [Need::Program("/usr/lib/cni/bridge"), Need::Program("/usr/sbin/iptables")];
    with_net(&needs, |cni| {
        let (sb, d) = (cni.sb, &cni.d);
        cni.list("10-lan.conflist", &lan(cni, "1.0.0"));
        let (a, b) = (d.name("a"), d.name("b"));
        cni.net.ip("link add wan type veth peer name wan2");
        let class = ["--class", "device=wan,rate=1mbit"];
        cni.create(&a, &[&["--network", "cni:lan", "--publish", "8081:80"], &class[..]].concat()).ok();
        cni.create(&b, &["--network", "cni:lan", "--ip", "10.40.0.77", "--ids", "100000:65536"]).ok();
        cni.create("x", &["--network", "cni:lan", "--egress", "1mbit"]).fails_saying("\"bandwidth\"");
        let leases = || {
            let files =
                fs::read_dir(cni.dir.join("ipam/lan")).expect("leases").map(|file| file.expect("a file").file_name());
            files.filter(|file| file.to_string_lossy().starts_with(['1', 'f'])).count()
        };
        for round in 0..3 {
            d.call(&["start", &a, &b]).ok();
            let listed = d.listed(&b);
            assert_eq!((&listed["network"], &listed["ipv4"]), (&json!("cni:lan"), &json!(["10.40.0.77"])));
            let first = d.listed(&a)["ipv4"][0].as_str().expect("an address").to_owned();
            let six = d.listed(&a)["ipv6"][0].as_str().expect("an address").to_owned();
            for address in [first.as_str(), &six, "10.40.0.1", "fd00:40::1"] {
                sb.exec(&b, &["busybox", "ping", "-c", "1", "-W", "5", address]).ok();
            }
            let hosts = sb.exec(&a, &["cat", "/etc/hosts"]).ok();
            assert!(hosts.contains(&first) && hosts.contains(&six), "{hosts}");
            let nat = || cni.net.call("/usr/sbin/iptables", &["-t", "nat", "-S"]).run().ok();
            assert!(nat().contains("--dport 8081"), "{}", nat());
            let classes = || cni.net.call("/usr/sbin/nft", &["list", "tables"]).run().ok().contains("skep-classes-wan");
            assert!(classes());
            assert!(leases() >= 3, "{}", leases());
            if round == 1 {
                cni.kill(&a);
                cni.kill(&b);
            }
            if round == 2 {
                d.call(&["destroy", "-f", &a, &b]).ok();
            } else {
                d.call(&["stop", "-t", "0", &a, &b]).ok();
            }
            cni.is_clean();
            assert!(leases() == 0 && !classes());
            let mut devices = cni.net.names();
            devices.sort();
            assert_eq!(devices, ["cni0", "wan", "wan2"]);
            assert!(!nat().contains("--dport 8081"), "{}", nat());
        }
    });
}

/// A plugin that moves a device of the host in has to find the network namespace at DEL, also when the container is dead.
#[test]
fn a_device_that_a_plugin_moved_comes_back_after_a_crash() {
    with_net(&[Need::Program("/usr/lib/cni/host-device")], |cni| {
        cni.net.ip("link add wan type veth peer name wan2");
        cni.list("wan.conf", &json!({ "cniVersion": "1.0.0", "name": "wan", "type": "host-device", "device": "wan" }));
        let a = cni.d.name("a");
        cni.create(&a, &["--network", "cni:wan", "--link", "veth"]).ok();
        for end in ["stop", "crash", "crash and start"] {
            cni.d.call(&["start", &a]).ok();
            assert!(!cni.net.names().contains(&"wan".to_owned()));
            let shown = cni.sb.exec(&a, &["busybox", "ip", "link"]).ok();
            assert!(shown.contains("eth0") && shown.contains("eth1"), "{shown}");
            if end != "stop" {
                cni.kill(&a);
            }
            if end != "crash and start" {
                cni.d.call(&["stop", "-t", "0", &a]).ok();
                cni.is_clean();
                assert!(cni.net.names().contains(&"wan".to_owned()), "{:?}", cni.net.names());
            }
        }
        cni.d.call(&["start", &a]).ok();
        cni.d.call(&["destroy", "-f", &a]).ok();
        cni.is_clean();
        assert!(cni.net.names().contains(&"wan".to_owned()), "{:?}", cni.net.names());
    });
}

/// A start that is killed, early and late, in the midst of ADD too, leaves no lease, link or namespace after a stop.
#[test]
fn a_killed_start_is_taken_back() {
    with_net(&[Need::Program("/usr/lib/cni/bridge"), Need::Program("/usr/sbin/iptables")], |cni| {
        cni.list("10-lan.conflist", &lan(cni, "1.0.0"));
        // The plugin cannot use a bridge any more that it was making when it was killed: it has no hardware address yet.
        cni.net.ip("link add cni0 address 02:00:00:00:00:40 type bridge");
        let (a, d) = (cni.d.name("a"), &cni.d);
        cni.create(&a, &["--network", "cni:lan", "--no-monitor"]).ok();
        for step in 0..12u64 {
            let mut start = d.prepare(&["start", &a]).spawn();
            std::thread::sleep(std::time::Duration::from_millis(15 * step));
            start.kill();
            // The runtime that it had called, and with it the hook, may have gone on.
            eventually("it stays stopped", || {
                let stopped = d.call(&["stop", "-t", "0", &a]).code == 0;
                std::thread::sleep(std::time::Duration::from_millis(200));
                stopped && cni.sb.call(&["list", "-q"]).run().ok().is_empty()
            });
            d.call(&["stop", &a]).ok();
            if d.data.join("cni/netns").exists() {
                cni.is_clean();
            }
            let veths = cni.net.names().into_iter().filter(|name| name != "cni0").collect::<Vec<_>>();
            assert!(veths.is_empty(), "after {} ms: {veths:?}", 15 * step);
        }
        let leases = fs::read_dir(cni.dir.join("ipam/lan")).expect("leases");
        let left: Vec<_> = leases.map(|file| file.expect("a file").file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(['1', 'f'])), "{left:?}");
        d.call(&["start", &a]).ok();
        d.call(&["destroy", "-f", &a]).ok();
        cni.is_clean();
    });
}

#[test]
fn a_plugin_that_fails_fails_the_start_and_is_told_why() {
    with_net(&[], |cni| {
        cni.plugin("own", r#"[ "$CNI_COMMAND" != ADD ] || { echo '{"code":11,"msg":"no room"}'; exit 1; }"#);
        cni.list("own.conf", &json!({ "cniVersion": "1.1.0", "name": "own", "type": "own" }));
        let a = cni.d.name("a");
        cni.create(&a, &["--network", "cni:own"]).ok();
        cni.d.call(&["start", &a]).fails_saying("no room");
        assert_eq!(cni.d.listed(&a)["state"], "stopped");
        assert_eq!(cni.log(3), [format!("ADD {a} eth0"), format!("DEL {a} eth0")]);
        cni.is_clean();
        cni.d.call(&["destroy", &a]).ok();
    });
}

/// `gc` takes back what the dead have, and nothing of those that run or start.
#[test]
fn gc_takes_back_what_the_dead_have() {
    with_net(&[], |cni| {
        // A slow one, so that gc comes in the midst of a start.
        let answer = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.41.0.2/24"}],"dns":{"nameservers":["10.41.0.1"]}}"#;
        cni.plugin("own", &format!("[ $CNI_COMMAND != ADD ] || {{ sleep 0.3; echo '{answer}'; }}"));
        cni.list("own.conf", &json!({ "cniVersion": "1.1.0", "name": "own", "type": "own" }));
        let [alive, dead, starting] = ["alive", "dead", "starting"].map(|suffix| cni.d.name(suffix));
        // Without a monitor, which would take back what one has that dies.
        for name in [&alive, &dead, &starting] {
            cni.create(name, &["--network", "cni:own", "--no-monitor"]).ok();
        }
        cni.d.call(&["start", &alive, &dead]).ok();
        assert_eq!(cni.sb.exec(&alive, &["cat", "/etc/resolv.conf"]).ok(), "nameserver 10.41.0.1");
        cni.kill(&dead);
        let row = json!([{ "kind": "attachment", "name": format!("own/{dead}") }]);
        assert_eq!(cni.d.call(&["gc", "--dry-run", "-o", "json"]).json(), row);
        let start = cni.d.prepare(&["start", &starting]).spawn();
        for _ in 0..5 {
            let removed = cni.d.call(&["gc", "-o", "json"]).json();
            assert!(removed == row || removed == json!([]), "{removed}");
        }
        start.wait(std::time::Duration::from_secs(30)).ok();
        cni.d.call(&["gc"]).ok();
        let log = cni.log(2);
        let count = |what: &str, name: &str| log.iter().filter(|line| **line == format!("{what} {name}")).count();
        assert_eq!((count("DEL", &dead), count("DEL", &alive), count("DEL", &starting)), (1, 0, 0), "{log:?}");
        for name in [&alive, &starting] {
            assert_eq!(cni.d.listed(name)["ipv4"], json!(["10.41.0.2"]));
        }
        // What GC was told is valid is what runs.
        let last = fs::read_to_string(cni.dir.join("log")).expect("the log");
        let last = last.lines().rfind(|line| line.starts_with("GC")).expect("a GC").to_owned();
        assert!(last.contains(&alive) && last.contains(&starting) && !last.contains(&dead), "{last}");
        cni.d.call(&["destroy", "-f", &alive, &dead, &starting]).ok();
        cni.is_clean();
    });
}
