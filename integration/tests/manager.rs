//! Containers that are defined once: create, start, stop, list, destroy.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::{eventually, own_mounts};
use integration::net::Net;
use integration::requires::Need;
use integration::runtime::wait_pid;
use integration::{case_with, json};

#[test]
fn a_start_leaves_a_container_of_its_name_alone() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (web, base) = (d.name("web"), d.base());
        d.create(&web, text(&base), &[], &["sleep", "1000"]).ok();
        let bundle = sb.bundle().sleeper();
        bundle.write();
        let path = text(&bundle.dir).to_owned();
        sb.call(&["run", "--detach", "--bundle", &path, &web]).run().ok();
        let pid = sb.state(&web)["pid"].clone();
        for _ in 0..2 {
            d.call(&["start", &web]).fails_saying("another container of this name is running already");
            assert_eq!(sb.state(&web)["pid"], pid);
        }
        // One that has ended is in nobody's way.
        sb.kill(&web, "KILL").ok();
        sb.wait_status(&web, "stopped");
        d.call(&["start", &web]).ok();
        assert_eq!(sb.exec_sh(&web, "cat /proc/1/cmdline | tr '\\0' ' '").ok(), "sleep 1000");
        d.call(&["destroy", "--force", &web]).ok();
    });
}

#[test]
fn a_definition_leads_a_life() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (web, base) = (d.name("web"), d.base());
        let script = "echo started; echo oops >&2; trap 'echo asked; exit 0' TERM; while :; do sleep 0.1; done";
        assert_eq!(d.create(&web, text(&base), &["--hostname", "inside"], &["sh", "-c", script]).ok(), web);
        assert_eq!(d.listed(&web)["state"], "stopped");
        assert_eq!(d.listed(&web)["pid"], json!(null));

        d.call(&["start", &web]).ok();
        let entry = d.listed(&web);
        assert_eq!((&entry["state"], &entry["from"]), (&json!("running"), &json!(text(&base))));
        assert_eq!(entry["pid"], sb.state(&web)["pid"]);
        assert_eq!(sb.exec_sh(&web, "hostname; echo mine > /mine").ok(), "inside");
        eventually("the log has what it wrote", || d.log(&web) == "started\noops\n");
        d.call(&["start", &web]).fails_saying("is running already");
        d.call(&["destroy", &web]).fails_saying("stop it, or destroy it with --force");

        d.call(&["stop", &web]).ok();
        assert_eq!(d.log(&web), "started\noops\nasked\n");
        assert_eq!(d.listed(&web)["state"], "stopped");
        d.call(&["stop", &web]).ok();
        assert!(sb.call(&["state", &web]).run().fails().contains("does not exist"));

        // What it changed is still there.
        d.call(&["start", &web]).ok();
        assert_eq!(sb.exec_sh(&web, "cat /mine").ok(), "mine");
        assert!(!base.join("mine").exists());
        d.call(&["destroy", "--force", &web]).ok();
        assert_eq!(d.call(&["ls", "--quiet"]).ok(), "");
        assert_eq!(fs::read_dir(d.data.join("containers")).expect("read").count(), 0);
        assert!(!own_mounts().iter().any(|mount| Path::new(&mount.target).starts_with(&sb.dir)));
        d.call(&["destroy", &web]).fails_saying("is not defined");
        d.call(&["destroy", "-f", &web]).ok();
    });
}

