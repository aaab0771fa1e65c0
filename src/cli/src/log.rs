//! Messages for whoever called: a line on standard error, a line in a file, a record in the journal or the system log.
//!
//! The shapes are those that callers of runc read: a JSON line has `level`, `msg` and `time`, and the last one with level
//! `error` is the reason for a failure. Where a target is named, an error also goes to standard error as bare text.
//! A line is one write(2) to a file opened with O_APPEND, so that lines of several processes do not mix.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::args::command::{Global, Level, LogFormat, LogTarget};
use engine::clock as time;

/// Where journald receives records in its own protocol (systemd: "Native Journal Protocol").
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Where the system log receives messages (syslog(3)).
const SYSLOG_SOCKET: &str = "/dev/log";

/// A journal record that does not fit into one datagram would need a sealed memory file; messages are cut here instead.
/// The smallest default for net.core.wmem_max is 208 KiB.
const LONGEST_RECORD: usize = 64 * 1024;

/// Facility "daemon", shifted as in the priority of a syslog message (RFC 3164, 4.1.1).
const FACILITY_DAEMON: u8 = 3 << 3;

/// Where and how messages are written.
#[derive(Debug)]
pub struct Log {
    target: Target,
    format: LogFormat,
    level: Level,
    human: bool,
}

#[derive(Debug)]
enum Target {
    Stderr,
    File(File),
    Journald { socket: UnixDatagram, id: String },
    Syslog { socket: UnixDatagram, id: String },
}

impl Log {
    /// The logger that only writes to standard error.
    #[must_use]
    pub fn to_stderr(global: &Global) -> Log {
        let human = global.program.speaks_to_people() && io::stderr().is_terminal();
        Log { target: Target::Stderr, format: global.log_format, level: global.log_level, human }
    }

    /// Opens the target that the command line names.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or nobody listens on the socket.
    pub fn open(global: &Global) -> io::Result<Log> {
        let target = match &global.log {
            None => Target::Stderr,
            Some(LogTarget::File(path)) => {
                let mut options = OpenOptions::new();
                Target::File(options.append(true).create(true).mode(0o644).open(path)?)
            }
            Some(LogTarget::Journald(id)) => Target::Journald { socket: connect(JOURNAL_SOCKET)?, id: id.clone() },
            Some(LogTarget::Syslog(id)) => Target::Syslog { socket: connect(SYSLOG_SOCKET)?, id: id.clone() },
        };
        Ok(Log { target, ..Log::to_stderr(global) })
    }

    /// Whether standard error is read by a person, so that an error may have several lines.
    #[must_use]
    pub fn is_human(&self) -> bool {
        self.human
    }

    /// Whether messages of this level are written.
    #[must_use]
    pub fn shows(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Writes a message. One that cannot be written is dropped: there is nobody left to tell.
    pub fn write(&self, level: Level, message: &str) {
        if !self.shows(level) {
            return;
        }
        let now = time::now();
        let bare_too = level == Level::Error && !matches!(self.target, Target::Stderr) && !self.human;
        let written = match &self.target {
            Target::Stderr if self.human && level == Level::Error => Ok(()),
            Target::Stderr if self.human => write_stderr(&format!("{}: {message}\n", render_level(level))),
            Target::Stderr => write_stderr(&render_line(self.format, now, level, message)),
            Target::File(file) => (&*file).write_all(render_line(self.format, now, level, message).as_bytes()),
            Target::Journald { socket, id } => socket.send(&render_journal(id, level, message)).map(drop),
            Target::Syslog { socket, id } => socket.send(render_syslog(id, now, level, message).as_bytes()).map(drop),
        };
        if bare_too || written.is_err() {
            // When even this fails nothing is left to try.
            write_stderr(&format!("{message}\n")).unwrap_or_default();
        }
    }

    /// Writes a warning.
    pub fn warning(&self, message: &str) {
        self.write(Level::Warning, message);
    }

    /// Writes a message for those who watch each step.
    pub fn debug(&self, message: &str) {
        self.write(Level::Debug, message);
    }

    /// Writes lines for a person to standard error.
    pub fn say(&self, lines: &str) {
        // When standard error is closed there is nobody to tell.
        write_stderr(lines).unwrap_or_default();
    }
}

fn connect(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn write_stderr(text: &str) -> io::Result<()> {
    io::stderr().write_all(text.as_bytes())
}

fn render_level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    }
}

