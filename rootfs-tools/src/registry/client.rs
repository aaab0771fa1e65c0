//! Requests to one registry: tokens, redirects, and what to do when it breaks off.
//!
//! OCI distribution-spec 1.1, "Pull"; docker's token authentication specification; RFC 9110 for ranges.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::uri::Scheme;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::{Agent, Body, ResponseExt};

use super::PullError;
use super::config::is_loopback;
use crate::digest::Digest;

/// Times that a download is taken up again without having got any further.
const TRIES: u32 = 4;

/// Manifests and indexes of OCI and docker.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// A repository of a registry.
pub(super) struct Client {
    pub(super) agent: Agent,
    /// `https://{host}/v2/{repository}`.
    pub(super) base: String,
    pub(super) repository: String,
    /// `user:password` in base 64.
    pub(super) credentials: Option<String>,
    /// The header that the registry has asked for.
    pub(super) authorization: Mutex<Option<String>>,
    /// Whether anything has been answered: then the place speaks the scheme of `base`.
    pub(super) answered: AtomicBool,
    /// Longest document in bytes.
    pub(super) limit: u64,
}

impl Client {
    /// Reads a manifest or an index by tag or digest.
    pub(super) fn manifest(&self, version: &str) -> Result<Vec<u8>, PullError> {
        let address = format!("{}/manifests/{version}", self.base);
        self.read(&address, self.get(&address, Some(MANIFESTS), 0)?)
    }

    /// Reads a whole document by digest.
    pub(super) fn document(&self, digest: Digest) -> Result<Vec<u8>, PullError> {
        let address = format!("{}/blobs/{digest}", self.base);
        self.read(&address, self.get(&address, None, 0)?)
    }

    /// Opens a layer, to be read from front to back.
    pub(super) fn blob(&self, digest: Digest, size: u64) -> Download<'_> {
        let address = format!("{}/blobs/{digest}", self.base);
        Download { client: self, address, at: 0, size, body: None, tries: 0 }
    }

    fn read(&self, address: &str, response: Response<Body>) -> Result<Vec<u8>, PullError> {
        let mut bytes = Vec::new();
        let read = response.into_body().into_reader().take(self.limit + 1).read_to_end(&mut bytes);
        read.map_err(|source| PullError::Broken { address: address.to_owned(), source })?;
        if bytes.len() as u64 > self.limit {
            return Err(crate::limits::LimitError::Document(self.limit).into());
        }
        Ok(bytes)
    }

    /// A request, made again with what the registry asks for where it asks for credentials.
    fn get(&self, address: &str, accept: Option<&str>, from: u64) -> Result<Response<Body>, PullError> {
        let held = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut response = self.get_with(address, accept, from, held.as_deref())?;
        // Where a redirect leads to is not the registry: what it asks for it does not get.
        if response.status() == StatusCode::UNAUTHORIZED && is_of(&self.base, response.get_uri()) {
            let wanted = response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            let wanted = wanted.unwrap_or_default().to_owned();
            let new = self.authorize(address, &wanted)?;
            *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(new.clone());
            response = self.get_with(address, accept, from, Some(&new))?;
        }
        match response.status() {
            status if status.is_success() => Ok(response),
            status => {
                Err(PullError::Status { address: address.to_owned(), status: status.as_u16(), said: said(response) })
            }
        }
    }

    fn get_with(
        &self,
        address: &str,
        accept: Option<&str>,
        from: u64,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, PullError> {
        // No redirect leads from TLS to none.
        let mut request = self.agent.get(address).config().https_only(is_tls(&self.base)).build();
        if let Some(accept) = accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let failed = |source| PullError::Request { address: address.to_owned(), source: Box::new(source) };
        let response = request.call().map_err(failed)?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// Makes the header that a registry asks for: a token from where it says, or the credentials themselves.
    fn authorize(&self, address: &str, wanted: &str) -> Result<String, PullError> {
        let basic = self.credentials.as_ref().map(|credentials| format!("Basic {credentials}"));
        let unsafe_here = || PullError::Challenge { address: address.to_owned(), wanted: wanted.to_owned() };
        match parse_challenge(wanted) {
            Some(Challenge::Basic) if !is_safe(&self.base) => Err(unsafe_here()),
            Some(Challenge::Basic) => basic.ok_or_else(|| PullError::Credentials { address: address.to_owned() }),
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
                // A token service elsewhere gets the credentials as the registry asked for it, but not in the clear.
                let place: Uri = realm.parse().map_err(|_| unsafe_here())?;
                let tls = place.scheme() == Some(&Scheme::HTTPS);
                let known = tls || place.scheme() == Some(&Scheme::HTTP);
                if !known || is_tls(&self.base) && !tls {
                    return Err(unsafe_here());
                }
                let mut request = self.agent.get(&realm).config().https_only(tls).build().query("scope", scope);
                if let Some(service) = service {
                    request = request.query("service", service);
                }
                if let Some(basic) = basic.filter(|_| is_safe(&realm)) {
                    request = request.header(header::AUTHORIZATION, basic);
                }
                let response = request
                    .call()
                    .map_err(|source| PullError::Request { address: realm.clone(), source: Box::new(source) })?;
                let status = response.status();
                if !status.is_success() {
                    return Err(PullError::Status { address: realm, status: status.as_u16(), said: said(response) });
                }
                let bytes = self.read(&realm, response)?;
                let token = parse_token(&bytes).ok_or(PullError::Token { address: realm })?;
                Ok(format!("Bearer {token}"))
            }
            None => Err(unsafe_here()),
        }
    }
}

