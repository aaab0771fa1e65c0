//! What a container's monitor is told and tells: its orders, the messages on its socket, how a process ended.
//!
//! The monitor is one small process for each container that runs for long. It holds the output's reading end (or the
//! terminal's master), writes the log, and knows how the first process ended. The messages travel on a unix socket that
//! keeps their borders (SOCK_SEQPACKET): one letter, then its data.

use serde::{Deserialize, Serialize};

/// Longest message in bytes.
pub const MESSAGE_MAX: usize = 16 << 10;

/// Names in the folder of one run.
pub mod file {
    /// The monitor's orders, see [`super::Orders`].
    pub const ORDERS: &str = "orders";
    /// Held (flock) by the monitor as long as it lives; its pid is in it.
    pub const LOCK: &str = "monitor";
    /// The monitor's socket.
    pub const CONTROL: &str = "control";
    /// Where the runtime sends the terminal's master to.
    pub const CONSOLE: &str = "console";
    /// A FIFO: the output of a container without a terminal. It has a reader as long as one of the two is there, so that a
    /// container never gets SIGPIPE, and what it writes while no monitor is there waits for the next one.
    pub const OUTPUT: &str = "output";
    /// The pid of the container's first process, as the runtime wrote it.
    pub const PID: &str = "pid";
    /// How that process ended, see [`super::End::render`].
    pub const END: &str = "end";
}

/// Files that tell a container of itself what would tell of the machine: name, and place inside.
pub const VIEWS: [(&str, &str); 5] = [
    ("cpuinfo", "/proc/cpuinfo"),
    ("loadavg", "/proc/loadavg"),
    ("meminfo", "/proc/meminfo"),
    ("online", "/sys/devices/system/cpu/online"),
    ("stat", "/proc/stat"),
];

/// Reads a list such as `0-2,5`.
#[must_use]
pub fn parse_cpus(list: &str) -> Vec<usize> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    // No machine has more; a list is the kernel's.
    list.trim().split(',').filter_map(range).flatten().take(8192).collect()
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It called exit with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// Nobody knows: no monitor was there, and the kernel (before 6.15) did not keep it.
    Unknown,
}

/// What a whole system asked of the kernel at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reboot {
    /// To begin again.
    Rebooted,
    /// To halt or power off: the kernel does not tell which.
    Halted,
}

impl End {
    /// What the end of the first process of a pid namespace says of reboot(2): a reboot is an end by SIGHUP, a halt and a
    /// power-off one by SIGINT. An init keeps both signals from others by its handlers.
    ///
    /// Kernel: `reboot_pid_ns` in kernel/pid_namespace.c.
    #[must_use]
    pub fn parse_reboot(self) -> Option<Reboot> {
        const SIGHUP: i32 = 1;
        const SIGINT: i32 = 2;
        match self {
            End::Signal(SIGHUP) => Some(Reboot::Rebooted),
            End::Signal(SIGINT) => Some(Reboot::Halted),
            End::Signal(_) | End::Code(_) | End::Unknown => None,
        }
    }

    /// `exit N`, `signal N` or `unknown`.
    #[must_use]
    pub fn render(self) -> String {
        match self {
            End::Code(code) => format!("exit {code}"),
            End::Signal(signal) => format!("signal {signal}"),
            End::Unknown => "unknown".to_owned(),
        }
    }

    /// Reads what [`End::render`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<End> {
        match text.trim().split_once(' ') {
            Some(("exit", code)) => code.parse().ok().map(End::Code),
            Some(("signal", signal)) => signal.parse().ok().map(End::Signal),
            None if text.trim() == "unknown" => Some(End::Unknown),
            _ => None,
        }
    }
}

/// What somebody at the socket wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// The output from now on, after the last of what there was.
    Attach,
    /// The output from now on, for somebody whom another monitor served before.
    Resume,
    /// To be at a terminal besides the console, by its number from 1 on, and get what is written there.
    Tty(u16),
    /// To be told, by output without content, now and whenever the log has grown.
    Follow,
    /// Input for the terminal that one is at.
    Input(&'a [u8]),
    /// The terminal's size in characters.
    Size {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
    /// Only to be told of the end.
    Wait,
}

impl<'a> Request<'a> {
    /// As a message.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        match self {
            Request::Attach => b"A".to_vec(),
            Request::Resume => b"R".to_vec(),
            Request::Tty(number) => [&b"T"[..], &number.to_le_bytes()].concat(),
            Request::Follow => b"F".to_vec(),
            Request::Wait => b"W".to_vec(),
            Request::Input(data) => [b"I", *data].concat(),
            Request::Size { rows, columns } => [&b"S"[..], &rows.to_le_bytes(), &columns.to_le_bytes()].concat(),
        }
    }

    /// Reads a message; `None` for one that is none.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Request<'a>> {
        match message {
            b"A" => Some(Request::Attach),
            b"R" => Some(Request::Resume),
            [b'T', n0, n1] => Some(Request::Tty(u16::from_le_bytes([*n0, *n1]))),
            b"F" => Some(Request::Follow),
            b"W" => Some(Request::Wait),
            [b'I', data @ ..] => Some(Request::Input(data)),
            [b'S', r0, r1, c0, c1] => {
                Some(Request::Size { rows: u16::from_le_bytes([*r0, *r1]), columns: u16::from_le_bytes([*c0, *c1]) })
            }
            _ => None,
        }
    }
}

