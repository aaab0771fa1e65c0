//! When the process gets CPU and disk: scheduler, I/O priority, CPU affinity.

use super::{items, list, lookup, quote, text};
use crate::finding::{Log, Path};
use crate::model::{ExecCpuAffinity, IoPriority, Scheduler};
use crate::oci;

const SECTION: &str = "config.md, Linux process";

const FIFO: u32 = 1;
const RR: u32 = 2;
const DEADLINE: u32 = 6;

/// Policies by name (include/uapi/linux/sched.h). The kernel reserves 4 for SCHED_ISO and has no such policy.
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", FIFO),
    ("SCHED_RR", RR),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", DEADLINE),
];

/// Flags by name (include/uapi/linux/sched.h).
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// Judges and lowers `scheduler`.
pub(super) fn scheduler(scheduler: &oci::Scheduler, at: &Path<'_>, log: &mut Log) -> Option<Scheduler> {
    let flags_at = at.key("flags");
    let mut flags = 0;
    for (index, name) in items(&scheduler.flags).iter().enumerate() {
        flags |= lookup(&FLAGS, name, &flags_at.item(index), SECTION, log).unwrap_or(0);
    }
    let Some(name) = text(&scheduler.policy) else {
        log.error(&at.key("policy"), SECTION, "is required");
        return None;
    };
    let policy = lookup(&POLICIES, name, &at.key("policy"), SECTION, log)?;
    if name == "SCHED_ISO" {
        log.warn(&at.key("policy"), SECTION, "SCHED_ISO is reserved: Linux has no such policy and will refuse it");
    }
    let nice = scheduler.nice.unwrap_or(0);
    if matches!(name, "SCHED_OTHER" | "SCHED_BATCH") && !(-20..=19).contains(&nice) {
        log.error(&at.key("nice"), SECTION, format_args!("must be from -20 to 19 for {name}, not {nice}"));
    }
    let result = Scheduler {
        policy,
        nice,
        priority: priority(scheduler.priority.unwrap_or(0), policy, name, &at.key("priority"), log),
        flags,
        runtime_ns: scheduler.runtime.unwrap_or(0),
        deadline_ns: scheduler.deadline.unwrap_or(0),
        period_ns: scheduler.period.unwrap_or(0),
    };
    check_deadline(&result, name, at, log);
    Some(result)
}

fn priority(value: i32, policy: u32, name: &str, at: &Path<'_>, log: &mut Log) -> u32 {
    match (policy, u32::try_from(value)) {
        (FIFO | RR, Ok(value @ 1..=99)) => value,
        (FIFO | RR, _) => {
            log.error(at, SECTION, format_args!("must be from 1 to 99 for {name}, not {value}"));
            0
        }
        (_, Ok(0)) => 0,
        _ => {
            log.error(at, SECTION, format_args!("must be 0 for {name}, not {value}"));
            0
        }
    }
}

/// The rules of sched_setattr(2) for the three times (kernel/sched/deadline.c, `__checkparam_dl`).
fn check_deadline(s: &Scheduler, name: &str, at: &Path<'_>, log: &mut Log) {
    /// Nanoseconds; the kernel does not count shorter times.
    const SHORTEST: u64 = 1 << 10;
    let times = [("runtime", s.runtime_ns), ("deadline", s.deadline_ns), ("period", s.period_ns)];
    if s.policy != DEADLINE {
        for (field, value) in times {
            if value != 0 {
                log.error(&at.key(field), SECTION, format_args!("{value} is for SCHED_DEADLINE only, not {name}"));
            }
        }
        return;
    }
    if s.runtime_ns < SHORTEST {
        let value = s.runtime_ns;
        log.error(&at.key("runtime"), SECTION, format_args!("must be at least {SHORTEST} nanoseconds, not {value}"));
    }
    // A period of 0 means the deadline.
    let period = if s.period_ns == 0 { s.deadline_ns } else { s.period_ns };
    if s.runtime_ns > s.deadline_ns || s.deadline_ns > period {
        log.error(
            at,
            SECTION,
            format_args!(
                "must have runtime <= deadline <= period, not {} <= {} <= {period}",
                s.runtime_ns, s.deadline_ns
            ),
        );
    }
    if times.iter().any(|(_, value)| *value > i64::MAX.cast_unsigned()) {
        log.error(at, SECTION, "has a time of more than 9223372036854775807 nanoseconds");
    }
}

/// Judges and lowers `ioPriority`.
pub(super) fn io_priority(priority: &oci::IoPriority, at: &Path<'_>, log: &mut Log) -> Option<IoPriority> {
    /// IOPRIO_CLASS_ (include/uapi/linux/ioprio.h).
    const CLASSES: [(&str, u32); 3] = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
    let value = priority.priority.unwrap_or(0);
    let level = match u32::try_from(value) {
        Ok(level @ 0..=7) => level,
        _ => {
            log.error(&at.key("priority"), SECTION, format_args!("must be from 0 to 7, not {value}"));
            0
        }
    };
    let Some(name) = text(&priority.class) else {
        log.error(&at.key("class"), SECTION, "is required");
        return None;
    };
    let class = lookup(&CLASSES, name, &at.key("class"), SECTION, log)?;
    Some(IoPriority { class, level })
}

/// Judges and lowers `execCPUAffinity`. `None` when both lists are empty.
pub(super) fn cpu_affinity(affinity: &oci::ExecCpuAffinity, at: &Path<'_>, log: &mut Log) -> Option<ExecCpuAffinity> {
    let mut cpus = |value: &Option<String>, name: &str| {
        let value = text(value)?;
        let result = list::parse(value);
        if let Err(reason) = &result {
            log.error(&at.key(name), SECTION, format_args!("{} is not a list of CPUs: {reason}", quote(value)));
        }
        result.ok()
    };
    let result =
        ExecCpuAffinity { initial: cpus(&affinity.initial, "initial"), final_: cpus(&affinity.final_, "final") };
    (result != ExecCpuAffinity::default()).then_some(result)
}
