//! `doctor`: what this host can do, what is missing, and what to do about it.

mod containers;
mod kernel;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::args_running::DoctorArgs;
use crate::copied;
use crate::output;
use crate::places::find_program;
use crate::quota;
use crate::run::Manager;

/// One thing that was looked at, as `doctor --format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What it is about.
    subject: String,
    /// How it is.
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Good,
    /// Something cannot be done, or only in a worse way.
    Limited,
    /// Containers do not start.
    Bad,
}

/// Looks at everything. The exit code is 1 where containers do not start.
///
/// # Errors
/// What the runtime says.
pub fn doctor(manager: &Manager, args: &DoctorArgs) -> Result<ExitCode> {
    let host = manager.runtime.features_of_host()?;
    let mut findings = judge_host(&host);
    findings.extend(kernel::judge(&host));
    findings.push(judge_data(&manager.places.data));
    findings.push(judge_quota(quota::is_enforced(&manager.places.data)));
    findings.extend(judge_network());
    findings.extend(judge_programs());
    findings.extend(containers::judge(manager)?);
    let rows = || {
        let header = ["SUBJECT", "VERDICT", "FOUND", "ADVICE"].map(str::to_owned).to_vec();
        let cells = |finding: &Finding| {
            let verdict = match finding.verdict {
                Verdict::Good => "good",
                Verdict::Limited => "limited",
                Verdict::Bad => "BAD",
            };
            let advice = finding.advice.clone().unwrap_or_default();
            vec![finding.subject.clone(), verdict.to_owned(), finding.found.clone(), advice]
        };
        let shown = findings.iter().filter(|finding| args.all || finding.verdict != Verdict::Good);
        let mut rows: Vec<Vec<String>> = std::iter::once(header).chain(shown.map(cells)).collect();
        let good = findings.iter().filter(|finding| finding.verdict == Verdict::Good).count();
        let all = findings.len();
        rows.push(vec![format!("{good} of {all} are good{}", if args.all { "" } else { ", --all shows them" })]);
        rows
    };
    output::print(args.printed.format(), &findings, rows)?;
    let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn finding(subject: &str, verdict: Verdict, found: impl Into<String>, advice: Option<&str>) -> Finding {
    Finding { subject: subject.to_owned(), verdict, found: found.into(), advice: advice.map(str::to_owned) }
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Judges what `skep features --host` tells.
fn judge_host(host: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = host["euid"] == 0;
    findings.push(match root {
        true => finding("user", Verdict::Good, "root", None),
        false => finding(
            "user",
            Verdict::Limited,
            "not root",
            Some("containers have a copy of their files, and no network with addresses: docs/rootless.md"),
        ),
    });
    let missing = texts(&host["missingCapabilities"]);
    if root && !missing.is_empty() {
        let advice = "whoever started this shell took them away: containers cannot have them either";
        findings.push(finding(
            "capabilities",
            Verdict::Limited,
            format!("without {}", missing.join(", ")),
            Some(advice),
        ));
    }
    let (mode, controllers) =
        (host["cgroup"]["mode"].as_str().unwrap_or("none"), texts(&host["cgroup"]["controllers"]));
    let wanted = ["memory", "cpu", "pids"];
    let lacking: Vec<&str> = wanted.into_iter().filter(|wanted| !controllers.contains(wanted)).collect();
    findings.push(match &lacking[..] {
        _ if mode == "none" => {
            finding("cgroups", Verdict::Bad, "none are mounted", Some("mount -t cgroup2 none /sys/fs/cgroup"))
        }
        [] => finding("cgroups", Verdict::Good, mode, None),
        lacking => {
            let advice = "enable them in cgroup.subtree_control, or by the kernel's command line";
            finding("cgroups", Verdict::Limited, format!("{mode}, without {}", lacking.join(", ")), Some(advice))
        }
    });
    let kernel = host["kernel"].as_str().unwrap_or_default();
    for feature in host["features"].as_array().into_iter().flatten() {
        let name = feature["name"].as_str().unwrap_or_default();
        if feature["available"] == true {
            findings.push(finding(name, Verdict::Good, "there", None));
        } else {
            let reason = feature["reason"].as_str().unwrap_or("not there");
            let since = feature["since"].as_str().unwrap_or("?");
            let advice = match version(kernel) >= version(since) {
                true => "this kernel was built or set up without it; docs/kernel-features.md says what is done without"
                    .to_owned(),
                false => format!("kernels have it from {since} on; docs/kernel-features.md says what is done without"),
            };
            findings.push(finding(name, Verdict::Limited, reason, Some(&advice)));
        }
    }
    findings.push(match texts(&host["fileSystems"]).contains(&"overlay") {
        true => finding("overlay", Verdict::Good, "there", None),
        false => finding("overlay", Verdict::Bad, "the kernel has no overlay", Some("modprobe overlay")),
    });
    let systemd = &host["systemd"];
    if systemd["booted"] == true && systemd["cgroupDriver"] != true {
        let reason = systemd["reason"].as_str().unwrap_or("it does not answer");
        findings.push(finding(
            "systemd",
            Verdict::Limited,
            reason,
            Some("use --cgroup-manager cgroupfs until it does"),
        ));
    }
    for program in host["programs"].as_array().into_iter().flatten() {
        let (name, purpose) =
            (program["name"].as_str().unwrap_or_default(), program["purpose"].as_str().unwrap_or_default());
        findings.push(judge_program(name, purpose, program["path"].as_str().map(str::to_owned)));
    }
    findings
}

/// The two first numbers of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn judge_program(name: &str, purpose: &str, path: Option<String>) -> Finding {
    match path {
        Some(path) => finding(name, Verdict::Good, path, None),
        None => finding(name, Verdict::Limited, "not installed", Some(&format!("install it for {purpose}"))),
    }
}

fn judge_data(data: &Path) -> Finding {
    let subject = "data folder";
    let found = data.display().to_string();
    match copied::probe_refusal(data) {
        Err(error) => {
            return finding(subject, Verdict::Bad, format!("{error:#}"), Some("choose another by --data"));
        }
        Ok(Some(why)) => {
            let advice = "keep it on ext4, xfs, btrfs or tmpfs (--data): here files are copied";
            return finding(subject, Verdict::Limited, why, Some(advice));
        }
        Ok(None) => {}
    }
    let Ok(statfs) = copied::file_system(data) else {
        return finding(subject, Verdict::Limited, format!("nothing is known of the file system of {found}"), None);
    };
    #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast)] // Width and sign differ by architecture.
    let free = statfs.f_bavail as u64 * statfs.f_bsize as u64;
    if free < 1 << 30 {
        let advice = "skep gc removes what nothing needs";
        return finding(
            subject,
            Verdict::Limited,
            format!("{} are left", crate::size::render_size(free)),
            Some(advice),
        );
    }
    finding(subject, Verdict::Good, found, None)
}

fn judge_quota(is_enforced: bool) -> Finding {
    match is_enforced {
        true => finding("limits on disk", Verdict::Good, "there", None),
        false => finding(
            "limits on disk",
            Verdict::Limited,
            "the file system of the data folder enforces no project quotas",
            Some(
                "ext4 with -O project,quota and the option prjquota, or xfs with pquota, has --disk-size (docs/containers.md)",
            ),
        ),
    }
}

fn judge_network() -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let mut findings = Vec::new();
    findings.push(judge_program("nft", "networks with NAT and published ports", find_program("nft")));
    for (family, path) in
        [("IPv4", "/proc/sys/net/ipv4/ip_forward"), ("IPv6", "/proc/sys/net/ipv6/conf/all/forwarding")]
    {
        let found = if read(path) == "1" { "on" } else { "off; the first container of a network turns it on" };
        findings.push(finding(&format!("forwarding of {family}"), Verdict::Good, found, None));
    }
    findings
}

