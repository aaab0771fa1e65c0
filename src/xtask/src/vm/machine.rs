//! One run of a machine: a job goes in on the second disk, its console comes out line by line, its results as an archive.
//!
//! A machine that has booted waits for its job. It is saved there, memory and disk, so that a later run continues from
//! that moment instead of booting. Saved and restored machine must have the same devices, and disks of the same sizes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::command::{bound_to_us, read_tail, run};
use super::disks::Disk;
use super::image::{self, Image};
use super::qmp::Qmp;
use super::recipe::{Boot, COMMAND_LINE};

/// Emulates one machine without help of the processor, so that it runs where this machine is itself a virtual one.
pub(super) const QEMU: &str = "qemu-system-x86_64";

/// Size of the job disk: what a job and its archive may be at most. Sparse.
const JOB_SIZE: u64 = 256 << 20;

/// Memory of the guest in MiB. Clean pages cost nothing in the saved state.
const MEMORY_MIB: u32 = 2048;

/// From power-on to [`READY`]: 17 to 30 s were measured on two processors with nothing else to do.
const BOOT_LIMIT: Duration = Duration::from_secs(600);

/// Saving, restoring, and switching off each take about a second, on a busy machine more.
const SWITCH_LIMIT: Duration = Duration::from_secs(180);

/// What the guest's job service prints when it waits for its job.
const READY: &str = "JOB-READY";

/// What it prints with the exit code of the job, after the results.
const END: &str = "JOB-END ";

/// How many lines of the console an error shows.
const TAIL: usize = 40;

/// What a machine is to do.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// The folder whose `run.sh` root starts in a copy of it.
    pub(super) folder: &'a Path,
    /// Disks that it gets besides its own two.
    pub(super) disks: &'a [Disk],
    /// How long it may take.
    pub(super) limit: Duration,
}

/// What a job came to.
#[derive(Debug)]
pub(super) struct Ended {
    /// The exit code of its `run.sh`.
    pub(super) code: i32,
}

/// Runs a job and unpacks its folder `out` into `out`.
///
/// Each line of the console is given to `on_line`.
///
/// # Errors
/// The machine does not start, dies, or does not end within the job's time; the text has the end of its console. What
/// had come out until then is unpacked all the same.
pub(super) fn run_job(
    image: &Image,
    boot: Boot,
    job: &Job<'_>,
    out: &Path,
    on_line: &mut dyn FnMut(&str),
) -> Result<Ended> {
    let place = Place::make()?;
    pack_job(&place, job.folder)?;
    let saved = has_saved(image, boot) || save(image, boot).inspect_err(report_unsaved).is_ok();
    let mut machine = if saved { Machine::restore(image, boot, &place)? } else { Machine::boot(image, boot, &place)? };
    for disk in job.disks {
        machine.add_disk(disk)?;
    }
    machine.send_time()?;
    let code = machine.read_job(Instant::now() + job.limit, on_line);
    let ended = code.and_then(|code| machine.wait_end().map(|()| Ended { code }));
    drop(machine);
    let unpacked = unpack_results(&place, out);
    // Half an archive is what a machine leaves that died: its death is the better error.
    let ended = ended?;
    unpacked?;
    Ok(ended)
}

/// Unpacks what has come out; the guest may have sent several archives, and the last may be half of one.
fn unpack_results(place: &Place, out: &Path) -> Result<()> {
    fs::create_dir_all(out).context("cannot make a folder")?;
    if fs::metadata(place.results()).is_ok_and(|data| data.len() > 0) {
        let mut unpack = bound_to_us("tar");
        unpack.arg("-C").arg(out).args(["--ignore-zeros", "-xf"]).arg(place.results());
        run(unpack, SWITCH_LIMIT, &place.log()).context("the results cannot be read")?;
    }
    Ok(())
}

fn report_unsaved(error: &anyhow::Error) {
    eprintln!("note: the machine cannot be saved, so it boots each time: {error:#}");
}

fn has_saved(image: &Image, boot: Boot) -> bool {
    image.dir.join(format!("{}.state", boot.name)).exists()
}

/// Boots until the machine waits for a job, and saves it.
fn save(image: &Image, boot: Boot) -> Result<()> {
    let name = |end: &str| image.dir.join(format!("{}.{end}", boot.name));
    let lock = File::create(name("lock")).context("cannot make a lock")?;
    lock.lock().context("cannot lock")?;
    if has_saved(image, boot) {
        return Ok(());
    }
    let begin = Instant::now();
    let place = Place::make()?;
    File::create(place.job()).and_then(|file| file.set_len(JOB_SIZE)).context("cannot make a job disk")?;
    let mut machine = Machine::boot(image, boot, &place)?;
    // It has said that it is ready a moment before it reads.
    std::thread::sleep(Duration::from_secs(1));
    let state = name("new");
    machine.qmp.execute("stop", &json!({}))?;
    machine.qmp.execute("migrate-set-parameters", &json!({ "max-bandwidth": 10_u64 << 30 }))?;
    machine.qmp.execute("migrate", &json!({ "uri": format!("exec:cat >'{}'", state.display()) }))?;
    let status = machine.qmp.wait_status("query-migrate", &["completed", "failed", "cancelled"], SWITCH_LIMIT)?;
    ensure!(status == "completed", "saving {status}");
    // The socket may close before the answer.
    let answered = machine.qmp.execute("quit", &json!({}));
    machine.wait_end().or(answered.map(drop))?;
    fs::rename(place.disk(), name("qcow2")).context("cannot keep the disk")?;
    fs::rename(state, name("state")).context("cannot keep the state")?;
    println!("{} booted and saved in {:.1} s", boot.name, begin.elapsed().as_secs_f64());
    Ok(())
}

