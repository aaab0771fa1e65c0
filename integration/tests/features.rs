//! `features` both ways: what the document lists works, and what it does not list is refused (or, where the specification
//! says so, passed over). The cases are read from the document itself, so a new claim without a meaning fails here.

use std::fs;
use std::path::Path;

use integration::console::FdSocket;
use integration::host;
use integration::requires::Need;
use integration::{Bundle, Sandbox, Value, case, case_with, json};

fn document(sb: &Sandbox) -> Value {
    sb.call(&["features"]).run().json()
}

/// The strings of an array of the document.
#[track_caller]
fn names(document: &Value, pointer: &str) -> Vec<String> {
    let list = document.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {document}"));
    let list: Vec<String> = serde_json::from_value(list.clone()).expect("an array of strings");
    assert!(!list.is_empty(), "{pointer}");
    list
}

#[test]
fn the_versions_are_the_border() {
    case(|sb| {
        let document = document(sb);
        let run = |version: &str| sb.run(&sb.bundle().set("/ociVersion", json!(version)).args(&["true"]));
        for end in ["ociVersionMin", "ociVersionMax"] {
            run(document[end].as_str().expect("a version")).ok();
        }
        for version in ["0.9.0", "2.0.0", "", "one"] {
            run(version).fails();
        }
    });
}

#[test]
fn listed_hooks_run_and_others_do_not() {
    case(|sb| {
        let listed = names(&document(sb), "/hooks");
        let log = sb.dir.join("hooks");
        fs::create_dir(&log).expect("mkdir");
        let mut b = sb.bundle().writable().folder("/log").bind(&log, "/log", &[]);
        for point in listed.iter().map(String::as_str).chain(["onWhatever"]) {
            // That hook alone runs inside.
            let hook = match point {
                "startContainer" => json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo > /log/startContainer"] }),
                _ => {
                    let script = format!("echo > {}/{point}", log.display());
                    json!({ "path": "/bin/sh", "args": ["sh", "-c", script] })
                }
            };
            b = b.push(&format!("/hooks/{point}"), hook);
        }
        sb.run(&b.args(&["true"])).ok();
        let mut ran: Vec<String> = fs::read_dir(&log)
            .expect("list")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        ran.sort_unstable();
        let mut expected = listed;
        expected.sort_unstable();
        assert_eq!(ran, expected);
    });
}

/// Options that say what kind of mount it is, or that need something of it.
const BIND_OPTIONS: [&str; 7] = ["bind", "rbind", "idmap", "ridmap", "copy-symlink", "src-nofollow", "dest-nofollow"];

/// One container with a mount for each listed option.
#[test]
fn listed_mount_options_are_taken() {
    case(|sb| {
        let source = sb.host_dir("source");
        rustix::mount::mount("skep-test", &source, "tmpfs", rustix::mount::MountFlags::empty(), None).expect("a tmpfs");
        let source = source.to_str().expect("UTF-8");
        let mut b = sb.bundle().writable().user_namespace();
        let mut count = 0;
        for option in names(&document(sb), "/mountOptions") {
            let place = format!("/m/{option}");
            b = match option.as_str() {
                "remount" => b.mount("tmpfs", &place, "tmpfs", &[]).mount("tmpfs", &place, "tmpfs", &["remount", "ro"]),
                name if BIND_OPTIONS.contains(&name) => b.mount(source, &place, "none", &["bind", name]),
                name => b.mount("tmpfs", &place, "tmpfs", &[name]),
            };
            count += 1;
        }
        let text = sb.run(&b.sh("grep -c ' /m/' /proc/self/mountinfo; ls /m | wc -l")).ok();
        let mut lines = text.lines().map(|line| line.trim().parse::<usize>().expect("a number"));
        assert_eq!((lines.next(), lines.next()), (Some(count), Some(count)));
    });
}

/// What is not listed goes to the file system, which knows it or not.
#[test]
fn other_mount_options_are_the_file_systems() {
    case(|sb| {
        let listed = names(&document(sb), "/mountOptions");
        for option in ["size=64k", "nosuchoption"] {
            assert!(!listed.iter().any(|name| name == option));
        }
        let b = sb.bundle().mount("tmpfs", "/m", "tmpfs", &["size=64k"]);
        assert!(sb.run(&b.args(&["grep", " /m ", "/proc/self/mountinfo"])).ok().contains("size=64k"));
        let b = sb.bundle().mount("tmpfs", "/m", "tmpfs", &["nosuchoption"]).args(&["true"]);
        sb.create(&b).code_is(1).fails();
    });
}

