//! What the files in /etc/containers say: `registries.conf` of mirrors, `auth.json` of credentials.
//!
//! containers-registries.conf(5), version 2, and containers-auth.json(5).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::reference::{Reference, ReferenceError};

/// `registries.conf`, as far as it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Registries {
    /// Registries for names without a host; the first one is asked.
    #[serde(rename = "unqualified-search-registries")]
    pub search: Vec<String>,
    /// Rules by the beginning of names.
    pub registry: Vec<Rule>,
}

/// What holds for names with a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// The beginning of the name; `*.example` stands for each host below. None means `location`.
    pub prefix: Option<String>,
    /// What takes the prefix's place.
    pub location: Option<String>,
    /// Without TLS where it has none.
    pub insecure: bool,
    /// Nothing may be pulled.
    pub blocked: bool,
    /// Asked before the location, in this order.
    pub mirror: Vec<Mirror>,
}

/// A place that has the same images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Mirror {
    /// What takes the prefix's place.
    pub location: String,
    /// Without TLS where it has none.
    pub insecure: bool,
}

/// A place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Host and port as the reference names them: credentials are filed under it.
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) insecure: bool,
}

impl Endpoint {
    /// The addresses that requests may begin with, in the order in which they are tried.
    pub(super) fn bases(&self) -> Vec<String> {
        // The one registry that is not where its name says.
        let host = if self.host == "docker.io" { "registry-1.docker.io" } else { &self.host };
        let plain = self.insecure || is_loopback(host);
        let schemes = if plain { &["https", "http"][..] } else { &["https"] };
        schemes.iter().map(|scheme| format!("{scheme}://{host}/v2/{}", self.repository)).collect()
    }
}

/// Whether a host is this machine: then there is nobody in between.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = if host.starts_with('[') { host.split_inclusive(']').next() } else { host.split(':').next() };
    let name = name.unwrap_or_default().trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Merges files, read in order: a later one's rules come first, its search list counts.
pub(super) fn merge(files: Vec<Registries>) -> Registries {
    files.into_iter().fold(Registries::default(), |mut merged, file| {
        if !file.search.is_empty() {
            merged.search = file.search;
        }
        merged.registry = file.registry.into_iter().chain(merged.registry).collect();
        merged
    })
}

/// The places to ask for a reference, in order: mirrors, then the registry itself.
///
/// # Errors
/// A short name where none is set up, or the prefix of a rule that blocks it.
pub(super) fn plan_endpoints(
    reference: &Reference,
    registries: &Registries,
) -> Result<Result<Vec<Endpoint>, String>, ReferenceError> {
    let host = match (&reference.registry, registries.search.first()) {
        (Some(host), _) | (None, Some(host)) => host.clone(),
        (None, None) => return Err(ReferenceError::NoRegistry(reference.to_string())),
    };
    let short = host == "docker.io" && !reference.repository.contains('/');
    let repository = if short { format!("library/{}", reference.repository) } else { reference.repository.clone() };
    let name = format!("{host}/{repository}");
    let matching = registries.registry.iter().filter_map(|rule| Some((matched(rule, &name)?, rule)));
    // The longest prefix wins; of equals the first.
    let rule = matching.rev().max_by_key(|(length, _)| *length);
    let Some((length, rule)) = rule else {
        return Ok(Ok(vec![Endpoint { host, repository, insecure: false }]));
    };
    if rule.blocked {
        return Ok(Err(name[..length].to_owned()));
    }
    let rest = &name[length..];
    let at = |location: &str, insecure| {
        let full = format!("{location}{rest}");
        let (host, repository) = full.split_once('/')?;
        Some(Endpoint { host: host.to_owned(), repository: repository.to_owned(), insecure })
    };
    let mut endpoints: Vec<Endpoint> =
        rule.mirror.iter().filter_map(|mirror| at(&mirror.location, mirror.insecure)).collect();
    match rule.location.as_deref().filter(|location| !location.is_empty()) {
        Some(location) => endpoints.extend(at(location, rule.insecure)),
        None => endpoints.push(Endpoint { host, repository, insecure: rule.insecure }),
    }
    Ok(Ok(endpoints))
}

/// How much of a name a rule's prefix takes up, where it fits.
fn matched(rule: &Rule, name: &str) -> Option<usize> {
    let prefix = rule.prefix.as_deref().filter(|prefix| !prefix.is_empty()).or(rule.location.as_deref())?;
    let ends = |rest: &str| rest.is_empty() || rest.starts_with(['/', ':', '@']);
    if let Some(suffix) = prefix.strip_prefix('*') {
        let host = name.split('/').next()?;
        return host.ends_with(suffix).then_some(host.len());
    }
    name.strip_prefix(prefix).filter(|rest| ends(rest)).map(|_| prefix.len())
}

/// `auth.json`, as far as it is used.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthFile {
    pub(super) auths: BTreeMap<String, Auth>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Auth {
    /// `user:password` in base 64.
    pub(super) auth: String,
}

/// The credentials for a place, as a header has them: those of the first file that has any for it, and in it those of the
/// longest name that fits.
pub(super) fn select_auth(files: &[AuthFile], endpoint: &Endpoint) -> Option<String> {
    let name = format!("{}/{}", endpoint.host, endpoint.repository);
    files.iter().find_map(|file| select_in(file, &name))
}

