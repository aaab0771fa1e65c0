//! Whether it costs something to be inside: the same work in a container and on the host, in one interleaved run.
//!
//! The work is the program `work` of benches/floor, which measures itself: how a process comes into the container is not in
//! the figures. The first row of each table is the host; the ratio says how fast another place is in terms of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bundle::{Bundles, Mounted};
use crate::cases::{new_id, path_text};
use crate::net::{BRIDGE, GATEWAY, Namespace, Network};
use crate::rounds::Rounds;
use crate::sample::{Cost, Samples, cpu_ratio, median_of, ratio};

/// The share of the host's speed that is aimed at.
const AIM: f64 = 0.99;
/// The same of a network.
const AIM_NETWORK: f64 = 0.97;
/// What the limited links send at most.
const RATE: &str = "200mbit";
/// Where the stream goes.
const PORT: u16 = 5001;
/// How many system calls are made in a row.
const CALLS: u32 = 1_000_000;
/// What the names of containers with the profile end with.
const PROFILED: &str = "+profile";
/// Size of the file that is read, in bytes.
const DATA: usize = 32 * 1024 * 1024;

/// A kind of work, and what is compared there.
pub(crate) struct Inside {
    pub(crate) name: &'static str,
    about: &'static str,
    aim: f64,
    places: fn(&Rounds, &Path, &mut Cleanup) -> Result<Vec<Place>>,
    /// Rows, each with the words for `work`; `DIR` stands for a folder of the place's own.
    work: &'static [(&'static str, &'static str)],
}

pub(crate) const INSIDE: [Inside; 5] = [
    Inside {
        name: "inside-cpu",
        about: "arithmetic, and 1 GiB copied in memory",
        aim: AIM,
        places: on_overlays,
        work: &[("loop", "loop 100"), ("copy", "copy 1024")],
    },
    Inside {
        name: "inside-disk",
        about: "32 MiB written through an overlay and flushed once, 100 times 4 KiB and a flush, 32 MiB of a lower layer read 8 times from the cache; host+overlay is an overlay without a container",
        aim: AIM,
        places: |rounds, tool, cleanup| {
            let mut places = on_overlays(rounds, tool, cleanup)?;
            places.insert(1, host_overlay(rounds, tool, cleanup)?);
            Ok(places)
        },
        work: &[("write", "write DIR/written 32"), ("flush", "flush DIR/flushed 100"), ("read", "read DIR/data 8")],
    },
    Inside {
        name: "inside-calls",
        about: "a million system calls; wall ms are nanoseconds of one. `+profile` has the usual seccomp profile of engines, which looks at the argument of personality",
        aim: AIM,
        places: with_profiles,
        work: &[("getppid", "getppid 1000000"), ("personality", "personality 1000000")],
    },
    Inside {
        name: "inside-network",
        about: "a stream of 512 MiB through a veth and a bridge; the host's is made by hand",
        aim: AIM_NETWORK,
        places: |rounds, tool, cleanup| on_links(rounds, tool, cleanup, Limited::No),
        work: &[("stream", "send TO 512")],
    },
    Inside {
        name: "inside-network-limited",
        about: "16 MiB through a veth that sends 200 Mbit/s at most, which takes 671 ms without headers; the host's has a tbf",
        aim: AIM_NETWORK,
        places: |rounds, tool, cleanup| on_links(rounds, tool, cleanup, Limited::Yes),
        work: &[("stream", "send TO 16")],
    },
];