#[test]
fn listed_namespaces_are_made_and_others_refused() {
    case(|sb| {
        let mut b = sb.bundle().user_namespace();
        let listed = names(&document(sb), "/linux/namespaces");
        for kind in &listed {
            b = b.namespace(kind, None);
        }
        let here: Vec<(String, String)> = listed.iter().map(|kind| (kind.clone(), own_namespace(file(kind)))).collect();
        let text = sb.run(&b.sh("for n in /proc/self/ns/*; do echo ${n##*/} $(readlink $n); done")).ok();
        for (kind, ours) in here {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{} ", file(&kind))));
            let inside = line.unwrap_or_else(|| panic!("no {kind} in {text}"));
            assert_ne!(inside, ours, "{kind}");
        }
        sb.create(&sb.bundle().namespace("nosuch", None).args(&["true"])).code_is(1).fails();
    });
}

/// What `/proc/self/ns` calls a kind.
fn file(kind: &str) -> &str {
    match kind {
        "mount" => "mnt",
        "network" => "net",
        other => other,
    }
}

fn own_namespace(file: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{file}")).expect("a namespace");
    link.to_string_lossy().into_owned()
}

#[test]
fn listed_capabilities_are_given_and_others_are_warnings() {
    case(|sb| {
        // In the order of the kernel's numbers.
        let listed = names(&document(sb), "/linux/capabilities");
        assert_eq!((listed[0].as_str(), listed[21].as_str()), ("CAP_CHOWN", "CAP_SYS_ADMIN"));
        let numbers = (0_u32..).zip(&listed).filter(|(number, _)| host::own_capability(*number));
        let (mask, mut given) = numbers.fold((0_u64, Vec::new()), |(mask, mut given), (number, name)| {
            given.push(name.as_str());
            (mask | 1 << number, given)
        });
        let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
        let script = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status";
        let text = sb.run(&sb.bundle().capabilities(&given).sh(script)).ok();
        assert_eq!(text.lines().filter(|line| line.ends_with(&format!("{mask:016x}"))).count(), sets.len(), "{text}");
        given.push("CAP_NO_SUCH");
        let out = sb.run(&sb.bundle().capabilities(&given).args(&["true"]));
        out.ok();
        assert!(out.stderr.contains("CAP_NO_SUCH"), "{out:#?}");
    });
}

/// Calls that neither the runtime nor busybox makes, one for each rule.
const UNUSED: [&str; 10] =
    ["swapon", "swapoff", "acct", "quotactl", "reboot", "iopl", "ioperm", "kexec_load", "init_module", "delete_module"];

fn filtered(b: Bundle, seccomp: Value) -> Bundle {
    b.set("/linux/seccomp", seccomp).args(&["grep", "-c", "^Seccomp:.2", "/proc/self/status"])
}

#[test]
fn listed_actions_operators_and_architectures_make_one_filter() {
    case(|sb| {
        let document = document(sb);
        let socket = FdSocket::bind(&sb.dir, "agent");
        let actions = names(&document, "/linux/seccomp/actions");
        let rules: Vec<Value> =
            actions.iter().zip(UNUSED).map(|(action, call)| json!({ "names": [call], "action": action })).collect();
        assert_eq!(rules.len(), actions.len());
        let operators = names(&document, "/linux/seccomp/operators");
        let arg = |op: &String| json!({ "index": 0, "value": 7, "valueTwo": 7, "op": op });
        let more = operators.iter().zip(UNUSED.iter().rev()).map(|(op, call)| {
            let action = if op == "SCMP_CMP_EQ" { "SCMP_ACT_LOG" } else { "SCMP_ACT_ERRNO" };
            json!({ "names": [call], "action": action, "args": [arg(op)] })
        });
        let archs = names(&document, "/linux/seccomp/archs");
        let b = sb.bundle();
        let base = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket.path });
        for (what, list) in [("actions", rules), ("operators", more.collect())] {
            let mut filter = base.clone();
            filter["syscalls"] = json!(list);
            filter["architectures"] = json!(archs);
            assert_eq!(sb.run(&filtered(b.clone(), filter)).ok(), "1", "{what}");
        }
        for action in &actions {
            // As the default, but what would stop the very program, or ask an agent about everything.
            if matches!(action.as_str(), "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG") {
                assert_eq!(sb.run(&filtered(b.clone(), json!({ "defaultAction": action }))).ok(), "1", "{action}");
            }
        }
    });
}

