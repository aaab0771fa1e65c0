//! Files that give containers names: `/etc/hosts` and `/etc/resolv.conf`. Texts only; the caller mounts them.

use std::fmt::Write;
use std::net::IpAddr;

/// What a container's `/etc/hosts` begins with.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                         fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// Name servers that resolv.conf(5) reads at most (MAXNS).
const SERVERS: usize = 3;

/// Renders `/etc/hosts`: the container's own name with its addresses, then the other containers of its networks.
///
/// Without an address the own name is at 127.0.1.1, as Debian has it for a machine without a network.
#[must_use]
pub fn render_hosts(own: &[&str], addresses: &[IpAddr], others: &[(String, Vec<IpAddr>)]) -> String {
    let mut text = LOCALHOST.to_owned();
    let mut line = |ip: IpAddr, names: &str| writeln!(text, "{ip}\t{names}").expect("writing to a string cannot fail");
    let names = own.join(" ");
    if addresses.is_empty() && !own.is_empty() {
        line(IpAddr::from([127, 0, 1, 1]), &names);
    }
    for ip in addresses.iter().filter(|_| !own.is_empty()) {
        line(*ip, &names);
    }
    for (name, ips) in others.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
        ips.iter().for_each(|ip| line(*ip, name));
    }
    text
}

/// Renders `/etc/resolv.conf` for a container with a network of its own.
///
/// `host` is the host's file. A server on the host's loopback is out of reach from inside; where no other is left, those of
/// `upstream` are taken, the file in which systemd-resolved keeps the servers that it asks itself. Where that has none
/// either, the host's is left as it is, which helps nobody but says what was there. `search` and `options` are kept.
#[must_use]
pub fn render_resolv_conf(host: &str, upstream: Option<&str>) -> String {
    let has_server = |text: &str| servers(text).next().is_some();
    if has_server(host) {
        return render(host, host);
    }
    match upstream.filter(|text| has_server(text)) {
        // What is searched is the host's choice; resolved's own file repeats it, also where the host's has none.
        Some(upstream) if settings(host).next().is_some() => render(upstream, host),
        Some(upstream) => render(upstream, upstream),
        None => host.to_owned(),
    }
}

fn render(servers_of: &str, settings_of: &str) -> String {
    let mut text = String::new();
    let servers = servers(servers_of).take(SERVERS).map(|ip| format!("nameserver {ip}"));
    for line in servers.chain(settings(settings_of).map(str::to_owned)) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Servers that can be reached from another network namespace. A link-local one names a link of the host (`%eth0`).
fn servers(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    let words = text.lines().map(|line| line.split_ascii_whitespace());
    let values = words.filter_map(|mut words| (words.next() == Some("nameserver")).then(|| words.next()).flatten());
    values.filter_map(|value| value.parse::<IpAddr>().ok()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// The `search`, `domain` and `options` lines; the option `trust-ad` is for a resolver on the same machine.
fn settings(text: &str) -> impl Iterator<Item = &str> {
    let wanted = |line: &&str| {
        let word = line.split_ascii_whitespace().next();
        matches!(word, Some("search" | "domain" | "options" | "sortlist")) && *line != "options edns0 trust-ad"
    };
    text.lines().map(str::trim).filter(wanted).filter(|line| *line != "search .")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_of_a_container_and_its_neighbours() {
        let others = [("web".to_owned(), vec![ip("10.0.0.2")]), ("db".to_owned(), vec![ip("10.0.0.3"), ip("fd00::3")])];
        let text = render_hosts(&["web", "web.local"], &[ip("10.0.0.2"), ip("fd00::2")], &others);
        let own = text.strip_prefix(LOCALHOST).unwrap();
        assert_eq!(own, "10.0.0.2\tweb web.local\nfd00::2\tweb web.local\n10.0.0.3\tdb\nfd00::3\tdb\n");
    }

    #[test]
    fn hosts_without_a_network() {
        assert!(render_hosts(&["web"], &[], &[]).ends_with("127.0.1.1\tweb\n"));
        assert_eq!(render_hosts(&[], &[ip("10.0.0.2")], &[]), LOCALHOST);
    }

    fn check(host: &str, upstream: Option<&str>, expected: &str) {
        assert_eq!(render_resolv_conf(host, upstream), expected);
    }

    #[test]
    fn servers_that_can_be_reached_are_kept() {
        check("nameserver 192.0.2.1\nsearch lan\n", None, "nameserver 192.0.2.1\nsearch lan\n");
        check(
            "# made by hand\nnameserver 127.0.0.1\nnameserver  192.0.2.1 \noptions ndots:2\nnameserver fe80::1%eth0\n",
            None,
            "nameserver 192.0.2.1\noptions ndots:2\n",
        );
        let four = "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n";
        check(four, None, "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\n");
    }

    #[test]
    fn those_behind_a_stub_are_found() {
        let stub = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n";
        check(stub, Some("nameserver 192.0.2.1\nsearch lan\n"), "nameserver 192.0.2.1\nsearch lan\n");
        let own = "nameserver 127.0.0.53\nsearch corp\n";
        check(own, Some("nameserver 2001:db8::1\nsearch lan\n"), "nameserver 2001:db8::1\nsearch corp\n");
        check(stub, None, stub);
        check(stub, Some("# no server\n"), stub);
        check("", None, "");
    }

    proptest::proptest! {
        #[test]
        fn foreign_files_never_panic(host: String, upstream: Option<String>) {
            let text = render_resolv_conf(&host, upstream.as_deref());
            assert!(text == host || text.ends_with('\n'));
        }
    }
}