#[test]
fn limits_variables_and_users_are_the_containers() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (web, base) = (d.name("web"), d.base());
        fs::write(base.join("etc/passwd"), "web:x:33:44::/srv/web:/bin/sh\n").expect("write");
        fs::write(base.join("etc/group"), "web:x:44:\naudio:x:29:web\n").expect("write");
        let shared = sb.host_dir("shared");
        fs::write(shared.join("file"), "of the host").expect("write");
        let volume = format!("{}:/shared:ro", shared.display());
        let options = [
            "--memory",
            "64M",
            "--cpus",
            "0.5",
            "--pids",
            "20",
            "--user",
            "web",
            "--env",
            "COLOUR=blue",
            "--workdir",
            "/tmp",
            "--volume",
            &volume,
            "--device",
            "/dev/null:/dev/nothing:rw",
        ];
        d.create(&web, text(&base), &options, &["sleep", "1000"]).ok();
        d.call(&["start", &web]).ok();
        sb.cgroup_is("memory", &web, "memory.limit_in_bytes", &(64 << 20).to_string());
        sb.cgroup_is("cpu", &web, "cpu.cfs_quota_us", "50000");
        sb.cgroup_is("pids", &web, "pids.max", "20");
        let pid = sb.state(&web)["pid"].as_i64().expect("a pid").to_string();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read");
        let field = |name: &str| status.lines().find(|line| line.starts_with(name)).expect("a field").to_owned();
        assert_eq!(
            (field("Uid:"), field("Gid:")),
            ("Uid:\t33\t33\t33\t33".to_owned(), "Gid:\t44\t44\t44\t44".to_owned())
        );
        assert_eq!(field("Groups:").trim_end(), "Groups:\t29");
        let environ = fs::read_to_string(format!("/proc/{pid}/environ")).expect("read");
        let has = |entry: &str| environ.split('\0').any(|found| found == entry);
        assert!(has("COLOUR=blue") && has("HOME=/srv/web") && has("container=skep"), "{environ}");
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("a folder"), Path::new("/tmp"));
        let script = "cat /shared/file; touch /shared/new 2>&1; echo x > /dev/nothing && echo written";
        let said = sb.exec_with(&web, &["--user", "0"], &["sh", "-c", script]).ok();
        assert!(said.starts_with("of the host") && said.contains("Read-only") && said.ends_with("written"), "{said}");
    });
}

#[test]
fn a_definition_that_makes_no_sense_is_refused_and_nothing_is_left() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (name, base) = (d.name("bad"), d.base());
        let base = text(&base);
        let refused = |options: &[&str], from: &str, said: &str| {
            d.create(&name, from, options, &["true"]).fails_saying(said);
        };
        refused(&[], "/no/such/folder", "cannot use the folder /no/such/folder");
        refused(&[], "nothing", "there is no image and no template \"nothing\"");
        refused(&["--hide", "/x"], base, "--from host alone");
        refused(&["--memory", "much"], base, "is no size");
        refused(&["--volume", "a:/b"], base, "must be absolute");
        refused(&["--workdir", "tmp"], base, "must be an absolute path");
        refused(&["--env", "SURELY_NOT_SET"], base, "no such variable");
        refused(&["--stop-signal", "TREM"], base, "\"TREM\" is no signal");
        refused(&["--hostname", "two words"], base, "must have only letters, digits");
        refused(&["--hostname", &"x".repeat(65)], base, "must have 1 to 64 characters");
        refused(&["--memory", "4095"], base, "less than a page");
        refused(&["--volume", "/tmp:/"], base, "must lie below /");
        refused(&["--volume", "/tmp:/a/../.."], base, "must lie below /");
        refused(&["--volume", "/no/such/source:/a"], base, "cannot use the volume /no/such/source");
        d.call(&["stop", "--time", "18446744073709551615", &name]).fails_saying("is not in");
        d.create("../x", base, &[], &["true"]).fails_saying("must begin with a letter or digit");
        d.call(&["create", &name, "--from", base]).fails_saying("there is nothing to run");
        d.call(&["start", &name]).fails_saying("does not exist");
        d.call(&["stop", &name]).fails_saying("is not defined");
        assert_eq!(d.call(&["ls", "-q"]).ok(), "");
        d.create(&name, base, &[], &["true"]).ok();
        d.create(&name, base, &[], &["true"]).fails_saying("is defined already");
        d.create(&d.name("user"), base, &["--user", "stranger"], &["true"]).ok();
        d.call(&["start", &d.name("user")]).fails_saying("no user \"stranger\"");
        d.create(&d.name("program"), base, &[], &["/no/such/program"]).ok();
        d.call(&["start", &d.name("program")]).fails_saying("/no/such/program");
        assert_eq!(d.listed(&d.name("program"))["state"], "stopped");
        assert!(sb.call(&["list", "-q"]).run().ok().is_empty());
    });
}