#[test]
fn supported_flags_are_taken_and_known_ones_are_no_error_of_the_definition() {
    case(|sb| {
        let document = document(sb);
        let (known, supported) =
            (names(&document, "/linux/seccomp/knownFlags"), names(&document, "/linux/seccomp/supportedFlags"));
        assert!(supported.iter().all(|flag| known.contains(flag)), "{supported:?}");
        let socket = FdSocket::bind(&sb.dir, "agent");
        for flag in &supported {
            if flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" && !flags_of_the_kernel(sb).contains(flag) {
                continue;
            }
            // That flag means something with a listener only.
            let action = if flag.ends_with("WAIT_KILLABLE_RECV") { "SCMP_ACT_NOTIFY" } else { "SCMP_ACT_ERRNO" };
            let rule = json!({ "names": ["swapon"], "action": action });
            let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket.path, "flags": [flag],
                "syscalls": [rule] });
            assert_eq!(sb.run(&filtered(sb.bundle(), filter)).ok(), "1", "{flag}");
        }
    });
}

/// Flags that this kernel knows, as `features --host` has them.
fn flags_of_the_kernel(sb: &Sandbox) -> Vec<String> {
    let offer = sb.call(&["features", "--host", "--format=json"]).run().json();
    serde_json::from_value(offer["seccomp"]["flags"].clone()).expect("an array of strings")
}

#[test]
fn words_of_seccomp_that_are_not_listed_are_refused() {
    case(|sb| {
        let rule = |action: &str, op: &str| {
            let arg = json!({ "index": 0, "value": 7, "op": op });
            json!([{ "names": ["swapon"], "action": action, "args": [arg] }])
        };
        for (filter, word) in [
            (json!({ "syscalls": rule("SCMP_ACT_NO_SUCH", "SCMP_CMP_EQ") }), "SCMP_ACT_NO_SUCH"),
            (json!({ "syscalls": rule("SCMP_ACT_ERRNO", "SCMP_CMP_NO_SUCH") }), "SCMP_CMP_NO_SUCH"),
            (json!({ "architectures": ["SCMP_ARCH_NO_SUCH"] }), "SCMP_ARCH_NO_SUCH"),
            (json!({ "flags": ["SECCOMP_FILTER_FLAG_NO_SUCH"] }), "SECCOMP_FILTER_FLAG_NO_SUCH"),
        ] {
            let mut filter = filter;
            filter["defaultAction"] = json!("SCMP_ACT_ALLOW");
            sb.create(&filtered(sb.bundle(), filter)).code_is(1).fails_saying(word);
        }
    });
}

/// The layout that this host has must be claimed, and a limit of it holds.
#[test]
fn the_claimed_cgroup_version_has_limits() {
    case(|sb| {
        let document = document(sb);
        let unified = host::v1_mount("pids").is_none();
        let claim = if unified { "/linux/cgroup/v2" } else { "/linux/cgroup/v1" };
        assert_eq!(document.pointer(claim), Some(&json!(true)));
        let b = sb.bundle().set("/linux/resources/pids", json!({ "limit": 3 }));
        let text = sb.run(&b.sh("(sleep 1 & sleep 1 & sleep 1 & sleep 1) 2>&1 | grep -c fork")).stdout;
        assert_ne!(text.trim(), "0", "more processes than the limit says");
    });
}

#[test]
fn memory_policies_are_set_and_other_names_refused() {
    case_with(&[Need::MemoryPolicy], |sb| {
        let document = document(sb);
        let policy = |mode: &str, flags: &[&str]| {
            let nodes = if matches!(mode, "MPOL_DEFAULT" | "MPOL_LOCAL") { "" } else { "0" };
            let policy = json!({ "mode": mode, "nodes": nodes, "flags": flags });
            sb.run(&sb.bundle().set("/linux/memoryPolicy", policy).args(&["true"]))
        };
        for mode in names(&document, "/linux/memoryPolicy/modes") {
            let out = policy(&mode, &[]);
            // KERNEL(6.9): before, the kernel does not know this one.
            if mode != "MPOL_WEIGHTED_INTERLEAVE" || out.code == 0 {
                out.ok();
            } else {
                assert!(out.stderr.contains("set_mempolicy") && out.stderr.contains("EINVAL"), "{out:#?}");
            }
        }
        for flag in names(&document, "/linux/memoryPolicy/flags") {
            policy("MPOL_BIND", &[&flag]).ok();
        }
        policy("MPOL_NO_SUCH", &[]).fails();
        policy("MPOL_BIND", &["MPOL_F_NO_SUCH"]).fails();
    });
}

