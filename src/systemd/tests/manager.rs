//! The client against a peer that answers as told: also one that lies, goes, or says nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;

use systemd::{Endpoint, Error, Manager};

/// A peer that lets one caller in and then does as it is told with the stream.
struct Peer {
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    fn new(name: &str, then: impl FnOnce(UnixStream) + Send + 'static) -> Peer {
        let path = std::env::temp_dir().join(format!("skep-bus-{name}-{}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("bind");
        let thread = std::thread::spawn(move || then(listener.accept().expect("accept").0));
        Peer { path, thread: Some(thread) }
    }

    fn connect(&self) -> systemd::Result<Manager> {
        Manager::connect(&[Endpoint::at(self.path.to_str().unwrap(), true)], 0)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).expect("remove the socket");
        let outcome = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || outcome.is_some_and(|outcome| outcome.is_ok()), "the peer failed");
    }
}

/// Reads the authentication and answers it.
fn let_in(stream: &mut UnixStream) {
    let mut line = Vec::new();
    while !line.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("read the authentication");
        line.push(byte[0]);
    }
    assert_eq!(line, b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n");
    stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").expect("answer");
}

/// Reads one call; returns its serial and all its bytes.
fn read_call(stream: &mut UnixStream) -> (u32, Vec<u8>) {
    let mut bytes = vec![0; 16];
    stream.read_exact(&mut bytes).expect("read a header");
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (body, serial, fields) = (number(4) as usize, number(8), number(12) as usize);
    let mut rest = vec![0; fields.next_multiple_of(8) + body];
    stream.read_exact(&mut rest).expect("read a call");
    bytes.extend(rest);
    (serial, bytes)
}

/// A message of this type to this serial, with a body of this signature.
fn answer(kind: u8, serial: u32, signature: &str, more: &[u8], body: &[u8]) -> Vec<u8> {
    let mut fields = vec![5, 1, b'u', 0];
    fields.extend(serial.to_le_bytes());
    fields.extend([8, 1, b'g', 0, u8::try_from(signature.len()).unwrap()]);
    fields.extend(signature.bytes().chain([0]));
    if !more.is_empty() {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend(more);
    }
    let mut bytes = vec![b'l', kind, 0, 1];
    bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend(7u32.to_le_bytes());
    bytes.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
    bytes.extend(fields);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(text.bytes().chain([0]));
    bytes
}

/// What the client makes of this answer to its question for the version.
#[track_caller]
fn version(name: &str, reply: impl FnOnce(u32) -> Vec<u8> + Send + 'static) -> systemd::Result<u32> {
    let peer = Peer::new(name, |mut stream| {
        let_in(&mut stream);
        let (serial, call) = read_call(&mut stream);
        assert!(call.windows(7).any(|part| part == b"Version"));
        stream.write_all(&reply(serial)).expect("answer");
    });
    peer.connect()?.version()
}

fn variant_of_text(value: &str) -> Vec<u8> {
    [&[1, b's', 0, 0][..], &text(value)].concat()
}

#[test]
fn the_version_is_the_first_number() {
    for (name, value) in [("v1", "252.39-1~deb12u1"), ("v2", "v252"), ("v3", "252")] {
        let body = variant_of_text(value);
        assert_eq!(version(name, move |serial| answer(2, serial, "v", &[], &body)).unwrap(), 252);
    }
}

#[test]
fn what_comes_before_the_answer_is_passed_over() {
    let reply = |serial: u32| {
        let other = answer(2, serial + 1, "s", &[], &text("to somebody else"));
        [other, answer(2, serial, "v", &[], &variant_of_text("252"))].concat()
    };
    assert_eq!(version("other", reply).unwrap(), 252);
}

#[test]
fn a_refusal_has_name_and_reason() {
    let reply = |serial: u32| {
        let name = "org.freedesktop.systemd1.NoSuchUnit";
        let field = [&[4, 1, b's', 0][..], &text(name)].concat();
        answer(3, serial, "s", &field, &text("not there"))
    };
    let error = version("refusal", reply).unwrap_err();
    assert!(error.is("NoSuchUnit") && error.to_string().contains("not there"), "{error}");
}

/// Not taken for an empty text, which for the group of a manager would mean the top of the machine's hierarchy.
#[test]
fn an_answer_of_another_type_is_an_error_that_names_the_property() {
    let check = |name: &str, body: &'static [u8], expected: [&str; 2]| {
        let signature = if body.is_empty() { "" } else { "v" };
        let peer = Peer::new(name, move |mut stream| {
            let_in(&mut stream);
            for _ in 0..2 {
                let (serial, _) = read_call(&mut stream);
                stream.write_all(&answer(2, serial, signature, &[], body)).expect("answer");
            }
        });
        let mut manager = peer.connect().unwrap();
        let said = [manager.version().unwrap_err().to_string(), manager.control_group().unwrap_err().to_string()];
        assert_eq!(said, expected);
    };
    let number = [
        "systemd: Get Version: unexpected answer: want text, got a value of type \"u\"",
        "systemd: Get ControlGroup: unexpected answer: want text, got a value of type \"u\"",
    ];
    check("number", &[1, b'u', 0, 0, 1, 0, 0, 0], number);
    let nothing = [
        "systemd: Get Version: unexpected answer: want text, got nothing",
        "systemd: Get ControlGroup: unexpected answer: want text, got nothing",
    ];
    check("nothing", &[], nothing);
    let body = variant_of_text("v");
    let error = version("no-number", move |serial| answer(2, serial, "v", &[], &body)).unwrap_err();
    assert_eq!(error.to_string(), "systemd: Get Version: unexpected answer: want a number first, got \"v\"");
}

