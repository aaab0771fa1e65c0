//! Questions to a replica that are asked again and again, in a task of their own, as long as it runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::definition::{Ask, Probe, split_place};
use crate::runtime::Runtime;

/// First pause: what was just started is often ready soon, and asked more and more seldom up to the interval.
const FIRST: Duration = Duration::from_millis(20);

/// Asks until the answer is another than `before`; a bad one counts after so many in a row as the probe says. The text says
/// why it is bad.
pub async fn until_changed(runtime: &Arc<Runtime>, container: &str, probe: &Probe, before: bool) -> Result<(), String> {
    let mut pause = if before { probe.interval } else { FIRST.min(probe.interval) };
    let mut bad = 0;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(probe.interval);
        let answer = timeout(probe.timeout, ask(runtime, container, &probe.ask)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", probe.timeout)));
        bad = if answer.is_ok() { 0 } else { bad + 1 };
        match answer {
            Ok(()) if !before => return Ok(()),
            Err(why) if before && bad >= probe.failures => return Err(why),
            _ => {}
        }
    }
}

async fn ask(runtime: &Runtime, container: &str, ask: &Ask) -> Result<(), String> {
    match ask {
        Ask::Exec(command) => runtime.exec(container, command).await,
        Ask::Tcp(place) => TcpStream::connect(place).await.map(drop).map_err(|error| format!("{place}: {error}")),
        Ask::Http(place) => ask_http(place).await.map_err(|error| format!("{place}: {error}")),
    }
}

async fn ask_http(place: &str) -> Result<(), String> {
    let (address, path) = split_place(place);
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: skepd\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    // The status stands in the first twelve bytes: HTTP/1.1 200
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.map_err(|error| error.to_string())?;
    match parse_status(&line) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("status {status}")),
        None => Err("no answer of HTTP".to_owned()),
    }
}

fn parse_status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    std::str::from_utf8(rest).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_three_digits_after_the_version() {
        assert_eq!(parse_status(b"HTTP/1.1 204"), Some(204));
        assert_eq!(parse_status(b"HTTP/1.0 503"), Some(503));
        for line in [&b"HTTP/2 200 O"[..], b"SSH-2.0-Open", b"HTTP/1.1 2x0", b"HTTP/1."] {
            assert_eq!(parse_status(line), None);
        }
    }
}
