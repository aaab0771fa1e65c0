//! A link as [`crate::parse_link`] reads it.

use std::fmt::{Display, Write};

use crate::spec::{IpvlanMode, LinkKind, LinkSpec, MacvlanMode};

/// Renders a link as text: reading it gives the same link.
#[must_use]
pub fn render_link(spec: &LinkSpec) -> String {
    let mut text = format!("{}:name={}", spec.link.name(), spec.name);
    let mut put =
        |key: &str, value: &dyn Display| write!(text, ",{key}={value}").expect("writing to a string cannot fail");
    match &spec.link {
        LinkKind::Veth(veth) => {
            if veth.routed {
                put("mode", &"routed");
            }
            for (key, value) in [("host", &veth.host_name), ("bridge", &veth.bridge), ("parent", &veth.parent)] {
                value.iter().for_each(|value| put(key, value));
            }
            if veth.hairpin {
                put("hairpin", &"on");
            }
            veth.host_addresses.iter().for_each(|address| put("host-address", address));
            for (key, rate) in [("egress", veth.egress), ("ingress", veth.ingress)] {
                rate.iter().for_each(|rate| put(key, rate));
            }
        }
        LinkKind::Macvlan { parent, mode } => {
            put("parent", parent);
            put("mode", &macvlan_mode(*mode));
        }
        LinkKind::Vlan { parent, id } => {
            put("parent", parent);
            put("id", id);
        }
        LinkKind::Ipvlan { parent, mode } => {
            put("parent", parent);
            put("mode", &ipvlan_mode(*mode));
        }
        LinkKind::Phys { device } => put("device", device),
    }
    spec.addresses.iter().for_each(|address| put("address", address));
    spec.gateways.iter().for_each(|gateway| put("gateway", gateway));
    spec.routes.iter().for_each(|route| put("route", route));
    spec.mtu.iter().for_each(|mtu| put("mtu", mtu));
    spec.mac.iter().for_each(|mac| put("mac", mac));
    text
}

fn macvlan_mode(mode: MacvlanMode) -> &'static str {
    match mode {
        MacvlanMode::Private => "private",
        MacvlanMode::Vepa => "vepa",
        MacvlanMode::Bridge => "bridge",
        MacvlanMode::Passthru => "passthru",
    }
}

fn ipvlan_mode(mode: IpvlanMode) -> &'static str {
    match mode {
        IpvlanMode::L2 => "l2",
        IpvlanMode::L3 => "l3",
        IpvlanMode::L3s => "l3s",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_link;

    #[test]
    fn what_is_rendered_reads_back_as_the_same() {
        for text in [
            "veth",
            "veth:bridge=skep-web,hairpin=on,egress=10mbit,ingress=1gbit,address=10.90.0.2/24,address=fd00::2/64,\
             gateway=10.90.0.1,gateway=fd00::1,mtu=1400",
            "veth:name=lan,host=v1,address=10.0.0.2/24,host-address=10.0.0.1/24,route=10.9.0.0/16 via 10.0.0.1,\
             route=10.8.0.0/16,mac=02:00:00:00:00:07",
            "veth:mode=routed,parent=eth0,address=192.0.2.7/32,address=2001:db8::7/128",
            "veth:mode=routed,host-address=10.1.1.1/32,address=192.0.2.7/32",
            "macvlan:parent=eth0,mode=vepa,address=10.0.0.2/24,mac=02:00:00:00:00:07",
            "vlan:parent=eth0,id=7,mtu=1496",
            "ipvlan:parent=eth0,mode=l3s,address=fd00::2/64",
            "phys:device=eth1,name=wan,address=10.0.0.2/24,gateway=10.0.0.1",
        ] {
            let spec = parse_link(text).unwrap();
            let rendered = render_link(&spec);
            assert_eq!(parse_link(&rendered).as_ref(), Ok(&spec), "{rendered}");
            assert_eq!(render_link(&parse_link(&rendered).unwrap()), rendered);
        }
    }
}
