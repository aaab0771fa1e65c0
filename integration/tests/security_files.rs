//! What a hostile image or process can make the runtime do with files of the host. Nothing here races.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use integration::console::FdSocket;
use integration::race::ATTACK;
use integration::requires::PERL;
use integration::{Bundle, Runtime, Sandbox, case, case_with, json};

/// A copy of the runtime that a test may lose, and its bytes.
fn own_copy(sb: &Sandbox) -> (Sandbox, Vec<u8>) {
    let path = sb.dir.join("runtime-copy");
    fs::copy(&sb.runtime.path, &path).expect("copy the runtime");
    let bytes = fs::read(&path).expect("read the copy");
    (Sandbox::with(Runtime { path, kind: sb.runtime.kind }), bytes)
}

#[track_caller]
fn unchanged(sb: &Sandbox, bytes: &[u8]) {
    assert!(fs::read(&sb.runtime.path).expect("read the copy") == bytes, "the runtime's own file was changed");
}

/// The widest set of capabilities that an engine would give to a container that is not privileged, and more.
const POWERFUL: &[&str] =
    &["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE", "CAP_CHOWN", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"];

/// CVE-2019-5736: the entry point is the runtime itself.
#[test]
fn exe_as_the_entry_point() {
    case(|sb| {
        let (own, bytes) = own_copy(sb);
        for args in [&["/proc/self/exe"][..], &["/proc/self/exe", "init"], &["/evil"]] {
            let b = own.bundle().file("/evil", "#!/proc/self/exe\n", 0o755).capabilities(POWERFUL);
            // Whatever comes of it, it ends, and the file is what it was.
            own.verb("run", &b.args(args), &[]).deadline(Duration::from_secs(20)).run();
        }
        unchanged(&own, &bytes);
    });
}

/// Perl: looks for processes of the runtime among all, keeps their /proc/PID/exe open, and writes as soon as it can.
const OVERWRITE: &str = r#"
    use Fcntl; my @held; my %seen;
    print "ready\n"; $| = 1;
    while (1) {
        opendir(my $proc, "/proc");
        for my $pid (grep /^\d+$/, readdir $proc) {
            next if $pid == $$ or $pid == 1;
            if (sysopen(my $exe, "/proc/$pid/exe", O_RDONLY)) { push @held, $exe if @held < 400 }
            if (sysopen(my $exe, "/proc/$pid/exe", O_WRONLY)) { syswrite $exe, "pwned" }
        }
        for my $exe (@held) {
            my $n = fileno $exe;
            if (sysopen(my $out, "/proc/self/fd/$n", O_WRONLY)) { syswrite $out, "pwned" }
        }
        splice @held, 0, 50 if @held > 300;
    }
"#;

/// CVE-2019-5736: a process of the container waits for `exec` and writes to the runtime's binary.
#[test]
fn exe_overwrite() {
    case_with(&[PERL], |sb| {
        let (own, bytes) = own_copy(sb);
        let b = own.bundle().with_perl().file("/evil", "#!/proc/self/exe\n", 0o755).capabilities(POWERFUL);
        let c = own.detached(&b.args(&["/usr/bin/perl", "-e", OVERWRITE]));
        let until = Instant::now() + ATTACK;
        while Instant::now() < until {
            // Its own /bin/true: the one in /usr is the host's, which the attack would keep busy for all tests.
            for program in ["/evil", "/proc/self/exe", "/bin/true"] {
                own.exec_call(&c.id, &[], &[program]).deadline(Duration::from_secs(20)).run();
            }
        }
        own.delete_force(&c.id).ok();
        unchanged(&own, &bytes);
    });
}

/// Perl: reports every open folder and every file of another process that lies outside of this container.
const SPY: &str = r#"
    $| = 1; print "ready\n";
    my @root = stat "/";
    while (1) {
        opendir(my $proc, "/proc");
        for my $pid (grep /^\d+$/, readdir $proc) {
            next if $pid == $$ or $pid == 1;
            opendir(my $fds, "/proc/$pid/fd") or next;
            for my $fd (grep /^\d+$/, readdir $fds) {
                my $name = readlink "/proc/$pid/fd/$fd"; next unless defined $name;
                my @there = stat "/proc/$pid/fd/$fd"; next unless @there;
                next unless -d _;
                next if $there[0] == $root[0] && $name =~ m{^/proc};
                print "fd $fd of $pid: $name\n" if opendir(my $dir, "/proc/$pid/fd/$fd") && -e "/proc/$pid/fd/$fd/config.json" || $name =~ m{/state/|/b0};
            }
            my $cwd = readlink "/proc/$pid/cwd";
            print "cwd of $pid: $cwd\n" if defined $cwd && $cwd =~ m{/state|/b0};
        }
    }
"#;

/// CVE-2016-9962: a process that enters cannot be looked into before it is the container's own.
#[test]
fn exec_dumpable() {
    case_with(&[PERL], |sb| {
        let c = sb.detached(&sb.bundle().with_perl().args(&["/usr/bin/perl", "-e", SPY]));
        let until = Instant::now() + ATTACK;
        while Instant::now() < until {
            sb.exec(&c.id, &["true"]).ok();
        }
        assert_eq!(c.output.stdout_now(), "ready\n");
    });
}

/// Says where the process is, in a way that shows a folder of the host as such.
const WHERE: &str = "pwd -P 2>&1; ls -a . 2>&1; ls ../../../../../../../.. 2>&1";

/// The working folder must be refused, or be one of the container: the host's root must not be seen from there.
#[track_caller]
fn not_of_the_host(out: &integration::Output, what: &str) {
    let seen = out.code == 0
        && (out.stdout.contains("lost+found") || out.stdout.contains("vmlinuz") || out.stdout.contains("srv\n"));
    assert!(!seen, "{what}: {out:#?}");
}

/// CVE-2024-21626: the working folder is a descriptor that the runtime left open.
#[test]
fn cwd_proc_self_fd_of_run() {
    case(|sb| {
        for n in 3..20 {
            let b = sb.bundle().set("/process/cwd", json!(format!("/proc/self/fd/{n}"))).sh(WHERE);
            let out = sb.run(&b);
            assert!(out.code != 0, "cwd /proc/self/fd/{n} is accepted: {out:#?}");
            not_of_the_host(&out, "run");
        }
    });
}

#[test]
fn cwd_proc_self_fd_of_exec() {
    case(|sb| {
        let c = sb.detached(&sb.bundle().sleeper());
        for n in 3..20 {
            let cwd = format!("/proc/self/fd/{n}");
            let out = sb.exec_with(&c.id, &["--cwd", &cwd], &["sh", "-c", WHERE]);
            assert!(out.code != 0, "cwd {cwd} is accepted: {out:#?}");
            not_of_the_host(&out, "exec");
        }
    });
}

/// The same with a link of the image, as WORKDIR would have it.
#[test]
fn cwd_link_to_proc_self_fd() {
    case(|sb| {
        for n in 3..12 {
            let b = sb
                .bundle()
                .link("/place", &format!("/proc/self/fd/{n}"))
                .set("/process/cwd", json!("/place"))
                .sh(WHERE);
            let out = sb.run(&b);
            assert!(out.code != 0, "cwd /place -> /proc/self/fd/{n} is accepted: {out:#?}");
        }
    });
}

/// A folder of the host with one file in it; whatever the runtime makes, moves or removes there shows.
struct Outside {
    dir: PathBuf,
    before: Vec<String>,
}

impl Outside {
    fn new(sb: &Sandbox) -> Outside {
        let dir = sb.host_dir("outside");
        for name in ["null", "ptmx", "console", "kept"] {
            fs::write(dir.join(name), "of the host").expect("write");
        }
        let before = listing(&dir);
        Outside { dir, before }
    }

    fn text(&self) -> String {
        self.dir.to_str().expect("UTF-8").to_owned()
    }

    #[track_caller]
    fn untouched(&self) {
        assert_eq!(listing(&self.dir), self.before, "the host's folder was changed");
    }
}

/// Names, types, modes and contents of a folder.
fn listing(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("list").flatten();
    let mut rows: Vec<String> = entries
        .map(|e| {
            let meta = fs::symlink_metadata(e.path()).expect("stat");
            let content = if meta.is_file() { fs::read_to_string(e.path()).unwrap_or_default() } else { String::new() };
            format!("{:?} {:?} {:?} {content}", e.file_name(), meta.file_type(), meta.permissions())
        })
        .collect();
    rows.sort();
    rows
}

/// Runs a bundle whose rootfs has `path` as a link to the host's folder, by an absolute and by a climbing link.
fn check_link(path: &str, change: impl Fn(Bundle) -> Bundle) {
    case(|sb| {
        let outside = Outside::new(sb);
        for target in [
            outside.text(),
            "../../outside".to_owned(),
            "../../../outside".to_owned(),
            format!("/proc/self/cwd/{}", outside.text()),
        ] {
            let b = change(sb.bundle().writable().link(path, &target)).sh("true");
            sb.verb("run", &b, &[]).deadline(Duration::from_secs(20)).run();
            outside.untouched();
        }
    });
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2025-54867.
#[test]
fn proc_symlink() {
    check_link("/proc", |b| b);
}

#[test]
fn proc_as_a_link_is_refused() {
    case(|sb| {
        let b = sb.bundle().folder("/elsewhere").link("/proc", "/elsewhere").args(&["true"]);
        sb.run(&b).fails();
    });
}

#[test]
fn sys_symlink() {
    check_link("/sys", |b| b);
}

#[test]
fn sys_as_a_link_is_refused() {
    case(|sb| {
        let b = sb.bundle().folder("/elsewhere").link("/sys", "/elsewhere").args(&["true"]);
        sb.run(&b).fails();
    });
}

/// CVE-2026-41579, CVE-2026-47766: the host's ptmx must stay, and no device or link may appear there.
#[test]
fn dev_symlink() {
    check_link("/dev", |b| b);
}

/// The same without a tmpfs on /dev: the runtime populates what it finds.
#[test]
fn dev_symlink_without_a_mount() {
    check_link("/dev", |b| {
        b.without_mount("/dev").without_mount("/dev/pts").without_mount("/dev/shm").without_mount("/dev/mqueue")
    });
}

fn dev_of_the_image(b: Bundle) -> Bundle {
    b.without_mount("/dev").without_mount("/dev/pts").without_mount("/dev/shm").without_mount("/dev/mqueue")
}

#[test]
fn dev_null_symlink() {
    case(|sb| {
        let outside = Outside::new(sb);
        for target in [format!("{}/null", outside.text()), "../../../outside/null".to_owned()] {
            let b = dev_of_the_image(sb.bundle().writable()).link("/dev/null", &target).sh("echo x > /dev/null");
            sb.run(&b);
            outside.untouched();
        }
    });
}

#[test]
fn dev_ptmx_and_pts_symlinks() {
    case(|sb| {
        let outside = Outside::new(sb);
        for (path, target) in [("/dev/ptmx", "ptmx"), ("/dev/pts", ""), ("/dev/shm", ""), ("/dev/mqueue", "")] {
            let full = format!("{}/{target}", outside.text());
            for target in [full, format!("../../../outside/{target}")] {
                let b = sb.bundle().writable().without_mount("/dev").link(path, &target).args(&["true"]);
                sb.run(&b);
                outside.untouched();
            }
        }
    });
}

/// CVE-2026-88264: /dev/console of the image is a link.
#[test]
fn dev_console_symlink() {
    case(|sb| {
        let outside = Outside::new(sb);
        for (n, target) in [
            format!("{}/console", outside.text()),
            format!("{}/made", outside.text()),
            "../../../outside/made".to_owned(),
        ]
        .iter()
        .enumerate()
        {
            let socket = FdSocket::bind(&sb.dir, &format!("tty{n}"));
            let b = dev_of_the_image(sb.bundle().writable()).link("/dev/console", target);
            let b = b
                .mount("devpts", "/dev/pts", "devpts", &["newinstance", "ptmxmode=0666"])
                .set("/process/terminal", json!(true))
                .sh("echo x > /dev/console");
            sb.verb("run", &b, &["-d", "--console-socket", socket.text()]).run();
            sb.delete_force(&b.id).ok();
            outside.untouched();
        }
    });
}

/// CVE-2025-31133, at rest: /dev/null of the container is a link to a file that a mask would then open up.
#[test]
fn mask_source_verified() {
    case(|sb| {
        let b = dev_of_the_image(sb.bundle().writable()).file("/etc/target", "writable", 0o666).file(
            "/etc/masked",
            "s",
            0o666,
        );
        let b = b.link("/dev/null", "/etc/target").set("/linux/maskedPaths", json!(["/etc/masked"]));
        let out = sb.run(&b.sh("stat -c '%t:%T %F' /etc/masked"));
        assert!(out.code != 0 || out.stdout == "1:3 character special file\n", "{out:#?}");
    });
}

/// CVE-2025-31133, second half: no source for the mask is an error and not a missing mask.
#[test]
fn mask_missing_null_is_error() {
    case(|sb| {
        let empty = sb.host_dir("empty");
        let b = dev_of_the_image(sb.bundle()).bind(&empty, "/dev", &["ro"]).file("/etc/masked", "secret", 0o666);
        let out = sb.run(&b.set("/linux/maskedPaths", json!(["/etc/masked"])).args(&["cat", "/etc/masked"]));
        assert!(!out.stdout.contains("secret"), "{out:#?}");
    });
}

/// CVE-2019-16884, CVE-2025-52881: what lies on /proc is no procfs.
#[test]
fn procfs_fake_sysctl() {
    case(|sb| {
        let fake = sb.host_dir("fake");
        fs::create_dir_all(fake.join("sys/net/ipv4")).expect("mkdir");
        fs::create_dir_all(fake.join("self/attr")).expect("mkdir");
        fs::write(fake.join("sys/net/ipv4/ip_forward"), "fake").expect("write");
        for b in [
            sb.bundle().without_mount("/proc").bind(&fake, "/proc", &[]),
            sb.bundle().bind(&fake, "/proc", &[]),
            sb.bundle().bind(&fake.join("sys"), "/proc/sys", &[]),
            sb.bundle().mount("tmpfs", "/proc/sys/net", "tmpfs", &[]),
            sb.bundle().link("/alias", "/proc/sys/net").bind(&fake.join("sys/net"), "/alias", &[]),
        ] {
            let b = b
                .set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }))
                .set("/linux/maskedPaths", json!([]))
                .args(&["true"]);
            sb.run(&b).fails();
            let text = fs::read_to_string(fake.join("sys/net/ipv4/ip_forward")).expect("read");
            assert_eq!(text, "fake", "the value was written to a file that is no sysctl");
        }
    });
}