#[test]
fn many_are_started_stopped_and_filtered_by_one_command() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let base = d.base();
        let names: Vec<String> = (0..5).map(|n| d.name(&format!("n{n}"))).collect();
        for name in &names {
            d.create(name, text(&base), &[], &["sleep", "1000"]).ok();
        }
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        d.call(&[&["start"], &all[..3]].concat()).ok();
        let running = d.call(&["ls", "-q", "--filter", "state=running"]).ok();
        assert_eq!(running.lines().collect::<Vec<_>>(), all[..3]);
        let failed = d.call(&[&["start"], &all[2..4], &["nobody"][..]].concat());
        let said = failed.fails();
        assert!(said.contains("is running already") && said.contains("2 of 3 failed"), "{said}");
        assert_eq!(d.call(&["ls", "-q", "--filter", "state=running"]).ok().lines().count(), 4);
        d.call(&["ls", "--filter", "colour=red"]).fails_saying("want name=, state=");
        let table = d.call(&["ls"]).ok();
        assert!(table.starts_with("NAME") && table.lines().count() == 6, "{table}");
        d.call(&[&["stop", "-t", "0"], &all[..4]].concat()).ok();
        d.call(&[&["destroy"], all.as_slice()].concat()).ok();
        assert_eq!(d.call(&["ls", "-o", "yaml"]).ok(), "[]");
    });
}

/// One that ended by itself is stopped; the next start takes away what the last one left.
#[test]
fn one_that_has_ended_can_be_started_again() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("short");
        d.create(&name, text(&d.base()), &["--ids", "300000:65536"], &["sh", "-c", "echo x >> /count; wc -l < /count"])
            .ok();
        for run in 1..=3 {
            d.call(&["start", &name]).ok();
            eventually("it has ended", || d.listed(&name)["state"] == "stopped");
            eventually("it has counted", || d.log(&name).trim() == run.to_string());
        }
        d.call(&["stop", &name]).ok();
        assert_eq!(sb.call(&["list", "-q"]).run().ok(), "");
    });
}

#[test]
fn changes_in_memory_are_gone_with_the_next_start() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("brief");
        d.create(&name, text(&d.base()), &["--ephemeral=8M"], &["sleep", "1000"]).ok();
        for _ in 0..2 {
            d.call(&["start", &name]).ok();
            sb.exec_sh(&name, "test ! -e /mine && echo x > /mine").ok();
            d.call(&["stop", "-t", "0", &name]).ok();
        }
        assert_eq!(fs::read_dir(d.folder(&name).join("own/upper")).expect("read").count(), 0);
    });
}

/// Everything that is installed is there; what is planted where secrets lie is not, also when it comes later.
#[test]
fn the_host_as_a_template_shows_programs_and_no_secrets() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("app");
        let secret = format!("secret-{name}");
        let places = ["/root", "/tmp", "/var/tmp", "/var/log", "/run", "/etc/ssh"];
        let planted: Vec<_> = places
            .iter()
            .filter(|place| Path::new(place).is_dir())
            .map(|place| Planted::at(&format!("{place}/{name}"), &secret))
            .collect();
        assert!(planted.len() >= 4);
        let hidden = sb.host_dir("also");
        fs::write(hidden.join("file"), &secret).expect("write");
        d.create(&name, "host", &["--hide", "/usr/share/doc"], &["sleep", "1000"]).ok();
        d.call(&["start", &name]).ok();
        let late = Planted::at(&format!("/root/late-{name}"), &secret);
        let search = format!("grep -rls {secret} /root /home /tmp /var/tmp /var/log /run /etc /var/lib 2>/dev/null; :");
        assert_eq!(sb.exec_sh(&name, &search).ok(), "");
        let script =
            "cat /etc/shadow 2>&1; ls -A /root /home /usr/share/doc | wc -w; ls /usr/bin | wc -l; stat -c %a /tmp";
        let said = sb.exec_sh(&name, script).ok();
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].contains("No such file"), "{said}");
        // The three names that ls prints as headings.
        assert_eq!((lines[1].trim(), lines[3]), ("3", "1777"));
        assert!(lines[2].trim().parse::<usize>().expect("a number") > 100, "{said}");
        // What the container itself puts there it keeps.
        sb.exec_sh(&name, "echo mine > /root/own; echo x:y > /etc/shadow").ok();
        d.call(&["stop", "-t", "0", &name]).ok();
        d.call(&["start", &name]).ok();
        assert_eq!(sb.exec_sh(&name, "cat /root/own /etc/shadow; ls -A /root").ok(), "mine\nx:y\nown");
        // The kernel takes no layer inside another one: it is copied.
        d.call(&["stop", "-t", "0", &name]).ok();
        d.call(&["snapshot", &name, "one"]).ok();
        d.call(&["copy", &name, &d.name("copy")]).ok();
        d.call(&["start", &name]).ok();
        assert_eq!(sb.exec_sh(&name, "cat /root/own; ls -A /root").ok(), "mine\nown");
        drop((planted, late));
    });
}

