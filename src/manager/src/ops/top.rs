//! `top`: what containers use, drawn again and again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use runtime_spec::state::{State, Usage};
use sys::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::args_running::{SortBy, TopArgs};
use crate::definition::{Definition, Limits};
use crate::output;
use crate::run::Manager;
use crate::size::render_size;

/// The other screen of a terminal, without a cursor.
const SCREEN_ON: &str = "\x1b[?1049h\x1b[?25l";
/// What was there before.
const SCREEN_OFF: &str = "\x1b[?25h\x1b[?1049l";

/// One container at one moment.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    name: String,
    state: &'static str,
    /// Percent of one processor since the last look.
    cpu: f64,
    usage: Usage,
    limits: Limits,
}

/// Draws until somebody presses q, or as often as it was told.
///
/// # Errors
/// What the runtime says.
pub fn top(manager: &Manager, args: &TopArgs) -> Result<()> {
    let input = std::io::stdin();
    let screen = !args.batch && std::io::stdout().is_terminal();
    let keys = screen && input.is_terminal();
    let limits = read_limits(manager);
    let pause = Duration::from_secs_f64(args.delay);
    let signals = if keys { Some(sys::signal::take_all()?) } else { None };
    let before_keys = if keys { Some(sys::terminal::make_raw(input.as_fd())?) } else { None };
    let drawn = (|| -> Result<()> {
        if screen {
            output::write(SCREEN_ON)?;
        }
        let mut last = look(manager)?;
        // The first share is that of a short moment.
        let mut wait = pause.min(Duration::from_millis(200));
        for round in 1.. {
            if sleep(wait, signals.as_ref().map(|signals| (signals.as_fd(), input.as_fd())))? {
                return Ok(());
            }
            wait = pause;
            let now = look(manager)?;
            let rows = plan_rows(&last, &now, &limits, args.sort);
            let lines = if screen { screen_rows() } else { usize::MAX };
            output::write(&draw(&rows, screen, lines))?;
            last = now;
            if args.number.is_some_and(|number| round >= number) {
                return Ok(());
            }
        }
        Ok(())
    })();
    if screen {
        output::write(SCREEN_OFF)?;
    }
    if let Some(before) = before_keys {
        sys::terminal::restore(input.as_fd(), &before)?;
    }
    drawn
}

fn read_limits(manager: &Manager) -> BTreeMap<String, Limits> {
    let names = Definition::names(&manager.places).unwrap_or_default();
    let read = |name: String| Some((name.clone(), Definition::read(&manager.places, &name).ok()??.limits));
    names.into_iter().filter_map(read).collect()
}

/// What there is at a moment.
struct Look {
    at: Instant,
    states: Vec<State>,
}

fn look(manager: &Manager) -> Result<Look> {
    let mut states = manager.runtime.list_usage()?;
    states.retain(|state| state.status.is_alive());
    Ok(Look { at: Instant::now(), states })
}

