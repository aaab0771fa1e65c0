//! What is timed: each case is one or several commands in a row, and gives a cost for each.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bundle::Bundles;
use crate::runtime::{Runtime, measure_shared, read_pid, wait_for_end};
use crate::sample::Cost;

/// What all cases share.
pub(crate) struct Settings {
    pub(crate) bundles: Bundles,
    pub(crate) gap: Duration,
    pub(crate) containers: usize,
}

/// The commands of one round, each under the name that its row gets.
type Costs = Vec<(&'static str, Cost)>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether this machine has what the case needs.
    pub(crate) needs: fn(&Settings) -> bool,
    pub(crate) set_up: fn(&Runtime, &Settings) -> Result<()>,
    pub(crate) round: fn(&Runtime, &Settings) -> Result<Costs>,
}

pub(crate) const CASES: [Case; 6] = [
    Case {
        name: "run-isolated",
        about: "run `true` with the `spec` bundle, the machine idle before it",
        needs: |_| true,
        set_up: nothing,
        round: run_isolated,
    },
    Case {
        name: "run-back-to-back",
        about: "the same, ten in a row, the cost of one",
        needs: |_| true,
        set_up: nothing,
        round: run_back_to_back,
    },
    Case {
        name: "run-profile",
        about: "run `true` with the usual seccomp profile of engines, three architectures",
        needs: |settings| settings.bundles.profile.is_some(),
        set_up: nothing,
        round: run_profile,
    },
    Case {
        name: "run-four-at-once",
        about: "four callers, each with five runs in a row; the wall time of one, so 1000 / it are containers per second",
        needs: |_| true,
        set_up: nothing,
        round: run_four_at_once,
    },
    Case {
        name: "lifecycle",
        about: "each command of a container's life, the machine idle before it",
        needs: |_| true,
        set_up: nothing,
        round: lifecycle,
    },
    Case { name: "list", about: "list while many containers exist", needs: |_| true, set_up: create_many, round: list },
];

fn nothing(_: &Runtime, _: &Settings) -> Result<()> {
    Ok(())
}

/// An id that no other container of this process has.
fn new_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

fn run_bundle(runtime: &Runtime, bundle: &Path) -> Result<Cost> {
    runtime.measure(&["run", "--bundle", path_text(bundle)?, &new_id()])
}

fn run_isolated(runtime: &Runtime, settings: &Settings) -> Result<Costs> {
    thread::sleep(settings.gap);
    Ok(vec![("run", run_bundle(runtime, &settings.bundles.short)?)])
}

fn run_profile(runtime: &Runtime, settings: &Settings) -> Result<Costs> {
    let bundle = settings.bundles.profile.as_deref().context("no profile")?;
    thread::sleep(settings.gap);
    Ok(vec![("run", run_bundle(runtime, bundle)?)])
}

fn run_back_to_back(runtime: &Runtime, settings: &Settings) -> Result<Costs> {
    const RUNS: u32 = 10;
    // The first one still finds the machine idle.
    run_bundle(runtime, &settings.bundles.short)?;
    let cost = measure_shared(RUNS, || {
        for _ in 0..RUNS {
            run_bundle(runtime, &settings.bundles.short)?;
        }
        Ok(())
    })?;
    Ok(vec![("run", cost)])
}

fn run_four_at_once(runtime: &Runtime, settings: &Settings) -> Result<Costs> {
    const CALLERS: u32 = 4;
    const RUNS: u32 = 5;
    let cost = measure_shared(CALLERS * RUNS, || {
        thread::scope(|scope| {
            let caller = || (0..RUNS).try_for_each(|_| run_bundle(runtime, &settings.bundles.short).map(|_| ()));
            let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
            callers
                .into_iter()
                .try_for_each(|caller| caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))?)
        })
    })?;
    Ok(vec![("run", cost)])
}

fn lifecycle(runtime: &Runtime, settings: &Settings) -> Result<Costs> {
    let bundle = path_text(&settings.bundles.long)?;
    let timed = |words: &[&str]| {
        thread::sleep(settings.gap);
        runtime.measure(words)
    };
    let id = new_id();
    let pid_file = settings.bundles.long.join(format!("{id}.pid"));
    let mut costs = vec![("create", timed(&["create", "--bundle", bundle, "--pid-file", path_text(&pid_file)?, &id])?)];
    costs.push(("start", timed(&["start", &id])?));
    costs.push(("exec", timed(&["exec", &id, "true"])?));
    costs.push(("state", timed(&["state", &id])?));
    costs.push(("kill", timed(&["kill", &id, "KILL"])?));
    wait_for_end(&read_pid(&pid_file)?)?;
    costs.push(("delete", timed(&["delete", &id])?));
    std::fs::remove_file(&pid_file).context("cannot remove a pid file")?;

    let id = new_id();
    runtime.measure(&["run", "--detach", "--bundle", bundle, &id])?;
    costs.push(("delete -f", timed(&["delete", "--force", &id])?));
    Ok(costs)
}

fn create_many(runtime: &Runtime, settings: &Settings) -> Result<()> {
    let bundle = path_text(&settings.bundles.long)?;
    (0..settings.containers).try_for_each(|_| runtime.measure(&["create", "--bundle", bundle, &new_id()]).map(|_| ()))
}

fn list(runtime: &Runtime, settings: &Settings) -> Result<Costs> {
    thread::sleep(settings.gap);
    Ok(vec![("list", runtime.measure(&["list"])?)])
}