/// A file of the host that goes with the value.
struct Planted(String);

impl Planted {
    fn at(path: &str, text: &str) -> Planted {
        fs::write(path, text).unwrap_or_else(|error| panic!("plant {path}: {error}"));
        Planted(path.to_owned())
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        // A second panic would end the program.
        assert!(fs::remove_file(&self.0).is_ok() || std::thread::panicking(), "remove {}", self.0);
    }
}

#[test]
fn an_archive_becomes_an_image_and_a_container() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (name, base) = (d.name("app"), d.base());
        let tar = Command::new("tar").arg("-C").arg(&base).args(["-cf", "-", "."]).stdout(Stdio::piped()).spawn();
        let mut tar = tar.expect("run tar");
        let stream = std::os::fd::OwnedFd::from(tar.stdout.take().expect("a pipe"));
        assert_eq!(d.prepare(&["image", "import", "-", "--name", "busybox:1"]).stdin(stream).run().ok(), "busybox:1");
        assert!(tar.wait().expect("tar ends").success());
        let images = d.call(&["image", "list", "-o", "json"]).json();
        assert_eq!((&images[0]["name"], &images[0]["layers"]), (&json!("busybox:1"), &json!(1)));
        d.create(&name, "busybox:1", &[], &["sleep", "1000"]).ok();
        d.call(&["start", &name]).ok();
        assert_eq!(d.listed(&name)["from"], "image:busybox:1");
        assert!(sb.exec_sh(&name, "ls /bin").ok().contains("busybox"));
        // Its layers are needed for as long as a container has them.
        d.call(&["image", "remove", "busybox:1"]).ok();
        assert_eq!(d.call(&["image", "gc"]).ok(), "");
        d.call(&["stop", "-t", "0", &name]).ok();
        d.call(&["start", &name]).ok();
        d.call(&["destroy", "-f", &name]).ok();
        assert!(d.call(&["image", "gc"]).ok().starts_with("sha256:"));
        assert_eq!(fs::read_dir(d.data.join("layers")).expect("read").count(), 0);
    });
}

/// SIGKILL lets a paused one go on by itself.
#[test]
fn a_paused_container_can_be_stopped() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let name = d.name("still");
        d.create(&name, text(&d.base()), &[], &["sleep", "1000"]).ok();
        d.call(&["start", &name]).ok();
        sb.call(&["pause", &name]).run().ok();
        assert_eq!(d.listed(&name)["state"], "paused");
        d.call(&["stop", &name]).ok();
        assert_eq!(d.listed(&name)["state"], "stopped");
        assert_eq!(sb.call(&["list", "-q"]).run().ok(), "");
    });
}

/// A layer is needed from the look at its image until the definition is there: whoever collects layers meanwhile.
#[test]
fn layers_stay_while_a_container_of_them_is_made() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let base = d.base();
        for round in 0..8u64 {
            let name = d.name(&format!("n{round}"));
            d.call(&["image", "import", text(&base), "--name", "app"]).ok();
            let parent = format!("/{}", sb.name);
            let make = ["create", &name, "--from", "app", "--cgroup-parent", &parent, "--", "sleep", "1000"];
            let making = d.prepare(&make).spawn();
            std::thread::sleep(Duration::from_millis(round * 3));
            d.call(&["image", "remove", "app"]).ok();
            let collect: &[&str] = if round % 2 == 0 { &["gc"] } else { &["image", "gc"] };
            d.call(collect).ok();
            // Either there was no image any more, or the container has all that it is made of.
            let made = making.wait(Duration::from_secs(10));
            assert_eq!(made.code == 0, d.folder(&name).exists(), "{made:?}");
            if made.code == 0 {
                d.call(&["start", &name]).ok();
                d.call(&["destroy", "--force", &name]).ok();
            }
        }
        d.call(&["image", "gc"]).ok();
        assert_eq!(fs::read_dir(d.data.join("layers")).expect("read").count(), 0);
    });
}

