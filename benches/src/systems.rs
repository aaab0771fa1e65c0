//! Containers that run for long, against Debian's LXC: `bench --systems`.
//!
//! Both run the same program on the same root file system, in a network namespace of this measurement's own, with the defaults
//! that their users get: LXC's are those that `lxc-create` of Debian writes. What is compared are medians of one run: each
//! container is started, entered and stopped in pairs, in a random order; half of them back to back, half with the machine
//! idle before each command, as in life, where the kernel lets some commands wait.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

use crate::report::Report;
use crate::runtime::{Runtime, measure, quiet};
use crate::sample::{Cost, Order, Samples};

/// A static busybox.
const BUSYBOX: &str = "/bin/busybox";
/// What `lxc-create` has every configuration include.
const LXC_COMMON: &str = "/usr/share/lxc/config/common.conf";
/// The bridge that containers with addresses are at.
const BRIDGE: &str = "benchbr0";
/// Of how many containers with addresses a list is made.
const WITH_ADDRESS: usize = 50;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Skep,
    Lxc,
}

/// What both work with.
struct Bench<'a> {
    /// The first runtime, with its options.
    skep: Runtime,
    work: PathBuf,
    rootfs: PathBuf,
    order: Order,
    /// How long the machine is left idle before a command where that is measured.
    gap: Duration,
    report: &'a mut Report,
}

/// What one container is in either.
struct Pair {
    name: String,
    /// Its address in the last two bytes, where it has one.
    address: Option<u16>,
}

/// Measures, and tells what it found. `containers` is how many there are of each, `rounds` how often lists are made, `gap` the
/// idle time before commands that are measured alone.
///
/// # Errors
/// LXC is not here, or either fails.
pub(crate) fn run(
    skep: Runtime,
    work: &Path,
    (containers, rounds, gap): (usize, usize, Duration),
    report: &mut Report,
) -> Result<()> {
    let version = Command::new("lxc-start").arg("--version").output().context("LXC is not here (lxc-start)")?;
    report.tell(&format!("# {}: {} ({})\n", skep.name, skep.command_line(), skep.version()));
    report.tell(&format!("# lxc: {}; {rounds} rounds of lists\n", String::from_utf8_lossy(&version.stdout).trim()));
    own_network(work)?;
    let rootfs = work.join("rootfs");
    rootfs_tools::busybox(&rootfs, Path::new(BUSYBOX)).context("cannot make the root file system")?;
    let skep = skep.with_variable("SKEP_DATA", work.join("data"));
    let order = Order::from_clock();
    report.tell(&format!("# order seed {}\n", order.seed()));
    let mut bench = Bench { skep, work: work.to_owned(), rootfs, order, gap, report };
    let result = bench.life(containers, rounds).and_then(|()| bench.addresses(rounds));
    if result.is_err() {
        bench.remove_all();
    }
    result
}

/// A network namespace with a bridge, of which the host sees nothing.
fn own_network(work: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("cannot make namespaces")?;
    // What either keeps while its containers run is in memory, as on any Debian.
    // LXC looks for bridges in /sys, which shows the network that it was mounted in. The groups move over; the folder is empty
    // again before anybody could remove it.
    let script = "mount --make-rprivate / && mkdir \"$1\" && mount --rbind /sys/fs/cgroup \"$1\" && mount -t sysfs sysfs /sys \
                  && mount --move \"$1\" /sys/fs/cgroup && rmdir \"$1\" && mount -t tmpfs -o mode=755 tmpfs /run";
    let status =
        Command::new("sh").args(["-c", script, "sh"]).arg(work.join("groups")).status().context("cannot run sh")?;
    ensure!(status.success(), "cannot mount /sys for the network namespace");
    for words in
        [&["link", "set", "lo", "up"][..], &["link", "add", BRIDGE, "type", "bridge"], &["link", "set", BRIDGE, "up"]]
    {
        let status = Command::new("ip").args(words).status().context("cannot run ip")?;
        ensure!(status.success(), "ip {} failed", words.join(" "));
    }
    Ok(())
}