#[test]
fn bytes_that_are_no_message_are_an_error() {
    let error = version("garbage", |_| vec![b'x'; 64]).unwrap_err();
    // What is wrong with them is told once: by the source.
    assert_eq!(error.to_string(), "systemd sent what cannot be understood (Get Version)");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "byte order is not valid");
    let huge = |_| [&b"l\x02\0\x01\xff\xff\xff\x7f\x01\0\0\0\0\0\0\0"[..], &[0; 16]].concat();
    assert!(matches!(version("huge", huge), Err(Error::Wire { .. })));
    let cut = |serial: u32| {
        let mut bytes = answer(2, serial, "v", &[], &variant_of_text("252"));
        bytes.truncate(bytes.len() - 3);
        bytes
    };
    assert!(matches!(version("cut", cut), Err(Error::Closed { .. })));
}

#[test]
fn a_peer_that_goes_is_an_error() {
    assert!(matches!(version("gone", |_| Vec::new()), Err(Error::Closed { .. } | Error::Connection { .. })));
    let peer = Peer::new("mute", drop);
    assert!(matches!(peer.connect(), Err(Error::Unreachable(_))));
}

/// As in a user namespace, where the other side sees another id.
#[test]
fn who_is_not_taken_for_who_it_says_asks_who_it_is() {
    let path = std::env::temp_dir().join(format!("skep-bus-rejects-{}", std::process::id()));
    let listener = UnixListener::bind(&path).expect("bind");
    let peer = std::thread::spawn(move || {
        let read = |stream: &mut UnixStream| {
            let mut bytes = [0; 256];
            let count = stream.read(&mut bytes).expect("read");
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        };
        let mut first = listener.accept().expect("accept").0;
        assert!(read(&mut first).starts_with("\0AUTH EXTERNAL 30\r\n"));
        first.write_all(b"REJECTED EXTERNAL\r\n").expect("answer");
        let mut second = listener.accept().expect("accept").0;
        assert_eq!(read(&mut second), "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
        second.write_all(b"DATA\r\nOK 00\r\n").expect("answer");
    });
    let connected = Manager::connect(&[Endpoint::at(path.to_str().unwrap(), true)], 0);
    peer.join().expect("the peer");
    std::fs::remove_file(&path).expect("remove the socket");
    assert!(connected.is_ok(), "{connected:?}");
}

#[test]
fn every_way_that_failed_is_named() {
    let endpoints = [
        Endpoint::at("/nowhere/private", true),
        Endpoint { address: "tcp:host=h".to_owned(), direct: false },
        Endpoint::at("/nowhere/bus", false),
    ];
    let text = Manager::connect(&endpoints, 0).unwrap_err().to_string();
    for part in ["/nowhere/private", "ENOENT", "tcp:host=h: not an address of a Unix socket", "/nowhere/bus"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(Manager::connect(&[], 0).unwrap_err().to_string().contains("no address"));
}

/// A job of which the end is told between the call and its answer, and one that fails.
#[test]
fn a_job_is_waited_for_by_its_signal() {
    let removed = |result: &str| {
        let field = |code: u8, value: &str| [&[code, 1, b's', 0][..], &text(value)].concat();
        let mut fields = field(2, "org.freedesktop.systemd1.Manager");
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend(field(3, "JobRemoved"));
        let mut body = 5u32.to_le_bytes().to_vec();
        for part in ["/job/5", "u.scope", result] {
            body.resize(body.len().next_multiple_of(4), 0);
            body.extend(text(part));
        }
        answer(4, 0, "uoss", &fields, &body)
    };
    let check = |name: &str, result: &'static str, expected: &str| {
        let signal = removed(result);
        let peer = Peer::new(name, move |mut stream| {
            let_in(&mut stream);
            let (serial, call) = read_call(&mut stream);
            assert!(call.windows(9).any(|part| part == b"Subscribe"));
            stream.write_all(&answer(2, serial, "", &[], &[])).expect("answer");
            let (serial, call) = read_call(&mut stream);
            assert!(call.windows(18).any(|part| part == b"StartTransientUnit"));
            let reply = answer(2, serial, "o", &[], &text("/job/5"));
            stream.write_all(&[signal, reply].concat()).expect("answer");
        });
        let outcome = peer.connect().unwrap().start_transient_unit("u.scope", &[]);
        let text = outcome.map_or_else(|error| error.to_string(), |()| "started".to_owned());
        assert!(text.starts_with(expected), "{text}");
    };
    check("done", "done", "started");
    check(
        "failed",
        "failed",
        "systemd could not start unit u.scope: its job ended with \"failed\"; its state is not known",
    );
}