/// What an interrupted create or destroy leaves of a network, and a neighbour that cannot be told.
#[test]
fn addresses_and_neighbours_survive_what_was_interrupted() {
    let needs = [Need::Skep, Need::Program("/usr/sbin/nft"), Need::Program("/usr/bin/nsenter")];
    case_with(&[&needs[..], &[Need::Program("/usr/sbin/ip")]].concat(), |sb| {
        let net = Net::new(sb);
        let d = Defined::within(sb, &net);
        let (base, [a, b, c]) = (d.base(), ["a", "b", "c"].map(|suffix| d.name(suffix)));
        d.call(&["network", "create", "web", "--subnet", "10.23.0.0/24"]).ok();
        let make = |name: &str, options: &[&str]| {
            d.create(name, text(&base), &[&["--network", "web"], options].concat(), &["sleep", "1000"])
        };
        make(&a, &["--publish", "nonsense"]).fails_saying("is no port forward");
        assert!(!d.data.join("containers").exists());
        make(&a, &["--ip", "10.23.0.9"]).ok();
        make(&b, &[]).ok();
        make(&c, &[]).ok();
        // As a kill between the definition and the lease leaves it.
        fs::remove_file(d.data.join("networks/web.leases")).expect("remove the leases");
        d.call(&["start", &a, &b]).ok();
        assert_eq!(d.listed(&a)["ipv4"], json!(["10.23.0.9"]));
        let (hosts, resolver) = (d.folder(&b).join("hosts"), d.folder(&b).join("resolv.conf"));
        fs::write(&resolver, "# mine\n").expect("write");
        d.call(&["start", &c]).ok();
        assert!(fs::read_to_string(&hosts).expect("read").contains(&c));
        assert_eq!(fs::read_to_string(&resolver).expect("read"), "# mine\n");
        d.call(&["stop", "-t", "0", &c]).ok();
        fs::write(d.folder(&b).join("definition.toml"), "{").expect("write");
        let started = d.call(&["start", &c]);
        started.ok();
        assert!(started.stderr_now().contains(&format!("warning: /etc/hosts of \"{b}\"")), "{started:?}");
        // As a kill after the rename of destroy leaves it.
        d.call(&["stop", "-t", "0", &a]).ok();
        fs::rename(d.folder(&a), d.data.join(format!("containers/.{a}.gone"))).expect("rename");
        let leases = || d.call(&["network", "show", "web", "-o", "json"]).ok();
        assert!(!leases().contains(&format!("\"{a}\"")), "{}", leases());
        d.call(&["destroy", "--force", &b, &c]).ok();
        assert!(!leases().contains(&format!("\"{b}\"")), "{}", leases());
        d.call(&["network", "remove", "web"]).ok();
    });
}

/// What root alone may read, and what the users of the container have to.
#[test]
fn modes_of_files_do_not_depend_on_the_caller() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (name, base) = (d.name("mask"), d.base());
        let parent = format!("/{}", sb.name);
        let with_mask = |args: &[&str]| {
            let call = sb.program("/bin/sh").args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(&sb.runtime.path);
            call.args(["--root", text(&sb.root)]).args(args).env("SKEP_DATA", text(&d.data)).run().ok()
        };
        let make = ["create", &name, "--from", text(&base), "--cgroup-parent", &parent, "--env", "SECRET=x"];
        with_mask(&[&make[..], &["--user", "1000:1000", "--", "sleep", "1000"]].concat());
        with_mask(&["start", &name]);
        assert!(sb.exec_sh(&name, "cat /etc/hosts /etc/hostname /etc/resolv.conf").ok().contains(&name));
        sb.call(&["kill", &name, "KILL"]).run().ok();
        with_mask(&["snapshot", &name, "one"]);
        let mode = |file: &str| {
            let meta = fs::metadata(d.folder(&name).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777
        };
        for file in ["definition.toml", "config.json", "log", "snapshots/one.json"] {
            assert_eq!(mode(file), 0o600, "{file}");
        }
    });
}

