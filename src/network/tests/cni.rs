//! CNI plugins of Debian's containernetworking-plugins, in network namespaces of the tests' own; and one made by the test,
//! which says what it was told.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests; a skipped test says why")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use network::cni::{self, Attachment, Error, NetworkList, Paths, PluginError, parse_list};
use network::{Prefix, pin_netns};
use serde_json::{Value, json};

use common::{Netns, pair};

const DEBIAN: &str = "/usr/lib/cni";

/// A folder of a test's own, with the cache and the container's namespace.
struct Place {
    dir: PathBuf,
    paths: Paths,
    pinned: Option<String>,
}

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("network-cni-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("plugins")).unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let paths =
            Paths { plugins: vec![text(dir.join("plugins")), DEBIAN.to_owned()], cache: text(dir.join("cache")) };
        Place { dir, paths, pinned: None }
    }

    fn pin(&mut self, container: &Netns) -> String {
        let path = self.dir.join("netns").to_str().unwrap().to_owned();
        pin_netns(&path, container.fd()).unwrap();
        self.pinned = Some(path.clone());
        path
    }

    fn unpin(&mut self) {
        if let Some(path) = self.pinned.take() {
            sys::mount::unmount(&path, sys::mount::UnmountFlags::DETACH).unwrap();
        }
    }

    /// A plugin that writes a line with its command and its input, and answers with its input's `prevResult` or a result.
    fn plugin(&self, name: &str, rest: &str) {
        let log = self.dir.join("log");
        let script = format!(
            "#!/bin/sh\ninput=$(cat)\necho \"$CNI_COMMAND {name} $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $input\" >>{}\n{rest}\n",
            log.display()
        );
        let path = self.dir.join("plugins").join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn cached(&self) -> usize {
        let files = std::fs::read_dir(self.dir.join("cache")).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".json")).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.unpin();
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn attachment(container: &str, netns: &str) -> Attachment {
    Attachment {
        container: container.to_owned(),
        netns: netns.to_owned(),
        link: "eth0".to_owned(),
        args: String::new(),
        capabilities: serde_json::Map::new(),
    }
}

fn bridge_list(place: &Place, version: &str) -> NetworkList {
    let text = json!({
        "cniVersion": version,
        "name": "lan",
        "plugins": [
            { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "ipam": {
                "type": "host-local", "dataDir": place.dir.join("ipam"), "ranges": [[{ "subnet": "10.66.0.0/24" }]],
                "routes": [{ "dst": "0.0.0.0/0" }] } },
            { "type": "tuning", "mtu": 1400 },
        ],
    });
    parse_list(&text.to_string()).unwrap()
}

#[test]
fn debians_plugins_make_check_and_take_back_a_link() {
    if !Path::new(DEBIAN).join("bridge").exists() {
        eprintln!("skipped: needs containernetworking-plugins");
        return;
    }
    for version in ["0.4.0", "1.0.0"] {
        let Some((host, container)) = pair() else { return };
        let mut place = Place::new(&format!("bridge-{version}"));
        let list = bridge_list(&place, version);
        let netns = place.pin(&container);
        let web = attachment("web", &netns);
        let result = host.run(|| cni::add(&place.paths, &list, &web)).unwrap();
        let address = result.pointer("/ips/0/address").and_then(Value::as_str).unwrap();
        assert!(address.parse::<Prefix>().is_ok(), "{result}");
        assert_eq!(container.addresses("eth0"), [address]);
        assert_eq!(container.find("eth0").unwrap().0.mtu, 1400);
        host.run(|| cni::check(&place.paths, &list, &web)).unwrap();
        let again = host.run(|| cni::add(&place.paths, &list, &web)).unwrap_err();
        assert!(matches!(again, Error::Attached { .. }), "{again}");

        container.ip("addr flush dev eth0");
        let error = host.run(|| cni::check(&place.paths, &list, &web)).unwrap_err();
        assert!(matches!(&error, Error::Plugin { source: PluginError::Failed { .. }, .. }), "{error}");

        assert!(host.run(|| cni::delete(&place.paths, &list, &web)).unwrap());
        assert!(!host.run(|| cni::delete(&place.paths, &list, &web)).unwrap());
        assert_eq!((container.names().len(), host.names().len()), (1, 2), "loopback, and beside it the bridge");
        assert_eq!(place.cached(), 0);
        let error = host.run(|| cni::check(&place.paths, &list, &web)).unwrap_err();
        assert!(matches!(error, Error::NotAttached { .. }), "{error}");
    }
}

#[test]
fn what_is_left_of_dead_containers_is_collected() {
    if !Path::new(DEBIAN).join("bridge").exists() {
        eprintln!("skipped: needs containernetworking-plugins");
        return;
    }
    let Some((host, container)) = pair() else { return };
    let mut place = Place::new("gc");
    let list = bridge_list(&place, "1.0.0");
    let netns = place.pin(&container);
    host.run(|| cni::add(&place.paths, &list, &attachment("dead", &netns))).unwrap();
    // Killed: its network namespace is gone before anybody could say so.
    place.unpin();
    drop(container);
    let leases = || std::fs::read_dir(place.dir.join("ipam/lan")).unwrap().count();
    let before = leases();
    let gone = host.run(|| cni::gc(&place.paths, &list, &|attachment| attachment.container == "alive")).unwrap();
    assert_eq!((gone, place.cached(), leases()), (vec!["dead".to_owned()], 0, before - 1));
    assert!(
        host.run(|| cni::gc(&place.paths, &list, &|attachment| attachment.container == "alive")).unwrap().is_empty()
    );
}

