//! The machine protocol of qemu: one JSON object a line, over a UNIX socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long one answer may take; all of them are quick where the machine is not busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A connection on which commands are allowed.
#[derive(Debug)]
pub(super) struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects once the socket is there.
    ///
    /// # Errors
    /// It does not come, or what answers is no qemu.
    pub(super) fn connect(path: &Path) -> Result<Qmp> {
        let until = Instant::now() + ANSWER_LIMIT;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => return Err(error).context("qemu does not listen"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        stream.set_read_timeout(Some(ANSWER_LIMIT)).context("cannot bound a wait")?;
        let mut qmp = Qmp { reader: BufReader::new(stream) };
        qmp.read_line().context("qemu does not greet")?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns what it returns. Events on the way are passed over.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let text = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.reader.get_mut().write_all(text.as_bytes()).with_context(|| format!("cannot send {command} to qemu"))?;
        loop {
            let mut answer = self.read_line().with_context(|| format!("no answer to {command} from qemu"))?;
            if let Some(error) = answer.get("error") {
                bail!("qemu refuses {command}: {}", error["desc"].as_str().unwrap_or_default());
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// Executes a query again and again until its `status` is one of these, and returns it.
    pub(super) fn wait_status(&mut self, query: &str, wanted: &[&str], limit: Duration) -> Result<String> {
        let until = Instant::now() + limit;
        loop {
            let answer = self.execute(query, &json!({}))?;
            let status = answer["status"].as_str().unwrap_or_default();
            if wanted.contains(&status) {
                return Ok(status.to_owned());
            }
            if Instant::now() > until {
                bail!("{query} of qemu says {status:?} for {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn read_line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).context("cannot read from qemu")?;
        if count == 0 {
            bail!("qemu has closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("qemu says {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_passed_over_and_errors_are_told() {
        let path = std::env::temp_dir().join(format!("xtask-qmp-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let answers = [
            "{\"return\":{}}\n",
            "{\"event\":\"STOP\"}\n{\"return\":{\"status\":\"paused\"}}\n",
            "{\"error\":{\"class\":\"G\",\"desc\":\"no such thing\"}}\n",
        ];
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"{\"QMP\":{}}\n").unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in answers {
                lines.next().unwrap().unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let mut qmp = Qmp::connect(&path).unwrap();
        assert_eq!(qmp.wait_status("query-status", &["paused"], ANSWER_LIMIT).unwrap(), "paused");
        assert!(qmp.execute("nonsense", &json!({})).unwrap_err().to_string().ends_with("no such thing"));
        server.join().unwrap();
        assert!(qmp.execute("late", &json!({})).is_err());
        std::fs::remove_file(path).unwrap();
    }
}
