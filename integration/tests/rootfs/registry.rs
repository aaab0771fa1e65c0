//! Images are pulled from Debian's registry on loopback, and through fronts that ask for tokens or break off.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use integration::host;
use integration::requires::{Need, skip_without};
use rootfs_tools::registry::{Registry, parse_reference};
use rootfs_tools::store::Image;
use rootfs_tools::{ImportError, Limits, Platform, Source, import};

use crate::place::{Notes, Place, chain, make_everything};

const NEEDS: [Need; 4] = [
    Need::Root,
    Need::Program("/usr/bin/umoci"),
    Need::Program("/usr/bin/skopeo"),
    Need::Program("/usr/bin/docker-registry"),
];

/// `user:password` in base 64.
const CREDENTIALS: &str = "dXNlcjpwYXNzd29yZA==";

/// A registry of this test, with one image `team/app:1`.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(place: &Place, tls: bool) -> Server {
    let port = free_port();
    let root = place.dir.join("registry");
    let mut config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
        root.display()
    );
    if tls {
        let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2 \
                     -subj /CN=test -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
        place.run("openssl", &words.split_whitespace().collect::<Vec<_>>());
        let dir = place.dir.display();
        config.push_str(&format!("  tls:\n    certificate: {dir}/cert.pem\n    key: {dir}/key.pem\n"));
    }
    fs::write(place.dir.join("registry.yml"), config).unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(place.dir.join("registry.yml")).stdin(Stdio::null());
    let log = fs::File::create(place.dir.join("registry.log")).unwrap();
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let server = Server { child, port };
    host::eventually("the registry to answer", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    server
}

/// Fills the registry, and returns the layer's digest as the archive has it.
fn push(place: &Place, server: &Server) -> String {
    fs::create_dir(place.dir.join("tree")).unwrap();
    make_everything(&place.dir.join("tree"));
    place.oci(&[&place.tar("tree", "layer.tar")]);
    let target = format!("docker://127.0.0.1:{}/team/app:1", server.port);
    place.run("skopeo", &["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "oci:oci:x", &target]);
    format!("sha256:{}", place.run("sha256sum", &["layer.tar"]).split(' ').next().unwrap())
}

fn registry(reference: &str) -> Registry {
    Registry {
        reference: parse_reference(reference).unwrap(),
        platform: None,
        registries: Vec::new(),
        auths: Vec::new(),
        certificates: Vec::new(),
        proxy: None,
    }
}

fn pull(place: &Place, registry: Registry) -> Result<(Image, Notes), ImportError> {
    let mut notes = Notes::default();
    let image = import(&place.store(), Source::Registry(registry), "x", &Limits::default(), &mut notes)?;
    Ok((image, notes))
}

/// Forgets what was pulled, so that the next pull reads everything again.
fn forget(place: &Place) {
    place.store().remove_image("x").unwrap();
    rootfs_tools::store::gc(&place.store(), &|_| false).unwrap();
    assert!(place.store().layers().unwrap().is_empty());
}

#[test]
fn an_image_is_pulled_by_tag_digest_and_machine() {
    if skip_without(&NEEDS) {
        return;
    }
    let place = Place::new();
    let server = start(&place, false);
    let layer = push(&place, &server);
    let name = format!("127.0.0.1:{}/team/app", server.port);
    let (image, notes) = pull(&place, registry(&format!("{name}:1"))).unwrap();
    assert_eq!(image.layers[0].to_string(), layer);
    assert_eq!(image.config.entrypoint, ["/bin/sh"]);
    assert_eq!((notes.total, notes.done), (Some(image.compressed_bytes), true));
    assert_eq!(notes.bytes, image.compressed_bytes);
    // What is here is not read again.
    let begin = fs::metadata(place.store().layer_root(image.layers[0])).unwrap().created().unwrap();
    pull(&place, registry(&format!("{name}:1"))).unwrap();
    assert_eq!(fs::metadata(place.store().layer_root(image.layers[0])).unwrap().created().unwrap(), begin);
    // An index with this machine and another one.
    let manifest = place.run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}:1")]);
    let hash = place.dir.join("manifest");
    fs::write(&hash, &manifest).unwrap();
    let digest = format!("sha256:{}", place.run("sha256sum", &["manifest"]).split(' ').next().unwrap());
    let entry = |architecture: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{},
            "platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
            manifest.len()
        )
    };
    let own = Platform::host().architecture;
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{},{}]}}"#,
        entry("s390x"),
        entry(&own)
    );
    put(server.port, "/v2/team/app/manifests/many", "application/vnd.oci.image.index.v1+json", &index);
    assert_eq!(pull(&place, registry(&format!("{name}:many"))).unwrap().0.layers, image.layers);
    assert_eq!(pull(&place, registry(&format!("{name}@{digest}"))).unwrap().0.id, image.id);
    let other = Platform { os: "linux".into(), architecture: "riscv64".into(), variant: None };
    let error = pull(&place, Registry { platform: Some(other), ..registry(&format!("{name}:many")) }).unwrap_err();
    assert!(chain(&error).contains("no image for linux/riscv64 (linux/s390x, "), "{}", chain(&error));
    let error = chain(&pull(&place, registry(&format!("{name}:none"))).unwrap_err());
    assert!(error.contains("answers 404") && error.contains("manifest unknown"), "{error}");
}

