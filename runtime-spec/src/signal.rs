//! Signals by number and by name.

/// A signal number as `kill(2)` takes it; 0 only asks whether the process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(pub i32);

impl Signal {
    /// Asks a process to end.
    pub const TERM: Signal = Signal(15);
}

/// First real-time signal that programs may use: the C libraries keep 32 and 33 for themselves (signal(7)).
const RTMIN: i32 = 34;

/// Last real-time signal.
const RTMAX: i32 = 64;

/// Names and numbers of x86, ARM and most others (signal(7)), aliases after the common name.
static NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Reads `9`, `KILL`, `sigkill`, `RTMIN+3` or `SIGRTMAX-1`. `None` where it is none of these or out of 0..=64.
#[must_use]
pub fn parse_signal(text: &str) -> Option<Signal> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().and_then(in_range);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(Signal(*number));
    }
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(RTMIN, offset, '+');
    }
    name.strip_prefix("RTMAX").and_then(|offset| real_time(RTMAX, offset, '-'))
}

/// The name with `SIG` in front, where the number has one.
#[must_use]
pub fn signal_name(signal: Signal) -> Option<String> {
    NAMES.iter().find(|(_, number)| *number == signal.0).map(|(name, _)| format!("SIG{name}"))
}

fn in_range(number: i32) -> Option<Signal> {
    (0..=RTMAX).contains(&number).then_some(Signal(number))
}

fn real_time(base: i32, offset: &str, sign: char) -> Option<Signal> {
    if offset.is_empty() {
        return Some(Signal(base));
    }
    let distance: u8 = offset.strip_prefix(sign).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let number = if sign == '+' { base + i32::from(distance) } else { base - i32::from(distance) };
    (RTMIN..=RTMAX).contains(&number).then_some(Signal(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<i32>) {
        assert_eq!(parse_signal(text).map(|s| s.0), expected, "{text:?}");
    }

    #[test]
    fn numbers() {
        check("0", Some(0));
        check("9", Some(9));
        check("015", Some(15));
        check("64", Some(64));
        check("65", None);
        check("-9", None);
        check("9999999999", None);
        check("", None);
    }

    #[test]
    fn names() {
        check("KILL", Some(9));
        check("SIGKILL", Some(9));
        check("kill", Some(9));
        check("SigTerm", Some(15));
        check("CLD", Some(17));
        check("SIG", None);
        check("SIGSIGKILL", None);
        check("NOPE", None);
    }

    #[test]
    fn real_time_signals() {
        check("RTMIN", Some(34));
        check("SIGRTMIN+3", Some(37));
        check("rtmin+30", Some(64));
        check("RTMIN+31", None);
        check("RTMIN-1", None);
        check("RTMAX", Some(64));
        check("RTMAX-1", Some(63));
        check("RTMAX-30", Some(34));
        check("RTMAX-31", None);
        check("RTMIN+", None);
        check("RTMIN++1", None);
    }

    #[test]
    fn each_number_below_32_has_a_name_that_parses_back() {
        for number in 1..32 {
            let name = signal_name(Signal(number)).expect("a name");
            check(&name, Some(number));
        }
        assert_eq!(signal_name(Signal(40)), None);
    }
}