/// Waits; whether somebody wants to leave meanwhile.
fn sleep(pause: Duration, keys: Option<(std::os::fd::BorrowedFd<'_>, std::os::fd::BorrowedFd<'_>)>) -> Result<bool> {
    let Some((signals, input)) = keys else {
        std::thread::sleep(pause);
        return Ok(false);
    };
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let ready = sys::process::poll_readable(&[signals, input], Some(u64::try_from(left.as_millis())?))?;
        // Among them are those of which a program notices nothing otherwise.
        if ready[0].readable && matches!(sys::signal::next(signals)?, SIGINT | SIGTERM | SIGHUP | SIGQUIT) {
            return Ok(true);
        }
        if ready[1].readable {
            let mut key = [0; 1];
            // q, Control-c, Control-d, or nobody is there any more.
            if sys::fs::read_some(input, &mut key)? == 0 || matches!(key[0], b'q' | 3 | 4) {
                return Ok(true);
            }
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

fn screen_rows() -> usize {
    sys::terminal::size(std::io::stdout().as_fd()).map_or(24, |(rows, _)| usize::from(rows)).max(4)
}

fn plan_rows(last: &Look, now: &Look, limits: &BTreeMap<String, Limits>, sort: SortBy) -> Vec<Row> {
    let seconds = now.at.duration_since(last.at).as_secs_f64().max(0.001);
    let before: BTreeMap<&str, u64> =
        last.states.iter().filter_map(|state| Some((state.id.as_str(), state.usage?.cpu))).collect();
    let mut rows: Vec<Row> = now
        .states
        .iter()
        .map(|state| {
            let usage = state.usage.unwrap_or_default();
            let spent = before.get(state.id.as_str()).map_or(0, |before| usage.cpu.saturating_sub(*before));
            #[allow(clippy::cast_precision_loss)] // Percent, for people.
            let cpu = spent as f64 / 1e9 / seconds * 100.0;
            let limits = limits.get(&state.id).copied().unwrap_or_default();
            Row { name: state.id.clone(), state: state.status.name(), cpu, usage, limits }
        })
        .collect();
    rows.sort_by(|a, b| {
        let by = match sort {
            SortBy::Name => std::cmp::Ordering::Equal,
            SortBy::Cpu => b.cpu.total_cmp(&a.cpu),
            SortBy::Memory => b.usage.memory.cmp(&a.usage.memory),
            SortBy::Pids => b.usage.pids.cmp(&a.usage.pids),
        };
        by.then_with(|| a.name.cmp(&b.name))
    });
    rows
}

fn draw(rows: &[Row], screen: bool, lines: usize) -> String {
    let header = ["NAME", "STATE", "CPU%", "CPU TIME", "MEM", "LIMIT", "MEM%", "PIDS"].map(str::to_owned).to_vec();
    let cells = |row: &Row| {
        let limit = row.limits.memory;
        #[allow(clippy::cast_precision_loss)] // Percent, for people.
        let share = limit.map(|limit| format!("{:.1}", row.usage.memory as f64 / limit as f64 * 100.0));
        vec![
            row.name.clone(),
            row.state.to_owned(),
            format!("{:.1}", row.cpu),
            render_time(row.usage.cpu),
            render_size(row.usage.memory),
            limit.map(render_size).unwrap_or_default(),
            share.unwrap_or_default(),
            row.usage.pids.to_string(),
        ]
    };
    // A line for the header, one for the sums.
    let shown = rows.len().min(lines.saturating_sub(2));
    let table: Vec<_> = std::iter::once(header).chain(rows[..shown].iter().map(cells)).collect();
    let sums = (
        rows.iter().map(|row| row.cpu).sum::<f64>(),
        rows.iter().map(|row| row.usage.memory).sum::<u64>(),
        rows.iter().map(|row| row.usage.pids).sum::<u64>(),
    );
    let mut text = output::render_table(&table);
    if writeln!(
        text,
        "{} containers: CPU {:.1} %, memory {}, {} tasks",
        rows.len(),
        sums.0,
        render_size(sums.1),
        sums.2
    )
    .is_err()
    {
        return text;
    }
    if screen {
        // Home, each line cleared to its end, then the rest of the screen. The terminal may be a raw one.
        let body = text.trim_end().replace('\n', "\x1b[K\r\n");
        return format!("\x1b[H{body}\x1b[K\x1b[J");
    }
    text
}

/// Nanoseconds as `1:02.34` minutes.
fn render_time(ns: u64) -> String {
    let hundredths = ns / 10_000_000;
    format!("{}:{:02}.{:02}", hundredths / 6000, hundredths / 100 % 60, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use runtime_spec::state::Status;

    use super::*;

    fn state(id: &str, cpu: u64, memory: u64) -> State {
        serde_json::from_value(serde_json::json!({
            "ociVersion": "1.3.0", "id": id, "pid": 1, "status": Status::Running, "bundle": "/b",
            "usage": { "cpu": cpu, "memoryPeak": 0, "memory": memory, "pids": 2 },
        }))
        .unwrap()
    }

    #[test]
    fn shares_are_of_the_time_between_two_looks() {
        let at = Instant::now();
        let last = Look { at, states: vec![state("a", 0, 1), state("b", 500, 1)] };
        let states = vec![state("a", 1_000_000_000, 1 << 20), state("b", 500, 3 << 20), state("new", 9, 0)];
        let now = Look { at: at + Duration::from_secs(2), states };
        let limits = BTreeMap::from([("a".to_owned(), Limits { memory: Some(4 << 20), ..Limits::default() })]);
        let rows = plan_rows(&last, &now, &limits, SortBy::Cpu);
        let shares: Vec<(&str, f64)> = rows.iter().map(|row| (row.name.as_str(), row.cpu)).collect();
        assert_eq!(shares, [("a", 50.0), ("b", 0.0), ("new", 0.0)]);
        assert_eq!(plan_rows(&last, &now, &limits, SortBy::Memory)[0].name, "b");
        let text = draw(&rows, false, usize::MAX);
        assert!(
            text.contains("25.0") && text.ends_with("3 containers: CPU 50.0 %, memory 4.00 MiB, 6 tasks\n"),
            "{text}"
        );
        assert_eq!(draw(&rows, true, 4).matches("\r\n").count(), 3);
    }

    #[test]
    fn times_are_minutes() {
        assert_eq!(render_time(62_340_000_000), "1:02.34");
        assert_eq!(render_time(0), "0:00.00");
    }
}