#[test]
fn a_name_that_is_a_path_is_refused_and_makes_nothing() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        for args in [
            &["stop", "../../x"][..],
            &["destroy", "../../x"],
            &["destroy", "--force", "../../x"],
            &["rename", "../../x", "y"],
            &["copy", "../../x", "y"],
            &["diff", "../../x"],
            &["export", "../../x", "/dev/null"],
            &["snapshot", "../../x"],
            &["snapshot", "../../x", "--list"],
            &["refresh", "../../x"],
        ] {
            let said = d.call(args).fails();
            assert!(said.contains("must begin with a letter or digit") || said.contains("1 of 1 failed"), "{said}");
            assert!(!d.data.exists(), "{args:?}");
        }
        d.call(&["start", "../../x"]).fails();
        assert!(!d.data.exists() && !sb.dir.join("x").exists());
    });
}

/// A document that cannot be used is told by every command, ends none but those for its container, and goes by force.
#[test]
fn a_broken_definition_is_in_nobodys_way() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (good, bad, base) = (d.name("good"), d.name("bad"), d.base());
        for name in [&good, &bad] {
            d.create(name, text(&base), &[], &["sleep", "1000"]).ok();
        }
        d.call(&["start", &bad]).ok();
        fs::write(d.folder(&bad).join("definition.toml"), "{").expect("write");
        fs::write(d.folder(&bad).join("pending.json"), "{").expect("write");
        fs::create_dir(d.data.join("containers/.not a name.new")).expect("make a folder");
        let listed = d.call(&["ls", "-q"]);
        assert_eq!(listed.stdout_now().trim(), good);
        assert!(listed.stderr_now().contains(&format!("container \"{bad}\" is not listed")));
        d.call(&["start", &good]).ok();
        d.call(&["destroy", &bad]).fails_saying("pending.json");
        d.call(&["destroy", "--force", &bad, &good]).ok();
        assert_eq!(sb.call(&["list", "-q"]).run().ok(), "");
        fs::remove_dir(d.data.join("containers/.not a name.new")).expect("remove the folder");
        assert_eq!(fs::read_dir(d.data.join("containers")).expect("read").count(), 0);
    });
}

/// An interrupted create or destroy is finished or undone by the next command.
#[test]
fn a_kill_at_any_point_leaves_nothing_half_there() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let (name, base) = (d.name("victim"), d.base());
        let parent = format!("/{}", sb.name);
        let make = ["create", &name, "--from", text(&base), "--cgroup-parent", &parent, "--", "sleep", "1000"];
        for round in 0..30u32 {
            for args in [&make[..], &["destroy", &name]] {
                let mut running = d.prepare(args).spawn();
                std::thread::sleep(Duration::from_micros(u64::from(round) * 400));
                let pid = running.pid();
                running.kill();
                wait_pid(pid, Duration::from_secs(5));
                let listed = d.call(&["ls", "-o", "json"]).json();
                let folders = fs::read_dir(d.data.join("containers")).map_or(0, Iterator::count);
                assert_eq!(folders, listed.as_array().expect("a list").len(), "round {round}, {args:?}");
            }
        }
        d.call(&["destroy", "--force", &name]).ok();
        d.create(&name, text(&base), &[], &["sleep", "1000"]).ok();
        d.call(&["start", &name]).ok();
    });
}

#[test]
fn system_calls_that_no_container_needs_are_denied() {
    case_with(&[Need::Skep], |sb| {
        let d = Defined::new(sb);
        let tries = "unshare -m true 2>&1 | grep -c 'not permitted'; mount -t tmpfs x /mnt 2>&1 | grep -c denied; \
                     (echo forked) ; grep Seccomp: /proc/self/status | tr -d '\t'";
        for (options, expected) in [
            (&[][..], ["1", "1", "forked", "Seccomp:2"]),
            (&["--seccomp", "unconfined"], ["1", "1", "forked", "Seccomp:0"]),
        ] {
            let name = d.name(if options.is_empty() { "filtered" } else { "free" });
            d.create(&name, text(&d.base()), options, &["sleep", "1000"]).ok();
            d.call(&["start", &name]).ok();
            assert_eq!(sb.exec_sh(&name, tries).ok().lines().collect::<Vec<_>>(), expected);
        }
    });
}
