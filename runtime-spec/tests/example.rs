//! The definition that `spec` writes, against a second reader of the same format.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use oci_spec::runtime::Spec;
use runtime_spec::{example, oci};
use serde_json::{Value, json};

/// What another implementation makes of a definition: read into its types and written again. It keeps capabilities
/// without an order; here they get one.
fn through_oci_spec(config: &oci::Config) -> Value {
    let spec: Spec = serde_json::from_value(serde_json::to_value(config).unwrap()).unwrap();
    let mut value = serde_json::to_value(spec).unwrap();
    for set in value["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
        set.as_array_mut().unwrap().sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
    value
}

#[test]
fn another_reader_sees_the_same_values() {
    for config in [
        example::example(false),
        example::example(true),
        example::rootless(false, 1000, 1001),
        example::rootless(true, 0, 0),
    ] {
        assert_eq!(through_oci_spec(&config), serde_json::to_value(&config).unwrap());
    }
}

#[test]
fn it_has_no_finding_and_reads_back_as_it_was() {
    for config in [example::example(true), example::rootless(false, 1000, 1000)] {
        let report = runtime_spec::validate(&config);
        assert_eq!(report.findings, []);
        assert!(report.spec.is_some());
        let text = serde_json::to_vec_pretty(&config).unwrap();
        assert_eq!(oci::parse::<oci::Config>(&text), (Some(config), Vec::new()));
        assert_eq!(runtime_spec::load(&text), report);
    }
}

#[test]
fn the_order_of_keys_and_the_values_are_those_of_runc() {
    let text = serde_json::to_string(&example::example(false)).unwrap();
    let start = concat!(
        r#"{"ociVersion":"1.3.0","process":{"terminal":true,"user":{"uid":0,"gid":0},"args":["sh"],"#,
        r#""env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","TERM=xterm"],"cwd":"/","#,
        r#""capabilities":{"bounding":["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"],"#,
        r#""effective":["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"],"#,
        r#""permitted":["CAP_AUDIT_WRITE","CAP_KILL","CAP_NET_BIND_SERVICE"]},"#,
        r#""rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}],"noNewPrivileges":true},"#,
        r#""root":{"path":"rootfs","readonly":true},"hostname":"runc","#,
        r#""mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/dev","type":"tmpfs","#,
    );
    assert!(text.starts_with(start), "{text}");
    let end = concat!(
        r#""linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]},"#,
        r#""namespaces":[{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}],"#,
        r#""maskedPaths":["/proc/acpi","/proc/asound","/proc/kcore","/proc/keys","/proc/latency_stats","#,
        r#""/proc/timer_list","/proc/timer_stats","/proc/sched_debug","/sys/firmware","/proc/scsi"],"#,
        r#""readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]}}"#,
    );
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn the_rootless_variant_needs_no_privilege() {
    let config = serde_json::to_value(example::rootless(true, 1000, 1001)).unwrap();
    let linux = &config["linux"];
    assert_eq!(linux["uidMappings"], json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
    assert_eq!(linux["gidMappings"], json!([{"containerID": 0, "hostID": 1001, "size": 1}]));
    let kinds: Vec<&str> =
        linux["namespaces"].as_array().unwrap().iter().filter_map(|entry| entry["type"].as_str()).collect();
    assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
    assert!(linux.get("resources").is_none());
    let mount = |at: &str| {
        let mounts = config["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["destination"] == at).unwrap().clone()
    };
    let sys = json!({"destination": "/sys", "type": "none", "source": "/sys",
        "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
    assert_eq!(mount("/sys"), sys);
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    assert_eq!(mount("/dev/pts")["options"], json!(pts));
}
