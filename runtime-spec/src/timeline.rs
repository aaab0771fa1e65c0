//! What a command spent its time on: spans, and the two texts that are made of them.
//!
//! ```text
//! command            run ────────────────────────────────────────────
//! phase                 read_config  probe_host  plan  ...
//! step, host side                                    make_cgroups spawn await_gate ...
//! step, container's side                                                join_cgroups mount ...
//! ```
//!
//! Times are those of the wall clock since 1970: it is the one clock that has no offset in a time namespace, so that both
//! sides measure with the same one. A clock that is set while a command runs makes its trace useless, and nothing else.

use std::cell::RefCell;
use std::time::Duration;

use crate::clock::render_nanos;

/// Whose time a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The process that was called.
    Host,
    /// The process that becomes the container's.
    Container,
}

impl Side {
    /// The word for it in both texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Side::Host => "host",
            Side::Container => "container",
        }
    }

    /// Number of the row in a Chrome trace.
    const fn row(self) -> u8 {
        match self {
            Side::Host => 1,
            Side::Container => 2,
        }
    }
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Who did it.
    pub side: Side,
    /// A phase, or a step by its name in the printed plan.
    pub name: String,
    /// When it began, since 1970.
    pub begin: Duration,
    /// When it ended, since 1970.
    pub end: Duration,
}

impl Span {
    /// How long it took.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.end.saturating_sub(self.begin)
    }

    fn holds(&self, other: &Span) -> bool {
        self.side == other.side && self.begin <= other.begin && other.end <= self.end
    }
}

/// The spans of one process, as they come.
#[derive(Debug, Default)]
pub struct Timeline {
    spans: RefCell<Vec<Span>>,
}

impl Timeline {
    /// Puts down a span that has just ended.
    pub fn add(&self, side: Side, name: &str, begin: Duration, end: Duration) {
        self.spans.borrow_mut().push(Span { side, name: name.to_owned(), begin, end });
    }

    /// All spans, in the order in which they began; what holds others stands before them.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = self.spans.borrow().clone();
        spans.sort_by(|a, b| (a.begin, b.end, a.side).cmp(&(b.begin, a.end, b.side)));
        spans
    }
}

/// Which command was traced.
#[derive(Debug, Clone)]
pub struct Traced<'a> {
    /// Its name and what else tells it from others.
    pub command: &'a str,
    /// Its process.
    pub pid: u32,
    /// When its process began to work, since 1970.
    pub began: Duration,
    /// When it was done.
    pub ended: Duration,
}

/// Renders the content of a trace file: a Chrome trace where the file's name ends in `.json`, else text for a person.
///
/// Format of the first: "Trace Event Format", a JSON array of events.
#[must_use]
pub fn render_file(path: &str, traced: &Traced<'_>, spans: &[Span]) -> String {
    let is_chrome = path.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("json"));
    if is_chrome { render_chrome(traced, spans) } else { render_text(traced, spans) }
}

/// Renders spans for a person: one line each, indented below what holds them, then what took most time by itself.
///
/// All times are in milliseconds, beginnings counted from that of the command. A span's own time is its length without the
/// spans that it holds; a `pass_gate` or `await_gate` is time that one side waits for the other.
fn render_text(traced: &Traced<'_>, spans: &[Span]) -> String {
    let total = traced.ended.saturating_sub(traced.began);
    let mut text =
        format!("{}: {} ms, pid {}, {}\n", traced.command, millis(total), traced.pid, render_nanos(traced.began));
    text += "     begin    length       own  side       phase or step\n";
    let placed = place(spans);
    for (span, (depth, own)) in spans.iter().zip(&placed) {
        text += &format!(
            "{:>10}{:>10}{:>10}  {:<9}  {:indent$}{}\n",
            millis(span.begin.saturating_sub(traced.began)),
            millis(span.length()),
            millis(*own),
            span.side.name(),
            "",
            span.name,
            indent = depth * 2
        );
    }
    text += "most time by itself:\n";
    for (name, side, own, count) in heaviest(spans, &placed).into_iter().take(10) {
        text += &format!("{:>30}  {:<9}  {name} ({count})\n", millis(own), side.name());
    }
    text
}