fn judge_programs() -> Vec<Finding> {
    let own = std::env::current_exe().ok();
    let beside = |name: &str| own.as_ref().map(|own| own.with_file_name(name)).filter(|path| path.exists());
    let bootstrap = ["mmdebstrap", "debootstrap"].into_iter().find_map(find_program);
    vec![
        match beside("skep-monitor") {
            Some(path) => finding("skep-monitor", Verdict::Good, path.display().to_string(), None),
            None => finding("skep-monitor", Verdict::Bad, "not installed", Some("install it beside skep-manager")),
        },
        match beside("skep-init") {
            Some(path) => finding("skep-init", Verdict::Good, path.display().to_string(), None),
            None => finding(
                "skep-init",
                Verdict::Limited,
                "not installed",
                Some("install it beside skep-manager for --with-init"),
            ),
        },
        match beside("skep-lxc") {
            Some(path) => finding("skep-lxc", Verdict::Good, path.display().to_string(), None),
            None => {
                finding("skep-lxc", Verdict::Limited, "not installed", Some("install it beside skep-manager for lxc-*"))
            }
        },
        judge_program("mmdebstrap", "skep image bootstrap", bootstrap),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(findings: &[Finding], subject: &str) -> Option<Verdict> {
        findings.iter().find(|finding| finding.subject == subject).map(|finding| finding.verdict)
    }

    #[test]
    fn what_is_missing_has_advice() {
        let host = json!({
            "euid": 0,
            "missingCapabilities": ["CAP_SYS_RESOURCE"],
            "cgroup": { "mode": "unified", "controllers": ["cpu", "pids"] },
            "features": [
                { "name": "openat2", "since": "5.6", "available": true },
                { "name": "clone3", "since": "5.3", "available": false, "reason": "ENOSYS" },
            ],
            "fileSystems": ["tmpfs"],
            "systemd": { "booted": true, "cgroupDriver": false, "reason": "no bus" },
            "programs": [{ "name": "criu", "purpose": "checkpoint", "path": null }],
        });
        let findings = judge_host(&host);
        assert_eq!(verdict(&findings, "user"), Some(Verdict::Good));
        assert_eq!(verdict(&findings, "openat2"), Some(Verdict::Good));
        assert_eq!(verdict(&findings, "overlay"), Some(Verdict::Bad));
        for subject in ["capabilities", "cgroups", "clone3", "systemd", "criu"] {
            assert_eq!(verdict(&findings, subject), Some(Verdict::Limited), "{subject}");
        }
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Good || finding.advice.is_some()));
        assert_eq!(verdict(&judge_host(&json!({})), "cgroups"), Some(Verdict::Bad));
        assert!(version("6.18.44-fc") > version("6.2") && version("5.4.0-x") < version("5.10"));
    }
}