#[test]
fn mirrors_are_asked_first_and_tls_is_checked() {
    if skip_without(&NEEDS) || skip_without(&[Need::Program("/usr/bin/openssl")]) {
        return;
    }
    let place = Place::new();
    let server = start(&place, true);
    push(&place, &server);
    let conf = place.dir.join("registries.conf");
    let rules = format!(
        "unqualified-search-registries = ['reg.invalid']\n[[registry]]\nlocation = 'reg.invalid'\n\
         [[registry.mirror]]\nlocation = '127.0.0.1:{}'\n[[registry.mirror]]\nlocation = '127.0.0.1:{}'\n",
        free_port(),
        server.port
    );
    fs::write(&conf, rules).unwrap();
    let short = || Registry { registries: vec![conf.clone(), PathBuf::from("/nonexistent")], ..registry("team/app:1") };
    // Nobody vouches for the certificate: no image, and not without TLS either.
    let direct = registry(&format!("127.0.0.1:{}/team/app:1", server.port));
    assert!(pull(&place, direct.clone()).is_err());
    let certificates = vec![place.dir.join("cert.pem")];
    pull(&place, Registry { certificates: certificates.clone(), ..direct }).unwrap();
    forget(&place);
    let (image, _) = pull(&place, Registry { certificates, ..short() }).unwrap();
    assert_eq!(image.source, "team/app:1");
    assert!(chain(&pull(&place, registry("team/app:1")).unwrap_err()).contains("names no registry"));
}

#[test]
fn a_token_is_fetched_with_the_credentials_of_the_auth_file() {
    if skip_without(&NEEDS) {
        return;
    }
    let place = Place::new();
    let server = start(&place, false);
    push(&place, &server);
    let front = front(server.port, None, true);
    let name = format!("127.0.0.1:{front}/team/app:1");
    let error = chain(&pull(&place, registry(&name)).unwrap_err());
    assert!(error.contains("/token answers 403"), "{error}");
    let auth = place.dir.join("auth.json");
    fs::write(&auth, format!(r#"{{"auths": {{"127.0.0.1:{front}": {{"auth": "{CREDENTIALS}"}}}}}}"#)).unwrap();
    pull(&place, Registry { auths: vec![auth], ..registry(&name) }).unwrap();
}

#[test]
fn a_download_that_breaks_off_is_taken_up_where_it_was() {
    if skip_without(&NEEDS) {
        return;
    }
    let place = Place::new();
    let server = start(&place, false);
    let layer = push(&place, &server);
    let broken = Arc::new(AtomicUsize::new(0));
    let front = front(server.port, Some((900_000, broken.clone())), false);
    let (image, notes) = pull(&place, registry(&format!("127.0.0.1:{front}/team/app:1"))).unwrap();
    assert_eq!(image.layers[0].to_string(), layer);
    assert!(broken.load(Ordering::Relaxed) >= 2, "{broken:?}");
    assert_eq!(notes.bytes, image.compressed_bytes);
}

/// Puts a document into the registry.
fn put(port: u16, path: &str, kind: &str, body: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
    );
    stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

/// Something in front of the registry, one request for each connection: with a bound on the bytes of an answer, after
/// which it breaks off and counts, or asking for a token. It lives as long as the test's process.
fn front(behind: u16, cut: Option<(u64, Arc<AtomicUsize>)>, token: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let cut = cut.clone();
            // A client that goes away is none of its concern.
            std::thread::spawn(move || drop(answer(stream, port, behind, cut, token)));
        }
    });
    port
}

fn answer(
    mut stream: TcpStream,
    port: u16,
    behind: u16,
    cut: Option<(u64, Arc<AtomicUsize>)>,
    token: bool,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let say = |stream: &mut TcpStream, status: &str, headers: &str, body: &str| {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    let lower = head.to_ascii_lowercase();
    if head.starts_with("GET /token?") {
        let known = head.contains(&format!("Basic {CREDENTIALS}")) && head.contains("scope=repository");
        return match known {
            true => say(&mut stream, "200 OK", "", r#"{"token": "the-token"}"#),
            false => say(&mut stream, "403 Forbidden", "", "who are you"),
        };
    }
    if token && !lower.contains("authorization: bearer the-token") {
        let wanted = format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"test\"\r\n");
        return say(&mut stream, "401 Unauthorized", &wanted, "");
    }
    let mut registry = TcpStream::connect(("127.0.0.1", behind))?;
    registry.write_all(head.trim_end().as_bytes())?;
    registry.write_all(b"\r\nConnection: close\r\n\r\n")?;
    match cut {
        None => io::copy(&mut registry, &mut stream).map(drop),
        Some((limit, broken)) => {
            if io::copy(&mut registry.take(limit), &mut stream)? == limit {
                broken.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    }
}
