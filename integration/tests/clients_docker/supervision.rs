//! What docker does with containers that run: logs, health, restarts, figures, many at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::cases;
use integration::client::command::until;
use integration::client::lifecycle::restart_on_failure;
use integration::client::{Case, Test};

pub(crate) const CASES: [Case; 13] = cases![
    init_reaps_and_forwards,
    health_becomes_healthy,
    health_becomes_unhealthy,
    restart_on_failure,
    restart_always,
    removed_when_it_ends,
    logs_keep_both_streams,
    logs_follow_to_the_end,
    much_output_is_complete,
    top_lists_processes,
    stats_of_a_running_container,
    inspect_tells_the_pid,
    daemon_reads_processes_by_group,
];

/// Those that want the machine for themselves.
pub(crate) const ALONE: [Case; 1] = cases![alone: fifty_at_once];

fn init_reaps_and_forwards(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --init bb sh -c", "trap 'exit 8' TERM; echo ready; while :; do sleep 0.1; done")?;
    t.until_prints("logs {}", "ready")?;
    t.ok("exec {} grep -q docker-init /proc/1/cmdline", "")?;
    t.ok("exec -d {} sh -c", "sleep 0.1 & exec sleep 0.2")?;
    std::thread::sleep(Duration::from_millis(600));
    t.prints("exec {} sh -c", "ps -o stat | grep -c Z || true", "0")?;
    t.ok("stop -t 20 {}", "")?;
    t.prints("inspect --format {{.State.ExitCode}} {}", "", "8")
}

fn health_becomes_healthy(t: &Test<'_>) -> Result<()> {
    let start = ["run", "-d", "--name", "{}", "--health-interval", "500ms", "--health-cmd"];
    t.words(&[&start[..], &["cat /data/from-image", "bb", "sleep", "1000"]].concat())?.ok()?;
    t.until_prints("inspect --format {{.State.Health.Status}} {}", "healthy")?;
    let log = t.words(&["inspect", "--format", "{{json .State.Health.Log}}", "{}"])?.ok()?;
    ensure!(log.contains("image"), "{log}");
    Ok(())
}

fn health_becomes_unhealthy(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --health-interval 300ms --health-retries 2 --health-cmd false bb sleep 1000", "")?;
    t.until_prints("inspect --format {{.State.Health.Status}}-{{.State.Health.FailingStreak}} {}", "unhealthy-")
}

fn restart_always(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --restart always bb sh -c", "echo once; sleep 0.2; kill -KILL 1; exit 3")?;
    until("a second start", Duration::from_secs(20), || {
        Ok(t.ok("inspect --format {{.RestartCount}} {}", "")?.parse::<u32>()? >= 1)
    })?;
    t.ok("stop -t 0 {}", "")?;
    t.prints("inspect --format {{.State.Running}} {}", "", "false")
}

fn removed_when_it_ends(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --rm --name {} bb sleep 0.3", "")?;
    until("the container is removed", Duration::from_secs(20), || Ok(t.run("inspect {}", "")?.code != 0))
}

fn logs_keep_both_streams(t: &Test<'_>) -> Result<()> {
    t.ok("run --name {} bb sh -c", "echo out; echo err >&2")?;
    let done = t.run("logs {}", "")?;
    ensure!((done.out.as_str(), done.err.as_str()) == ("out", "err"), "{done:?}");
    Ok(())
}

fn logs_follow_to_the_end(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sh -c", "for i in 1 2 3; do echo line $i; sleep 0.2; done")?;
    t.prints("logs -f {}", "", "line 1\nline 2\nline 3")
}

fn much_output_is_complete(t: &Test<'_>) -> Result<()> {
    let got = t.ok("run --rm bb seq 200000", "")?;
    ensure!(got.lines().count() == 200_000 && got.ends_with("\n200000"), "{} lines", got.lines().count());
    Ok(())
}

fn top_lists_processes(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sh -c", "sleep 1111 & sleep 2222 & wait")?;
    until("three processes", Duration::from_secs(10), || {
        let text = t.ok("top {}", "")?;
        Ok(text.lines().count() == 4 && text.contains("sleep 1111") && text.contains("sleep 2222"))
    })?;
    let text = t.ok("top {} -o pid,comm", "")?;
    ensure!(text.starts_with("PID ") && text.lines().count() == 4, "{text}");
    Ok(())
}

fn stats_of_a_running_container(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} --memory 64m bb sh -c", "while :; do :; done")?;
    until("figures of a busy container", Duration::from_secs(30), || {
        let text = t.ok("stats --no-stream --format {{.CPUPerc}}/{{.MemUsage}}/{{.PIDs}} {}", "")?;
        let cpu: f32 = text.split('%').next().unwrap_or_default().parse()?;
        Ok(cpu > 5.0 && text.contains("64MiB") && text.ends_with("/1"))
    })
}

fn inspect_tells_the_pid(t: &Test<'_>) -> Result<()> {
    t.ok("run -d --name {} bb sleep 5555", "")?;
    let pid = t.ok("inspect --format {{.State.Pid}} {}", "")?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    ensure!(line == b"sleep\x005555\0", "{}", String::from_utf8_lossy(&line));
    Ok(())
}

fn daemon_reads_processes_by_group(t: &Test<'_>) -> Result<()> {
    let id = t.ok("run -d --name {} bb sleep 1000", "")?;
    let pid = t.ok("inspect --format {{.State.Pid}} {}", "")?;
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup")? {
        let file = hierarchy?.path().join("docker").join(&id).join("cgroup.procs");
        let tasks = std::fs::read_to_string(&file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
        ensure!(tasks.trim() == pid, "{}: {tasks:?}, not {pid}", file.display());
    }
    Ok(())
}

fn fifty_at_once(t: &Test<'_>) -> Result<()> {
    let numbers: Vec<u32> = (1..=50).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = numbers
            .chunks(5)
            .map(|chunk| {
                scope.spawn(move || -> Result<()> {
                    for number in chunk {
                        let command = format!("run -d --name {{}}-{number} --memory 32m --pids-limit 20 bb sleep 1000");
                        t.ok(&command, "")?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })?;
    let running = t.ok("ps --quiet --filter name=^/?{}(-.*)?$ --filter status=running", "")?;
    ensure!(running.lines().count() == 50, "{} run", running.lines().count());
    t.prints("exec {}-37 cat /sys/fs/cgroup/pids/pids.max", "", "20")?;
    t.ok(&format!("kill {}", running.replace('\n', " ")), "")?;
    until("none runs", Duration::from_secs(30), || {
        Ok(t.ok("ps --quiet --filter name=^/?{}(-.*)?$ --filter status=running", "")?.is_empty())
    })
}