/// What the monitor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// Output of the container.
    Output(&'a [u8]),
    /// The first process has ended; all of its output was sent before.
    Ended(End),
}

impl<'a> Event<'a> {
    /// As a message.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        match self {
            Event::Output(data) => [b"O", *data].concat(),
            Event::Ended(end) => [b"E", end.render().as_bytes()].concat(),
        }
    }

    /// Reads a message; `None` for one that is none.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Event<'a>> {
        match message {
            [b'O', data @ ..] => Some(Event::Output(data)),
            [b'E', end @ ..] => std::str::from_utf8(end).ok().and_then(End::parse).map(Event::Ended),
            _ => None,
        }
    }
}

/// What a monitor is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// The log's file.
    pub log: String,
    /// Size in bytes from which on the log is put aside; 0 is never.
    pub log_size: u64,
    /// How many logs are kept besides the one that is written.
    pub log_files: u32,
    /// Whether the container has a terminal.
    pub terminal: bool,
    /// How many it has besides.
    pub ttys: u16,
    /// The file that whoever works on the container has locked, by flock(2); empty for none.
    pub lock: String,
    /// The command that starts the container, program first. It ends when the container runs.
    pub start: Vec<String>,
    /// The command that is run when the container has ended. It writes `again MILLISECONDS` where it is to be started again.
    pub ended: Vec<String>,
    /// The command that is run then, after that time.
    pub again: Vec<String>,
}

impl Orders {
    /// As the file has them: `KEY=VALUE` and a zero byte each.
    ///
    /// No value has a zero byte: all are paths or arguments of programs.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut add = |key: &str, value: &str| {
            for part in [key, "=", value, "\0"] {
                text.extend_from_slice(part.as_bytes());
            }
        };
        add("log", &self.log);
        add("log-size", &self.log_size.to_string());
        add("log-files", &self.log_files.to_string());
        add("terminal", if self.terminal { "1" } else { "0" });
        add("ttys", &self.ttys.to_string());
        add("lock", &self.lock);
        for (key, command) in [("start", &self.start), ("ended", &self.ended), ("again", &self.again)] {
            command.iter().for_each(|arg| add(key, arg));
        }
        text
    }

    /// Reads what [`Orders::render`] wrote.
    ///
    /// # Errors
    /// The entry that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Orders, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let mut orders = Orders::default();
        for entry in text.split_terminator('\0') {
            let wrong = || format!("wrong order {entry:?}");
            let (key, value) = entry.split_once('=').ok_or_else(wrong)?;
            match key {
                "log" => value.clone_into(&mut orders.log),
                "log-size" => orders.log_size = value.parse().map_err(|_| wrong())?,
                "log-files" => orders.log_files = value.parse().map_err(|_| wrong())?,
                "terminal" => orders.terminal = value == "1",
                "ttys" => orders.ttys = value.parse().map_err(|_| wrong())?,
                "lock" => value.clone_into(&mut orders.lock),
                "start" => orders.start.push(value.to_owned()),
                "ended" => orders.ended.push(value.to_owned()),
                "again" => orders.again.push(value.to_owned()),
                _ => return Err(wrong()),
            }
        }
        Ok(orders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_is_told_from_a_halt_and_an_exit() {
        assert_eq!(End::Signal(1).parse_reboot(), Some(Reboot::Rebooted));
        assert_eq!(End::Signal(2).parse_reboot(), Some(Reboot::Halted));
        for end in [End::Code(1), End::Code(2), End::Signal(9), End::Unknown] {
            assert_eq!(end.parse_reboot(), None);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for end in [End::Code(0), End::Code(255), End::Signal(9), End::Unknown] {
            assert_eq!(End::parse(&end.render()), Some(end));
            let message = Event::Ended(end).render();
            assert_eq!(Event::parse(&message), Some(Event::Ended(end)));
        }
        for text in ["", "exit", "exit x", "9", "signal 9 9"] {
            assert_eq!(End::parse(text), None, "{text}");
        }
        let (input, size) = (Request::Input(b"\0A"), Request::Size { rows: 24, columns: 300 });
        for request in
            [Request::Attach, Request::Resume, Request::Tty(300), Request::Follow, Request::Wait, input, size]
        {
            assert_eq!(Request::parse(&request.render()), Some(request.clone()));
        }
        for message in [&b""[..], b"X", b"S12", b"Attach"] {
            assert_eq!(Request::parse(message), None);
        }
    }

    #[test]
    fn orders_survive_their_file() {
        let orders = Orders {
            log: "/var/lib/log=1".to_owned(),
            log_size: 10 << 20,
            log_files: 3,
            lock: "/data/locks/web".to_owned(),
            terminal: true,
            ttys: 4,
            start: ["/bin/x", "--a=b", "", "ä\n"].map(str::to_owned).to_vec(),
            ended: vec!["/bin/y".to_owned()],
            again: Vec::new(),
        };
        assert_eq!(Orders::parse(&orders.render()), Ok(orders));
        Orders::parse(b"nonsense").unwrap_err();
        Orders::parse(b"log-size=x\0").unwrap_err();
    }
}