impl Bench<'_> {
    /// Starts, lists, enters and stops containers without a network.
    fn life(&mut self, containers: usize, rounds: usize) -> Result<()> {
        self.report.tell(&format!(
            "\nlife: {containers} containers of each, `sleep` with a terminal, started, entered, listed and stopped in pairs\n"
        ));
        let pairs: Vec<Pair> =
            (0..containers).map(|number| Pair { name: format!("b{number}"), address: None }).collect();
        let mut samples = self.define(&pairs)?;
        let mut isolated = self.samples();
        let (close, apart) = pairs.split_at(containers / 2);
        for pair in close {
            self.each(&mut samples, "start", |bench, kind| bench.start(kind, &pair.name))?;
        }
        for pair in apart {
            self.each_isolated(&mut isolated, "start", |bench, kind| bench.start(kind, &pair.name))?;
        }
        let monitors = describe_monitors(&self.work, containers);
        for pair in close.iter().take(rounds.max(30)) {
            self.each(&mut samples, "attach", |bench, kind| bench.attach(kind, &pair.name))?;
        }
        for pair in apart.iter().take(rounds.max(30)) {
            self.each_isolated(&mut isolated, "attach", |bench, kind| bench.attach(kind, &pair.name))?;
        }
        for _ in 0..rounds {
            self.each(&mut samples, "ls", Self::list)?;
        }
        for pair in close {
            self.each(&mut samples, "stop", |bench, kind| bench.stop(kind, &pair.name))?;
        }
        for pair in apart {
            self.each_isolated(&mut isolated, "stop", |bench, kind| bench.stop(kind, &pair.name))?;
        }
        for sample in samples.iter_mut().chain(&mut isolated) {
            sample.add_sum("start+stop", "start", "stop");
        }
        self.report.add_table("life", &samples);
        self.report
            .tell(&format!("\nisolated: the same, the machine {} ms idle before each command\n", self.gap.as_millis()));
        self.report.add_table("isolated", &isolated);
        self.report.tell(&monitors);
        self.remove_all();
        Ok(())
    }

    /// Lists containers with their addresses.
    fn addresses(&mut self, rounds: usize) -> Result<()> {
        self.report
            .tell(&format!("\nlist: {WITH_ADDRESS} containers of each that run and have an address, listed with it\n"));
        let address = |number: usize| u16::try_from(number).ok().map(|number| number + 10);
        let pairs: Vec<Pair> =
            (0..WITH_ADDRESS).map(|at| Pair { name: format!("n{at}"), address: address(at) }).collect();
        let mut samples = self.define(&pairs)?;
        for pair in &pairs {
            for kind in [Kind::Skep, Kind::Lxc] {
                self.start(kind, &pair.name)?;
            }
        }
        for _ in 0..rounds {
            self.each(&mut samples, "ls", Self::list)?;
        }
        // A list without addresses would be cheap.
        for kind in [Kind::Skep, Kind::Lxc] {
            let output = self.list_command(kind)?.stdout(Stdio::piped()).output().context("cannot list")?;
            let shown = String::from_utf8_lossy(&output.stdout).matches("10.99.").count();
            ensure!(shown >= WITH_ADDRESS, "{kind:?} lists {shown} addresses");
        }
        self.report.add_table("list", &samples);
        self.remove_all();
        Ok(())
    }

    /// Both in a random order.
    fn each(
        &mut self,
        samples: &mut [Samples],
        what: &'static str,
        work: impl Fn(&Self, Kind) -> Result<Cost>,
    ) -> Result<()> {
        for at in self.order.shuffle(2) {
            let cost = work(self, [Kind::Skep, Kind::Lxc][at])?;
            samples[at].add(&[(what, cost)]);
        }
        Ok(())
    }

    /// Both in a random order, each after a gap.
    fn each_isolated(
        &mut self,
        samples: &mut [Samples],
        what: &'static str,
        work: impl Fn(&Self, Kind) -> Result<Cost>,
    ) -> Result<()> {
        self.each(samples, what, |bench, kind| {
            thread::sleep(bench.gap);
            work(bench, kind)
        })
    }

    fn samples(&self) -> Vec<Samples> {
        vec![Samples::new(&self.skep.name), Samples::new("lxc")]
    }

    fn define(&self, pairs: &[Pair]) -> Result<Vec<Samples>> {
        for pair in pairs {
            let folder = self.work.join("lxc").join(&pair.name);
            fs::create_dir_all(&folder).context("cannot make a folder")?;
            fs::write(folder.join("config"), self.lxc_config(pair)).context("cannot write a configuration")?;
            let mut command = self.skep.command(&["create", &pair.name, "--from"])?;
            command.arg(&self.rootfs).args(["--network", "none", "--tty"]);
            if let Some(number) = pair.address {
                command.arg("--link").arg(format!("veth:bridge={BRIDGE},address=10.99.0.{number}/16"));
            }
            self.ok(command.args(["--", "sleep", "1000"]))?;
        }
        Ok(self.samples())
    }

    fn lxc_config(&self, pair: &Pair) -> String {
        let mut text = format!(
            "lxc.include = {LXC_COMMON}\nlxc.uts.name = {}\nlxc.rootfs.path = dir:{}\nlxc.init.cmd = /bin/sleep 1000\nlxc.mount.auto = proc:mixed sys:ro\n",
            pair.name,
            self.rootfs.display()
        );
        match pair.address {
            None => text.push_str("lxc.net.0.type = empty\n"),
            Some(number) => text.push_str(&format!(
                "lxc.net.0.type = veth\nlxc.net.0.link = {BRIDGE}\nlxc.net.0.flags = up\nlxc.net.0.ipv4.address = 10.99.1.{number}/16\n"
            )),
        }
        text
    }

    fn lxc(&self, tool: &str, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(tool);
        command.arg("-P").arg(self.work.join("lxc")).args(words);
        quiet(&mut command, &self.log())?;
        Ok(command)
    }

    /// Where the tools of LXC write what is wrong.
    fn log(&self) -> PathBuf {
        self.work.join("log-lxc")
    }

    /// Runs a command of LXC's, or one of skep's that is more than a verb with words.
    fn ok(&self, command: &mut Command) -> Result<Cost> {
        quiet(command, &self.log())?;
        measure(command, &format!("{command:?}"), &self.log())
    }

    fn start(&self, kind: Kind, name: &str) -> Result<Cost> {
        match kind {
            Kind::Skep => self.skep.measure(&["start", name]),
            Kind::Lxc => self.ok(&mut self.lxc("lxc-start", &["-n", name])?),
        }
    }

    fn stop(&self, kind: Kind, name: &str) -> Result<Cost> {
        match kind {
            Kind::Skep => self.skep.measure(&["stop", "--time", "0", name]),
            Kind::Lxc => self.ok(&mut self.lxc("lxc-stop", &["-k", "-n", name])?),
        }
    }

    fn attach(&self, kind: Kind, name: &str) -> Result<Cost> {
        match kind {
            Kind::Skep => self.skep.measure(&["attach", name, "--", "true"]),
            Kind::Lxc => self.ok(&mut self.lxc("lxc-attach", &["-n", name, "--", "true"])?),
        }
    }

    fn list_command(&self, kind: Kind) -> Result<Command> {
        match kind {
            Kind::Skep => self.skep.command(&["ls"]),
            Kind::Lxc => self.lxc("lxc-ls", &["--fancy"]),
        }
    }

    fn list(&self, kind: Kind) -> Result<Cost> {
        self.ok(&mut self.list_command(kind)?)
    }

    /// Ends and removes what there is of either.
    fn remove_all(&self) {
        let names = |folder: &str| -> Vec<String> {
            let entries = fs::read_dir(self.work.join(folder)).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| !name.starts_with('.'))
                .collect()
        };
        for name in names("data/containers") {
            if let Err(error) = self.skep.measure(&["destroy", "--force", &name]) {
                println!("  cannot clean up: {error:#}");
            }
        }
        for name in names("lxc") {
            // It says that it failed where there was nothing to end.
            drop(self.stop(Kind::Lxc, &name));
            if let Err(error) = fs::remove_dir_all(self.work.join("lxc").join(&name)) {
                println!("  cannot clean up: {error}");
            }
        }
    }
}