/// Where work is done.
struct Place {
    name: String,
    /// The words that go before `work` to have it done there.
    prefix: Vec<String>,
    /// The program `work` as it is called there, and the folder for its files.
    program: String,
    dir: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Limited {
    Yes,
    No,
}

/// What a comparison leaves to be taken away after its containers.
#[derive(Default)]
struct Cleanup {
    mounts: Vec<Mounted>,
    namespaces: Vec<Namespace>,
    receiver: Option<Receiver>,
    /// Why runtimes are not among the places.
    left_out: Vec<String>,
}

/// A process that takes streams; it ends with this value.
struct Receiver(Child);

impl Drop for Receiver {
    fn drop(&mut self) {
        // Either fails only for a process that has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Compares, and prints a table and how it stands to the aim. `tool` is the program `work`.
pub(crate) fn run(inside: &Inside, rounds: &mut Rounds, tool: &Path) {
    rounds.report.tell(&format!("\n{}: {}\n", inside.name, inside.about));
    let mut cleanup = Cleanup::default();
    let places = put_tool(&rounds.settings.bundles, tool).and_then(|()| (inside.places)(rounds, tool, &mut cleanup));
    for reason in &cleanup.left_out {
        rounds.report.tell(&format!("  {reason}\n"));
    }
    match places {
        Ok(places) => compare(inside, rounds, &places),
        Err(error) => rounds.report.tell(&format!("  left out: {error:#}\n")),
    }
    for error in clean_up(rounds, cleanup) {
        rounds.report.tell(&format!("  cannot clean up: {error:#}\n"));
    }
}

fn clean_up(rounds: &Rounds, cleanup: Cleanup) -> Vec<anyhow::Error> {
    let runtimes = rounds.runtimes.iter().filter(|runtime| !runtime.is_floor());
    let mut errors: Vec<anyhow::Error> = runtimes.filter_map(|runtime| runtime.delete_all().err()).collect();
    errors.extend(cleanup.mounts.into_iter().filter_map(|mounted| mounted.unmount().err()));
    errors
}

fn compare(inside: &Inside, rounds: &mut Rounds, places: &[Place]) {
    let mut samples: Vec<Samples> = places.iter().map(|place| Samples::new(&place.name)).collect();
    // The first round is not kept: it warms caches.
    for round in 0..=rounds.rounds {
        for (row, words) in inside.work {
            for at in rounds.order.shuffle(places.len()) {
                if samples[at].failed {
                    continue;
                }
                match places[at].measure(words) {
                    Ok(cost) if round > 0 => samples[at].add(&[(row, cost)]),
                    Ok(_) => {}
                    Err(error) => {
                        rounds.report.tell(&format!("  {} left out: {error:#}\n", places[at].name));
                        samples[at].failed = true;
                    }
                }
            }
        }
    }
    rounds.report.add_table(inside.name, &samples);
    let own = &rounds.runtimes[0].name;
    let aims = inside.work.iter().map(|(row, _)| render_aim(&samples, row, own, inside.aim));
    let costs = inside.work.iter().map(|(row, _)| render_profiles(&samples, row));
    let text: String = aims.chain(costs).collect();
    rounds.report.tell(&text);
}

/// How fast the first runtime's container is by the host's measure. The aim is one of wall time; processor time is told besides,
/// since other work on the machine changes it less.
fn render_aim(samples: &[Samples], row: &str, own: &str, aim: f64) -> String {
    let Some((wall, cpu)) = ratio(samples, row, own).zip(cpu_ratio(samples, row, own)) else {
        return format!("  {row}: not measured\n");
    };
    let verdict = if wall >= aim { "the aim is" } else { "BELOW the aim of" };
    format!("  {row}: {own} has {wall:.3} of the host's speed, {cpu:.3} by processor time; {verdict} {aim}\n")
}

/// What a profile adds to one call, for each runtime that was measured with it and without.
fn render_profiles(samples: &[Samples], row: &str) -> String {
    let median = |name: &str| median_of(samples, name, row).map(|time| time.as_nanos() as f64 / f64::from(CALLS));
    let added = samples.iter().filter_map(|samples| {
        let bare = samples.runtime.strip_suffix(PROFILED)?;
        Some(format!(", {:.0} ns with {bare}", median(&samples.runtime)? - median(bare)?))
    });
    let added: String = added.collect();
    added.strip_prefix(", ").map(|added| format!("  {row}: the profile adds {added}\n")).unwrap_or_default()
}

impl Place {
    fn measure(&self, words: &str) -> Result<Cost> {
        let words = words.replace("DIR", &self.dir).replace("TO", &format!("{GATEWAY}:{PORT}"));
        let all: Vec<&str> = self.prefix.iter().map(String::as_str).chain([&*self.program]).collect();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).args(words.split_whitespace()).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("cannot run {}", all[0]))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words} ended with {}: {}", output.status, error.trim());
        parse_cost(&String::from_utf8_lossy(&output.stdout)).with_context(|| format!("{words} told no times"))
    }
}

