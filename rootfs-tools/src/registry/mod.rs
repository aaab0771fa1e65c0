//! Pulls images from a registry over HTTPS.
//!
//! ```text
//! reference ─► places to ask (mirrors first) ─► manifest or index ─► manifest for this machine ─► layers, as from a file
//! ```
//!
//! Every document and every layer has to have the hash that names it; only a tag is taken on the registry's word. To
//! this machine itself (loopback) and to places that registries.conf calls insecure it goes without TLS where they have none.

mod client;
mod config;
mod reference;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use crate::digest::Digest;
use crate::limits::{LimitError, Limits};
use crate::source::files::Opened;
use crate::source::oci::{self, Descriptor};
use crate::source::{Files, Plan, Platform, SourceError, digest_of, make_plan, parse_document};

use client::{Client, is_safe};
use config::{AuthFile, Endpoint, merge, plan_endpoints, select_auth};

pub use config::{Mirror, Registries, Rule};
pub use reference::{Reference, ReferenceError, parse_reference};

/// Longest wait for a connection, and for the next bytes.
const WAIT: Duration = Duration::from_secs(30);

/// What to pull, and with which of the machine's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// The image.
    pub reference: Reference,
    /// The machine that it shall run on. None means this one.
    pub platform: Option<Platform>,
    /// Files like /etc/containers/registries.conf, the one that counts most last. Missing ones are passed over.
    pub registries: Vec<PathBuf>,
    /// Files like /etc/containers/auth.json. Missing ones are passed over.
    pub auths: Vec<PathBuf>,
    /// Files with the certificates that are trusted, like /etc/ssl/certs/ca-certificates.crt. Missing ones are passed over.
    pub certificates: Vec<PathBuf>,
    /// The proxy's address.
    pub proxy: Option<String>,
}

