//! Costs, their spread, and the table that compares them.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What one command took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system time of the command and of the processes that it waited for.
    pub(crate) cpu: Duration,
}

/// What one runtime's commands took, a row for each command.
pub(crate) struct Samples {
    pub(crate) runtime: String,
    rows: Vec<(&'static str, Vec<Cost>)>,
    /// Left out of the rest of the case.
    pub(crate) failed: bool,
}

impl Samples {
    pub(crate) fn new(runtime: &str) -> Samples {
        Samples { runtime: runtime.to_owned(), rows: Vec::new(), failed: false }
    }

    pub(crate) fn add(&mut self, costs: &[(&'static str, Cost)]) {
        for (name, cost) in costs {
            match self.rows.iter_mut().find(|(known, _)| known == name) {
                Some((_, row)) => row.push(*cost),
                None => self.rows.push((name, vec![*cost])),
            }
        }
    }

    /// Adds a row: the sums of two others, pair by pair.
    pub(crate) fn add_sum(&mut self, name: &'static str, one: &str, other: &str) {
        let (one, other) = (self.row(one).unwrap_or_default(), self.row(other).unwrap_or_default());
        let sum = |(one, other): (&Cost, &Cost)| Cost { wall: one.wall + other.wall, cpu: one.cpu + other.cpu };
        let row = one.iter().zip(other).map(sum).collect();
        self.rows.push((name, row));
    }

    fn row(&self, name: &str) -> Option<&[Cost]> {
        self.rows.iter().find(|(known, _)| *known == name).map(|(_, row)| row.as_slice())
    }
}

/// The value below which this share of the values lies, by the nearest rank. `share` is 0.0..=1.0.
fn quantile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a small count"
    )]
    let rank = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
    sorted[rank - 1]
}

/// Renders a row for each command and runtime; the ratio is the first runtime's median over this one's.
pub(crate) fn render(samples: &[Samples]) -> String {
    let mut text = String::new();
    let Some(first) = samples.first() else { return text };
    let names = samples.iter().find(|samples| !samples.rows.is_empty()).map(|samples| &samples.rows);
    let header = format!("{}/this", first.runtime);
    text += &format!(
        "  {:<10} {:<12} {:>9} {:>9} {:>9} {:>9} {:>11} {:>5}\n",
        "command", "runtime", "wall ms", "p10", "p90", "cpu ms", header, "n"
    );
    for (name, _) in names.into_iter().flatten() {
        let base = first.row(name).map(median_wall);
        for samples in samples {
            let Some(row) = samples.row(name) else { continue };
            render_row(&mut text, name, &samples.runtime, row, base);
        }
    }
    text
}

/// A runtime's median wall time of one command.
pub(crate) fn median_of(samples: &[Samples], runtime: &str, command: &str) -> Option<Duration> {
    samples.iter().find(|samples| samples.runtime == runtime)?.row(command).map(median_wall)
}

/// The first runtime's median wall time over another one's, of one command.
pub(crate) fn ratio(samples: &[Samples], command: &str, runtime: &str) -> Option<f64> {
    let first = median_of(samples, &samples.first()?.runtime, command)?;
    Some(first.as_secs_f64() / median_of(samples, runtime, command)?.as_secs_f64())
}

/// The same of processor time, which other work on the machine changes less.
pub(crate) fn cpu_ratio(samples: &[Samples], command: &str, runtime: &str) -> Option<f64> {
    let median = |samples: &Samples| {
        let cpus: Vec<Duration> = samples.row(command)?.iter().map(|cost| cost.cpu).collect();
        Some(quantile(&cpus, 0.5).as_secs_f64())
    };
    Some(median(samples.first()?)? / median(samples.iter().find(|samples| samples.runtime == runtime)?)?)
}

/// Median wall times of a case: a command with its runtimes, in the order of the table.
pub(crate) fn medians(samples: &[Samples]) -> Vec<(&'static str, Vec<(String, Duration)>)> {
    let names = samples.iter().find(|samples| !samples.rows.is_empty()).map(|samples| &samples.rows);
    let of = |name: &'static str| {
        let rows = samples.iter().filter_map(|s| s.row(name).map(|row| (s.runtime.clone(), median_wall(row))));
        (name, rows.collect())
    };
    names.into_iter().flatten().map(|(name, _)| of(name)).collect()
}

