//! Runs a case in rounds that visit all runtimes in a random order.

use anyhow::Result;

use crate::cases::{Case, Settings, new_id, path_text};
use crate::report::Report;
use crate::runtime::Runtime;
use crate::sample::{Order, Samples};

/// What all cases of a run are made with.
pub(crate) struct Rounds {
    /// The first one is what the others are compared with.
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) settings: Settings,
    pub(crate) rounds: usize,
    pub(crate) order: Order,
    pub(crate) report: Report,
}

impl Rounds {
    /// Runs a case and prints its table. `None` where the machine lacks what the case needs, which is told.
    ///
    /// A runtime that fails is left out of the rest of the case, and the reason is printed.
    pub(crate) fn run_case(&mut self, case: &Case) -> Option<Vec<Samples>> {
        if !(case.needs)(&self.settings) {
            self.report.tell(&format!("\n{}: left out, this machine lacks what it needs\n", case.name));
            return None;
        }
        self.report.tell(&format!("\n{}: {}\n", case.name, case.about));
        let mut samples: Vec<Samples> = self.runtimes.iter().map(|runtime| Samples::new(&runtime.name)).collect();
        if let Err(error) = self.fill(case.among) {
            self.report.tell(&format!("  left out: cannot start {} containers: {error:#}\n", case.among));
            samples.iter_mut().for_each(|samples| samples.failed = true);
        }
        for (samples, runtime) in samples.iter_mut().zip(&self.runtimes).filter(|(samples, _)| !samples.failed) {
            // One round unmeasured: it warms the page cache and shows whether the case works at all.
            let set_up = (case.set_up)(runtime, &self.settings);
            if let Err(error) = set_up.and_then(|()| (case.round)(runtime, &self.settings).map(drop)) {
                self.report.tell(&format!("  {} left out: {error:#}\n", runtime.name));
                samples.failed = true;
            }
        }
        self.measure(case, &mut samples);
        for runtime in &self.runtimes {
            if let Err(error) = runtime.delete_all() {
                self.report.tell(&format!("  {}: cannot clean up: {error:#}\n", runtime.name));
            }
        }
        self.report.add_table(case.name, &samples);
        Some(samples)
    }

    fn measure(&mut self, case: &Case, samples: &mut [Samples]) {
        for _ in 0..self.rounds {
            for at in self.order.shuffle(self.runtimes.len()) {
                if samples[at].failed {
                    continue;
                }
                match (case.round)(&self.runtimes[at], &self.settings) {
                    Ok(values) => samples[at].add(&values),
                    Err(error) => {
                        self.report.tell(&format!("  {} left out: {error:#}\n", self.runtimes[at].name));
                        samples[at].failed = true;
                    }
                }
            }
        }
    }

    /// Has the first runtime start containers that sleep, so that the machine is as full for all alike.
    fn fill(&self, count: usize) -> Result<()> {
        let bundle = path_text(&self.settings.bundles.long)?;
        let start = |_| self.runtimes[0].measure(&["run", "--detach", "--bundle", bundle, &new_id()]).map(drop);
        (0..count).try_for_each(start)
    }
}