/// CVE-2019-16884: files below /proc that decide about security cannot be covered.
#[test]
fn mounts_over_proc_are_refused() {
    case(|sb| {
        let dir = sb.host_dir("data");
        for target in
            ["/proc/self", "/proc/self/attr", "/proc/1", "/proc/sys", "/proc/sys/kernel", "/proc/sysrq-trigger"]
        {
            sb.create(&sb.bundle().bind(&dir, target, &[])).code_is(1).fails();
        }
    });
}

/// What engines do mount there stays possible (lxcfs).
#[test]
fn some_files_of_proc_may_be_covered() {
    case(|sb| {
        let file = sb.dir.join("meminfo");
        fs::write(&file, "covered").expect("write");
        for target in [
            "/proc/meminfo",
            "/proc/cpuinfo",
            "/proc/stat",
            "/proc/uptime",
            "/proc/loadavg",
            "/proc/diskstats",
            "/proc/swaps",
        ] {
            let b = sb.bundle().bind(&file, target, &[]).args(&["cat", target]);
            assert_eq!(sb.run(&b).ok(), "covered", "{target}");
        }
    });
}

/// CVE-2019-18837 and CVE-2025-24965: every file that the runtime writes into a rootfs stays in it.
#[test]
fn rootfs_writes_nofollow() {
    case(|sb| {
        let outside = Outside::new(sb);
        let file = sb.dir.join("file");
        fs::write(&file, "x").expect("write");
        for target in [outside.text(), "../../../../../../../../".to_owned() + outside.text().trim_start_matches('/')] {
            let b = sb.bundle().writable().link("/etc", &target).bind(&file, "/etc/made", &[]);
            let b = b
                .set("/linux/devices", json!([{ "path": "/etc/node", "type": "c", "major": 1, "minor": 3 }]))
                .args(&["true"]);
            sb.run(&b);
            outside.untouched();
        }
    });
}