fn median_wall(row: &[Cost]) -> Duration {
    quantile(&walls(row), 0.5)
}

fn walls(row: &[Cost]) -> Vec<Duration> {
    row.iter().map(|cost| cost.wall).collect()
}

fn render_row(text: &mut String, name: &str, runtime: &str, row: &[Cost], base: Option<Duration>) {
    let walls = walls(row);
    let cpus: Vec<Duration> = row.iter().map(|cost| cost.cpu).collect();
    let median = quantile(&walls, 0.5);
    let ratio = base.map_or("-".to_owned(), |base| format!("{:.3}", base.as_secs_f64() / median.as_secs_f64()));
    let line = format!(
        "  {name:<10} {runtime:<12} {:>9} {:>9} {:>9} {:>9} {ratio:>11} {:>5}",
        millis(median),
        millis(quantile(&walls, 0.1)),
        millis(quantile(&walls, 0.9)),
        millis(quantile(&cpus, 0.5)),
        row.len()
    );
    writeln!(text, "{line}").expect("a string takes every write");
}

fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1000.0)
}

/// A random order for each round, by xorshift: no secret, only no pattern.
pub(crate) struct Order {
    seed: u64,
    state: u64,
}

impl Order {
    /// Takes its seed from the clock.
    pub(crate) fn from_clock() -> Order {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Order::from_seed(u64::from(now.subsec_nanos()) + 1)
    }

    /// `seed` is not 0: xorshift would stay there.
    fn from_seed(seed: u64) -> Order {
        Order { seed, state: seed }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// The numbers below `count` in a new order.
    pub(crate) fn shuffle(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            let below = u64::try_from(at).map_or(u64::MAX, |at| at + 1);
            let other = usize::try_from(self.next() % below).unwrap_or(0);
            order.swap(at, other);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(values: &[u64]) -> Vec<Duration> {
        values.iter().map(|value| Duration::from_millis(*value)).collect()
    }

    fn cost(wall: u64, cpu: u64) -> Cost {
        Cost { wall: Duration::from_millis(wall), cpu: Duration::from_millis(cpu) }
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = ms(&[5, 1, 4, 2, 3]);
        assert_eq!(quantile(&values, 0.5), Duration::from_millis(3));
        assert_eq!(quantile(&values, 0.1), Duration::from_millis(1));
        assert_eq!(quantile(&values, 0.9), Duration::from_millis(5));
        assert_eq!(quantile(&ms(&[7]), 0.5), Duration::from_millis(7));
        assert_eq!(quantile(&ms(&[1, 2, 3, 4]), 0.5), Duration::from_millis(2));
    }

    #[test]
    fn the_table_compares_with_the_first_runtime() {
        let mut ours = Samples::new("ours");
        let mut theirs = Samples::new("theirs");
        for (mine, other) in [(2, 10), (3, 20), (4, 30)] {
            ours.add(&[("run", cost(mine, 1))]);
            theirs.add(&[("run", cost(other, 5))]);
        }
        let text = render(&[ours, theirs]);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["run", "ours", "3.00", "2.00", "4.00", "1.00", "1.000", "3"]);
        assert_eq!(rows[2], ["run", "theirs", "20.00", "10.00", "30.00", "5.00", "0.150", "3"]);
    }

    #[test]
    fn a_sum_is_that_of_each_pair() {
        let mut ours = Samples::new("ours");
        for (one, other) in [(1, 10), (2, 20)] {
            ours.add(&[("start", cost(one, 1)), ("stop", cost(other, 2))]);
        }
        ours.add_sum("both", "start", "stop");
        assert_eq!(ours.row("both"), Some(&[cost(11, 3), cost(22, 3)][..]));
    }

    #[test]
    fn a_runtime_without_samples_has_no_row_and_gives_no_ratio() {
        let mut theirs = Samples::new("theirs");
        theirs.add(&[("run", cost(10, 5))]);
        let text = render(&[Samples::new("ours"), theirs]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().nth(1).unwrap().contains(" - "));
    }

    #[test]
    fn an_order_has_each_number_once_and_changes() {
        let mut order = Order::from_seed(7);
        let rounds: Vec<Vec<usize>> = (0..20).map(|_| order.shuffle(4)).collect();
        for round in &rounds {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
        }
        assert!(rounds.iter().any(|round| *round != rounds[0]));
    }
}