fn pack_job(place: &Place, job: &Path) -> Result<()> {
    let mut pack = bound_to_us("tar");
    pack.arg("-C").arg(job).args(["--dereference", "--exclude=./out", "-cf"]).arg(place.job()).arg(".");
    run(pack, SWITCH_LIMIT, &place.log())?;
    let file = File::options().write(true).open(place.job()).context("cannot open the job disk")?;
    let size = file.metadata().context("cannot read the job disk's size")?.len();
    ensure!(size <= JOB_SIZE, "a job of {} MiB does not fit its disk of {} MiB", size >> 20, JOB_SIZE >> 20);
    file.set_len(JOB_SIZE).context("cannot set the job disk's size")
}

/// The files of one run, gone when it ends.
struct Place(PathBuf);

impl Place {
    /// Makes a folder, and removes those of processes that were killed.
    fn make() -> Result<Place> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let runs = image::cache_dir()?.join("runs");
        fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
        for entry in fs::read_dir(&runs).context("cannot list the runs")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.split('-').next().unwrap_or_default();
            if !Path::new("/proc").join(pid).exists() {
                image::remove_dir(&entry.path())?;
            }
        }
        let dir = runs.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        image::remove_dir(&dir)?;
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Place(dir))
    }

    fn disk(&self) -> PathBuf {
        self.0.join("disk.qcow2")
    }

    fn job(&self) -> PathBuf {
        self.0.join("job.tar")
    }

    fn results(&self) -> PathBuf {
        self.0.join("results.tar")
    }

    fn socket(&self) -> PathBuf {
        self.0.join("qmp")
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = image::remove_dir(&self.0) {
            eprintln!("note: {error:#}");
        }
    }
}

/// A running qemu.
struct Machine {
    qemu: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    qmp: Qmp,
    /// The console so far.
    console: Vec<String>,
    log: PathBuf,
}

impl Machine {
    /// Powers on and waits until the guest waits for its job.
    fn boot(image: &Image, boot: Boot, place: &Place) -> Result<Machine> {
        let mut machine = Machine::start(image, boot, place, &image.dir.join("root.img"), "raw", None)?;
        let until = Instant::now() + BOOT_LIMIT;
        while machine.read_line(until).context("the machine does not boot")? != READY {}
        Ok(machine)
    }

    /// Continues a saved machine.
    fn restore(image: &Image, boot: Boot, place: &Place) -> Result<Machine> {
        let name = |end: &str| image.dir.join(format!("{}.{end}", boot.name));
        let mut machine = Machine::start(image, boot, place, &name("qcow2"), "qcow2", Some(&name("state")))?;
        let wanted = ["paused", "postmigrate", "prelaunch"];
        let limit = SWITCH_LIMIT;
        machine.qmp.wait_status("query-status", &wanted, limit).with_context(|| read_tail(&machine.log))?;
        machine.qmp.execute("cont", &json!({}))?;
        Ok(machine)
    }

    fn start(
        image: &Image,
        boot: Boot,
        place: &Place,
        base: &Path,
        format: &str,
        state: Option<&Path>,
    ) -> Result<Machine> {
        let mut disk = bound_to_us("qemu-img");
        disk.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(base).arg(place.disk());
        run(disk, SWITCH_LIMIT, &place.log())?;
        let mut command = prepare(image, boot, place);
        if let Some(state) = state {
            command.arg("-incoming").arg(format!("exec:cat '{}'", state.display()));
        }
        let log = File::options().append(true).create(true).open(place.log()).context("cannot open a log")?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut qemu = command.spawn().context("cannot run qemu")?;
        let input = qemu.stdin.take().context("qemu has an input")?;
        let lines = read_console(qemu.stdout.take().context("qemu has an output")?);
        let qmp = Qmp::connect(&place.socket()).with_context(|| read_tail(&place.log()));
        if qmp.is_err() {
            qemu.kill().and_then(|()| qemu.wait()).context("cannot end qemu")?;
        }
        Ok(Machine { qemu, input, lines, qmp: qmp?, console: Vec::new(), log: place.log() })
    }

