//! Traffic classes and counters against the real kernel.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests; a skipped test says why")]

mod common;

use std::io::Write;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use network::{
    Class, Classes, Member, apply_classes, counters, create_link, parse_link, plan_record, render_class_rules,
    render_no_class_rules, undo_classes,
};

use common::{Netns, pair};

fn nft(rules: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{rules}");
}

fn link(host: &Netns, container: &Netns, text: &str) {
    let spec = parse_link(text).unwrap();
    host.run(|| create_link(&spec, &plan_record(&spec, text, None), container.fd())).unwrap();
}

fn class(of: Member, rate: &str, ceil: Option<&str>) -> Class {
    Class { of: vec![of], rate: rate.parse().unwrap(), ceil: ceil.map(|ceil| ceil.parse().unwrap()), priority: 0 }
}

/// 1400 bytes with headers of UDP, IPv4 and Ethernet.
const PACKET: f64 = 1442.0;

/// Floods from each socket at once, and says what each of the receivers gets: bits per second on the link, over three
/// seconds after half a second to begin with.
fn flood(senders: &[UdpSocket], receivers: &[UdpSocket]) -> Vec<f64> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (sender, receiver) in senders.iter().zip(receivers) {
            let target = receiver.local_addr().unwrap();
            let done = &done;
            scope.spawn(move || {
                // 50 Mbit/s, also where the machine lets this thread wait.
                let (begin, mut sent) = (Instant::now(), 0.0);
                while !done.load(Ordering::Relaxed) {
                    while !done.load(Ordering::Relaxed) && sent < begin.elapsed().as_secs_f64() * 50e6 / (PACKET * 8.0)
                    {
                        sender.send_to(&[7; 1400], target).ok();
                        sent += 1.0;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let threads: Vec<_> = receivers
            .iter()
            .map(|receiver| {
                scope.spawn(|| {
                    receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                    let mut buffer = [0; 2000];
                    let mut receive_for = |time: Duration| {
                        let (begin, mut packets) = (Instant::now(), 0u32);
                        while begin.elapsed() < time {
                            packets += u32::from(receiver.recv(&mut buffer).is_ok());
                        }
                        f64::from(packets) * PACKET * 8.0 / begin.elapsed().as_secs_f64()
                    };
                    receive_for(Duration::from_millis(500));
                    receive_for(Duration::from_secs(3))
                })
            })
            .collect();
        let rates = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        rates
    })
}

fn is_about(rate: f64, expected: f64) {
    assert!((0.95..=1.05).contains(&(rate / expected)), "{rate:.0} bit/s, not {expected:.0}");
}

/// Whether a v1 hierarchy has more than the one group that every one has.
fn has_groups(controller: &str) -> bool {
    let table = std::fs::read_to_string("/proc/cgroups").unwrap();
    let line = table.lines().map(|line| line.split('\t').collect::<Vec<_>>()).find(|words| words[0] == controller);
    // Those that are mounted nowhere are counted with the v2 hierarchy, whose number is 0.
    line.is_some_and(|words| words[1] != "0" && words[2] != "1")
}

/// A group of v1 net_cls of the test's own; None where the hierarchy cannot be had.
struct NetCls {
    mount: PathBuf,
    group: PathBuf,
}

impl NetCls {
    fn new(class_id: u32) -> Option<NetCls> {
        let mount = std::env::temp_dir().join(format!("network-net-cls-{}", std::process::id()));
        std::fs::create_dir_all(&mount).unwrap();
        let path = mount.to_str().unwrap();
        let mount_with = |options: &&str| {
            let arguments = ["-t", "cgroup", "-o", options, "none", path];
            Command::new("mount").args(arguments).stderr(Stdio::null()).status().unwrap().success()
        };
        let made = ["net_cls", "net_cls,net_prio"].iter().any(mount_with);
        if !made {
            std::fs::remove_dir(&mount).unwrap();
            eprintln!("skipped: this machine has no v1 net_cls");
            return None;
        }
        let group = mount.join(format!("network-test-classes-{}", std::process::id()));
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("net_cls.classid"), class_id.to_string()).unwrap();
        Some(NetCls { mount, group })
    }

    /// A socket that belongs to the class: it has that of its maker.
    fn socket(&self, net: &Netns) -> UdpSocket {
        net.run(|| {
            // The thread alone: `tasks` takes one, and the thread ends with this.
            std::fs::write(self.group.join("tasks"), "0").unwrap();
            UdpSocket::bind("0.0.0.0:0").unwrap()
        })
    }
}

impl Drop for NetCls {
    fn drop(&mut self) {
        // The kernel forgets a hierarchy that is unmounted when it has released its groups; else every process has a line of it.
        let ends = || (std::fs::remove_dir(&self.group).is_ok() || !self.group.exists()) && !has_groups("net_cls");
        for _ in 0..1000 {
            if ends() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Command::new("umount").arg(&self.mount).status().unwrap().success());
        std::fs::remove_dir(&self.mount).unwrap();
    }
}

#[test]
fn classes_of_v1_net_cls_get_their_rates() {
    let Some((host, container)) = pair() else { return };
    let class_id = 0x0010_0001;
    let Some(group) = NetCls::new(class_id) else { return };
    link(&host, &container, "veth:address=10.6.0.2/24,host-address=10.6.0.1/24");
    let classes = Classes {
        device: "eth0".to_owned(),
        rate: "40mbit".parse().unwrap(),
        classes: vec![class(Member::NetCls { class_id }, "10mbit", Some("10mbit"))],
    };
    // In the container's own network namespace, where the sockets are.
    container.run(|| {
        apply_classes(&classes).unwrap();
        nft(&render_class_rules(&classes));
    });
    let receivers: Vec<UdpSocket> = (0..2).map(|_| host.run(|| UdpSocket::bind("10.6.0.1:0").unwrap())).collect();
    let plain = container.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let rates = flood(&[group.socket(&container), plain], &receivers);
    eprintln!("class {:.0} bit/s of 10 Mbit/s, the rest {:.0}", rates[0], rates[1]);
    is_about(rates[0], 10e6);
    assert!((12e6..=31.5e6).contains(&rates[1]), "{:.0} bit/s", rates[1]);
    container.run(|| {
        assert!(undo_classes("eth0").unwrap());
        assert!(!undo_classes("eth0").unwrap());
        nft(&render_no_class_rules("eth0"));
        nft(&render_no_class_rules("eth0"));
    });
}

#[test]
fn containers_share_a_link_of_the_host_by_class() {
    let (Some((host, first)), Some((second, far))) = (pair(), pair()) else { return };
    link(&host, &first, "veth:host=v1,address=10.6.1.2/24,host-address=10.6.1.1/24,gateway=10.6.1.1");
    link(&host, &second, "veth:host=v2,address=10.6.2.2/24,host-address=10.6.2.1/24,gateway=10.6.2.1");
    link(&host, &far, "veth:host=wan,address=10.6.3.2/24,host-address=10.6.3.1/24,gateway=10.6.3.1");
    host.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    let device = |name: &str| Member::Device { name: name.to_owned() };
    let classes = Classes {
        device: "wan".to_owned(),
        rate: "30mbit".parse().unwrap(),
        classes: vec![class(device("v1"), "20mbit", None), class(device("v2"), "10mbit", Some("10mbit"))],
    };
    host.run(|| {
        // Twice: the second takes the place of the first.
        for _ in 0..2 {
            apply_classes(&classes).unwrap();
            nft(&render_class_rules(&classes));
        }
    });
    let receivers: Vec<UdpSocket> = (0..2).map(|_| far.run(|| UdpSocket::bind("10.6.3.2:0").unwrap())).collect();
    let senders = [&first, &second].map(|net| net.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()));
    let rates = flood(&senders, &receivers);
    eprintln!("first {:.0} bit/s of 20 Mbit/s, second {:.0} of 10", rates[0], rates[1]);
    is_about(rates[0], 20e6);
    is_about(rates[1], 10e6);
    // Alone, the first has what the second leaves (as far as this machine sends that much); the second has a ceiling.
    let alone = flood(&senders[..1], &receivers[..1])[0];
    assert!((22e6..=31.5e6).contains(&alone), "{alone:.0} bit/s");
    is_about(flood(&senders[1..], &receivers[1..])[0], 10e6);
}

