//! `lxc-info`.

use anyhow::Result;
use runtime_spec::stats::Usage;

use crate::options::Call;
use crate::output;
use crate::places;
use crate::skep::{Skep, render_status};
use crate::tools::find;
use crate::usage::{self, Interface, render_bytes};

/// What is asked for: each alone by its option, all of it without any.
const PARTS: [&str; 4] = ["state", "pid", "ips", "stats"];

/// Prints what a container is and uses.
pub(super) fn info(skep: &Skep, call: &Call) -> Result<u8> {
    let target = find(skep, call)?;
    if !target.exists() {
        output::tell(&format!("{} doesn't exist\n", call.name));
        return Ok(1);
    }
    if call.has("config") {
        return keys(call, &target.config);
    }
    let asked = PARTS.iter().filter(|part| call.has(part)).count();
    let wants = |part: &str| asked == 0 || call.has(part);
    let human = !call.has("no-humanize");
    // A single value without its name, for scripts.
    let is_bare = asked == 1 && !human;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        text.push_str(&if is_bare { format!("{value}\n") } else { format!("{name:<15} {value}\n") });
    };
    if asked == 0 {
        line("Name:", &call.name);
    }
    if wants("state") {
        line("State:", render_status(target.state.as_ref()));
    }
    let Some(pid) = target.state.as_ref().filter(|_| target.is_alive()).and_then(|state| state.pid) else {
        return output::write(&text).map(|()| 0);
    };
    if wants("pid") {
        line("PID:", &pid.to_string());
    }
    let links = if wants("ips") || wants("stats") { usage::interfaces(pid)? } else { Vec::new() };
    if wants("ips") {
        links.iter().flat_map(|link| &link.addresses).for_each(|address| line("IP:", &address.to_string()));
    }
    if wants("stats") {
        stats(&usage::read(skep, &call.name)?, human, &mut line);
        links.iter().for_each(|link| counters(link, human, &mut line));
    }
    output::write(&text).map(|()| 0)
}

fn stats(used: &Usage, human: bool, line: &mut impl FnMut(&str, &str)) {
    if let Some(cpu) = used.cpu {
        /// Nanoseconds of a second.
        const SECOND: f64 = 1e9;
        let text = if human { format!("{:.2} seconds", cpu as f64 / SECOND) } else { cpu.to_string() };
        line("CPU use:", &text);
    }
    for (name, value) in [("BlkIO use:", used.io), ("Memory use:", used.memory), ("KMem use:", used.kernel_memory)] {
        if let Some(bytes) = value {
            line(name, &render(bytes, human));
        }
    }
}

fn render(bytes: u64, human: bool) -> String {
    if human { render_bytes(bytes) } else { bytes.to_string() }
}

/// What a link has passed. Its name is the one inside.
fn counters(link: &Interface, human: bool, line: &mut impl FnMut(&str, &str)) {
    let (received, sent) = link.bytes;
    line("Link:", &link.name);
    for (name, bytes) in [(" TX bytes:", sent), (" RX bytes:", received), (" Total bytes:", sent + received)] {
        line(name, &render(bytes, human));
    }
}

/// Values of keys. A key with several has one a line.
fn keys(call: &Call, path: &std::path::Path) -> Result<u8> {
    let config = places::read(path)?;
    for key in call.all("config") {
        let values: Vec<String> = match key {
            // A line of several words stands for as many values.
            "lxc.cap.drop" | "lxc.cap.keep" => {
                config.all(key).flat_map(|setting| setting.value.split_whitespace()).map(str::to_owned).collect()
            }
            _ => config.all(key).map(|setting| setting.value.clone()).collect(),
        };
        match values.as_slice() {
            [] => output::tell(&format!("{key} invalid\n")),
            [value] => output::write(&format!("{key} = {value}\n"))?,
            values => output::write(&format!("{key} = {}\n\n", values.join("\n")))?,
        }
    }
    Ok(0)
}
