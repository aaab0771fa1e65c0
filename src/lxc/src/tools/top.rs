//! `lxc-top`.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use runtime_spec::stats::{Usage, parse_usage};
use serde_json::Value;

use crate::options::Call;
use crate::output;
use crate::places;
use crate::skep::Skep;

/// Nanoseconds of a tick of the clock in which the kernel tells processor times (USER_HZ is 100 everywhere).
const TICK_NS: u64 = 10_000_000;
/// The line above those of a capture.
const BATCH_HEADER: &str = "time_ms,container,cpu_nanos,cpu_sys_userhz,cpu_user_userhz,blkio_bytes,blkio_iops,\
                            mem_used_bytes,memsw_used_bytes,kernel_mem_used_bytes\n";
/// Seconds between two looks where nothing is said.
const DELAY: f64 = 3.0;

/// What one container uses.
#[derive(Debug, Clone, Default, PartialEq)]
struct Row {
    name: String,
    usage: Usage,
    /// Nanoseconds in the kernel and outside of it.
    system: u64,
    user: u64,
    /// Bytes that were read and written, and how many times.
    read: u64,
    written: u64,
    operations: u64,
}

/// Shows what containers use, again and again.
pub(super) fn top(skep: &Skep, call: &Call) -> Result<u8> {
    let delay: f64 = match call.get("delay").map(str::parse) {
        None => DELAY,
        Some(Ok(seconds)) if (0.05..=86_400.0).contains(&seconds) => seconds,
        Some(_) => bail!("the delay is no number of seconds"),
    };
    let mut sort = call.get("sort").and_then(|text| text.chars().next()).unwrap_or('n');
    if !"ncbmsk".contains(sort) {
        output::tell(&format!("{}: invalid sort key '{sort}'\n", call.tool));
        return Ok(1);
    }
    let mut reverse = call.has("reverse");
    let delay = Duration::from_secs_f64(delay);
    if call.has("batch") {
        let mut is_read = output::write_open(BATCH_HEADER)?;
        while is_read {
            let (rows, _) = look(skep, call)?;
            is_read = output::write_open(&rows.iter().map(render_batch).collect::<String>())?;
            std::thread::sleep(delay);
        }
        return Ok(0);
    }
    let input = std::io::stdin();
    if !sys::terminal::is_terminal(input.as_fd()) {
        output::tell("stdin is not a tty\nFailed to setup terminal\n");
        return Ok(1);
    }
    let signals = sys::signal::take_all()?;
    let before = sys::terminal::make_raw(input.as_fd())?;
    let drawn = (|| -> Result<()> {
        loop {
            let (mut rows, all) = look(skep, call)?;
            sort_rows(&mut rows, sort, reverse);
            if !output::write_open(&render_screen(&rows, all))? {
                return Ok(());
            }
            let until = Instant::now() + delay;
            loop {
                let left_ms = sys::process::left_ms(until);
                let ready = sys::process::poll_readable(&[input.as_fd(), signals.as_fd()], Some(left_ms))?;
                if ready[1].readable && sys::signal::asks_to_end(sys::signal::next(signals.as_fd())?) {
                    return Ok(());
                }
                if ready[0].readable {
                    let mut key = [0; 1];
                    if sys::fs::read_some(input.as_fd(), &mut key)? == 0 || matches!(key[0], b'q' | 3 | 4) {
                        return Ok(());
                    }
                    match char::from(key[0]) {
                        'r' => reverse = !reverse,
                        letter if "ncbmsk".contains(letter) => sort = letter,
                        _ => continue,
                    }
                    break;
                }
                if left_ms == 0 {
                    break;
                }
            }
        }
    })();
    sys::terminal::restore(input.as_fd(), &before)?;
    output::write("\n")?;
    drawn.map(|()| 0)
}

/// What those that run use, and how many containers there are.
fn look(skep: &Skep, call: &Call) -> Result<(Vec<Row>, usize)> {
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let names = places::names(&lxcpath)?;
    let states: BTreeMap<String, bool> =
        skep.states()?.into_iter().map(|state| (state.id, state.status.is_alive())).collect();
    let defined = skep.defined_below(&lxcpath)?;
    let mut rows = Vec::new();
    for name in names.iter().filter(|name| defined.contains(name) && states.get(*name) == Some(&true)) {
        // It may have ended in between.
        let Ok(answer) = skep.ok(&["events", "--stats", name]) else { continue };
        let report: Value = serde_json::from_str(&answer).context("cannot read the answer of events")?;
        rows.push(read_row(name, &report));
    }
    Ok((rows, names.len()))
}

fn read_row(name: &str, report: &Value) -> Row {
    let data = &report["data"];
    let sum = |list: &str, operation: &str| -> u64 {
        let entries = data["blkio"][list].as_array().map(Vec::as_slice).unwrap_or_default();
        let fits = |entry: &&Value| entry["op"].as_str().is_some_and(|op| op.eq_ignore_ascii_case(operation));
        entries.iter().filter(fits).filter_map(|entry| entry["value"].as_u64()).sum()
    };
    let times = &data["cpu"]["usage"];
    Row {
        name: name.to_owned(),
        usage: parse_usage(report),
        system: times["kernel"].as_u64().unwrap_or(0),
        user: times["user"].as_u64().unwrap_or(0),
        read: sum("ioServiceBytesRecursive", "read"),
        written: sum("ioServiceBytesRecursive", "write"),
        operations: sum("ioServicedRecursive", "read") + sum("ioServicedRecursive", "write"),
    }
}