/// `work` tells nanoseconds of wall time and of processor time.
fn parse_cost(text: &str) -> Option<Cost> {
    let (wall, cpu) = text.trim().split_once(' ')?;
    Some(Cost { wall: Duration::from_nanos(wall.parse().ok()?), cpu: Duration::from_nanos(cpu.parse().ok()?) })
}

/// Puts `work`, and a file to read, into the root file system of all bundles.
fn put_tool(bundles: &Bundles, tool: &Path) -> Result<()> {
    std::fs::copy(tool, bundles.rootfs.join("bin/work")).with_context(|| format!("cannot copy {}", tool.display()))?;
    std::fs::write(bundles.rootfs.join("data"), vec![7_u8; DATA]).context("cannot write a file to read")
}

fn host(rounds: &Rounds, tool: &Path, prefix: Vec<String>) -> Result<Place> {
    let dir = path_text(&rounds.settings.bundles.rootfs)?.to_owned();
    Ok(Place { name: "host".to_owned(), prefix, program: path_text(tool)?.to_owned(), dir })
}

/// Starts a container with each runtime but the floor, which runs none that stays; `before` are words that its start gets.
fn start(
    rounds: &Rounds,
    at: usize,
    name: String,
    bundle: &Path,
    before: &[String],
    options: &[&str],
) -> Result<Place> {
    let runtime = &rounds.runtimes[at];
    let id = new_id();
    let words = [&["run", "--detach", "--bundle", path_text(bundle)?][..], options, &[&id]].concat();
    runtime.measure_after(before, &words)?;
    let exec = runtime.command(&["exec", &id])?;
    let prefix = std::iter::once(exec.get_program()).chain(exec.get_args());
    let prefix = prefix.map(|word| word.to_string_lossy().into_owned()).collect();
    Ok(Place { name, prefix, program: "/bin/work".to_owned(), dir: String::new() })
}

/// The host, and a container of each runtime on an overlay of its own.
fn on_overlays(rounds: &Rounds, tool: &Path, cleanup: &mut Cleanup) -> Result<Vec<Place>> {
    let mut places = vec![host(rounds, tool, Vec::new())?];
    for (at, runtime) in rounds.runtimes.iter().enumerate().filter(|(_, runtime)| !runtime.is_floor()) {
        let overlay = rounds.settings.bundles.derive_overlay(&format!("inside-{}", runtime.name))?;
        cleanup.mounts.push(overlay.mount()?);
        match start(rounds, at, runtime.name.clone(), &overlay.bundle, &[], &[]) {
            Ok(place) => places.push(place),
            Err(error) => cleanup.left_out.push(format!("{} left out: {error:#}", runtime.name)),
        }
    }
    Ok(places)
}

/// What the kernel takes for an overlay by itself.
fn host_overlay(rounds: &Rounds, tool: &Path, cleanup: &mut Cleanup) -> Result<Place> {
    let overlay = rounds.settings.bundles.derive_overlay("inside-host")?;
    cleanup.mounts.push(overlay.mount()?);
    let dir = path_text(&overlay.bundle.join("merged"))?.to_owned();
    Ok(Place { name: "host+overlay".to_owned(), dir, ..host(rounds, tool, Vec::new())? })
}

/// The host, and two containers of each runtime: one without a filter and, where the machine has the profile, one with it.
fn with_profiles(rounds: &Rounds, tool: &Path, cleanup: &mut Cleanup) -> Result<Vec<Place>> {
    let bundles = &rounds.settings.bundles;
    let profile = bundles.profile.as_deref();
    let sleeping =
        |bundle| bundles.derive(bundle, "filtered", &|config| config["process"]["args"] = json!(["sleep", "100000"]));
    let filtered = profile.map(sleeping).transpose()?;
    if filtered.is_none() {
        cleanup.left_out.push("the profile is not on this machine".to_owned());
    }
    let mut places = vec![host(rounds, tool, Vec::new())?];
    for (at, runtime) in rounds.runtimes.iter().enumerate().filter(|(_, runtime)| !runtime.is_floor()) {
        let bare = Some((runtime.name.clone(), bundles.long.clone()));
        let filtered = filtered.clone().map(|bundle| (format!("{}{PROFILED}", runtime.name), bundle));
        for (name, bundle) in [bare, filtered].into_iter().flatten() {
            match start(rounds, at, name.clone(), &bundle, &[], &[]) {
                Ok(place) => places.push(place),
                Err(error) => cleanup.left_out.push(format!("{name} left out: {error:#}")),
            }
        }
    }
    Ok(places)
}