/// Whether an address is one of HTTPS.
fn is_tls(address: &str) -> bool {
    address.parse::<Uri>().is_ok_and(|uri| uri.scheme() == Some(&Scheme::HTTPS))
}

/// Whether credentials may go there: by TLS, or to this machine itself, where nobody is in between.
pub(super) fn is_safe(address: &str) -> bool {
    is_tls(address) || address.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback))
}

/// Whether an answer comes from where the requests go: same scheme, host and port.
fn is_of(base: &str, answered: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let tls = uri.scheme()? == &Scheme::HTTPS;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some((uri.scheme()?.clone(), uri.host()?.to_ascii_lowercase(), port))
    };
    base.parse::<Uri>().is_ok_and(|base| origin(&base).is_some() && origin(&base) == origin(answered))
}

/// A layer on its way. When the connection breaks, it is taken up where it was.
pub(super) struct Download<'a> {
    client: &'a Client,
    address: String,
    at: u64,
    size: u64,
    body: Option<Box<dyn Read + Send>>,
    tries: u32,
}

impl Download<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let response = self.client.get(&self.address, None, self.at).map_err(io::Error::other)?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let mut body = response.into_body().into_reader();
        // A registry that knows no ranges sends all of it again.
        if self.at > 0 && !partial {
            io::copy(&mut body.by_ref().take(self.at), &mut io::sink())?;
        }
        Ok(Box::new(body))
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let opened = self.open()?;
                self.body.insert(opened)
            }
        };
        match body.read(buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read_once(buffer) {
                Ok(count) => {
                    self.at += count as u64;
                    self.tries = 0;
                    return Ok(count);
                }
                Err(error) => {
                    self.tries += 1;
                    if self.tries >= TRIES || is_final(&error) {
                        return Err(error);
                    }
                    self.body = None;
                    std::thread::sleep(Duration::from_millis(100 << self.tries));
                }
            }
        }
    }
}

/// Whether asking again cannot help: the registry has said no.
fn is_final(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<PullError>());
    match inner {
        Some(PullError::Status { status, .. }) => *status < 500 && *status != 429,
        Some(PullError::Request { .. } | PullError::Broken { .. }) | None => false,
        Some(_) => true,
    }
}

