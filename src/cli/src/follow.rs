//! `events`: usage at an interval, and what happens in between, until the container ends.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use cgroup::oom::{Oom, OomWatch};
use cgroup::pressure::PressureWatch;
use engine::ops::{self, Context};
use runtime_spec::state::Status;
use sys::watch::Until;

use crate::args::command::EventsArgs;
use crate::output::{self, events};

/// Prints one report, or reports and events until the container ends.
///
/// # Errors
/// What the engine says; [`engine::Error::NotRunning`] for a container that has ended already.
pub fn events(context: &Context<'_>, args: &EventsArgs) -> anyhow::Result<()> {
    if ops::state(context, &args.id)?.status == Status::Stopped {
        return Err(engine::Error::NotRunning.into());
    }
    let (_, group) = ops::open_group(context, &args.id)?;
    if args.stats {
        output::print(&render_stats(&args.id, &group)?)?;
        return Ok(());
    }
    let mut oom = cgroup::oom::watch(&group)?;
    let pressure = args.pressure.iter().map(|trigger| cgroup::pressure::watch(&group, *trigger));
    let pressure = pressure.collect::<cgroup::Result<Vec<_>>>()?;
    let mut next = Instant::now() + args.interval;
    loop {
        for index in wait(&oom, &pressure, next)? {
            let goes_on = match index.checked_sub(1) {
                None => print_oom(&args.id, &mut oom)?,
                Some(index) => print_pressure(&args.id, &pressure[index], &group)?,
            };
            if !goes_on {
                return Ok(());
            }
        }
        if Instant::now() < next {
            continue;
        }
        next += args.interval;
        match ops::state(context, &args.id) {
            Ok(state) if state.status != Status::Stopped => output::print(&render_stats(&args.id, &group)?)?,
            Ok(_) | Err(engine::Error::NotFound) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Which descriptors have something to tell: 0 is the watch for memory that ran out, the others are triggers.
fn wait(oom: &OomWatch, pressure: &[PressureWatch], next: Instant) -> anyhow::Result<Vec<usize>> {
    let triggers = pressure.iter().map(|watch| (watch.as_fd(), Until::Changed));
    let watched: Vec<(BorrowedFd<'_>, Until)> =
        std::iter::once((oom.as_fd(), Until::Readable)).chain(triggers).collect();
    Ok(sys::watch::wait(&watched, next.saturating_duration_since(Instant::now()))?)
}

/// Whether the container is still there.
fn print_oom(id: &str, watch: &mut OomWatch) -> anyhow::Result<bool> {
    match watch.happened()? {
        Oom::Happened => output::print(&events::render_oom(id)?)?,
        Oom::Gone => return Ok(false),
        Oom::Nothing => {}
    }
    Ok(true)
}

/// Whether the container is still there.
fn print_pressure(id: &str, watch: &PressureWatch, group: &cgroup::Group) -> anyhow::Result<bool> {
    let Some(pressure) = watch.read(group)? else { return Ok(false) };
    output::print(&events::render_pressure(id, watch.trigger, pressure)?)?;
    Ok(true)
}

fn render_stats(id: &str, group: &cgroup::Group) -> anyhow::Result<String> {
    let stats = cgroup::stats::read(group)?;
    Ok(events::render_stats(id, cgroup::stats::runc_json::Data::from(stats))?)
}