/// A namespace with a veth made by hand, and a container of the first runtime with a link of its own.
fn on_links(rounds: &Rounds, tool: &Path, cleanup: &mut Cleanup, limited: Limited) -> Result<Vec<Place>> {
    let bundles = &rounds.settings.bundles;
    let network = bundles.network.as_ref().context("no network namespaces can be made here")?;
    cleanup.receiver = Some(receive(network, tool)?);
    let by_hand = match limited {
        Limited::No => network.inner.prefix(),
        Limited::Yes => {
            let namespace = Namespace::make()?;
            network.join(&namespace, "10.99.0.4")?;
            namespace.set_up(&format!("tc qdisc add dev eth0 root tbf rate {RATE} burst 64kb latency 50ms"))?;
            let prefix = namespace.prefix();
            cleanup.namespaces.push(namespace);
            prefix
        }
    };
    let limit = if limited == Limited::Yes { format!(",egress={RATE}") } else { String::new() };
    let link = format!("veth:bridge={BRIDGE},address=10.99.0.3/16{limit}");
    let own = rounds.runtimes[0].name.clone();
    let inside = start(rounds, 0, own, &bundles.long, &network.outer.prefix(), &["--link", &link])?;
    Ok(vec![host(rounds, tool, by_hand)?, inside])
}

/// Starts what the streams go to, and waits until it listens.
fn receive(network: &Network, tool: &Path) -> Result<Receiver> {
    let prefix = network.outer.prefix();
    let mut command = Command::new(&prefix[0]);
    command.args(&prefix[1..]).arg(tool).args(["receive", &format!("{GATEWAY}:{PORT}")]);
    let receiver = Receiver(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot run nsenter")?);
    let probe = |_| {
        let prefix = network.inner.prefix();
        let mut send = Command::new(&prefix[0]);
        send.args(&prefix[1..]).arg(tool).args(["send", &format!("{GATEWAY}:{PORT}"), "0"]);
        let status = send.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let listens = status.is_ok_and(|status| status.success());
        if !listens {
            std::thread::sleep(Duration::from_millis(20));
        }
        listens
    };
    ensure!((0..250).any(probe), "nobody listens after 5 s");
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_tells_two_times_in_nanoseconds() {
        let cost = Cost { wall: Duration::from_millis(3), cpu: Duration::from_micros(2) };
        assert_eq!(parse_cost("3000000 2000\n"), Some(cost));
        assert_eq!(parse_cost("usage: work"), None);
    }

    fn samples(name: &str, millis: u64) -> Samples {
        let mut samples = Samples::new(name);
        samples.add(&[("loop", Cost { wall: Duration::from_millis(millis), cpu: Duration::from_millis(50) })]);
        samples
    }

    #[test]
    fn a_profile_is_compared_with_the_same_runtime_without() {
        let all =
            [samples("host", 90), samples("skep", 100), samples("skep+profile", 150), samples("runc+profile", 160)];
        assert_eq!(render_profiles(&all, "loop"), "  loop: the profile adds 50 ns with skep\n");
        assert_eq!(render_profiles(&all[..2], "loop"), "");
    }

    #[test]
    fn an_aim_is_a_share_of_the_hosts_speed() {
        let told = |inside: u64| render_aim(&[samples("host", 100), samples("skep", inside)], "loop", "skep", 0.99);
        assert_eq!(told(100), "  loop: skep has 1.000 of the host's speed, 1.000 by processor time; the aim is 0.99\n");
        assert_eq!(
            told(125),
            "  loop: skep has 0.800 of the host's speed, 1.000 by processor time; BELOW the aim of 0.99\n"
        );
        assert!(render_aim(&[samples("host", 100)], "loop", "skep", 0.99).contains("not measured"));
    }
}
