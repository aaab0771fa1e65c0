//! What the machine is, printed above the figures: without it they say nothing.

use std::fmt::Write as _;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Today's date and the time, in UTC.
pub(crate) fn now() -> (String, String) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = runtime_spec::clock::render_seconds(since);
    text.split_once('T').map_or((text.clone(), String::new()), |(date, time)| (date.to_owned(), time.to_owned()))
}

/// Lines on the kernel, the CPUs, the cgroup layout and the load.
pub(crate) fn describe() -> String {
    let (date, time) = now();
    let mut text = format!("# {date} {time}\n");
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    let cpuinfo = read("/proc/cpuinfo");
    let model = parse_model(&cpuinfo);
    let groups = parse_cgroup_layout(&read("/proc/self/mountinfo"));
    writeln!(text, "# Linux {kernel} {}, {cpus} CPUs ({model}), cgroup {groups}", std::env::consts::ARCH)
        .expect("a string takes every write");
    text + &describe_load("at the start")
}

/// One line on how busy the machine is: above about 1 the figures are noisy.
pub(crate) fn describe_load(when: &str) -> String {
    format!("# load average {when}: {}\n", read("/proc/loadavg"))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|error| format!("({path}: {error})"), |text| text.trim().to_owned())
}

fn parse_model(cpuinfo: &str) -> &str {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("unknown model", |(_, model)| model)
}

/// Names the layout by what is mounted: the type of a file system stands after the lone dash of its line.
fn parse_cgroup_layout(mountinfo: &str) -> &'static str {
    let has = |kind: &str| mountinfo.lines().any(|line| line.contains(&format!(" - {kind} ")));
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "absent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_told_by_the_mounts() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        let v2 = "31 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(parse_cgroup_layout(v1), "v1");
        assert_eq!(parse_cgroup_layout(v2), "v2");
        assert_eq!(parse_cgroup_layout(&format!("{v1}\n{v2}")), "hybrid");
        assert_eq!(parse_cgroup_layout(""), "absent");
    }

    #[test]
    fn the_model_is_the_text_after_the_colon() {
        assert_eq!(parse_model("processor\t: 0\nmodel name\t: A CPU: fast\n"), "A CPU: fast");
        assert_eq!(parse_model(""), "unknown model");
    }
}
