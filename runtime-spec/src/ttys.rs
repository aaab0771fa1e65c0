//! Terminals that a container has besides its console.
//!
//! The specification knows one terminal, `process.terminal`. A whole system has gettys on more. The annotation [`ANNOTATION`] of
//! a container that has a terminal says how many, and where: its value is `tty:NUMBER` or `pts:NUMBER`. They are made in the
//! container's own devpts after the console, as `pts/1` and on; their masters go to the console socket in one further message.

use serde::Serialize;

/// The annotation.
pub const ANNOTATION: &str = "io.skep.ttys";

/// Most terminals: as many as Linux has consoles.
pub const MAX: u16 = 63;

/// Terminals besides the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ttys {
    /// How many: 1..=[`MAX`].
    pub count: u16,
    /// Whether each is mounted on `/dev/ttyN`, from `/dev/tty1` on. Else it has its name below `/dev/pts` alone.
    pub named: bool,
}

impl Ttys {
    /// As the annotation has it.
    #[must_use]
    pub fn render(self) -> String {
        format!("{}:{}", if self.named { "tty" } else { "pts" }, self.count)
    }

    /// Reads what [`Ttys::render`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Ttys> {
        let (place, count) = text.split_once(':')?;
        let named = match place {
            "tty" => true,
            "pts" => false,
            _ => return None,
        };
        let count = count.parse().ok().filter(|count| (1..=MAX).contains(count))?;
        Some(Ttys { count, named })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for ttys in [Ttys { count: 1, named: true }, Ttys { count: MAX, named: false }] {
            assert_eq!(Ttys::parse(&ttys.render()), Some(ttys));
        }
        for text in ["", "4", "tty:", "tty:0", "tty:64", "vt:3", "tty:4 "] {
            assert_eq!(Ttys::parse(text), None, "{text}");
        }
    }
}
