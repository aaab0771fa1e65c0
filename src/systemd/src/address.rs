//! Where a bus listens.
//!
//! Spec: D-Bus Specification, "Server Addresses": `unix:path=/run/x,guid=0;unix:abstract=y`, values escaped with `%`.

use serde::{Deserialize, Serialize};

/// A way to a service manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// An address of the D-Bus specification, or several that are tried in order, separated by semicolons.
    pub address: String,
    /// Whether the service manager itself listens there; else a bus that both are connected to.
    pub direct: bool,
}

/// One socket of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Socket {
    Path(String),
    Abstract(String),
}

impl Endpoint {
    /// The manager's own socket, or a bus, by the path of its socket.
    #[must_use]
    pub fn at(path: &str, direct: bool) -> Endpoint {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_/.\\*".contains(byte);
        let escaped: String = path
            .bytes()
            .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
            .collect();
        Endpoint { address: format!("unix:path={escaped}"), direct }
    }

    /// The sockets in the address. Other transports are left out.
    pub(crate) fn sockets(&self) -> Vec<Socket> {
        self.address.split(';').filter_map(parse).collect()
    }
}

fn parse(address: &str) -> Option<Socket> {
    let pairs = address.strip_prefix("unix:")?.split(',').filter_map(|pair| pair.split_once('='));
    for (key, value) in pairs {
        match key {
            "path" => return unescape(value).map(Socket::Path),
            "abstract" => return unescape(value).map(Socket::Abstract),
            _ => {}
        }
    }
    None
}

fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.contains('\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(address: &str, expected: &[Socket]) {
        let endpoint = Endpoint { address: address.to_owned(), direct: false };
        assert_eq!(endpoint.sockets(), expected, "{address}");
    }

    #[test]
    fn addresses_name_sockets() {
        let path = |path: &str| Socket::Path(path.to_owned());
        check("unix:path=/run/user/7/bus", &[path("/run/user/7/bus")]);
        check("unix:guid=1,path=/a%20b;tcp:host=h", &[path("/a b")]);
        check("unix:abstract=/tmp/x,guid=2;unix:path=/y", &[Socket::Abstract("/tmp/x".to_owned()), path("/y")]);
        for none in ["", "unix:", "unix:path=", "unix:path=%zz", "unix:path=%2", "autolaunch:", "unix:path=a%00"] {
            check(none, &[]);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_sockets_or_none(text in "(unix:)?[a-z=,;:%/0-9A-Fü]{0,40}", path in "/[^\0]{1,20}") {
            for Socket::Path(name) | Socket::Abstract(name) in (Endpoint { address: text, direct: false }).sockets() {
                prop_assert!(!name.is_empty() && !name.contains('\0'));
            }
            prop_assert_eq!(Endpoint::at(&path, false).sockets(), [Socket::Path(path)]);
        }
    }

    #[test]
    fn paths_are_escaped_and_come_back() {
        let odd = "/run/a,b;c=d e/ü";
        assert_eq!(Endpoint::at(odd, true).sockets(), [Socket::Path(odd.to_owned())]);
    }
}
