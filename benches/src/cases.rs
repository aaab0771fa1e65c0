//! What is timed: each case is one or several commands in a row, and gives a cost for each.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bundle::{Bundles, Overlay};
use crate::runtime::{Runtime, measure_shared, read_pid, wait_for_end};
use crate::sample::Cost;

/// What all cases share.
pub(crate) struct Settings {
    pub(crate) bundles: Bundles,
    pub(crate) gap: Duration,
    pub(crate) containers: usize,
}

/// The commands of one round, each under the name that its row gets.
pub(crate) type Costs = Vec<(&'static str, Cost)>;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether this machine has what the case needs.
    pub(crate) needs: fn(&Settings) -> bool,
    pub(crate) set_up: fn(&Runtime, &Settings) -> Result<()>,
    /// How many containers of the first runtime run meanwhile.
    pub(crate) among: usize,
    pub(crate) round: fn(&Runtime, &Settings) -> Result<Costs>,
}

/// A case that needs nothing and prepares nothing.
const fn case(name: &'static str, about: &'static str, round: fn(&Runtime, &Settings) -> Result<Costs>) -> Case {
    Case { name, about, needs: |_| true, set_up: nothing, among: 0, round }
}

/// `run` with the `spec` bundle while others run.
const fn run_among(name: &'static str, about: &'static str, among: usize) -> Case {
    Case { among, ..case(name, about, |runtime, settings| run_isolated(runtime, settings, &settings.bundles.short)) }
}

pub(crate) const CASES: [Case; 16] = [
    case("run-isolated", "run `true` with the `spec` bundle, the machine idle before it", |runtime, settings| {
        run_isolated(runtime, settings, &settings.bundles.short)
    }),
    case(
        "run-back-to-back",
        "the same, ten in a row, the cost of one; 1000 / wall ms are containers per second",
        run_back_to_back,
    ),
    Case {
        needs: |settings| settings.bundles.profile.is_some(),
        ..case(
            "run-profile",
            "run `true` with the usual seccomp profile of engines, three architectures",
            |runtime, settings| run_isolated(runtime, settings, needed(settings.bundles.profile.as_deref())?),
        )
    },
    Case {
        needs: |settings| settings.bundles.docker.is_some(),
        ..case(
            "run-docker",
            "run `true` with what docker's definitions have: its seccomp profile, capabilities, devices, masks",
            |runtime, settings| run_isolated(runtime, settings, needed(settings.bundles.docker.as_deref())?),
        )
    },
    case("run-large", "run `true` with a definition of 23 KB", |runtime, settings| {
        run_isolated(runtime, settings, &settings.bundles.large)
    }),
    case("run-masked", "run `true` with 300 masked paths", |runtime, settings| {
        run_isolated(runtime, settings, &settings.bundles.masked)
    }),
    case("run-userns", "run `true` in a user namespace", |runtime, settings| {
        run_isolated(runtime, settings, &settings.bundles.userns)
    }),
    case("run-overlay", "mount an overlay, run `true` on it and unmount it, as an engine does", |runtime, settings| {
        run_overlay(runtime, settings, &settings.bundles.overlay)
    }),
    Case {
        needs: |settings| settings.bundles.veth.is_some(),
        ..case(
            "run-overlay-veth",
            "the same in a network namespace that is there with a veth, as engines of pods do",
            |runtime, settings| run_overlay(runtime, settings, needed(settings.bundles.veth.as_ref())?),
        )
    },
    case("run-two-callers", "two callers, each with ten runs in a row; the wall time of one run", run_at_once::<2>),
    case("run-four-callers", "four callers, each with ten runs in a row; the wall time of one run", run_at_once::<4>),
    case("run-eight-callers", "eight callers, each with ten runs in a row; the wall time of one run", run_at_once::<8>),
    case("lifecycle", "each command of a container's life, the machine idle before it", lifecycle),
    Case { set_up: create_many, ..case("list", "list while many containers exist", list) },
    run_among("run-among-500", "run `true` while 500 containers of the first runtime run", 500),
    run_among("run-among-2000", "run `true` while 2,000 containers of the first runtime run", 2000),
];

fn needed<T>(bundle: Option<T>) -> Result<T> {
    bundle.context("the bundle is not there")
}

fn nothing(_: &Runtime, _: &Settings) -> Result<()> {
    Ok(())
}

/// An id that no other container of this process has.
pub(crate) fn new_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn path_text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

fn run_bundle(runtime: &Runtime, bundle: &Path) -> Result<Cost> {
    runtime.measure(&["run", "--bundle", path_text(bundle)?, &new_id()])
}

fn run_isolated(runtime: &Runtime, settings: &Settings, bundle: &Path) -> Result<Costs> {
    thread::sleep(settings.gap);
    Ok(vec![("run", run_bundle(runtime, bundle)?)])
}

/// The mount and its end are the same for every runtime, and stay out of the cost.
fn run_overlay(runtime: &Runtime, settings: &Settings, overlay: &Overlay) -> Result<Costs> {
    let mounted = overlay.mount()?;
    thread::sleep(settings.gap);
    let cost = run_bundle(runtime, &overlay.bundle);
    // Also after a failure: the runtime is left out then, and its mount would stay.
    mounted.unmount()?;
    Ok(vec![("run", cost?)])
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

fn run_at_once<const CALLERS: u32>(runtime: &Runtime, settings: &Settings) -> Result<Costs> {
    const RUNS: u32 = 10;
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
    costs.push(("pause", timed(&["pause", &id])?));
    costs.push(("resume", timed(&["resume", &id])?));
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
