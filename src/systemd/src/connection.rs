//! One blocking connection: the way in, calls, and signals that come in between.
//!
//! Spec: D-Bus Specification, "Authentication Protocol" (SASL, mechanism EXTERNAL) and "Message Protocol".

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use sys::Errno;
use sys::socket::Address;

use crate::address::{Endpoint, Socket};
use crate::error::{Error, Result, Try};
use crate::message::{FIXED, Kind, Message};
use crate::value::Value;
use crate::wire::WireError;

/// How long a connection may take to be let in.
const CONNECT_BOUND: Duration = Duration::from_secs(10);
/// How long a call may take: what libdbus and sd-bus give it.
const CALL_BOUND: Duration = Duration::from_secs(25);
/// The longest line of the authentication that is taken.
const MAX_LINE: usize = 1024;
/// How many signals that are waited for may wait for us; older ones are dropped, since only the latest job's is taken.
const MAX_SIGNALS: usize = 1024;

const BUS: &str = "org.freedesktop.DBus";

/// A connection to a bus, or to a service manager itself.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    serial: u32,
    /// Bytes that came and are not a whole message yet.
    received: Vec<u8>,
    /// Interface and member of the signals that are kept.
    wanted: Option<(&'static str, &'static str)>,
    signals: VecDeque<Message>,
}