/// The working folder is made inside, even through a link.
#[test]
fn cwd_is_made_inside() {
    case(|sb| {
        let outside = Outside::new(sb);
        let b = sb
            .bundle()
            .writable()
            .link("/place", &outside.text())
            .set("/process/cwd", json!("/place/made"))
            .args(&["true"]);
        sb.run(&b);
        outside.untouched();
    });
}

/// A listed device does not follow a link of the image.
#[test]
fn a_device_is_made_inside() {
    case(|sb| {
        let outside = Outside::new(sb);
        let b = sb.bundle().writable().without_mount("/dev").link("/dev/x", &format!("{}/made", outside.text()));
        let b =
            b.set("/linux/devices", json!([{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3 }])).args(&["true"]);
        sb.run(&b);
        outside.untouched();
    });
}

/// The rootfs itself may be a link; what is mounted is what it pointed to, and the host's tree stays.
#[test]
fn a_rootfs_that_is_a_link_is_resolved_once() {
    case(|sb| {
        let b = sb.bundle().sh("cat /marker").file("/marker", "right", 0o644);
        std::os::unix::fs::symlink("rootfs", b.dir.join("alias")).expect("symlink");
        let b = b.set("/root/path", json!("alias"));
        let out = sb.run(&b);
        assert!(out.code != 0 || out.stdout == "right", "{out:#?}");
    });
}

/// `--no-pivot` must not leave the host's procfs reachable below a mount that can be taken off.
#[test]
fn no_pivot_bare_proc() {
    case(|sb| {
        let b = sb.bundle().capabilities(&["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]);
        let script = "umount /proc 2>/dev/null; umount -l /proc 2>/dev/null; ls /proc 2>/dev/null | grep -c '^[0-9]' ; cat /proc/1/comm 2>/dev/null";
        let out = sb.verb("run", &b.sh(script), &["--no-pivot"]).run();
        let own_init = fs::read_to_string("/proc/1/comm").expect("read");
        assert!(!out.stdout.contains(own_init.trim()), "{out:#?}");
    });
}