/// Why an image cannot be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The reference leads nowhere.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// registries.conf forbids it.
    #[error("registries.conf blocks {0}")]
    Blocked(String),
    /// A setting cannot be read.
    #[error("cannot read {}", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address of the proxy is none.
    #[error("cannot use the proxy {0}")]
    Proxy(String),
    /// No connection, no TLS, no answer.
    #[error("cannot reach {address}")]
    Request {
        /// What was asked.
        address: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The answer broke off.
    #[error("the answer of {address} broke off")]
    Broken {
        /// What was asked.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The registry says no.
    #[error("{address} answers {status}: {said}")]
    Status {
        /// What was asked.
        address: String,
        /// The status of HTTP.
        status: u16,
        /// The beginning of the answer.
        said: String,
    },
    /// It wants a way of proving who one is that is not known, or not safe.
    #[error("{address} asks for {wanted:?}, which is not known or not safe here")]
    Challenge {
        /// What was asked.
        address: String,
        /// The header.
        wanted: String,
    },
    /// It wants a user and a password, and there are none for it.
    #[error("{address} asks for a user and a password, and no auth file has them")]
    Credentials {
        /// What was asked.
        address: String,
    },
    /// The token service sent no token.
    #[error("{address} sent no token")]
    Token {
        /// What was asked.
        address: String,
    },
    /// A bound was passed.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A document is malformed or not what its name says.
    #[error(transparent)]
    Source(SourceError),
}

/// An image of a registry whose layers can be opened.
pub(crate) struct Remote {
    client: Client,
}

/// Asks the places one after the other for the image, and returns the first that has it.
pub(crate) fn resolve(registry: &Registry, limits: &Limits) -> Result<(Remote, Plan), PullError> {
    let files = registry.registries.iter().map(|path| read_setting(path, parse_registries));
    let registries = merge(files.filter_map(Result::transpose).collect::<Result<_, _>>()?);
    let auths = registry.auths.iter().map(|path| read_setting(path, parse_auths));
    let auths: Vec<AuthFile> = auths.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let endpoints = plan_endpoints(&registry.reference, &registries)?.map_err(PullError::Blocked)?;
    let agent = make_agent(registry)?;
    let mut last = None;
    for endpoint in &endpoints {
        for base in endpoint.bases() {
            let remote = Remote { client: make_client(&agent, endpoint, base, &auths, limits) };
            match remote.plan(registry) {
                Ok(plan) => return Ok((remote, plan)),
                Err(error) => {
                    let silent = !remote.client.answered.load(Ordering::Relaxed) && has_no_tls(&error);
                    // The registry itself comes last: what it says counts.
                    last = Some(error);
                    if !silent {
                        break;
                    }
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| ReferenceError::NoRegistry(registry.reference.to_string()).into()))
}

/// Whether a first request may be made again without TLS: nobody is there, or who is there speaks none. A certificate that
/// nobody vouches for is TLS.
fn has_no_tls(error: &PullError) -> bool {
    let PullError::Request { source, .. } = error else { return false };
    match &**source {
        ureq::Error::ConnectionFailed | ureq::Error::Timeout(ureq::Timeout::Connect) => true,
        ureq::Error::Rustls(error) => matches!(error, rustls::Error::InvalidMessage(_)),
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => matches!(error, rustls::Error::InvalidMessage(_)),
            None => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::TimedOut
            ),
        },
        _ => false,
    }
}

fn make_client(agent: &Agent, endpoint: &Endpoint, base: String, auths: &[AuthFile], limits: &Limits) -> Client {
    Client {
        agent: agent.clone(),
        repository: endpoint.repository.clone(),
        // In the clear they are anybody's on the way.
        credentials: select_auth(auths, endpoint).filter(|_| is_safe(&base)),
        base,
        authorization: Mutex::new(None),
        answered: AtomicBool::new(false),
        limit: limits.document,
    }
}

impl Remote {
    fn plan(&self, registry: &Registry) -> Result<Plan, PullError> {
        let version = registry.reference.version();
        let top = self.client.manifest(&version)?;
        let digest = digest_of(&top);
        if let Some(wanted) = registry.reference.digest.filter(|wanted| *wanted != digest) {
            let name = wanted.to_string();
            return Err(PullError::Source(SourceError::Content { name, found: format!("it has {digest}") }));
        }
        let named = Descriptor {
            media_type: String::new(),
            digest: digest.to_string(),
            size: top.len() as u64,
            annotations: None,
            platform: None,
        };
        // A failure of a request goes past the judgement of documents, which knows other errors.
        let failure = Mutex::new(None);
        let read = |descriptor: &Descriptor| {
            if descriptor.digest == named.digest {
                return Ok(top.clone());
            }
            // Parsed first: what a document of others says is part of no address as it is.
            let bytes = self.client.manifest(&descriptor.digest.parse::<Digest>()?.to_string());
            verified(descriptor, bytes, &failure)
        };
        let resolved = oci::resolve(vec![named.clone()], registry.platform.as_ref(), &read);
        let (config, layers) = resolved.map_err(|error| take(&failure, error))?;
        let id: Digest = config.digest.parse().map_err(|error| PullError::Source(SourceError::Digest(error)))?;
        let bytes = verified(&config, self.client.document(id), &failure);
        let bytes = bytes.map_err(|error| take(&failure, error))?;
        let plan = || {
            let layers = layers.iter().map(oci::parse_layer).collect::<Result<Vec<_>, _>>()?;
            let layers = layers.into_iter().map(|(digest, size)| (digest.to_string(), Some(digest), Some(size)));
            make_plan(parse_document(&config.digest, &bytes)?, id, layers.collect())
        };
        plan().map_err(PullError::Source)
    }
}

/// Compares a document with what names it. The error of a request is put aside.
fn verified(
    descriptor: &Descriptor,
    bytes: Result<Vec<u8>, PullError>,
    failure: &Mutex<Option<PullError>>,
) -> Result<Vec<u8>, SourceError> {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) => {
            *failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            return Err(SourceError::Missing(descriptor.digest.clone()));
        }
    };
    let digest: Digest = descriptor.digest.parse()?;
    oci::verify(&descriptor.digest, &bytes, descriptor.size, digest)?;
    Ok(bytes)
}