/// A line on what the processes that stay with containers take: the proportional share of memory, and descriptors, for each
/// container. Of skep the monitor and its spare count.
fn describe_monitors(work: &Path, containers: usize) -> String {
    let mut text = String::new();
    for (name, is_one) in [
        ("skep", (|line: &str| line.contains("skep-monitor\0")) as fn(&str) -> bool),
        ("lxc", |line: &str| line.starts_with("[lxc monitor]")),
    ] {
        let all: Vec<(u64, u64)> =
            processes(work, is_one).iter().filter_map(|folder| measure_process(folder)).collect();
        let sum = |part: fn(&(u64, u64)) -> u64| all.iter().map(part).sum::<u64>() as f64 / containers as f64;
        let most = all.iter().map(|one| one.0).max().unwrap_or(0);
        text += &format!(
            "  {name:<5} {} processes; for each container {:.0} KiB PSS (the largest process {most}), {:.1} descriptors\n",
            all.len(),
            sum(|one| one.0),
            sum(|one| one.1)
        );
    }
    text
}

/// Those of this measurement: all of them are called with its folder.
fn processes(work: &Path, is_one: fn(&str) -> bool) -> Vec<PathBuf> {
    let is_ours = |line: &str| is_one(line) && line.contains(&*work.to_string_lossy());
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    folders.filter(|folder| fs::read_to_string(folder.join("cmdline")).is_ok_and(|line| is_ours(&line))).collect()
}

/// KiB of memory by its proportional share, and descriptors.
fn measure_process(folder: &Path) -> Option<(u64, u64)> {
    let rollup = fs::read_to_string(folder.join("smaps_rollup")).ok()?;
    let pss =
        rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some((pss, fs::read_dir(folder.join("fd")).ok()?.count() as u64))
}
