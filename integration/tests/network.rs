//! Network devices of the host that the config moves into the container (runtime-spec 1.3, `linux.netDevices`).

use integration::{Sandbox, case, json};

/// A veth pair of the host; the name of the end that the test gives away, and of the one that stays.
fn pair(sb: &Sandbox) -> (String, String) {
    let base = &sb.name[2..];
    let (given, kept) = (format!("n{base}"), format!("m{base}"));
    sb.program("/usr/sbin/ip").args(["link", "add", &given, "type", "veth", "peer", "name", &kept]).run().ok();
    (given, kept)
}

/// Removes the pair, wherever its ends are.
fn remove(sb: &Sandbox, kept: &str) {
    sb.program("/usr/sbin/ip").args(["link", "del", kept]).run();
}

#[test]
fn a_device_is_moved() {
    case(|sb| {
        let (given, kept) = pair(sb);
        let b = sb.bundle().set("/linux/netDevices", json!({ &given: {} })).args(&["ls", "/sys/class/net"]);
        let out = sb.run(&b);
        remove(sb, &kept);
        assert!(out.ok().lines().any(|l| l == given), "{out:#?}");
    });
}

#[test]
fn a_device_is_renamed_and_keeps_its_address_and_is_up() {
    case(|sb| {
        let (given, kept) = pair(sb);
        sb.program("/usr/sbin/ip").args(["addr", "add", "10.77.0.2/24", "dev", &given]).run().ok();
        let b = sb.bundle().set("/linux/netDevices", json!({ &given: { "name": "eth7" } }));
        let out = sb.run(&b.args(&["ip", "addr", "show", "eth7"]));
        remove(sb, &kept);
        let text = out.ok();
        assert!(text.contains("10.77.0.2/24") && text.contains("UP"), "{text}");
    });
}

#[test]
fn a_device_that_is_missing_is_named() {
    case(|sb| {
        let b = sb.bundle().set("/linux/netDevices", json!({ "nosuchdev0": {} }));
        sb.create(&b).code_is(1).fails_saying("nosuchdev0");
    });
}

#[test]
fn devices_need_a_network_namespace() {
    case(|sb| {
        let (given, kept) = pair(sb);
        let b = sb.bundle().without_namespace("network").set("/linux/netDevices", json!({ &given: {} }));
        let out = sb.create(&b);
        remove(sb, &kept);
        out.code_is(1).fails();
    });
}

#[test]
fn a_new_name_that_is_too_long_is_refused() {
    case(|sb| {
        let (given, kept) = pair(sb);
        let b = sb.bundle().set("/linux/netDevices", json!({ &given: { "name": "a-name-that-is-too-long" } }));
        let out = sb.create(&b);
        let there = std::path::Path::new("/sys/class/net").join(&given).exists();
        remove(sb, &kept);
        out.code_is(1).fails();
        assert!(there, "the device must stay on the host");
    });
}