#[test]
fn sockets_of_a_v2_group_get_their_class() {
    let Some((host, container)) = pair() else { return };
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].into_iter().find(|root| {
        Path::new(root).join("cgroup.controllers").exists() && Path::new(root).join("cgroup.procs").exists()
    });
    let Some(root) = root else {
        eprintln!("skipped: no v2 hierarchy");
        return;
    };
    let name = format!("network-test-{}", std::process::id());
    let group = Path::new(root).join(&name);
    std::fs::create_dir_all(&group).unwrap();
    link(&host, &container, "veth:address=10.6.0.2/24,host-address=10.6.0.1/24");
    let member = Member::CgroupV2 { path: name };
    let classes = Classes {
        device: "eth0".to_owned(),
        rate: "40mbit".parse().unwrap(),
        classes: vec![class(member, "10mbit", Some("10mbit"))],
    };
    let rules = render_class_rules(&classes);
    let known = container.run(|| {
        let mut child =
            Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        child.wait().unwrap().success()
    });
    std::fs::remove_dir(&group).unwrap();
    if !known {
        eprintln!("skipped: this kernel or nft has no socket cgroupv2");
        return;
    }
    let listed = container.run(|| Command::new("nft").args(["list", "ruleset"]).output().unwrap());
    assert!(String::from_utf8_lossy(&listed.stdout).contains("socket cgroupv2 level 1"));
}

#[test]
fn counters_of_both_ends() {
    let Some((host, container)) = pair() else { return };
    link(&host, &container, "veth:host=v1,address=10.6.0.2/24,host-address=10.6.0.1/24");
    let socket = container.run(|| UdpSocket::bind("10.6.0.2:0").unwrap());
    let target = host.run(|| UdpSocket::bind("10.6.0.1:0").unwrap());
    for _ in 0..100 {
        socket.send_to(&[0; 1000], target.local_addr().unwrap()).unwrap();
    }
    let of = |net: &Netns, name: &str| {
        let all = counters(Some(net.fd())).unwrap();
        all.into_iter().find(|(device, _)| device == name).unwrap().1
    };
    let (inside, outside) = (of(&container, "eth0"), of(&host, "v1"));
    assert!(inside.tx_packets >= 100 && inside.tx_bytes >= 100 * 1042, "{inside:?}");
    assert!(outside.rx_bytes >= 100 * 1042 && outside.rx_errors == 0, "{outside:?}");
    assert!(counters(Some(host.fd())).unwrap().iter().all(|(name, _)| name != "lo"));
}