    /// Plugs in a disk. A machine that is saved has none of these, and would not be restored with more than it had.
    fn add_disk(&mut self, disk: &Disk) -> Result<()> {
        let Disk { label, path, .. } = disk;
        let file = json!({ "driver": "file", "filename": path });
        let node = json!({ "node-name": label, "driver": "raw", "read-only": true, "file": file });
        self.qmp.execute("blockdev-add", &node)?;
        let device = json!({ "driver": "virtio-blk-pci", "drive": label, "id": format!("disk-{label}") });
        self.qmp.execute("device_add", &device).map(drop)
    }

    /// Tells the guest to go on, with the time: its clock stood still while it was saved.
    fn send_time(&mut self) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
        let text = format!("{}.{:03}\n", now.as_secs(), now.subsec_millis());
        self.input.write_all(text.as_bytes()).and_then(|()| self.input.flush()).context("the console takes no input")
    }

    /// Gives each line of the console to `on_line` until the job says its exit code.
    fn read_job(&mut self, until: Instant, on_line: &mut dyn FnMut(&str)) -> Result<i32> {
        loop {
            let line = self.read_line(until)?;
            if let Some(code) = line.strip_prefix(END) {
                return code.trim().parse().with_context(|| format!("the job ended with {code:?}"));
            }
            on_line(&line);
        }
    }

    fn read_line(&mut self, until: Instant) -> Result<String> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.console.push(line.clone());
                Ok(line)
            }
            Err(RecvTimeoutError::Timeout) => bail!("the time is up; the console's end:\n{}", self.render_tail()),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the machine is gone; the console's end:\n{}", self.render_tail())
            }
        }
    }

    fn render_tail(&self) -> String {
        let from = self.console.len().saturating_sub(TAIL);
        let lines: Vec<String> = self.console[from..].iter().map(|line| format!("  | {line}")).collect();
        format!("{}\n{}", lines.join("\n"), read_tail(&self.log))
    }

    /// Waits until qemu has ended by itself.
    fn wait_end(&mut self) -> Result<()> {
        let until = Instant::now() + SWITCH_LIMIT;
        while self.qemu.try_wait().context("cannot wait for qemu")?.is_none() {
            ensure!(Instant::now() < until, "the machine does not switch off:\n{}", self.render_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let ended = self.qemu.try_wait().is_ok_and(|status| status.is_some());
        if !ended && let Err(error) = self.qemu.kill().and_then(|()| self.qemu.wait()) {
            eprintln!("note: cannot end qemu: {error}");
        }
    }
}

fn prepare(image: &Image, boot: Boot, place: &Place) -> Command {
    let kernel = image.dir.join(boot.kernel);
    let file = |path: PathBuf| path.display().to_string();
    let mut command = bound_to_us(QEMU);
    command.args(["-nodefaults", "-no-reboot", "-display", "none", "-accel", "tcg,thread=multi,tb-size=256"]);
    command.args(["-cpu", "max", "-smp", "2", "-m", &MEMORY_MIB.to_string()]);
    command.args(["-serial", "stdio", "-qmp", &format!("unix:{},server,nowait", file(place.socket()))]);
    command.arg("-kernel").arg(kernel.join("vmlinuz")).arg("-initrd").arg(kernel.join("initrd"));
    command.args(["-append", &format!("{COMMAND_LINE} {}", boot.arguments)]);
    let disk = format!("file={},format=qcow2,if=none,id=root,cache=unsafe", file(place.disk()));
    let job = format!("file={},format=raw,if=none,id=job,readonly=on", file(place.job()));
    command.args(["-drive", &disk, "-device", "virtio-blk-pci,drive=root"]);
    command.args(["-drive", &job, "-device", "virtio-blk-pci,drive=job"]);
    let results = format!("file,id=results,path={}", file(place.results()));
    command.args(["-device", "virtio-serial-pci", "-chardev", &results]);
    command.args(["-device", "virtserialport,chardev=results,name=results"]);
    command
}

/// Reads the console in a thread of its own, so that a wait for a line can end without one.
fn read_console(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            // Nobody listens any more.
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    receiver
}

/// What this machine lacks to run another in it, if anything.
pub(super) fn missing() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("an x86-64 machine".to_owned());
    }
    if !image_tools().all(|program| find_program(program).is_some()) {
        let lacking: Vec<&str> = image_tools().filter(|program| find_program(program).is_none()).collect();
        return Some(lacking.join(", "));
    }
    let own = fs::metadata("/proc/self").map(|data| std::os::unix::fs::MetadataExt::uid(&data));
    (!own.is_ok_and(|uid| uid == 0)).then(|| "root".to_owned())
}

fn image_tools() -> impl Iterator<Item = &'static str> {
    [QEMU, "qemu-img", "mmdebstrap", "mke2fs", "cpio", "gzip", "xz", "tar", "dpkg-deb", "apt-get", "setpriv", "strip"]
        .into_iter()
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|dir| Path::new(dir).join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_comes_line_by_line() {
        let lines = read_console(&b"one\r\n\xfftwo\nlast"[..]);
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["one", "\u{fffd}two", "last"]);
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(find_program("sh").is_some() && find_program("no-such-program").is_none());
    }
}