/// Renders spans as complete events (`ph` is `X`, `ts` and `dur` in microseconds) after metadata (`M`), one a line.
fn render_chrome(traced: &Traced<'_>, spans: &[Span]) -> String {
    let (pid, name) = (traced.pid, serde_json::Value::from(traced.command));
    let mut text = format!("[\n{{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":{pid},\"args\":{{\"name\":{name}}}}}");
    for side in [Side::Host, Side::Container] {
        let (row, name) = (side.row(), side.name());
        text += &format!(
            ",\n{{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":{pid},\"tid\":{row},\"args\":{{\"name\":\"{name}\"}}}}"
        );
    }
    for span in spans {
        let (row, name) = (span.side.row(), serde_json::Value::from(span.name.as_str()));
        let (begin, length) = (micros(span.begin), micros(span.length()));
        text +=
            &format!(",\n{{\"name\":{name},\"ph\":\"X\",\"ts\":{begin},\"dur\":{length},\"pid\":{pid},\"tid\":{row}}}");
    }
    text + "\n]\n"
}

/// How deep each span stands, and its own time. The spans are in the order of [`Timeline::spans`].
fn place(spans: &[Span]) -> Vec<(usize, Duration)> {
    let mut placed: Vec<(usize, Duration)> = Vec::with_capacity(spans.len());
    let mut open: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
    for (at, span) in spans.iter().enumerate() {
        let holders = &mut open[usize::from(span.side.row() - 1)];
        while holders.last().is_some_and(|&last| !spans[last].holds(span)) {
            holders.pop();
        }
        if let Some(&holder) = holders.last() {
            let own = &mut placed[holder].1;
            *own = own.saturating_sub(span.length());
        }
        placed.push((holders.len(), span.length()));
        holders.push(at);
    }
    placed
}

/// Own time by name and side, the longest first, with how many spans it is made of.
fn heaviest<'a>(spans: &'a [Span], placed: &[(usize, Duration)]) -> Vec<(&'a str, Side, Duration, usize)> {
    let mut sums: Vec<(&str, Side, Duration, usize)> = Vec::new();
    for (span, (_, own)) in spans.iter().zip(placed) {
        match sums.iter_mut().find(|sum| sum.0 == span.name && sum.1 == span.side) {
            Some(sum) => {
                sum.2 += *own;
                sum.3 += 1;
            }
            None => sums.push((&span.name, span.side, *own, 1)),
        }
    }
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.2));
    sums
}

fn millis(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn micros(time: Duration) -> String {
    let nanos = time.as_nanos();
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: Duration = Duration::new(1_787_142_896, 0);

    fn at(micros: u64) -> Duration {
        BEGAN + Duration::from_micros(micros)
    }

    fn traced() -> Traced<'static> {
        Traced { command: "skep run \"c1\"", pid: 7, began: BEGAN, ended: at(4000) }
    }

    fn example() -> Vec<Span> {
        let timeline = Timeline::default();
        timeline.add(Side::Host, "plan", at(100), at(300));
        timeline.add(Side::Container, "mount", at(1100), at(1200));
        timeline.add(Side::Container, "mount", at(1200), at(1500));
        timeline.add(Side::Host, "await_gate", at(1000), at(1600));
        timeline.add(Side::Host, "run", at(0), at(3900));
        timeline.spans()
    }

    #[test]
    fn a_person_reads_what_holds_what_and_what_took_longest() {
        let expected = "skep run \"c1\": 4.000 ms, pid 7, 2026-08-19T12:34:56.000000000Z
     begin    length       own  side       phase or step
     0.000     3.900     3.100  host       run
     0.100     0.200     0.200  host         plan
     1.000     0.600     0.600  host         await_gate
     1.100     0.100     0.100  container  mount
     1.200     0.300     0.300  container  mount
most time by itself:
                         3.100  host       run (1)
                         0.600  host       await_gate (1)
                         0.400  container  mount (2)
                         0.200  host       plan (1)
";
        assert_eq!(render_file("a.json/b", &traced(), &example()), expected);
    }

    #[test]
    fn a_chrome_trace_is_a_json_array() {
        let events: Vec<serde_json::Value> =
            serde_json::from_str(&render_file("a/b.JSON", &traced(), &example())).unwrap();
        assert_eq!(events.len(), 8);
        assert_eq!(events[0]["args"]["name"], "skep run \"c1\"");
        let mount = events.iter().find(|event| event["name"] == "mount").unwrap();
        assert_eq!(
            (mount["ph"].as_str(), mount["dur"].as_f64(), mount["tid"].as_u64()),
            (Some("X"), Some(100.0), Some(2))
        );
        assert_eq!(mount["ts"].as_f64(), Some(1_787_142_896_001_100.0));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_time() {
        let span = Span { side: Side::Host, name: "plan".to_owned(), begin: at(10), end: at(5) };
        assert!(render_text(&traced(), &[span]).contains("     0.010     0.000     0.000  host       plan"));
    }
}
