//! Command lines that callers use, and what they mean.

use std::ffi::OsString;
use std::time::Duration;

use cli::args::command::*;
use cli::args::{Invocation, UsageError, parse};
use engine::options::CgroupsMode;
use runtime_spec::signal::Signal;

/// Splits at blanks; no argument of these tests has one.
fn read(line: &str) -> Invocation {
    parse(line.split(' ').map(OsString::from))
}

#[track_caller]
fn command(line: &str) -> Command {
    read(line).command.unwrap_or_else(|usage| panic!("{line}: {}", usage.error))
}

#[track_caller]
fn check(line: &str, expected: Command) {
    assert_eq!(command(line), expected, "{line}");
}

#[track_caller]
fn check_global(line: &str, expected: Global) {
    let invocation = read(line);
    assert!(invocation.command.is_ok(), "{line}: {:?}", invocation.command);
    assert_eq!(invocation.global, expected, "{line}");
}

#[track_caller]
fn check_refused(line: &str, expected: &str) {
    let usage = read(line).command.expect_err(line);
    assert_eq!(usage.error.to_string(), expected, "{line}");
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn global() -> Global {
    Global::new(Program::Skep)
}

fn create(bundle: &str, pid_file: Option<&str>, id: &str) -> CreateArgs {
    CreateArgs {
        id: id.to_owned(),
        bundle: BundleArgs { bundle: text(bundle), ..BundleArgs::default() },
        handover: HandoverArgs { pid_file: pid_file.map(str::to_owned), ..HandoverArgs::default() },
    }
}

mod containerd {
    use super::*;

    const GLOBAL: &str = "runc --root /run/c/k8s.io --log /b/log.json --log-format json --systemd-cgroup";

    #[test]
    fn global_options() {
        let expected = Global {
            program: Program::Runc,
            root: text("/run/c/k8s.io"),
            log: Some(LogTarget::File("/b/log.json".to_owned())),
            log_format: LogFormat::Json,
            cgroup_manager: CgroupManager::Systemd,
            ..global()
        };
        check_global(&format!("{GLOBAL} start web"), expected.clone());
        let debug = Global { log_level: Level::Debug, rootless: Some(false), ..expected };
        check_global(&format!("{GLOBAL} --debug --rootless=false start web"), debug.clone());
        check_global(&format!("{GLOBAL} --criu /usr/bin/criu --debug --rootless=false start web"), debug);
    }

    #[test]
    fn create_with_everything() {
        let mut expected = create("/b", Some("/b/init.pid"), "web");
        expected.bundle.no_pivot = true;
        expected.bundle.no_new_keyring = true;
        expected.handover.console_socket = text("/s");
        expected.handover.pidfd_socket = text("/p");
        expected.handover.preserve_fds = 3;
        let line = "create --bundle /b --pid-file /b/init.pid --console-socket /s --pidfd-socket /p --no-pivot \
                    --no-new-keyring --detach --preserve-fds 3 web";
        check(&format!("{GLOBAL} {line}"), Command::Create(expected));
    }

    #[test]
    fn run_as_buildkit_does() {
        let run = RunArgs { create: create("/b", None, "x1"), keep: true, ..RunArgs::default() };
        check("runc --log /l --log-format json run --bundle /b --keep x1", Command::Run(run));
    }

    #[test]
    fn exec_with_a_process_file() {
        let expected = ExecArgs {
            id: "web".to_owned(),
            process: text("/tmp/p.json"),
            handover: HandoverArgs {
                console_socket: text("/s"),
                pidfd_socket: text("/p"),
                pid_file: text("/b/1.pid"),
                preserve_fds: 0,
            },
            detach: true,
            ..ExecArgs::default()
        };
        let line = "exec --process /tmp/p.json --console-socket /s --pidfd-socket /p --detach --pid-file /b/1.pid web";
        check(&format!("{GLOBAL} {line}"), Command::Exec(Box::new(expected)));
    }

    #[test]
    fn small_commands() {
        let id = || "web".to_owned();
        check("runc start web", Command::Start(id()));
        check("runc state web", Command::State(id()));
        check("runc pause web", Command::Pause(id()));
        check("runc resume web", Command::Resume(id()));
        check("runc features", Command::Features(FeaturesArgs { host: false, json: true }));
        check("skep features --host", Command::Features(FeaturesArgs { host: true, json: false }));
        check("skep features --host --format=json", Command::Features(FeaturesArgs { host: true, json: true }));
        check("runc --version", Command::Version);
        check("runc -v", Command::Version);
        check("runc list --format=json", Command::List(ListArgs { format: Format::Json, quiet: false, usage: false }));
        check("runc delete web", Command::Delete(DeleteArgs { target: Target::Id(id()), force: false, usage: false }));
        check(
            "runc delete --force web",
            Command::Delete(DeleteArgs { target: Target::Id(id()), force: true, usage: false }),
        );
    }

    #[test]
    fn kill_by_number() {
        let target = || Target::Id("web".to_owned());
        check("runc kill web 15", Command::Kill(KillArgs { target: target(), signal: Signal(15), all: false }));
        check("runc kill --all web 9", Command::Kill(KillArgs { target: target(), signal: Signal(9), all: true }));
    }

    #[test]
    fn ps_with_options_of_ps() {
        let ps = |format, options: &[&str]| {
            let options = options.iter().map(|o| (*o).to_owned()).collect();
            Command::Ps(PsArgs { id: "web".to_owned(), format, options })
        };
        check("runc ps --format json web", ps(Format::Json, &[]));
        check(
            "runc ps --format table web -o pid,args --sort=-pid",
            ps(Format::Table, &["-o", "pid,args", "--sort=-pid"]),
        );
        check("runc ps web -e -x", ps(Format::Table, &["-e", "-x"]));
        check("runc ps web -- -x --", ps(Format::Table, &["-x", "--"]));
        check("runc ps web --help", ps(Format::Table, &["--help"]));
    }

    #[test]
    fn events_once_and_by_interval() {
        let events = |interval, stats| {
            Command::Events(EventsArgs { id: "web".to_owned(), interval, stats, pressure: Vec::new() })
        };
        check("runc events --stats web", events(Duration::from_secs(5), true));
        check("runc events --interval=10s web", events(Duration::from_secs(10), false));
    }

    #[test]
    fn update_from_standard_input() {
        let expected = UpdateArgs { id: "web".to_owned(), resources: text("-"), ..UpdateArgs::default() };
        check("runc update --resources=- web", Command::Update(Box::new(expected.clone())));
        check("runc update --resources - web", Command::Update(Box::new(expected.clone())));
        check("runc update --resources - --memory x web", Command::Update(Box::new(expected)));
    }
}

mod conmon_podman_crio {
    use super::*;

    #[test]
    fn create_behind_runtime_arguments() {
        let line = "skep --systemd-cgroup --log-format=json --log /l create --bundle /b --pid-file /b/pidfile web";
        check(line, Command::Create(create("/b", Some("/b/pidfile"), "web")));
        let expected = Global {
            log: Some(LogTarget::File("/l".to_owned())),
            log_format: LogFormat::Json,
            cgroup_manager: CgroupManager::Systemd,
            ..global()
        };
        check_global(line, expected);
        let disabled = Global { cgroup_manager: CgroupManager::Disabled, ..global() };
        check_global("skep --cgroup-manager disabled create --bundle /b web", disabled);
    }

    #[test]
    fn conmon_rs() {
        let mut expected = create("/b", Some("/p"), "web");
        expected.handover.console_socket = text("/s");
        check("runc --root=/r create --bundle /b --pid-file /p --console-socket=/s web", Command::Create(expected));
        let exec = ExecArgs {
            id: "web".to_owned(),
            command: vec!["sh".to_owned()],
            handover: HandoverArgs { console_socket: text("/s"), pid_file: text("/p"), ..HandoverArgs::default() },
            detach: true,
            tty: true,
            ..ExecArgs::default()
        };
        check("runc exec -d --console-socket=/s --tty --pid-file=/p web sh", Command::Exec(Box::new(exec)));
        let journal = Global { log: Some(LogTarget::Journald("abc".to_owned())), log_level: Level::Debug, ..global() };
        check_global("crun --log=journald:abc --log-level debug start web", journal);
    }

    #[test]
    fn update_from_a_file_and_with_a_detached_dash() {
        let args = |resources| UpdateArgs { id: "web".to_owned(), resources: text(resources), ..UpdateArgs::default() };
        check("skep update --resources=/tmp/r.json web", Command::Update(Box::new(args("/tmp/r.json"))));
        check("skep --root /r update --resources - web", Command::Update(Box::new(args("-"))));
    }

    #[test]
    fn what_is_changed_inside() {
        use engine::ops::inside::{Change, Owners};
        let inside = |change| Command::Inside(InsideArgs { id: "web".to_owned(), change });
        let (source, target) = ("/a".to_owned(), "/b".to_owned());
        let mount = Change::Mount { source, target: target.clone(), read_only: true, owners: Owners::Container };
        check("skep inside web mount /a /b --read-only", inside(mount));
        check("skep inside web unmount /b", inside(Change::Unmount { target }));
        for (word, line) in [("mount", "mount /a"), ("unmount", "unmount /a /b"), ("look", "look /a")] {
            let wanted = "want mount or node with SOURCE and TARGET, unmount or remove-node with TARGET";
            let expected = format!("invalid value {word:?} for change: {wanted}");
            check_refused(&format!("skep inside web {line}"), &expected);
        }
    }

    #[test]
    fn checkpoint_and_restore_as_podman_and_containerd_ask_for_them() {
        let criu =
            CriuArgs { image_path: text("/i"), work_path: text("/w"), tcp_established: true, ..CriuArgs::default() };
        let args = CheckpointArgs {
            id: "web".to_owned(),
            criu: CriuArgs { lazy_pages: true, cgroups: CgroupsMode::Ignore, ..criu.clone() },
            leave_running: true,
            status_fd: Some(3),
            page_server: Some(("::1".to_owned(), 99)),
            ..CheckpointArgs::default()
        };
        check(
            "runc checkpoint --image-path /i --work-path /w --tcp-established --lazy-pages --status-fd 3 --leave-running \
             --page-server [::1]:99 --manage-cgroups-mode=ignore --empty-ns network web",
            Command::Checkpoint(Box::new(args)),
        );
        let create = CreateArgs {
            id: "web".to_owned(),
            bundle: BundleArgs { bundle: text("/b"), no_pivot: false, ..BundleArgs::default() },
            handover: HandoverArgs { pid_file: text("/p"), ..HandoverArgs::default() },
        };
        let args = RestoreArgs {
            create,
            criu,
            detach: true,
            no_subreaper: true,
            tcp_close: true,
            lsm_profile: text("selinux:x"),
            ..RestoreArgs::default()
        };
        check(
            "runc restore --bundle /b --pid-file /p --detach -no-subreaper --image-path /i --work-path /w \
             --tcp-established --tcp-close --lsm-profile=selinux:x --no-pivot=false web",
            Command::Restore(Box::new(args)),
        );
        check_refused("runc restore --lsm-mount-context", "flag needs an argument: --lsm-mount-context");
        for (line, reason) in [
            ("skep checkpoint --page-server :99 web", "ADDRESS:PORT"),
            ("skep checkpoint --page-server a:b:99 web", "ADDRESS:PORT"),
            ("skep checkpoint --manage-cgroups-mode no web", "invalid manage-cgroups-mode value"),
            ("skep restore --empty-ns pid web", "namespace is not supported"),
            ("skep restore --network-lock no web", "iptables"),
        ] {
            let error = read(line).command.expect_err(line).error.to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}

mod grammar {
    use super::*;

    #[test]
    fn options_before_and_after_the_id() {
        let expected = Command::Delete(DeleteArgs { target: Target::Id("web".to_owned()), force: true, usage: false });
        for line in
            ["delete -f web", "delete web -f", "delete web --force", "delete web -force", "delete -force=true web"]
        {
            check(&format!("skep {line}"), expected.clone());
        }
        check("skep create web -b /b", Command::Create(create("/b", None, "web")));
        check("skep create web -bundle=/b", Command::Create(create("/b", None, "web")));
        check("skep create web --b /b", Command::Create(create("/b", None, "web")));
    }

    #[test]
    fn global_options_after_the_command() {
        check_global("skep list --root /r --debug", Global { root: text("/r"), log_level: Level::Debug, ..global() });
        check_global("skep --root /a list --root /b", Global { root: text("/b"), ..global() });
    }

    #[test]
    fn a_name_of_the_command_wins_over_a_global_one() {
        check("skep spec --rootless -b /b", Command::Spec(SpecArgs { bundle: text("/b"), rootless: true }));
        check_global("skep --rootless=true spec", Global { rootless: Some(true), ..global() });
    }

    #[test]
    fn the_last_cgroup_manager_counts() {
        let line = "skep --systemd-cgroup --cgroup-manager=cgroupfs list";
        check_global(line, global());
        let line = "skep --cgroup-manager=disabled --systemd-cgroup list";
        check_global(line, Global { cgroup_manager: CgroupManager::Systemd, ..global() });
        check_global("skep --systemd-cgroup=false list", global());
    }

    #[test]
    fn two_dashes_end_the_options() {
        check("skep start -- web", Command::Start("web".to_owned()));
        check("skep start -- --web", Command::Start("--web".to_owned()));
        check("skep -- start web", Command::Start("web".to_owned()));
    }

    #[test]
    fn an_empty_text_is_as_none() {
        let plain = CreateArgs { id: "web".to_owned(), ..CreateArgs::default() };
        check("skep --log= create --pid-file= --console-socket= web", Command::Create(plain));
    }

    #[test]
    fn own_options() {
        let bundle = BundleArgs {
            config: text("/c.json"),
            veth: vec!["a".to_owned(), "b=c".to_owned()],
            link: vec!["phys:device=d".to_owned()],
            ..BundleArgs::default()
        };
        let create = CreateArgs { id: "web".to_owned(), bundle: bundle.clone(), ..CreateArgs::default() };
        check("skep create -f /c.json --veth a --link phys:device=d --veth=b=c web", Command::Create(create.clone()));
        let run = RunArgs { create, detach: true, no_subreaper: true, ..RunArgs::default() };
        check(
            "skep run -d -no-subreaper --config /c.json --veth a --link phys:device=d --veth=b=c web",
            Command::Run(run),
        );
        let plan = PlanArgs { id: None, bundle: bundle.clone(), json: true };
        check("skep plan -f /c.json --veth a --link=phys:device=d --veth b=c --json", Command::Plan(plan));
        let plan = PlanArgs { id: text("web"), ..PlanArgs::default() };
        check("skep plan web", Command::Plan(plan));
        let check_args = CheckArgs { bundle: text("/b"), config: text("/c"), json: true };
        check("skep check -b /b -f /c --json", Command::Check(check_args));
        let target = Target::Matching("^web".to_owned());
        check(
            "skep delete -r -f ^web",
            Command::Delete(DeleteArgs { target: target.clone(), force: true, usage: false }),
        );
        check("skep kill --regex ^web", Command::Kill(KillArgs { target, signal: Signal::TERM, all: false }));
        check("skep list -q", Command::List(ListArgs { format: Format::Table, quiet: true, usage: false }));
    }

    #[test]
    fn log_targets() {
        let log = |target| Global { log: Some(target), ..global() };
        check_global("skep --log /a:b list", log(LogTarget::File("/a:b".to_owned())));
        check_global("skep --log file:/a:b list", log(LogTarget::File("/a:b".to_owned())));
        check_global("skep --log syslog:x list", log(LogTarget::Syslog("x".to_owned())));
    }

    #[test]
    fn a_log_is_known_even_when_the_rest_is_wrong() {
        for line in ["skep --log /l --log-format json list --foo", "skep --log /l --log-format json --foo list"] {
            let invocation = read(line);
            assert!(invocation.command.is_err());
            assert_eq!(invocation.global.log, Some(LogTarget::File("/l".to_owned())), "{line}");
            assert_eq!(invocation.global.log_format, LogFormat::Json, "{line}");
        }
    }

    #[test]
    fn help() {
        let wanted = |line: &str| match command(line) {
            Command::Help(help) => (help.verb.map(|verb| verb.name), help.long),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(wanted("skep"), (None, true));
        assert_eq!(wanted("skep help"), (None, true));
        assert_eq!(wanted("skep h kill"), (Some("kill"), true));
        assert_eq!(wanted("skep --help"), (None, true));
        assert_eq!(wanted("skep -h"), (None, false));
        assert_eq!(wanted("skep kill --help"), (Some("kill"), true));
        assert_eq!(wanted("skep kill a b c -h"), (Some("kill"), false));
        assert_eq!(wanted("skep exec web -h"), (Some("exec"), false));
    }

    #[test]
    fn arguments_that_are_not_text_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let argv = [OsString::from("skep"), OsString::from("start"), OsString::from_vec(vec![b'a', 0xff])];
        let usage = parse(argv).command.expect_err("a refusal");
        assert_eq!(usage.error, UsageError::NotText(2));
    }
}

mod exec {
    use super::*;

    fn exec(command: &[&str]) -> ExecArgs {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        ExecArgs { id: "web".to_owned(), command, ..ExecArgs::default() }
    }

    #[track_caller]
    fn check_exec(line: &str, expected: ExecArgs) {
        check(&format!("skep exec {line}"), Command::Exec(Box::new(expected)));
    }

    #[test]
    fn the_command_keeps_its_options() {
        check_exec("web ls -la --help", exec(&["ls", "-la", "--help"]));
        check_exec("web -- -odd -t", exec(&["-odd", "-t"]));
        check_exec("web sh -- -c", exec(&["sh", "--", "-c"]));
        check_exec("web -t sh -d", ExecArgs { tty: true, ..exec(&["sh", "-d"]) });
        check_exec("-t web sh -t", ExecArgs { tty: true, ..exec(&["sh", "-t"]) });
    }

    #[test]
    fn every_option() {
        let expected = ExecArgs {
            cwd: text("/w"),
            env: vec!["A=b=c".to_owned(), "D=".to_owned()],
            user: Some(UserArg { uid: 1, gid: Some(2) }),
            additional_gids: vec![3, 4_294_967_294],
            process_label: text("l"),
            apparmor: text("a"),
            no_new_privs: Some(false),
            caps: vec!["CAP_NET_RAW".to_owned(), "CAP_KILL".to_owned()],
            cgroups: vec![SubCgroup { controllers: Vec::new(), path: "sub".to_owned() }],
            ignore_paused: true,
            ..exec(&["true"])
        };
        let line = "--cwd /w -e A=b=c --env=D= -u 1:2 -g 3 --additional-gids 4294967294 --process-label l --apparmor a \
                    --no-new-privs=false -c CAP_NET_RAW --cap CAP_KILL --cgroup sub --ignore-paused web true";
        check_exec(line, expected);
        check_exec("-u 7 web true", ExecArgs { user: Some(UserArg { uid: 7, gid: None }), ..exec(&["true"]) });
    }

    #[test]
    fn cgroups_by_controller() {
        let group = |controllers: &[&str], path: &str| SubCgroup {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            path: path.to_owned(),
        };
        let expected =
            ExecArgs { cgroups: vec![group(&["cpu", "cpuacct"], "a"), group(&["memory"], "b:c")], ..exec(&["true"]) };
        check_exec("--cgroup cpu,cpuacct:a --cgroup memory:b:c web true", expected);
        let refused = |given: &str, reason: &str| {
            let value = given.rsplit(' ').next().expect("a word");
            let expected = format!("invalid value {value:?} for flag -cgroup: {reason}");
            check_refused(&format!("skep exec --cgroup {given} web true"), &expected);
        };
        refused("cpu,:a", "empty controller name");
        refused("cpu,cpu:a", "controller cpu specified multiple times");
        refused("cpu:a --cgroup cpu:b", "controller cpu specified multiple times");
        refused("cpu:a --cgroup b", "missing CONTROLLER: prefix, as there is more than one");
    }

    #[test]
    fn refused() {
        check_refused("skep exec", "skep: \"exec\" requires a minimum of 1 argument(s)");
        check_refused("skep exec web", "exec args cannot be empty: name a command or use --process");
        let bad = "want numbers, UID or UID:GID";
        check_refused("skep exec -u x web true", &format!("invalid value \"x\" for flag -user: bad uid: {bad}"));
        check_refused("skep exec -u 1: web true", &format!("invalid value \"1:\" for flag -user: bad gid: {bad}"));
        check_refused(
            "skep exec -g -1 web true",
            "invalid value \"-1\" for flag -additional-gids: want a group id from 0 to 4294967294",
        );
    }
}

mod update {
    use super::*;

    #[test]
    fn every_limit() {
        let limits = Limits {
            blkio_weight: Some(500),
            cpu_period: Some(100_000),
            cpu_quota: Some(-1),
            cpu_burst: Some(0),
            cpu_shares: Some(512),
            cpu_rt_period: Some(1_000_000),
            cpu_rt_runtime: Some(950_000),
            cpu_idle: Some(1),
            cpuset_cpus: text("0-3,7"),
            cpuset_mems: text("0"),
            memory: Some(512 << 20),
            memory_reservation: Some(4096),
            memory_swap: Some(-1),
            pids: Some(-1),
        };
        let expected = UpdateArgs {
            id: "web".to_owned(),
            limits,
            l3_cache_schema: text("L3:0=f"),
            mem_bw_schema: text("MB:0=50"),
            ..UpdateArgs::default()
        };
        let line = "skep update --blkio-weight 500 --cpu-period 100000 --cpu-quota -1 --cpu-burst 0 --cpu-share 512 \
                    --cpu-rt-period 1000000 --cpu-rt-runtime 950000 --cpu-idle 1 --cpuset-cpus 0-3,7 --cpuset-mems 0 \
                    --memory 512m --memory-reservation 4096 --memory-swap -1 --pids-limit -1 --l3-cache-schema L3:0=f \
                    --mem-bw-schema MB:0=50 web";
        check(line, Command::Update(Box::new(expected)));
    }

    #[test]
    fn kernel_memory_is_noted_and_changes_nothing() {
        let expected = UpdateArgs { id: "web".to_owned(), kernel_memory: true, ..UpdateArgs::default() };
        check("skep update web --kernel-memory 1g --blkio-weight 0", Command::Update(Box::new(expected.clone())));
        check("skep update web --kernel-memory-tcp 1g", Command::Update(Box::new(expected)));
    }

    #[test]
    fn refused() {
        check_refused(
            "skep update --pids-limit x web",
            "invalid value \"x\" for flag -pids-limit: want a whole number",
        );
        check_refused(
            "skep update --memory 1q web",
            "invalid value \"1q\" for flag -memory: unknown suffix: want b, k, m, g, t or p",
        );
        check_refused(
            "skep update --cpu-period -5 web",
            "invalid value \"-5\" for flag -cpu-period: want a whole number of microseconds",
        );
    }
}

mod refusals {
    use super::*;

    #[test]
    fn numbers_of_operands() {
        check_refused("skep kill", "skep: \"kill\" requires a minimum of 1 argument(s)");
        check_refused("runc kill a b c", "runc: \"kill\" requires a maximum of 2 argument(s)");
        check_refused("/usr/sbin/runc create", "runc: \"create\" requires exactly 1 argument(s)");
        check_refused("skep list web", "skep: \"list\" requires exactly 0 argument(s)");
        check_refused("skep plan a b", "skep: \"plan\" requires a maximum of 1 argument(s)");
        check_refused("skep start ", "container id cannot be empty");
    }

    #[test]
    fn words_that_are_not_known() {
        check_refused("skep foo -h", "unknown command: No help topic for 'foo'");
        check_refused("skep crate web", "unknown command: No help topic for 'crate' (did you mean create?)");
        check_refused("skep help stat", "unknown command: No help topic for 'stat' (did you mean state?)");
        check_refused("skep list --foo", "flag provided but not defined: -foo");
        check_refused("skep list -formt=json", "flag provided but not defined: -formt (did you mean --format?)");
        check_refused("skep --rot /x list", "flag provided but not defined: -rot (did you mean --root?)");
        check_refused("skep start --bundle /x web", "flag provided but not defined: -bundle");
        check_refused("skep list -version", "flag provided but not defined: -version");
    }

    #[test]
    fn values() {
        check_refused("skep events --interval", "flag needs an argument: --interval");
        check_refused(
            "skep list -f yaml",
            "invalid value \"yaml\" for flag -format: invalid format option: want table or json",
        );
        check_refused("skep delete -f=maybe web", "invalid value \"maybe\" for flag -force: want true or false");
        check_refused(
            "skep --log-format xml list",
            "invalid value \"xml\" for flag -log-format: invalid log-format: want text or json",
        );
        check_refused("skep --root= list", "invalid value \"\" for flag -root: the folder needs a name");
        check_refused(
            "skep events --interval 0s web",
            "invalid value \"0s\" for flag -interval: duration interval must be greater than 0",
        );
        check_refused(
            "skep kill web -9",
            "invalid value \"-9\" for signal: unknown signal: want a name such as TERM or a number up to 64",
        );
        check_refused(
            "skep create --preserve-fds -1 web",
            "invalid value \"-1\" for flag -preserve-fds: want a number of descriptors",
        );
    }
}

mod robustness {
    use cli::args::verbs::{GLOBAL, VERBS};
    use proptest::prelude::*;

    use super::*;

    /// Words of the tables, with and without values, and words that are in no table.
    fn words() -> Vec<String> {
        let flags = VERBS.iter().flat_map(|verb| verb.flags.iter()).chain(GLOBAL);
        let mut words: Vec<String> = flags
            .flat_map(|flag| [format!("--{}", flag.long), format!("-{}=", flag.long), format!("--{}=1", flag.long)])
            .collect();
        words.extend(VERBS.iter().map(|verb| verb.name.to_owned()));
        words.extend(
            ["", "-", "--", "-9", "---", "--=", "-h", "web", "1", "a:b", "\u{e9}", "-\u{e9}"].map(str::to_owned),
        );
        words
    }

    proptest! {
        #[test]
        fn any_mix_of_words_is_read_or_refused(mix in proptest::collection::vec(proptest::sample::select(words()), 0..8)) {
            let argv = std::iter::once("skep".to_owned()).chain(mix);
            if let Err(usage) = parse(argv.map(OsString::from)).command {
                prop_assert!(!usage.error.to_string().is_empty());
            }
        }
    }
}
