//! `top`: what containers use, drawn again and again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use runtime_spec::state::{State, Usage};
use serde::Serialize;

use crate::args_running::{SortBy, TopArgs};
use crate::definition::{Definition, Limits};
use crate::output;
use crate::run::Manager;
use crate::screen::{self, Event, Plan};
use crate::size::render_size;

/// One container at one moment, as `top --json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    /// The container's name.
    name: String,
    /// As in `ls`.
    state: &'static str,
    /// Percent of one processor since the last look.
    #[serde(rename = "cpu_percent")]
    cpu: f64,
    usage: Usage,
    limits: Limits,
}

/// Draws until somebody presses q, or as often as it was told.
///
/// # Errors
/// What the runtime says.
pub fn top(manager: &Manager, args: &TopArgs) -> Result<()> {
    let limits = read_limits(manager);
    let pause = Duration::from_secs_f64(args.delay);
    let mut last = look(manager)?;
    let mut sort = args.sort;
    let mut rows = Vec::new();
    // The first share is that of a short moment.
    let plan = Plan {
        plain: args.batch || args.json,
        first: pause.min(Duration::from_millis(200)),
        pause,
        number: args.number,
    };
    screen::show(plan, |event, lines| {
        match event {
            Event::Time => {
                let now = look(manager)?;
                rows = plan_rows(&last, &now, &limits);
                last = now;
            }
            Event::Key(key) => match sort_of(key) {
                Some(by) => sort = by,
                None => return Ok(None),
            },
            Event::Resized => {}
        }
        sort_rows(&mut rows, sort);
        if args.json {
            return Ok(Some(serde_json::to_string(&rows)? + "\n"));
        }
        let table = draw(&rows, lines.map_or(usize::MAX, |lines| lines - 1));
        let keys = if lines.is_some() { "q quits; by c processor, m memory, p tasks, n name\n" } else { "" };
        Ok(Some(table + keys))
    })
}

/// What a key sorts by.
fn sort_of(key: u8) -> Option<SortBy> {
    match key.to_ascii_lowercase() {
        b'c' => Some(SortBy::Cpu),
        b'm' => Some(SortBy::Memory),
        b'p' => Some(SortBy::Pids),
        b'n' => Some(SortBy::Name),
        _ => None,
    }
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

fn plan_rows(last: &Look, now: &Look, limits: &BTreeMap<String, Limits>) -> Vec<Row> {
    let seconds = now.at.duration_since(last.at).as_secs_f64().max(0.001);
    let before: BTreeMap<&str, u64> =
        last.states.iter().filter_map(|state| Some((state.id.as_str(), state.usage?.cpu))).collect();
    now.states
        .iter()
        .map(|state| {
            let usage = state.usage.unwrap_or_default();
            let spent = before.get(state.id.as_str()).map_or(0, |before| usage.cpu.saturating_sub(*before));
            #[allow(clippy::cast_precision_loss)] // Percent, for people.
            let cpu = spent as f64 / 1e9 / seconds * 100.0;
            let limits = limits.get(&state.id).copied().unwrap_or_default();
            Row { name: state.id.clone(), state: state.status.name(), cpu, usage, limits }
        })
        .collect()
}

fn sort_rows(rows: &mut [Row], sort: SortBy) {
    rows.sort_by(|a, b| {
        let by = match sort {
            SortBy::Name => std::cmp::Ordering::Equal,
            SortBy::Cpu => b.cpu.total_cmp(&a.cpu),
            SortBy::Memory => b.usage.memory.cmp(&a.usage.memory),
            SortBy::Pids => b.usage.pids.cmp(&a.usage.pids),
        };
        by.then_with(|| a.name.cmp(&b.name))
    });
}

fn draw(rows: &[Row], lines: usize) -> String {
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
        let mut rows = plan_rows(&last, &now, &limits);
        sort_rows(&mut rows, SortBy::Cpu);
        let shares: Vec<(&str, f64)> = rows.iter().map(|row| (row.name.as_str(), row.cpu)).collect();
        assert_eq!(shares, [("a", 50.0), ("b", 0.0), ("new", 0.0)]);
        let text = draw(&rows, usize::MAX);
        assert!(
            text.contains("25.0") && text.ends_with("3 containers: CPU 50.0 %, memory 4.00 MiB, 6 tasks\n"),
            "{text}"
        );
        assert_eq!(draw(&rows, 4).lines().count(), 4);
        sort_rows(&mut rows, sort_of(b'M').expect("a key"));
        assert_eq!(rows[0].name, "b");
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!((&json[1]["cpu_percent"], &json[1]["limits"]["memory"]), (&50.0.into(), &(4 << 20).into()));
    }

    #[test]
    fn times_are_minutes() {
        assert_eq!(render_time(62_340_000_000), "1:02.34");
        assert_eq!(render_time(0), "0:00.00");
    }
}
