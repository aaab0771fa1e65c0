//! Texts of links, right and wrong.

use super::*;

fn of(spec: &LinkSpec) -> &Veth {
    match &spec.link {
        LinkKind::Veth(veth) => veth,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_keys() {
    let veth = parse_veth(
        "eth0,address=10.88.0.2/24,gateway=10.88.0.1,host=veth-web1,host-address=10.88.0.1/24,mtu=1500,\
         address=fd00::2/64,gateway=fd00::1,host-address=fd00::1/64",
    )
    .unwrap();
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Prefix>>();
    assert_eq!(veth.name, "eth0");
    assert_eq!(of(&veth).host_name.as_deref(), Some("veth-web1"));
    assert_eq!(veth.addresses, prefixes(&["10.88.0.2/24", "fd00::2/64"]));
    assert_eq!(of(&veth).host_addresses, prefixes(&["10.88.0.1/24", "fd00::1/64"]));
    assert_eq!(veth.gateways, ["10.88.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    assert_eq!(veth.mtu, Some(1500));
}

#[test]
fn a_name_is_enough() {
    let veth = parse_veth("net1").unwrap();
    assert_eq!((veth.name.as_str(), &of(&veth).host_name, veth.mtu), ("net1", &None, None));
    assert!(veth.addresses.is_empty() && veth.gateways.is_empty());
}

#[test]
fn a_link_local_gateway_needs_no_address() {
    assert_eq!(parse_veth("eth0,gateway=fe80::1").unwrap().gateways, ["fe80::1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn the_long_form_is_the_same_veth() {
    let short = "eth0,address=10.88.0.2/24,host=v0,mtu=1400";
    assert_eq!(parse_veth(short), parse_link(&format!("veth:name={short}")));
    assert_eq!(parse_veth("eth0"), parse_link("veth"));
    assert_eq!(parse_veth("eth0"), parse_link("veth:"));
}

#[test]
fn a_port_of_a_bridge() {
    let veth = parse_veth(
        "eth0,bridge=br0,mac=02:00:00:00:00:07,egress=10mbit,ingress=1gbit,mode=bridge,address=10.0.0.2/24,\
         route=10.9.0.0/16 via 10.0.0.9,route=10.8.0.0/16",
    )
    .unwrap();
    assert_eq!(of(&veth).bridge.as_deref(), Some("br0"));
    assert_eq!(veth.mac.unwrap().to_string(), "02:00:00:00:00:07");
    let routes: Vec<String> = veth.routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.9.0.0/16 via 10.0.0.9", "10.8.0.0/16"]);
}

#[test]
fn a_routed_veth_gets_a_gateway_of_the_link_alone() {
    let veth = parse_link("veth:mode=routed,address=192.0.2.7/32,address=2001:db8::7/128,parent=eth9").unwrap();
    let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    assert_eq!(veth.gateways, ips(&["169.254.1.1", "fe80::1"]));
    let host: Vec<String> = of(&veth).host_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(host, LINK_LOCAL_GATEWAYS);
    let veth = parse_link("veth:mode=routed,address=192.0.2.7/32,host-address=192.0.2.1/32").unwrap();
    assert_eq!(veth.gateways, ips(&["192.0.2.1"]));
}

#[test]
fn the_other_kinds() {
    let kind = |text: &str| parse_link(text).unwrap().link;
    let parent = || "eth0".to_owned();
    assert_eq!(kind("macvlan:parent=eth0"), LinkKind::Macvlan { parent: parent(), mode: MacvlanMode::Bridge });
    assert_eq!(
        kind("macvlan:parent=eth0,mode=passthru,mac=02:00:00:00:00:01"),
        LinkKind::Macvlan { parent: parent(), mode: MacvlanMode::Passthru }
    );
    assert_eq!(kind("vlan:parent=eth0,id=4094"), LinkKind::Vlan { parent: parent(), id: 4094 });
    assert_eq!(kind("ipvlan:parent=eth0"), LinkKind::Ipvlan { parent: parent(), mode: IpvlanMode::L2 });
    assert_eq!(kind("phys:device=eth1,name=lan"), LinkKind::Phys { device: "eth1".to_owned() });
}

fn check_link(text: &str, expected: &str) {
    judge(text, parse_link(text).unwrap_err(), expected);
}

#[test]
fn errors_of_the_kinds() {
    check_link("", r#"unknown kind "": veth, macvlan, vlan, ipvlan and phys are known"#);
    check_link("bond:x=1", r#"unknown kind "bond": veth, macvlan, vlan, ipvlan and phys are known"#);
    check_link("macvlan", "a macvlan needs parent=");
    check_link("vlan:parent=eth0", "a vlan needs id=");
    check_link("vlan:parent=eth0,id=0", r#"id "0" is no number from 1 to 4094"#);
    check_link("vlan:parent=eth0,id=4095", r#"id "4095" is no number from 1 to 4094"#);
    check_link("phys", "a phys needs device=");
    check_link("phys:device=e,mtu=1500", r#"unknown key "mtu": a phys has name, address, device, gateway, route"#);
    check_link(
        "macvlan:parent=a,egress=1mbit",
        r#"unknown key "egress": a macvlan has name, address, parent, mode, gateway, route, mtu, mac"#,
    );
    check_link("ipvlan:parent=a,mode=l4", r#"unknown mode "l4" of a ipvlan: l2, l3 and l3s are known"#);
    check_link(
        "macvlan:parent=a,mode=x",
        r#"unknown mode "x" of a macvlan: bridge, private, vepa and passthru are known"#,
    );
    check_link("veth:mode=x", r#"unknown mode "x" of a veth: pair, bridge and routed are known"#);
    check_link("veth:mode=bridge", "a veth with mode=bridge needs bridge=");
    check_link("veth:mode=pair,bridge=b", "bridge goes with mode=bridge alone");
    check_link("veth:mode=routed", "a veth with mode=routed needs address=");
    check_link(
        "veth:mode=routed,address=10.0.0.1/24",
        "address 10.0.0.1/24 of a routed veth: it has no neighbours, so /32 or /128",
    );
    check_link("veth:mode=routed,bridge=b,address=10.0.0.1/32", "bridge goes with mode=bridge alone");
    check_link("veth:hairpin=yes,bridge=b", r#"hairpin "yes" is neither on nor off"#);
    check_link("veth:hairpin=on", "hairpin goes with bridge alone");
    check_link("veth:parent=eth0", "parent goes with mode=routed alone");
    check_link(
        "veth:mac=01:00:00:00:00:01",
        "mac 01:00:00:00:00:01 is no address of one Ethernet device: six bytes, not all zero, the first one even",
    );
    check_link(
        "veth:mac=00:00:00:00:00:00",
        "mac 00:00:00:00:00:00 is no address of one Ethernet device: six bytes, not all zero, the first one even",
    );
    check_link("veth:mac=x", r#"mac: "x" is no hardware address: pairs of hexadecimal digits with colons are"#);
    check_link(
        "veth:egress=fast",
        r#"egress: "fast" is no rate from 8kbit to 1tbit, such as 500kbit, 10mbit or 1gbit"#,
    );
    check_link(
        "veth:route=10.0.0.1/8",
        r#"route: "10.0.0.1/8" is no route, such as 10.0.0.0/8 via 10.88.0.1 or fd00:1::/64"#,
    );
}

fn check(text: &str, expected: &str) {
    judge(text, parse_veth(text).unwrap_err(), expected);
}

fn judge(text: &str, error: LinkError, expected: &str) {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    assert_eq!(format!("{error}{source}"), expected, "{text:?}");
}

#[test]
fn errors_say_what_is_wrong() {
    check("", r#"name "": a name must not be empty"#);
    check("address=10.0.0.1/8", r#"name "address=10.0.0.1/8": a name has at most 15 bytes"#);
    check("a/b", r#"name "a/b": a name must not contain a slash, a colon, white space or a NUL"#);
    check("eth0,host=eth%d", r#"host "eth%d": a name must not contain % except, where a template is allowed, one %d"#);
    check("eth0,", r#""" is not of the form key=value"#);
    check("eth0,up", r#""up" is not of the form key=value"#);
    check(
        "eth0,adress=1",
        r#"unknown key "adress": a veth has name, address, host, host-address, bridge, hairpin, mode, parent, egress, ingress, gateway, route, mtu, mac"#,
    );
    check("eth0,host=a,host=b", "host is given twice");
    check("eth0,mtu=1500,mtu=1500", "mtu is given twice");
    check(
        "eth0,address=10.0.0.1",
        r#"address: "10.0.0.1" is no address with a prefix length, such as 10.88.0.2/24 or fd00::2/64"#,
    );
    check("eth0,host-address=0.0.0.0/8", "host-address 0.0.0.0 is the unspecified or a multicast address");
    check("eth0,address=ff02::1/64", "address ff02::1 is the unspecified or a multicast address");
    check("eth0,address=10.0.0.1/8,host-address=10.0.0.1/8", "address 10.0.0.1 is given twice");
    check("eth0,gateway=x", r#"gateway "x": invalid IP address syntax"#);
    check(
        "eth0,address=10.0.0.2/24,gateway=10.0.1.1",
        "gateway 10.0.1.1 is in the network of no address of the container",
    );
    check("eth0,address=10.0.0.2/24,gateway=10.0.0.2", "gateway 10.0.0.2 is the container's own address");
    check("eth0,address=10.0.0.2/24,gateway=10.0.0.1,gateway=10.0.0.3", "gateway is given twice");
    check("eth0,mtu=x", r#"mtu "x": invalid digit found in string"#);
    check("eth0,mtu=67", "mtu 67 is outside 68..=65535");
    check("eth0,mtu=65536", "mtu 65536 is outside 68..=65535");
    check("eth0,mtu=1000,address=fd00::1/64", "mtu 1000 is below 1280, the least for an IPv6 address");
}

proptest::proptest! {
    #[test]
    fn foreign_text_never_panics(text in "(eth0)?(,(address|host|mtu|gateway|host-address|x)=[0-9a-f:./%]{0,12}){0,4}") {
        if let Ok(veth) = parse_veth(&text) {
            assert_eq!(parse_link(&format!("veth:name={text}")).as_ref(), Ok(&veth));
            assert!(veth.name.len() <= 15);
        }
    }
}