fn select_in(file: &AuthFile, name: &str) -> Option<String> {
    let fitting = file.auths.iter().filter_map(|(key, auth)| {
        // docker login writes addresses, podman hosts and paths.
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        let key = key.strip_suffix("/v1/").or_else(|| key.strip_suffix("/v2/")).unwrap_or(key).trim_end_matches('/');
        let key = if key == "index.docker.io" { "docker.io" } else { key };
        let rest = name.strip_prefix(key)?;
        (!auth.auth.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then(|| (key.len(), auth.auth.clone()))
    });
    fitting.max_by_key(|(length, _)| *length).map(|(_, auth)| auth)
}

#[cfg(test)]
mod tests {
    use super::super::reference::parse_reference;
    use super::*;

    fn registries(text: &str) -> Registries {
        toml::from_str(text).unwrap()
    }

    fn bases(reference: &str, text: &str) -> Vec<String> {
        let endpoints = plan_endpoints(&parse_reference(reference).unwrap(), &registries(text)).unwrap().unwrap();
        endpoints.iter().flat_map(Endpoint::bases).collect()
    }

    #[test]
    fn a_name_leads_to_its_registry() {
        assert_eq!(bases("reg.example/a/b", ""), ["https://reg.example/v2/a/b"]);
        assert_eq!(bases("localhost:5000/a", ""), ["https://localhost:5000/v2/a", "http://localhost:5000/v2/a"]);
        assert_eq!(bases("127.0.0.1/a", ""), ["https://127.0.0.1/v2/a", "http://127.0.0.1/v2/a"]);
        assert_eq!(bases("[::1]:5000/a", ""), ["https://[::1]:5000/v2/a", "http://[::1]:5000/v2/a"]);
        let search = "unqualified-search-registries = ['docker.io', 'other.example']";
        assert!(bases("debian", search)[0].ends_with(concat!("//registry-1.docker", ".io/v2/library/debian")));
        let short = plan_endpoints(&parse_reference("debian").unwrap(), &Registries::default());
        assert_eq!(short, Err(ReferenceError::NoRegistry("debian:latest".into())));
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_counts() {
        let text = "
            [[registry]]
            prefix = 'reg.example/team'
            location = 'inside.example/mirror/team'
            insecure = true
            [[registry.mirror]]
            location = 'm1.example/x'
            [[registry.mirror]]
            location = '127.0.0.1:5000'
            [[registry]]
            location = 'reg.example'
            blocked = true
            [[registry]]
            prefix = '*.wild.example'
            location = 'tame.example'
        ";
        let expected = [
            "https://m1.example/v2/x/app",
            "https://127.0.0.1:5000/v2/app",
            "http://127.0.0.1:5000/v2/app",
            "https://inside.example/v2/mirror/team/app",
            "http://inside.example/v2/mirror/team/app",
        ];
        assert_eq!(bases("reg.example/team/app", text), expected);
        assert_eq!(bases("a.wild.example/x", text), ["https://tame.example/v2/x"]);
        let blocked = plan_endpoints(&parse_reference("reg.example/teams/app").unwrap(), &registries(text));
        assert_eq!(blocked.unwrap(), Err("reg.example".to_owned()));
    }

    #[test]
    fn later_files_come_first() {
        let first = registries("unqualified-search-registries = ['a.example']\n[[registry]]\nlocation = 'x.example'");
        let second = registries("[[registry]]\nlocation = 'x.example'\nblocked = true");
        let merged = merge(vec![first, second]);
        assert_eq!((merged.search.len(), merged.registry[0].blocked), (1, true));
        let blocked = plan_endpoints(&parse_reference("x.example/a").unwrap(), &merged).unwrap();
        assert!(blocked.is_err());
    }

    #[test]
    fn credentials_are_those_of_the_longest_name() {
        // As docker login writes the one registry that is called by another name.
        let hub = format!("https://{}/v1/", "index.docker.io");
        let text = format!(
            r#"{{"auths": {{"reg.example": {{"auth": "aG9zdA=="}}, "reg.example/team": {{"auth": "dGVhbQ=="}},
            "{hub}": {{"auth": "aHVi"}}, "empty.example": {{}}}}}}"#
        );
        let files = [serde_json::from_str::<AuthFile>(&text).unwrap()];
        let check = |host: &str, repository: &str, expected: Option<&str>| {
            let endpoint = Endpoint { host: host.into(), repository: repository.into(), insecure: false };
            assert_eq!(select_auth(&files, &endpoint).as_deref(), expected, "{host}/{repository}");
        };
        check("reg.example", "x", Some("aG9zdA=="));
        check("reg.example", "team/x", Some("dGVhbQ=="));
        check("reg.example", "teams/x", Some("aG9zdA=="));
        check("docker.io", "library/debian", Some("aHVi"));
        check("empty.example", "x", None);
        check("reg.example.evil", "x", None);
    }

    #[test]
    fn the_first_file_with_credentials_counts() {
        let file = |text: &str| serde_json::from_str::<AuthFile>(text).unwrap();
        let files = [
            file(r#"{"auths": {"other.example": {"auth": "b3RoZXI="}}}"#),
            file(r#"{"auths": {"reg.example": {"auth": "bWluZQ=="}}}"#),
            file(r#"{"auths": {"reg.example/team": {"auth": "dGhlaXJz"}, "last.example": {"auth": "bGFzdA=="}}}"#),
        ];
        let select = |host: &str| {
            select_auth(&files, &Endpoint { host: host.into(), repository: "team/x".into(), insecure: false })
        };
        assert_eq!(select("reg.example").as_deref(), Some("bWluZQ=="));
        assert_eq!(select("last.example").as_deref(), Some("bGFzdA=="));
    }
}