/// Renders one line, with its line feed.
#[must_use]
pub fn render_line(format: LogFormat, now: Duration, level: Level, message: &str) -> String {
    let level = render_level(level);
    match format {
        LogFormat::Text => {
            format!("time=\"{}\" level={level} msg={}\n", time::render_seconds(now), quote(message))
        }
        LogFormat::Json => {
            // The value of a string is always representable as JSON.
            let message = serde_json::Value::from(message);
            format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{}\"}}\n", time::render_nanos(now))
        }
    }
}

/// Quotes as Go does: backslashes, double quotes and what is not printable are escaped, so that the text is one line.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            '\u{2028}' | '\u{2029}' | '\u{85}' => out += &format!("\\u{:04x}", c as u32),
            c if c.is_control() => out += &format!("\\x{:02x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Renders a record of the journal: fields as `NAME=value` lines. A value with line feeds is sent with its length.
fn render_journal(id: &str, level: Level, message: &str) -> Vec<u8> {
    let mut record = format!("PRIORITY={}\n", syslog_severity(level)).into_bytes();
    for (name, value) in [("SYSLOG_IDENTIFIER", id), ("MESSAGE", message)] {
        let value = &value.as_bytes()[..value.len().min(LONGEST_RECORD)];
        record.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            record.push(b'\n');
            record.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            record.push(b'=');
        }
        record.extend_from_slice(value);
        record.push(b'\n');
    }
    record
}

/// Renders a message of RFC 3164 as syslog(3) sends it to a local daemon, with the time in UTC.
fn render_syslog(id: &str, now: Duration, level: Level, message: &str) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let t = time::Utc::from_unix(i64::try_from(now.as_secs()).unwrap_or_default());
    let priority = FACILITY_DAEMON | syslog_severity(level);
    let month = MONTHS[usize::from(t.month) - 1];
    let pid = std::process::id();
    let message: String = message.chars().map(|c| if c == '\n' { ' ' } else { c }).collect();
    format!("<{priority}>{month} {:2} {:02}:{:02}:{:02} {id}[{pid}]: {message}", t.day, t.hour, t.minute, t.second)
}

/// Severity by syslog(3).
fn syslog_severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::new(1_787_142_896, 789);

    #[test]
    fn a_text_line() {
        let line = render_line(LogFormat::Text, NOW, Level::Warning, "say \"a\\b\"\nnext\u{1b}\u{e9}");
        let expected = "time=\"2026-08-19T12:34:56Z\" level=warning msg=\"say \\\"a\\\\b\\\"\\nnext\\x1b\u{e9}\"\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_json_line() {
        let line = render_line(LogFormat::Json, NOW, Level::Error, "a \"b\"\n");
        let expected = r#"{"level":"error","msg":"a \"b\"\n","time":"2026-08-19T12:34:56.000000789Z"}"#;
        assert_eq!(line, format!("{expected}\n"));
    }

    #[test]
    fn a_journal_record_carries_line_feeds_by_length() {
        assert_eq!(render_journal("c1", Level::Error, "x=y"), b"PRIORITY=3\nSYSLOG_IDENTIFIER=c1\nMESSAGE=x=y\n");
        let expected = b"PRIORITY=7\nSYSLOG_IDENTIFIER=c1\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n";
        assert_eq!(render_journal("c1", Level::Debug, "a\nb"), expected);
    }

    #[test]
    fn a_record_is_one_datagram_and_quieter_ones_are_dropped() {
        let (socket, journal) = UnixDatagram::pair().expect("two sockets");
        let target = Target::Journald { socket, id: "c1".to_owned() };
        let log = Log { target, format: LogFormat::Json, level: Level::Warning, human: false };
        log.debug("too quiet");
        log.warning("loud");
        let mut record = [0; 100];
        let length = journal.recv(&mut record).expect("a record");
        assert_eq!(&record[..length], b"PRIORITY=4\nSYSLOG_IDENTIFIER=c1\nMESSAGE=loud\n");
    }

    #[test]
    fn a_system_log_message() {
        let message = render_syslog("c1", NOW, Level::Warning, "a\nb");
        assert_eq!(message, format!("<28>Aug 19 12:34:56 c1[{}]: a b", std::process::id()));
    }

    proptest! {
        #[test]
        fn any_message_is_one_json_object_on_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let message = String::from_utf8_lossy(&bytes);
            let line = render_line(LogFormat::Json, NOW, Level::Error, &message);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            prop_assert_eq!(object["msg"].as_str(), Some(&*message));
            prop_assert_eq!(object["level"].as_str(), Some("error"));
        }

        #[test]
        fn any_message_is_one_line_of_text(message in any::<String>()) {
            let line = render_line(LogFormat::Text, NOW, Level::Info, &message);
            prop_assert_eq!(line.lines().count(), 1);
            prop_assert!(!line.trim_end_matches('\n').contains(char::is_control));
        }
    }
}