/// How a registry wants to be asked.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Reads a `WWW-Authenticate` header: a scheme and quoted parameters.
fn parse_challenge(header: &str) -> Option<Challenge> {
    let (scheme, mut rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        match key.trim_matches([' ', ',']) {
            "realm" => realm = Some(value.to_owned()),
            "service" => service = Some(value.to_owned()),
            "scope" => scope = Some(value.to_owned()),
            _ => {}
        }
        rest = after;
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// The token in an answer; what a header cannot have is refused.
fn parse_token(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token)?;
    token.bytes().all(|byte| byte.is_ascii_graphic()).then_some(token)
}

/// The beginning of what a registry says to an error, in one line.
fn said(response: Response<Body>) -> String {
    let mut bytes = Vec::new();
    match response.into_body().into_reader().take(300).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        assert_eq!(parse_challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(
            parse_challenge(
                "Bearer realm=\"https://auth.example/t\",service=\"reg\",scope=\"repository:a/b:pull,push\""
            ),
            bearer("https://auth.example/t", Some("reg"), Some("repository:a/b:pull,push"))
        );
        assert_eq!(parse_challenge("bearer realm=x, service=y"), bearer("x", Some("y"), None));
        assert_eq!(parse_challenge("Bearer service=\"x\""), None);
        assert_eq!(parse_challenge("Bearer realm=\"x"), None);
        assert_eq!(parse_challenge("Negotiate abc"), None);
        assert_eq!(parse_challenge(""), None);
    }

    #[test]
    fn an_answer_is_the_registrys_or_that_of_another_place() {
        let check = |base: &str, answered: &str, expected: bool| {
            assert_eq!(is_of(base, &answered.parse().unwrap()), expected, "{base} {answered}");
        };
        check("https://reg.example/v2/a", "https://reg.example/v2/a/manifests/1", true);
        check("https://reg.example/v2/a", "https://REG.example:443/elsewhere", true);
        check("http://reg.example:5000/v2/a", "http://reg.example:5000/x", true);
        check("https://reg.example/v2/a", "http://reg.example/v2/a", false);
        check("https://reg.example/v2/a", "http://reg.example:443/v2/a", false);
        check("https://reg.example/v2/a", "https://reg.example:444/v2/a", false);
        check("https://reg.example/v2/a", "https://cdn.example/v2/a", false);
    }

    #[test]
    fn credentials_go_by_tls_or_to_this_machine() {
        for (address, expected) in [
            ("https://reg.example/v2", true),
            ("HTTPS://reg.example/token", true),
            ("http://127.0.0.1:5000/v2", true),
            ("http://[::1]:5000/v2", true),
            ("http://localhost/token", true),
            ("http://reg.example/v2", false),
            ("HTTP://reg.example/v2", false),
            ("reg.example", false),
            ("", false),
        ] {
            assert_eq!(is_safe(address), expected, "{address}");
        }
    }

    /// Answers one request on each connection, with what a function makes of its head; returns the port.
    fn serve(answer: impl Fn(&str, u16) -> String + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (mut head, mut reader) = (String::new(), BufReader::new(stream.try_clone().unwrap()));
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|count| count > 0) {}
                let answer = answer(&head, port);
                write!(stream, "HTTP/1.1 {answer}Content-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            }
        });
        port
    }

    #[test]
    fn who_a_redirect_leads_to_gets_no_credentials() {
        let seen = Arc::new(Mutex::new(String::new()));
        let heads = seen.clone();
        let other = serve(move |head, port| {
            heads.lock().unwrap().push_str(head);
            format!("401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\"\r\n")
        });
        let registry = serve(move |_, _| format!("307 Moved\r\nLocation: http://127.0.0.1:{other}/blob\r\n"));
        let client = Client {
            agent: Agent::config_builder().http_status_as_error(false).build().new_agent(),
            base: format!("http://127.0.0.1:{registry}/v2/a"),
            repository: "a".into(),
            credentials: Some("c2VjcmV0".into()),
            authorization: Mutex::new(None),
            answered: AtomicBool::new(false),
            limit: 1000,
        };
        let error = client.document(Digest::from_bytes([7; 32])).unwrap_err();
        assert!(matches!(error, PullError::Status { status: 401, .. }), "{error:?}");
        let seen = seen.lock().unwrap().to_ascii_lowercase();
        assert!(
            seen.starts_with("get /blob ") && !seen.contains("/token") && !seen.contains("authorization"),
            "{seen}"
        );
    }

    #[test]
    fn tokens_have_two_names() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(parse_token(text.as_bytes()).as_deref(), expected);
        check(r#"{"token": "abc", "expires_in": 300}"#, Some("abc"));
        check(r#"{"access_token": "abc"}"#, Some("abc"));
        check(r#"{"token": "", "access_token": "abc"}"#, Some("abc"));
        check(r#"{"token": "a\nb"}"#, None);
        check("[]", None);
    }
}