fn take(failure: &Mutex<Option<PullError>>, error: SourceError) -> PullError {
    let failure = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    failure.unwrap_or(PullError::Source(error))
}

impl Files for Remote {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, SourceError> {
        Err(SourceError::Unsupported(format!("the length of {name} is not known")))
    }

    fn open_sized(&self, name: &str, size: u64) -> Result<Option<Opened<'_>>, SourceError> {
        Ok(Some((Box::new(self.client.blob(name.parse()?, size)), size)))
    }
}

/// One agent for all requests, so that connections are used again. Nothing is read from the environment.
fn make_agent(registry: &Registry) -> Result<Agent, PullError> {
    let mut trusted = Vec::new();
    for path in &registry.certificates {
        let parse = |bytes: &[u8]| {
            let items = parse_pem(bytes).map(|item| item.map_err(io::Error::other));
            items.collect::<io::Result<Vec<PemItem<'static>>>>()
        };
        let items = read_setting(path, parse)?.unwrap_or_default();
        trusted.extend(items.into_iter().filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        }));
    }
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(trusted))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let parse = |proxy: &String| Proxy::new(proxy).map_err(|_| PullError::Proxy(proxy.clone()));
    let proxy = registry.proxy.as_ref().map(parse).transpose()?;
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy)
        .http_status_as_error(false)
        .user_agent("skep")
        .timeout_connect(Some(WAIT))
        .timeout_recv_response(Some(WAIT))
        .timeout_per_read(Some(WAIT));
    Ok(config.build().new_agent())
}

/// Reads a file of settings; none where it is missing.
fn read_setting<T>(path: &Path, parse: impl Fn(&[u8]) -> io::Result<T>) -> Result<Option<T>, PullError> {
    let failed = |source| PullError::Setting { path: path.to_owned(), source };
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => parse(&other.map_err(failed)?).map(Some).map_err(failed),
    }
}

fn parse_registries(bytes: &[u8]) -> io::Result<Registries> {
    let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
    toml::from_str(text).map_err(io::Error::other)
}

fn parse_auths(bytes: &[u8]) -> io::Result<AuthFile> {
    serde_json::from_slice(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_speaks_no_tls_is_asked_without() {
        let check = |source: ureq::Error, expected: bool| {
            let shown = source.to_string();
            let error = PullError::Request { address: "https://reg.example".into(), source: Box::new(source) };
            assert_eq!(has_no_tls(&error), expected, "{shown}");
        };
        let tls = |error: rustls::Error| ureq::Error::Io(io::Error::new(io::ErrorKind::InvalidData, error));
        check(ureq::Error::Io(io::ErrorKind::ConnectionRefused.into()), true);
        check(tls(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), true);
        check(tls(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)), false);
        check(ureq::Error::HostNotFound, false);
        check(ureq::Error::TooManyRedirects, false);
        check(ureq::Error::RequireHttpsOnly("http://reg.example".into()), false);
        assert!(!has_no_tls(&PullError::Proxy("x".into())));
    }

    #[test]
    fn credentials_stay_here_without_tls() {
        let auths: Vec<AuthFile> = vec![
            parse_auths(br#"{"auths": {"reg.example": {"auth": "eA=="}, "127.0.0.1": {"auth": "eQ=="}}}"#).unwrap(),
        ];
        let agent = Agent::config_builder().build().new_agent();
        let credentials = |host: &str, scheme: &str| {
            let endpoint = Endpoint { host: host.into(), repository: "a".into(), insecure: true };
            let base = format!("{scheme}://{host}/v2/a");
            make_client(&agent, &endpoint, base, &auths, &Limits::default()).credentials
        };
        assert_eq!(credentials("reg.example", "https").as_deref(), Some("eA=="));
        assert_eq!(credentials("reg.example", "http"), None);
        assert_eq!(credentials("127.0.0.1", "http").as_deref(), Some("eQ=="));
    }
}
