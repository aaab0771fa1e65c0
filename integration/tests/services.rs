//! A database in a whole system, and alone: it serves, survives pauses and restarts, and keeps what it has promised.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use integration::defined::{Defined, text};
use integration::host::within;
use integration::requires::Need;
use integration::systems::services;
use integration::{Running, case_with};

const NEEDS: [Need; 2] = [Need::Skep, Need::Services];

/// Seconds that a clean stop may take; the database is asked to write out what it has.
const PATIENCE: &str = "60";

/// How long the server may take to begin, also after it has recovered.
const BEGIN: Duration = Duration::from_secs(60);

/// Rows that a client has seen committed before the server is stopped under it.
const ROWS: usize = 200;

/// A server, and how its clients reach it.
struct Server<'a> {
    d: Defined<'a>,
    name: String,
    /// The folder of its socket.
    socket: &'static str,
}

impl Server<'_> {
    fn root() -> PathBuf {
        services().expect("they are needed").join("postgres")
    }

    /// A call of a client inside.
    fn client(&self, command: &str) -> Vec<String> {
        let line =
            format!("PGUSER=postgres PGHOST={} PATH=/usr/lib/postgresql/15/bin:$PATH exec {command}", self.socket);
        ["exec", &self.name, "sh", "-c", &line].map(str::to_owned).to_vec()
    }

    #[track_caller]
    fn answer(&self, command: &str) -> integration::Output {
        let words = self.client(command);
        self.d.call(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[track_caller]
    fn query(&self, sql: &str) -> String {
        self.answer(&format!("psql -qAt -c '{sql}' postgres")).ok()
    }

    fn begin(&self, command: &str, input: Option<&str>) -> Running {
        let words = self.client(command);
        let call = self.d.prepare(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let call = match input {
            Some(text) => call.stdin_bytes(text.as_bytes()),
            None => call,
        };
        call.deadline(Duration::from_secs(120)).spawn()
    }

    #[track_caller]
    fn await_ready(&self) {
        let ready = || self.answer("pg_isready -q").code == 0;
        assert!(within(BEGIN, ready), "it does not serve: {}", self.d.call(&["logs", &self.name]).stdout);
    }

    #[track_caller]
    fn call(&self, verb: &[&str]) {
        self.d.call(&[verb, &[self.name.as_str()]].concat()).ok();
    }

    /// A load over the socket and over the network, with a pause in the middle of it.
    fn serves(&self) {
        self.answer("pgbench --initialize --quiet postgres").ok();
        let load = self.begin("pgbench --client 2 --time 4 postgres", None);
        std::thread::sleep(Duration::from_secs(1));
        self.call(&["freeze"]);
        assert_eq!(self.d.listed(&self.name)["state"], "paused");
        std::thread::sleep(Duration::from_secs(1));
        self.call(&["unfreeze"]);
        let told = load.wait(BEGIN).ok();
        assert!(told.contains("number of failed transactions: 0 "), "{told}");
        // It empties its history first.
        let network = self.answer("pgbench --host 127.0.0.1 --client 2 --transactions 50 postgres").ok();
        assert!(network.contains("number of transactions actually processed: 100/100"), "{network}");
        assert_eq!(self.query("SELECT count(*) = 100 FROM pgbench_history"), "t");
    }

    fn survives_a_restart(&self) {
        let sum = "SELECT sum(delta) FROM pgbench_history";
        let before = self.query(sum);
        self.call(&["restart", "--time", PATIENCE]);
        self.await_ready();
        assert_eq!(self.query(sum), before);
    }

    /// Stops it while a client writes, and counts what is there afterwards. A row counts when the client has been told so.
    fn keeps_what_is_committed(&self) {
        self.query("CREATE TABLE kept (n integer PRIMARY KEY)");
        let rows: String = (0..200_000).map(|n| format!("INSERT INTO kept VALUES ({n}) RETURNING n;\n")).collect();
        let writer = self.begin("psql -qAt postgres", Some(&rows));
        assert!(within(BEGIN, || writer.stdout().lines().count() > ROWS), "{:?}", writer.stdout().len());
        self.call(&["stop", "--time", PATIENCE]);
        let told = writer.wait(BEGIN).stdout;
        // The last line may be cut off; then nobody was told of it.
        let whole = told.rfind('\n').map_or("", |end| &told[..end]);
        let committed: BTreeSet<u32> = whole.lines().filter_map(|line| line.parse().ok()).collect();
        assert!(committed.len() > ROWS && committed.len() < 200_000, "{} rows", committed.len());
        self.call(&["start"]);
        self.await_ready();
        let found: BTreeSet<u32> =
            self.query("SELECT n FROM kept").lines().map(|line| line.parse().expect("a number")).collect();
        let lost: Vec<_> = committed.difference(&found).take(5).collect();
        assert!(lost.is_empty(), "committed and gone: {lost:?}, of {}", committed.len());
    }

    fn lives(&self) {
        self.call(&["start"]);
        self.await_ready();
        self.serves();
        self.survives_a_restart();
        self.keeps_what_is_committed();
        // It was asked, not killed: it says so itself when it begins again.
        let log = self.d.call(&["logs", &self.name]).ok()
            + &self.d.call(&["exec", &self.name, "sh", "-c", "cat /var/log/postgresql/*.log"]).stdout;
        assert!(log.contains("database system was shut down at"), "{log}");
        assert!(!log.contains("not properly shut down") && !log.contains("was interrupted"), "{log}");
        self.call(&["stop", "--time", PATIENCE]);
        self.call(&["destroy"]);
    }
}

#[test]
fn postgres_under_systemd_keeps_what_it_has_promised() {
    case_with(&NEEDS, |sb| {
        let d = Defined::new(sb);
        let name = d.name("system");
        d.create_plain(&name, text(&Server::root()), &["--init", "--memory", "512M"]).ok();
        Server { d, name, socket: "/var/run/postgresql" }.lives();
    });
}

#[test]
fn postgres_alone_keeps_what_it_has_promised() {
    case_with(&NEEDS, |sb| {
        let d = Defined::new(sb);
        let name = d.name("program");
        let options = ["--with-init", "--user", "postgres", "--memory", "512M", "--stop-signal", "INT"];
        let command = [
            "/usr/lib/postgresql/15/bin/postgres",
            "-D",
            "/var/lib/postgresql/15/main",
            "-c",
            "config_file=/etc/postgresql/15/main/postgresql.conf",
            "-c",
            "unix_socket_directories=/tmp",
        ];
        d.create(&name, text(&Server::root()), &options, &command).ok();
        Server { d, name, socket: "/tmp" }.lives();
    });
}