#[test]
fn a_plugin_that_fails_takes_back_those_before_it() {
    let place = Place::new("fails");
    place.plugin("first", r#"echo '{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"}]}'"#);
    place.plugin(
        "second",
        r#"[ "$CNI_COMMAND" != ADD ] || { echo '{"code":11,"msg":"try again later","details":"no room"}'; exit 1; }"#,
    );
    let text = r#"{"cniVersion":"1.1.0","name":"lan","plugins":[{"type":"first"},{"type":"second"}]}"#;
    let list = parse_list(text).unwrap();
    let error = cni::add(&place.paths, &list, &attachment("web", "/n")).unwrap_err();
    let Error::Plugin { source, .. } = error else { panic!("{error}") };
    assert!(source.to_string().ends_with("plugins/second ADD: try again later: no room (code 11)"), "{source}");
    let log = place.log();
    let words: Vec<String> = log.iter().map(|line| line.split(' ').take(5).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        words,
        ["ADD first web eth0 /n", "ADD second web eth0 /n", "DEL second web eth0 /n", "DEL first web eth0 /n"]
    );
    assert!(log[1].contains(r#""prevResult":{"cniVersion":"1.1.0","ips""#), "{}", log[1]);
    assert_eq!(place.cached(), 0);
}

#[test]
fn an_add_that_was_killed_can_be_deleted() {
    let place = Place::new("killed");
    place.plugin("first", r#"[ "$CNI_COMMAND" != ADD ] || kill -9 $$"#);
    let list = parse_list(r#"{"cniVersion":"1.1.0","name":"lan","type":"first"}"#).unwrap();
    let web = attachment("web", "/n");
    cni::add(&place.paths, &list, &web).unwrap_err();
    // As if the caller itself had been killed in the midst of it: the file is there, without a result.
    let cached = json!({ "attachment": web, "list": list.source, "result": null });
    std::fs::write(place.dir.join("cache/3.lan-web-eth0.json"), cached.to_string()).unwrap();
    assert!(cni::delete(&place.paths, &list, &web).unwrap());
    assert!(place.log().last().unwrap().starts_with("DEL first web eth0 /n"));
    assert_eq!(place.cached(), 0);
}

#[test]
fn gc_of_1_1_tells_who_is_alive_and_versions_are_asked() {
    let place = Place::new("gc11");
    place.plugin("first", r#"echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}'"#);
    let list = parse_list(r#"{"cniVersions":["1.0.0","1.1.0"],"name":"lan","type":"first"}"#).unwrap();
    for container in ["alive", "dead"] {
        cni::add(&place.paths, &list, &attachment(container, "/n")).unwrap();
    }
    assert_eq!(cni::gc(&place.paths, &list, &|attachment| attachment.container == "alive").unwrap(), ["dead"]);
    let log = place.log();
    assert!(log[2].starts_with("DEL first dead eth0  {"), "no namespace any more: {}", log[2]);
    let valid = r#""cni.dev/valid-attachments":[{"containerID":"alive","ifname":"eth0"}]"#;
    assert!(log[3].starts_with("GC first") && log[3].contains(valid), "{}", log[3]);
    assert_eq!(cni::versions(&place.paths, "first").unwrap(), ["1.0.0", "1.1.0"]);
    let error = cni::versions(&place.paths, "nope").unwrap_err();
    assert!(matches!(error, PluginError::Missing { .. }), "{error}");
}

/// Who is live is asked when nobody else can add: what was added before the question is seen, what is added later is kept.
#[test]
fn gc_leaves_what_starts_meanwhile() {
    let place = Place::new("gcrace");
    place.plugin("first", r#"echo '{"cniVersion":"1.1.0"}'"#);
    let list = parse_list(r#"{"cniVersion":"1.1.0","name":"lan","type":"first"}"#).unwrap();
    cni::add(&place.paths, &list, &attachment("dead", "/n")).unwrap();
    let (paths, asked) = (&place.paths, std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            asked.wait();
            cni::add(paths, &list, &attachment("starting", "/n")).unwrap();
        });
        let is_live = |attachment: &Attachment| {
            asked.wait();
            // The other one is on its way now, and has to wait until this is done.
            std::thread::sleep(std::time::Duration::from_millis(200));
            attachment.container != "dead"
        };
        assert_eq!(cni::gc(paths, &list, &is_live).unwrap(), ["dead"]);
        adding.join().unwrap();
    });
    let commands: Vec<String> =
        place.log().iter().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(commands, ["ADD first dead", "DEL first dead", "GC first ", "ADD first starting"]);
    let left = cni::attachments(&place.paths.cache).unwrap();
    assert!(left.len() == 1 && left[0].attachment.container == "starting" && left[0].result.is_some());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let place = Place::new("names");
    let list = parse_list(r#"{"cniVersion":"1.1.0","name":"lan","type":"first"}"#).unwrap();
    for container in ["", "../x", "a/b", ".x"] {
        let error = cni::add(&place.paths, &list, &attachment(container, "/n")).unwrap_err();
        assert!(matches!(error, Error::Name { what: "container", .. }), "{error}");
    }
    let mut bad = attachment("web", "/n");
    bad.link = "a/b".to_owned();
    assert!(matches!(cni::add(&place.paths, &list, &bad), Err(Error::Name { what: "link", .. })));
}
