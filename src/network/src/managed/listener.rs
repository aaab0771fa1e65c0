//! Programs of the host that listen on a port: a forward would take it from them without a word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::Error;
use super::forward::{PortForward, Protocol};

/// A socket that waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// Refuses a forward of a port on which a program of the caller's network namespace listens.
///
/// A socket of `[::]` counts for IPv4 too: whether it is one for IPv6 alone cannot be seen.
///
/// # Errors
/// [`Error::PortInUse`] with the program, where it can be seen; what the kernel says.
pub fn check_listeners(forwards: &[PortForward]) -> Result<(), Error> {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let of_protocol: Vec<&PortForward> = forwards.iter().filter(|forward| forward.protocol == protocol).collect();
        if of_protocol.is_empty() {
            continue;
        }
        let listeners = read_listeners(protocol)?;
        for forward in of_protocol {
            if let Some(listener) = listeners.iter().find(|listener| is_taken(forward, listener)) {
                let who = find_program(listener.inode).unwrap_or_else(|| "a program".to_owned());
                let by = format!("{who} listens on {}", std::net::SocketAddr::new(listener.address, listener.port));
                return Err(Error::PortInUse { forward: forward.to_string(), by });
            }
        }
    }
    Ok(())
}

fn is_taken(forward: &PortForward, listener: &Listener) -> bool {
    let ports = u32::from(forward.host_port)..u32::from(forward.host_port) + u32::from(forward.count);
    let everywhere = match listener.address {
        IpAddr::V4(ip) => ip.is_unspecified() && forward.address.is_none_or(|wanted| wanted.is_ipv4()),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    let meets = everywhere || forward.address.is_none_or(|wanted| wanted == listener.address);
    ports.contains(&u32::from(listener.port)) && meets
}

fn read_listeners(protocol: Protocol) -> Result<Vec<Listener>, Error> {
    let mut all = Vec::new();
    for family in ["", "6"] {
        let path = format!("/proc/thread-self/net/{}{family}", protocol.name());
        match sys::fs::read_text_at(sys::fs::CWD, &path) {
            // A kernel without IPv6.
            Err(error) if error.is(sys::Errno::NOENT) => {}
            other => all.extend(parse_listeners(&other?, protocol)),
        }
    }
    Ok(all)
}

/// Reads the sockets of `/proc/net/tcp`, `tcp6`, `udp` or `udp6` that wait for others: number, local and remote address,
/// state, four more, inode.
///
/// Kernel: Documentation/networking/proc_net_tcp.rst; include/net/tcp_states.h, TCP_LISTEN 10 and TCP_CLOSE 7, which a UDP
/// socket has that is connected to nobody.
fn parse_listeners(text: &str, protocol: Protocol) -> Vec<Listener> {
    let waiting = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let listener = |line: &str| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[_, local, _, state, _, _, _, _, _, inode, ..] = columns.as_slice() else { return None };
        let (address, port) = local.split_once(':').filter(|_| state == waiting)?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(Listener { address: parse_address(address)?, port, inode: inode.parse().ok()? })
    };
    text.lines().filter_map(listener).collect()
}

/// Words of four bytes in the machine's byte order, as hexadecimal digits.
fn parse_address(digits: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for word in digits.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(|sixteen| Ipv6Addr::from(sixteen).to_canonical())
}

/// The first program that has a socket open, as `nginx (pid 7)`. What cannot be looked at is passed over.
fn find_program(inode: u64) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for pid in pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        let Ok(mut files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let has = |file: std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|to| to == std::path::Path::new(&socket))
        };
        if files.any(|file| file.is_ok_and(has)) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 27 1 0 100 0 0 10 0\n   \
        1: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 28 1 0 100 0 0 10 0\n";
    const TCP6: &str = "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 29 1\n   \
        1: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 30 1\n";

    #[cfg(target_endian = "little")]
    #[test]
    fn who_listens_is_read() {
        let found = parse_listeners(TCP, Protocol::Tcp);
        assert_eq!(found, [Listener { address: Ipv4Addr::LOCALHOST.into(), port: 8080, inode: 27 }]);
        let found = parse_listeners(TCP6, Protocol::Tcp);
        assert_eq!(found[0], Listener { address: Ipv6Addr::UNSPECIFIED.into(), port: 80, inode: 29 });
        assert_eq!(found[1].address, IpAddr::from(Ipv4Addr::LOCALHOST));
        assert!(parse_listeners(TCP, Protocol::Udp).is_empty());
    }

    #[test]
    fn a_port_is_taken_where_addresses_meet() {
        let check = |listener: &str, forward: &str, expected: bool| {
            let (address, port) = listener.rsplit_once(' ').unwrap();
            let listener = Listener { address: address.parse().unwrap(), port: port.parse().unwrap(), inode: 1 };
            assert_eq!(is_taken(&forward.parse().unwrap(), &listener), expected, "{forward} {listener:?}");
        };
        check("0.0.0.0 80", "80:80", true);
        check("0.0.0.0 80", "127.0.0.1:80:80", true);
        check("0.0.0.0 80", "[fd00::1]:80:80", false);
        check(":: 80", "127.0.0.1:80:80", true);
        check("127.0.0.1 80", "80:80", true);
        check("127.0.0.1 80", "192.0.2.1:80:80", false);
        check("127.0.0.1 85", "80-90:80-90", true);
        check("127.0.0.1 91", "80-90:80-90", false);
    }

    proptest::proptest! {
        #[test]
        fn foreign_lines_never_panic(text: String) {
            assert!(parse_listeners(&text, Protocol::Udp).len() <= text.lines().count());
        }
    }
}
