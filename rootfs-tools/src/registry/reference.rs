//! Names of images in registries: `HOST[:PORT]/PATH[:TAG][@DIGEST]`.

use std::fmt;

use crate::digest::Digest;

/// A name that no image of a registry can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Not what a reference looks like.
    #[error("{0:?} is no reference of an image: [HOST[:PORT]/]PATH[:TAG][@DIGEST] is asked for")]
    Malformed(String),
    /// Without a host, and no registry is set up for such names.
    #[error("{0:?} names no registry, and registries.conf has no unqualified-search-registries")]
    NoRegistry(String),
}

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Name of the host, with a port where one is given; none for a short name.
    pub registry: Option<String>,
    /// The path: `library/debian`.
    pub repository: String,
    /// The tag; `latest` where neither tag nor digest is given.
    pub tag: Option<String>,
    /// The hash of its manifest or index.
    pub digest: Option<Digest>,
}

impl Reference {
    /// What a request for the manifest names: the digest, else the tag.
    pub(super) fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

/// Reads a reference. The first part is a host when it has a dot or a port, or is `localhost`.
///
/// OCI distribution-spec 1.1, "Pulling manifests", has the forms of path and tag.
///
/// # Errors
/// [`ReferenceError::Malformed`].
pub fn parse_reference(text: &str) -> Result<Reference, ReferenceError> {
    let malformed = || ReferenceError::Malformed(text.to_owned());
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| malformed())?)),
        None => (text, None),
    };
    let (registry, rest) = match rest.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host.to_owned()), path),
        _ => (None, rest),
    };
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag.to_owned())),
        None => (rest, None),
    };
    let host = registry.as_deref().is_none_or(is_host);
    if !host || !is_repository(repository) || !tag.as_deref().is_none_or(is_tag) {
        return Err(malformed());
    }
    let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
    Ok(Reference { registry, repository: repository.to_owned(), tag, digest })
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    port && !name.is_empty() && (name.bytes().all(inside) || is_v6(name))
}

fn is_v6(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_repository(text: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 255
        && text.split('/').all(|part| {
            let bytes = part.as_bytes();
            bytes.first().copied().is_some_and(edge)
                && bytes.last().copied().is_some_and(edge)
                && bytes.iter().all(|byte| edge(*byte) || b"._-".contains(byte))
        })
}

fn is_tag(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_their_parts() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let check = |text: &str, expected: (Option<&str>, &str, Option<&str>)| {
            let found = parse_reference(text).unwrap();
            assert_eq!(
                (found.registry.as_deref(), found.repository.as_str(), found.tag.as_deref()),
                expected,
                "{text}"
            );
        };
        check("debian", (None, "debian", Some("latest")));
        check("debian:12", (None, "debian", Some("12")));
        check("library/debian", (None, "library/debian", Some("latest")));
        check("localhost/x", (Some("localhost"), "x", Some("latest")));
        check("127.0.0.1:5000/a/b_c:v1.2", (Some("127.0.0.1:5000"), "a/b_c", Some("v1.2")));
        check("[::1]:5000/a", (Some("[::1]:5000"), "a", Some("latest")));
        check(&format!("reg.example/a@{digest}"), (Some("reg.example"), "a", None));
        check(&format!("reg.example/a:1@{digest}"), (Some("reg.example"), "a", Some("1")));
        assert_eq!(parse_reference(&format!("reg.example/a:1@{digest}")).unwrap().version(), digest);
        assert_eq!(parse_reference("localhost:5000/x:2").unwrap().to_string(), "localhost:5000/x:2");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            "UPPER",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:b/c",
            "-a",
            "a@sha256:1",
            "a b",
            "host.x:0/a",
            "a/../b",
            "a?x=y",
            "a:x#",
        ] {
            assert!(parse_reference(text).is_err(), "{text}");
        }
    }
}