/// Fields that a definition may have where the document says so, on whatever host: a finding would be an error or a warning
/// about the field itself.
#[test]
fn claimed_fields_are_read_without_a_finding() {
    case(|sb| {
        let document = document(sb);
        let fields = [
            ("/linux/apparmor/enabled", "/process/apparmorProfile", json!("web")),
            ("/linux/selinux/enabled", "/process/selinuxLabel", json!("a:b:c:s0")),
            ("/linux/selinux/enabled", "/linux/mountLabel", json!("a:b:c:s0")),
            ("/linux/intelRdt/enabled", "/linux/intelRdt/l3CacheSchema", json!("L3:0=f")),
            ("/linux/intelRdt/schemata", "/linux/intelRdt/schemata", json!(["L3:0=f"])),
            ("/linux/intelRdt/monitoring", "/linux/intelRdt/enableMonitoring", json!(true)),
            ("/linux/cgroup/rdma", "/linux/resources/rdma/mlx5_1/hcaHandles", json!(3)),
            ("/linux/netDevices/enabled", "/linux/netDevices/eth7/name", json!("eth0")),
        ];
        for (claim, field, value) in fields {
            assert_eq!(document.pointer(claim), Some(&json!(true)), "{claim}");
            let check = |value: Value| {
                let b = sb.bundle().set("/ociVersion", document["ociVersionMax"].clone()).set(field, value);
                b.write();
                sb.call(&["check", "--json", "--bundle"]).arg(&b.dir).run()
            };
            assert_eq!(check(value).json()["findings"], json!([]), "{field}");
            // It is read: a value of the wrong type is seen.
            let out = check(json!({ "wrong": 1 }));
            assert!(out.code == 1 && out.stdout.contains(&field["/".len()..field.len()].replace('/', ".")), "{out:#?}");
        }
    });
}

/// The plan of a definition with one more annotation, without the traces of the annotation itself.
fn plan_with(sb: &Sandbox, b: &Bundle, annotation: Option<(&str, &str)>) -> Value {
    let b = match annotation {
        Some((name, value)) => b.clone().set("/annotations", json!({ name: value })),
        None => b.clone(),
    };
    b.write();
    sb.call(&["plan", "--json", "--bundle"]).arg(&b.dir).arg(&b.id).run().json()
}

/// Only annotations that are listed as unsafe change what is done.
#[test]
fn only_listed_annotations_change_the_plan() {
    case(|sb| {
        let listed = names(&document(sb), "/potentiallyUnsafeConfigAnnotations");
        let b = sb.bundle().args(&["true"]);
        let plain = plan_with(sb, &b, None);
        for name in ["org.example.a", "run.oci.keep_original_groups", "io.skep.other", "bundle"] {
            assert!(!listed.iter().any(|known| known == name));
            assert_eq!(plan_with(sb, &b, Some((name, "1"))), plain, "{name}");
        }
        assert!(listed.iter().any(|known| known == "io.skep.landlock"));
        let rules = json!({ "ruleset": { "handledAccessFS": ["execute"] }, "bestEffort": true }).to_string();
        assert_ne!(plan_with(sb, &b, Some(("io.skep.landlock", &rules))), plain);
        assert!(listed.iter().any(|known| known == "io.skep.overlay"));
        let layers = json!({ "lower": [b.rootfs()] }).to_string();
        assert_ne!(plan_with(sb, &b, Some(("io.skep.overlay", &layers))), plain);
    });
}