impl Connection {
    /// Takes the first socket of the endpoint that lets us in, as `uid` or, where that is not who the other side sees, as
    /// who it sees.
    pub(crate) fn open(endpoint: &Endpoint, uid: u32) -> Result<Connection> {
        let mut tries = Vec::new();
        for socket in endpoint.sockets() {
            match Connection::enter(&socket, endpoint.direct, uid) {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    let (Socket::Path(address) | Socket::Abstract(address)) = socket;
                    tries.push(Try { address, reason: error.in_one_line() });
                }
            }
        }
        if tries.is_empty() {
            let reason = "not an address of a Unix socket".to_owned();
            tries.push(Try { address: endpoint.address.clone(), reason });
        }
        Err(Error::Unreachable(tries))
    }

    /// With the caller's own id first. In a user namespace the other side sees another one: it then takes what it sees.
    fn enter(socket: &Socket, direct: bool, uid: u32) -> Result<Connection> {
        let identity: String = uid.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut connection = match Connection::begin(socket, &format!("\0AUTH EXTERNAL {identity}\r\nBEGIN\r\n")) {
            Err(Error::Rejected(_)) => Connection::begin(socket, "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?,
            other => other?,
        };
        if !direct {
            connection.call(Message::call(BUS, "/org/freedesktop/DBus", BUS, "Hello", Vec::new()))?;
        }
        Ok(connection)
    }

    /// Connects and authenticates.
    ///
    /// `BEGIN` goes along with the rest, ahead of the answer. systemd forgets a message that it reads together with
    /// `BEGIN` until the next one comes; so the first message waits for the answer, by which `BEGIN` has been read.
    fn begin(socket: &Socket, lines: &str) -> Result<Connection> {
        let deadline = Instant::now() + CONNECT_BOUND;
        let address = match socket {
            Socket::Path(path) => Address::Path(path),
            Socket::Abstract(name) => Address::Abstract(name),
        };
        let connected = sys::stream::connect(address, CONNECT_BOUND);
        let socket = connected.map_err(|source| failure(source, "connecting", silent(CONNECT_BOUND)))?;
        let mut connection = Connection::over(socket);
        connection.send(lines.as_bytes(), "authenticating", deadline, CONNECT_BOUND)?;
        let mut answer = connection.line(deadline)?;
        if answer.starts_with("DATA") {
            answer = connection.line(deadline)?;
        }
        if answer.starts_with("OK ") { Ok(connection) } else { Err(Error::Rejected(answer)) }
    }

    fn over(socket: OwnedFd) -> Connection {
        Connection { socket, serial: 0, received: Vec::new(), wanted: None, signals: VecDeque::new() }
    }

    fn line(&mut self, deadline: Instant) -> Result<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.received.len() > MAX_LINE {
                let source = WireError::Large("line");
                return Err(Error::Wire { doing: "authenticating".to_owned(), source });
            }
            self.fill("authenticating", deadline, CONNECT_BOUND)?;
        }
    }

    fn send(&self, bytes: &[u8], doing: &str, deadline: Instant, bound: Duration) -> Result<()> {
        let stuck = |doing| Error::Stuck { doing, bound };
        sys::stream::send_all(self.socket.as_fd(), bytes, deadline).map_err(|source| failure(source, doing, stuck))
    }

    /// Receives at least a byte.
    fn fill(&mut self, doing: &str, deadline: Instant, bound: Duration) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Silent { doing: doing.to_owned(), bound });
        }
        let mut buffer = [0u8; 4096];
        let count = sys::stream::receive(self.socket.as_fd(), &mut buffer, left)
            .map_err(|source| failure(source, doing, silent(bound)))?;
        if count == 0 {
            return Err(Error::Closed { doing: doing.to_owned() });
        }
        self.received.extend_from_slice(&buffer[..count]);
        Ok(())
    }

    /// The next message of a known type.
    fn message(&mut self, doing: &str, deadline: Instant, bound: Duration) -> Result<Message> {
        let wire = |source| Error::Wire { doing: doing.to_owned(), source };
        loop {
            if let Some(start) = self.received.first_chunk::<FIXED>() {
                let size = Message::size(start).map_err(wire)?;
                if self.received.len() >= size {
                    let bytes: Vec<u8> = self.received.drain(..size).collect();
                    if let Some(message) = Message::decode(&bytes).map_err(wire)? {
                        return Ok(message);
                    }
                    continue;
                }
            }
            self.fill(doing, deadline, bound)?;
        }
    }

    /// Makes a call and waits for its answer.
    pub(crate) fn call(&mut self, message: Message) -> Result<Vec<Value>> {
        self.call_within(message, CALL_BOUND)
    }

    fn call_within(&mut self, mut message: Message, bound: Duration) -> Result<Vec<Value>> {
        let deadline = Instant::now() + bound;
        self.serial += 1;
        message.serial = self.serial;
        let doing = describe(&message);
        self.send(&message.encode(), &doing, deadline, bound)?;
        loop {
            let answer = self.message(&doing, deadline, bound)?;
            match answer.kind {
                Kind::Return if answer.reply_to == Some(message.serial) => return Ok(answer.body),
                Kind::Error if answer.reply_to == Some(message.serial) => {
                    let text = answer.body.first().and_then(Value::as_text).unwrap_or("no reason given");
                    return Err(Error::Refused { call: doing, name: answer.error, message: text.to_owned() });
                }
                _ => self.keep(answer),
            }
        }
    }

    /// From now on keeps this signal for [`Connection::wait_signal`]. Without a bus in between, systemd sends all others too.
    pub(crate) fn keep_signal(&mut self, interface: &'static str, member: &'static str) {
        self.wanted = Some((interface, member));
    }

    fn keep(&mut self, message: Message) {
        if self.wanted.is_some_and(|(interface, member)| message.is_signal(interface, member)) {
            self.signals.push_back(message);
            if self.signals.len() > MAX_SIGNALS {
                self.signals.pop_front();
            }
        }
    }

    /// The first of the signals that are kept, of those that came and those that will, that `wanted` takes. `None` after
    /// the bound.
    pub(crate) fn wait_signal<T>(
        &mut self,
        doing: &str,
        bound: Duration,
        mut wanted: impl FnMut(&Message) -> Option<T>,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + bound;
        loop {
            while let Some(signal) = self.signals.pop_front() {
                if let Some(found) = wanted(&signal) {
                    return Ok(Some(found));
                }
            }
            match self.message(doing, deadline, bound) {
                Ok(message) => self.keep(message),
                Err(Error::Silent { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// What the kernel says; `late` where it says that the bound is over.
fn failure(source: sys::Error, doing: &str, late: impl FnOnce(String) -> Error) -> Error {
    let doing = doing.to_owned();
    if source.is(Errno::AGAIN) { late(doing) } else { Error::Connection { doing, source } }
}

fn silent(bound: Duration) -> impl FnOnce(String) -> Error {
    move |doing| Error::Silent { doing, bound }
}

/// Method and first argument, for errors; of a property its name, which is the second.
fn describe(message: &Message) -> String {
    let subject = if message.member == "Get" { message.body.get(1) } else { message.body.first() };
    match subject.and_then(Value::as_text) {
        Some(subject) => format!("{} {subject}", message.member),
        None => message.member.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    const BOUND: Duration = Duration::from_millis(200);

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::over(ours.into()), theirs)
    }

    fn call_on(unit: &str, size: usize) -> Message {
        let body = vec![Value::text(unit), Value::text("x".repeat(size))];
        Message::call(BUS, "/", BUS, "SetUnitProperties", body)
    }

    #[test]
    fn a_peer_that_takes_nothing_is_an_error() {
        let (mut connection, _theirs) = pair();
        let error = connection.call_within(call_on("u.scope", 4 << 20), BOUND).unwrap_err();
        let expected = "systemd did not take the whole message within 200ms (SetUnitProperties u.scope)";
        assert_eq!(error.to_string(), expected);
    }

    /// Each of its reads makes some room, so that no single send waits for long.
    #[test]
    fn a_peer_that_takes_little_at_a_time_is_an_error() {
        let (mut connection, mut theirs) = pair();
        let peer = std::thread::spawn(move || {
            let mut taken = vec![0; 32 << 10];
            while theirs.read(&mut taken).unwrap() > 0 {
                std::thread::sleep(BOUND / 4);
            }
        });
        let begun = Instant::now();
        let error = connection.call_within(call_on("u.scope", 8 << 20), BOUND).unwrap_err();
        let took = begun.elapsed();
        drop(connection);
        peer.join().unwrap();
        assert!(matches!(error, Error::Stuck { .. }), "{error}");
        assert!(took < BOUND * 10, "{took:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a peer writes before it goes: the wait ends with an error, and nothing is kept that was not sent.
        #[test]
        fn a_peer_that_says_anything(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(b'l'), Just(1)], 0..128), lines in any::<bool>(),
        ) {
            let (mut connection, mut theirs) = pair();
            theirs.write_all(&bytes).unwrap();
            drop(theirs);
            let deadline = Instant::now() + BOUND;
            if lines {
                while let Ok(line) = connection.line(deadline) {
                    prop_assert!(!line.contains("\r\n"));
                }
            } else {
                while connection.message("reading", deadline, BOUND).is_ok() {}
            }
            prop_assert!(connection.received.len() <= bytes.len());
        }
    }

    #[test]
    fn a_peer_that_says_nothing_is_an_error() {
        let (mut connection, _theirs) = pair();
        let body = vec![Value::text("org.freedesktop.systemd1.Manager"), Value::text("Version")];
        let error = connection.call_within(Message::call(BUS, "/", BUS, "Get", body), BOUND).unwrap_err();
        assert_eq!(error.to_string(), "systemd did not answer within 200ms (Get Version)");
    }
}