/// What stands where LXC shows memory and swap together.
fn with_swap(row: &Row) -> u64 {
    row.usage.memory.unwrap_or(0) + row.usage.swap.unwrap_or(0)
}

fn render_batch(row: &Row) -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    format!(
        "{time},{},{},{},{},{},{},{},{},{}\n",
        row.name,
        row.usage.cpu.unwrap_or(0),
        row.system / TICK_NS,
        row.user / TICK_NS,
        row.read + row.written,
        row.operations,
        row.usage.memory.unwrap_or(0),
        with_swap(row),
        row.usage.kernel_memory.unwrap_or(0),
    )
}

fn sort_rows(rows: &mut [Row], key: char, reverse: bool) {
    let number = |row: &Row| match key {
        'c' => row.usage.cpu.unwrap_or(0),
        'b' => row.read + row.written,
        'm' => row.usage.memory.unwrap_or(0),
        's' => with_swap(row),
        'k' => row.usage.kernel_memory.unwrap_or(0),
        _ => 0,
    };
    // Who uses most stands first.
    rows.sort_by(|a, b| number(b).cmp(&number(a)).then_with(|| a.name.cmp(&b.name)));
    if reverse {
        rows.reverse();
    }
}

fn render_screen(rows: &[Row], all: usize) -> String {
    let mut text = String::from("\x1b[H\x1b[J\x1b[7m\x1b[1m");
    let heading = |words: [&str; 6]| {
        let [name, used, system, user, io, memory] = words;
        format!("{name:<18} {used:>12} {system:>12} {user:>12} {io:>36} {memory:>10}")
    };
    text += &heading(["Container", "CPU", "CPU", "CPU", "BlkIO", "Mem"]);
    text += "\r\n";
    text += &heading(["Name", "Used", "Sys", "User", "Total(Read/Write)", "Used"]);
    text += "\r\n\x1b[0m";
    for row in rows {
        text += &render_line(row);
        text += "\r\n";
    }
    let mut sums = Row { name: format!("TOTAL {} of {all}", rows.len()), ..Row::default() };
    for row in rows {
        sums.usage.cpu = Some(sums.usage.cpu.unwrap_or(0) + row.usage.cpu.unwrap_or(0));
        sums.usage.memory = Some(sums.usage.memory.unwrap_or(0) + row.usage.memory.unwrap_or(0));
        sums.system += row.system;
        sums.user += row.user;
        sums.read += row.read;
        sums.written += row.written;
    }
    text + &render_line(&sums)
}

fn render_line(row: &Row) -> String {
    #[allow(clippy::cast_precision_loss)] // Seconds, for people.
    let seconds = |ns: u64| ns as f64 / 1e9;
    let io = format!("{}({}/{})", size(row.read + row.written), size(row.read), size(row.written));
    format!(
        "{:<18} {:>12.2} {:>12.2} {:>12.2} {io:>36} {:>10}",
        row.name.chars().take(18).collect::<String>(),
        seconds(row.usage.cpu.unwrap_or(0)),
        seconds(row.system),
        seconds(row.user),
        size(row.usage.memory.unwrap_or(0)),
    )
}

/// A number of bytes as LXC's screen has it.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| bytes >> shift > 0) {
        #[allow(clippy::cast_precision_loss)] // For people.
        Some((unit, shift)) => format!("{:.2} {unit}", bytes as f64 / f64::from(1_u32 << shift)),
        None => format!("{bytes:>3}.00   "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_a_line_of_a_capture() {
        let report = json!({ "data": {
            "cpu": { "usage": { "total": 50_000_000, "kernel": 20_000_000, "user": 30_000_000 } },
            "memory": { "usage": { "usage": 4096 } },
            "blkio": {
                "ioServiceBytesRecursive": [{ "op": "Read", "value": 10 }, { "op": "Write", "value": 5 }, { "op": "Total", "value": 15 }],
                "ioServicedRecursive": [{ "op": "read", "value": 2 }],
            },
        } });
        let line = render_batch(&read_row("web", &report));
        assert_eq!(line.split_once(',').unwrap().1, "web,50000000,2,3,15,2,4096,4096,0\n");
    }

    #[test]
    fn who_uses_most_stands_first() {
        let row = |name: &str, cpu| Row {
            name: name.to_owned(),
            usage: Usage { cpu: Some(cpu), ..Usage::default() },
            ..Row::default()
        };
        let names = |key, reverse| {
            let mut rows = [row("b", 1), row("a", 1), row("c", 9)];
            sort_rows(&mut rows, key, reverse);
            rows.map(|row| row.name).concat()
        };
        assert_eq!(
            (names('n', false), names('c', false), names('c', true)),
            ("abc".into(), "cab".into(), "bac".into())
        );
    }

    #[test]
    fn the_screen_has_lxc_s_columns() {
        let text = render_screen(&[], 0);
        assert!(text.ends_with(
            "TOTAL 0 of 0               0.00         0.00         0.00         0.00   (  0.00   /  0.00   )    0.00   "
        ));
        assert_eq!(size(1536), "1.50 KiB");
    }
}