/// `features` is about the program; `features --host` about this machine, as it shows elsewhere.
#[test]
fn what_the_host_offers_is_what_it_shows() {
    case(|sb| {
        let before = host::own_mounts().len();
        let text = sb.call(&["features", "--host"]).run().ok();
        let offer = sb.call(&["features", "--host", "--format", "json"]).run().json();
        assert_eq!(host::own_mounts().len(), before);
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("read");
        assert_eq!(offer["kernel"], json!(release.trim()));
        assert_eq!(offer["euid"], json!(rustix::process::geteuid().as_raw()));
        let listed = names(&document(sb), "/linux/capabilities");
        let missing: Vec<&String> =
            (0_u32..).zip(&listed).filter(|(number, _)| !host::own_capability(*number)).map(|(_, name)| name).collect();
        assert_eq!(offer["missingCapabilities"], json!(missing));
        assert_eq!(offer["cgroup"]["mode"] == json!("unified"), host::v1_mount("pids").is_none(), "{offer}");
        assert_eq!(offer["lsm"]["apparmor"], json!(Need::Apparmor.is_met()));
        assert_eq!(offer["lsm"]["selinux"], json!(Need::Selinux.is_met()));
        assert_eq!(offer["lsm"]["landlockAbi"], json!(host::landlock_abi()));
        assert!(names(&offer, "/seccomp/actions").contains(&"SCMP_ACT_ERRNO".to_owned()));
        for feature in offer["features"].as_array().expect("an array") {
            let name = feature["name"].as_str().expect("a name");
            assert_eq!(feature["available"] == json!(true), feature["reason"].is_null(), "{feature}");
            assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in {text}");
        }
        // Without these no container of this suite would run.
        for name in ["openat2", "clone3", "pidfd_open", "fsopen", "mount_setattr", "close_range"] {
            let found = offer["features"].as_array().expect("an array").iter().find(|f| f["name"] == json!(name));
            assert_eq!(found.expect(name)["available"], json!(true), "{name}");
        }
    });
}

/// What is said of systemd is what `--systemd-cgroup` finds: a container in a unit, or the same reason why there is none.
#[test]
fn the_host_offers_the_systemd_driver_where_it_works() {
    case(|sb| {
        let systemd = sb.call(&["features", "--host", "--format=json"]).run().json()["systemd"].clone();
        let row = sb.call(&["features", "--host"]).run().ok();
        assert_eq!(systemd["booted"], json!(Path::new("/run/systemd/system").is_dir()));
        assert_eq!(systemd["user"], json!(false));
        assert_eq!(document(sb).pointer("/linux/cgroup/systemd"), Some(&json!(true)));
        let b = sb.bundle().args(&["true"]);
        let unit = json!(format!("system.slice:skep:{}", b.id));
        let b = b.set("/linux/cgroupsPath", unit);
        b.write();
        let ran = sb.call(&["--systemd-cgroup", "run", "--bundle"]).arg(&b.dir).arg(&b.id).run();
        if systemd["cgroupDriver"] == json!(true) {
            ran.ok();
            let version = sb.program("systemctl").arg("--version").run().ok();
            assert_eq!(version.split_whitespace().nth(1), Some(systemd["version"].to_string().as_str()));
            assert!(row.contains(&format!("by the machine's systemd {}", systemd["version"])), "{row}");
        } else {
            let reason = systemd["reason"].as_str().expect("a reason");
            ran.fails_saying(reason);
            assert!(systemd["version"].is_null() && row.contains(&format!("no: {reason}")), "{row}");
        }
    });
}

/// Without rights the command answers all the same, and says what is out of reach.
#[test]
fn an_ordinary_user_is_told_what_is_out_of_reach() {
    case_with(&[Need::Program("/usr/bin/setpriv")], |sb| {
        let copy = sb.dir.join("runtime");
        fs::copy(&sb.runtime.path, &copy).expect("copy the runtime");
        let call = sb.program("/usr/bin/setpriv").args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        let offer = call.args(["features", "--host", "--format=json"]).cwd(&sb.dir).run().json();
        assert_eq!(offer["euid"], json!(65534));
        assert_eq!(offer["systemd"]["user"], json!(true));
        let feature = |name: &str| {
            offer["features"].as_array().expect("an array").iter().find(|f| f["name"] == json!(name)).cloned()
        };
        assert_eq!(feature("openat2").expect("openat2")["available"], json!(true));
        let mount = feature("idmapped mount of tmpfs").expect("that feature");
        assert!(mount["available"] == json!(false) && mount["reason"].to_string().contains("EPERM"), "{mount}");
    });
}
