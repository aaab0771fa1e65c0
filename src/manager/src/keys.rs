//! The keys of a definition's document: one table for the check of a document and for docs/definition.md.

use std::fmt::Write;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::document;
use crate::judge;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The way to it, with `[]` for each entry of a list.
    pub path: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What it may be, with its unit.
    pub range: &'static str,
    /// What it is where nothing is said: a value, or [`REQUIRED`].
    pub default: &'static str,
    /// One value, as TOML has it.
    pub example: &'static str,
    /// What it is about.
    pub about: &'static str,
}

/// The default of a key that has to be there.
pub const REQUIRED: &str = "required";

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Bytes as a number, or a text such as `"512M"`.
    Size,
    /// A list of texts.
    Texts,
    /// A list of whole numbers.
    Integers,
    /// A table whose keys are in this table, too.
    Table,
    /// A list of such tables.
    Tables,
    /// A table with anything, or its JSON as text.
    Anything,
    /// One of these words, or a table whose keys are in this table, too.
    WordOrTable,
}

impl Kind {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Integer => "integer",
            Kind::Boolean => "boolean",
            Kind::Size => "size",
            Kind::Texts => "list of texts",
            Kind::Integers => "list of integers",
            Kind::Table => "table",
            Kind::Tables => "list of tables",
            Kind::Anything => "any table",
            Kind::WordOrTable => "text or table",
        }
    }

    fn fits(self, value: &DeValue<'_>) -> bool {
        let all = |fits: fn(&DeValue<'_>) -> bool| {
            value.as_array().is_some_and(|list| list.iter().all(|entry| fits(entry.get_ref())))
        };
        match self {
            Kind::Text => value.is_str(),
            Kind::Integer => value.is_integer(),
            Kind::Boolean => value.is_bool(),
            Kind::Size => value.is_integer() || value.is_str(),
            Kind::Texts => all(|value| value.is_str()),
            Kind::Integers => all(|value| value.is_integer()),
            Kind::Table => value.is_table(),
            Kind::Tables => all(|value| value.is_table()),
            Kind::Anything | Kind::WordOrTable => value.is_table() || value.is_str(),
        }
    }
}

/// Something that is wrong with a document, as `checkconfig --format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// The line, counted from 1.
    pub line: usize,
    /// The way to the key; empty where the text is no TOML.
    pub key: String,
    /// What is wrong.
    pub text: String,
}

/// Looks at the text of a document: all that is wrong with it, in the order of the lines. It need not be the one of a container:
/// `name` is that of the container where it is.
#[must_use]
pub fn check(text: &str, name: Option<&str>) -> Vec<Finding> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut findings: Vec<Finding> = errors
        .iter()
        .map(|error| {
            let line = error.span().map_or(1, |span| document::line_of(text, span.start));
            Finding { line, key: String::new(), text: error.message().to_owned() }
        })
        .collect();
    if findings.is_empty() {
        let mut walk = Walk { text, findings: &mut findings };
        walk.table(table.get_ref(), "", "", 1);
    }
    if findings.is_empty() {
        match document::parse(text) {
            Err((line, text)) => findings.push(Finding { line, key: String::new(), text }),
            Ok(definition) => findings.extend(judge::judge(&definition, name).into_iter().map(|(key, said)| {
                let line = line_of_key(text, &key);
                Finding { line, key, text: said }
            })),
        }
    }
    findings.sort();
    findings
}

/// Looks at tables by the table of keys.
struct Walk<'a> {
    text: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Walk<'_> {
    fn told(&mut self, line: usize, key: String, text: String) {
        self.findings.push(Finding { line, key, text });
    }

    /// `pattern` is the way to the table as [`KEYS`] has it, `path` as the document has it.
    fn table(&mut self, table: &DeTable<'_>, pattern: &str, path: &str, line: usize) {
        for (name, value) in table {
            let line = document::line_of(self.text, name.span().start);
            let (pattern, path) = (joined(pattern, name.get_ref()), joined(path, name.get_ref()));
            match KEYS.iter().find(|key| key.path == pattern) {
                None => {
                    let near = near(&pattern).map(|key| format!(", did you mean {key}?")).unwrap_or_default();
                    self.told(line, path, format!("there is no such key{near}"));
                }
                Some(key) if !key.kind.fits(value.get_ref()) => {
                    let want = format!("want {} such as {}", with_article(key.kind.name()), key.example);
                    self.told(line, path, want);
                }
                Some(key) => self.below(key, value, &path, line),
            }
        }
        for key in KEYS.iter().filter(|key| key.default == REQUIRED) {
            let is_here = key.path.strip_prefix(pattern).map(|rest| rest.trim_start_matches('.'));
            let missing = |rest: &str| !rest.is_empty() && !rest.contains('.') && !table.contains_key(rest);
            if is_here.is_some_and(missing) && joined(pattern, is_here.unwrap_or_default()) == key.path {
                let path = joined(path, is_here.unwrap_or_default());
                self.told(line, path, format!("it is missing; {}", key.about));
            }
        }
    }

    fn below(&mut self, key: &Key, value: &Spanned<DeValue<'_>>, path: &str, line: usize) {
        match (key.kind, value.get_ref()) {
            (Kind::Table | Kind::WordOrTable, DeValue::Table(table)) => self.table(table, key.path, path, line),
            (Kind::Tables, DeValue::Array(list)) => {
                for (at, entry) in list.iter().enumerate() {
                    if let DeValue::Table(table) = entry.get_ref() {
                        let line = document::line_of(self.text, entry.span().start);
                        self.table(table, &format!("{}[]", key.path), &format!("{path}[{at}]"), line);
                    }
                }
            }
            _ => {}
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn with_article(kind: &str) -> String {
    match kind {
        "text" | "text or table" => kind.to_owned(),
        _ if kind.starts_with(['a', 'i']) => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

/// A key of the same last word, or of the same table with nearly the same name.
fn near(pattern: &str) -> Option<&'static str> {
    let split = |path: &'static str| path.rsplit_once('.').unwrap_or(("", path));
    let (parent, name) = pattern.rsplit_once('.').unwrap_or(("", pattern));
    let close =
        KEYS.iter().filter(|key| split(key.path).0 == parent).find(|key| differs_little(split(key.path).1, name));
    let same = || KEYS.iter().find(|key| split(key.path).1 == name);
    close.or_else(same).map(|key| key.path)
}

/// Whether one letter is another, is missing, or is too much, or two have changed places; `-` is `_`.
fn differs_little(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().collect(), b.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect());
    let front = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let back = a[front..].iter().rev().zip(b[front..].iter().rev()).take_while(|(a, b)| a == b).count();
    let left = (a.len() - front - back, b.len() - front - back);
    left.0.max(left.1) <= 1 || left == (2, 2) && a[front] == b[front + 1] && a[front + 1] == b[front]
}

/// The line on which a key of a document stands, else that of the table that it would be in.
#[must_use]
pub fn line_of_key(text: &str, path: &str) -> usize {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut line = 1;
    let mut at = Some(table.get_ref());
    for part in path.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((key, value)) = at.and_then(|table| table.get_key_value(name)) else { break };
        line = document::line_of(text, key.span().start);
        at = match (value.get_ref(), index) {
            (DeValue::Table(table), None) => Some(table),
            (DeValue::Array(list), Some(index)) => list.get(index).and_then(|entry| {
                line = document::line_of(text, entry.span().start);
                entry.get_ref().as_table()
            }),
            _ => None,
        };
    }
    line
}

/// The table for docs/definition.md.
#[must_use]
pub fn render_markdown() -> String {
    let mut out = "| key | type | range | default | example | about |\n|---|---|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let cell = |text: &str| text.replace('|', "\\|");
        let example = if key.example.is_empty() { String::new() } else { format!("`{}`", cell(key.example)) };
        let line = format!(
            "| `{}` | {} | {} | {} | {example} | {} |",
            key.path,
            key.kind.name(),
            cell(key.range),
            cell(key.default),
            cell(key.about)
        );
        // A text takes whatever is written to it.
        writeln!(out, "{line}").unwrap_or_default();
    }
    out
}

macro_rules! keys {
    ($($path:literal $kind:ident $range:literal $default:tt $example:literal $about:literal;)*) => {
        /// All keys, in the order of the page.
        pub const KEYS: &[Key] = &[$(Key {
            path: $path, kind: Kind::$kind, range: $range, default: keys!(@ $default), example: $example, about: $about,
        }),*];
    };
    (@ required) => { REQUIRED };
    (@ $default:literal) => { $default };
}

keys! {
    "schema" Integer "1" required "1" "version of the document";
    "name" Text "1 to 64 letters, digits, `_`, `-`, `.`" required "\"web1\"" "the container's name, that of its folder; `skep rename` changes it";
    "created" Integer "seconds since 1970" required "1767225600" "when it was defined";
    "hostname" Text "1 to 64 letters, digits, `-`, `.`; or the container's name" required "\"web1.example.org\"" "name in its UTS namespace";
    "stop_signal" Text "a number from 1 to 64, or a name" required "\"TERM\"" "what asks it to end; a whole system is asked in its init's own way";
    "monitor" Boolean "" "true" "false" "whether a monitor stays with it while it runs";
    "view" Boolean "" "true" "false" "whether files such as `/proc/meminfo` tell it of itself where it has limits";
    "restart" Text "`no`, `on-failure`, `always`" "no" "\"always\"" "what happens when it ends by itself";
    "seccomp" Text "`default`, `unconfined`" "default" "\"unconfined\"" "which system calls it may make";
    "storage" Text "`overlay`, `copy`" "overlay" "\"copy\"" "layers, or a copy of all files; not changed once it is defined";
    "upper" WordOrTable "`disk`, or a table" "disk" "\"disk\"" "where changes go: to the container's folder, or to memory until it ends";
    "upper.memory" Size "bytes; 0 is half of the memory" "none" "\"64M\"" "most bytes of changes in memory";
    "ids" Integers "first id on the host from 1 on, and how many" "none" "[100000, 65536]" "its user namespace";
    "cgroup_parent" Text "a path below the root of cgroups; with systemd a slice" "/skep" "\"/customers/a\"" "its cgroup is made below this one";
    "publish" Texts "`[ADDRESS:]HOST:PORT[/udp]`" "none" "[\"8080:80\"]" "ports of the host that lead to it";
    "changes" Texts "ids of frozen layers, the lowest first" "none" "[\"00d1e5a2b7c4f903\"]" "what snapshots and copies have frozen; `skep restore` changes it";
    "from" Table "" required "{ kind = \"host\" }" "what its files are made of; not changed once it is defined";
    "from.kind" Text "`image`, `template`, `folder`, `adopted`, `host`" required "\"template\"" "which of these";
    "from.name" Text "" "none" "\"debian\"" "of an image and a template: its name";
    "from.layers" Texts "digests, the lowest first" "none" "[\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]" "of an image: its layers";
    "from.path" Text "an absolute path" "none" "\"/srv/base\"" "of a folder, and of files that lie elsewhere (adopted)";
    "from.lower" Texts "absolute paths, the uppermost first" "none" "[\"/srv/below\"]" "of files that lie elsewhere: layers below";
    "from.idmap" Boolean "" "false" "true" "of files that lie elsewhere: whether owners on disk are those inside";
    "from.hide" Texts "absolute paths" "none" "[\"/srv\"]" "of the host: not shown, besides the usual ones";
    "from.show" Texts "absolute paths" "none" "[\"/var/log\"]" "of the host: shown although they usually are not";
    "process" Table "" required "{ args = [\"true\"], cwd = \"/\" }" "what it runs";
    "process.args" Texts "at least one" required "[\"/usr/sbin/httpd\", \"-f\"]" "program and arguments";
    "process.cwd" Text "an absolute path" required "\"/srv\"" "working folder";
    "process.env" Texts "`KEY=value`" "none" "[\"LANG=C.UTF-8\"]" "variables";
    "process.user" Text "`USER[:GROUP]`, names or numbers" "root" "\"www-data\"" "who it runs as";
    "process.terminal" Boolean "" "false" "true" "whether it has a terminal, for `skep console`; needs the monitor";
    "process.first" Text "`program`, `skep-init`" "program" "\"skep-init\"" "its first process: the program, or one that reaps and passes signals on";
    "limits" Table "" "none" "{ memory = \"512M\" }" "what it may use; they hold at once when a verb changes them";
    "limits.memory" Size "bytes, 4096 or more" "none" "\"512M\"" "most memory";
    "limits.millicpus" Integer "thousandths of a processor, 10 to 1000000000" "none" "500" "most processor time";
    "limits.pids" Integer "1 or more" "none" "100" "most processes and threads";
    "limits.disk" Size "bytes" "none" "\"2G\"" "most space on disk for what it changes; not changed once it is defined";
    "log" Table "" "10M, 3 files" "{ size = \"1M\", files = 2 }" "bounds of its log";
    "log.size" Size "bytes; 0 for never" "10485760" "\"1M\"" "from which size on it is put aside";
    "log.files" Integer "0 to 1000" "3" "5" "how many old ones are kept";
    "volumes" Tables "" "none" "[{ source = \"/srv/www\", destination = \"/www\" }]" "folders and files of the host inside";
    "volumes[].source" Text "an absolute path" required "\"/srv/www\"" "on the host";
    "volumes[].destination" Text "an absolute path below `/`" required "\"/www\"" "inside";
    "volumes[].read_only" Boolean "" "false" "true" "whether it can only be read";
    "volumes[].idmap" Boolean "" "false" "true" "whether the owners of its files are ids of the container's user namespace";
    "devices" Tables "" "none" "[{ source = \"/dev/fuse\", destination = \"/dev/fuse\", access = \"rwm\" }]" "devices of the host inside";
    "devices[].source" Text "an absolute path" required "\"/dev/fuse\"" "on the host";
    "devices[].destination" Text "an absolute path below `/`" required "\"/dev/fuse\"" "inside";
    "devices[].access" Text "some of `r`, `w`, `m`" required "\"rw\"" "read, write, make a node";
    "network" Table "" required "{ kind = \"none\" }" "what connects it";
    "network.kind" Text "`none`, `host`, `managed`, `cni`" required "\"managed\"" "loopback alone, the host's own, a network of skep's, one of CNI plugins";
    "network.name" Text "" "none" "\"web\"" "of managed and cni: the network's name";
    "network.addresses" Texts "addresses, one for each family" "free ones" "[\"10.20.0.9\"]" "of managed and cni: its addresses";
    "network.rates" Table "" "none" "{ egress = \"10mbit\" }" "of managed and cni: bounds";
    "network.rates.egress" Text "8kbit to 1tbit" "none" "\"10mbit\"" "most that it sends";
    "network.rates.ingress" Text "8kbit to 1tbit" "none" "\"1gbit\"" "most that it receives";
    "network.conf" Text "an absolute path" "none" "\"/etc/cni/net.d\"" "of cni: the folder with configurations";
    "network.plugins" Texts "absolute paths, the first first" "none" "[\"/opt/cni/bin\"]" "of cni: folders with plugins";
    "links" Tables "" "none" "[{ name = \"lan\", link = { kind = \"macvlan\", parent = \"eth0\", mode = \"bridge\" } }]" "links besides (docs/networks.md)";
    "links[].name" Text "1 to 15 characters" required "\"lan\"" "its name inside";
    "links[].link" Table "" required "{ kind = \"phys\", device = \"eth1\" }" "what it is";
    "links[].link.kind" Text "`veth`, `macvlan`, `vlan`, `ipvlan`, `phys`" required "\"vlan\"" "which of these";
    "links[].link.parent" Text "a device of the host" "none" "\"eth0\"" "of macvlan, vlan and ipvlan: the device below; of a routed veth: where the host answers for it";
    "links[].link.mode" Text "macvlan: `private`, `vepa`, `bridge`, `passthru`; ipvlan: `l2`, `l3`, `l3s`" "none" "\"bridge\"" "of macvlan and ipvlan";
    "links[].link.id" Integer "1 to 4094" "none" "20" "of vlan: the tag";
    "links[].link.device" Text "a device of the host" "none" "\"eth1\"" "of phys: the device, the container's until it stops";
    "links[].link.host_name" Text "1 to 15 characters" "made from the container's" "\"vweb1\"" "of veth: name of the end on the host";
    "links[].link.host_addresses" Texts "addresses with prefix length" "none" "[\"10.9.0.1/24\"]" "of veth: addresses of that end";
    "links[].link.bridge" Text "a bridge of the host" "none" "\"br0\"" "of veth: the end on the host becomes its port";
    "links[].link.hairpin" Boolean "" "false" "true" "of veth: the bridge may send a packet back to this port";
    "links[].link.routed" Boolean "" "false" "true" "of veth: the host routes to its addresses";
    "links[].link.egress" Text "8kbit to 1tbit" "none" "\"10mbit\"" "of veth: most that it sends";
    "links[].link.ingress" Text "8kbit to 1tbit" "none" "\"10mbit\"" "of veth: most that it receives";
    "links[].addresses" Texts "addresses with prefix length" "none" "[\"192.0.2.7/24\"]" "its addresses inside";
    "links[].gateways" Texts "one address for each family" "none" "[\"192.0.2.1\"]" "where default routes go";
    "links[].routes" Tables "" "none" "[{ to = \"10.0.0.0/8\", via = \"192.0.2.2\" }]" "other routes through it";
    "links[].routes[].to" Text "a network" required "\"10.0.0.0/8\"" "where to";
    "links[].routes[].via" Text "an address" "none" "\"192.0.2.2\"" "through which neighbour";
    "links[].mtu" Integer "68 to 65535 bytes" "the kernel's" "1400" "most bytes of a packet";
    "links[].mac" Text "a hardware address" "made from the container's id" "\"02:00:00:00:00:07\"" "its hardware address";
    "share" Table "" "none" "{ device = \"eth0\", rate = \"1mbit\" }" "its part of a device of the host that containers share";
    "share.device" Text "a device of the host" required "\"eth0\"" "which one";
    "share.rate" Text "8kbit to 1tbit" required "\"1mbit\"" "what it is sure of";
    "share.ceil" Text "8kbit to 1tbit" "all of it" "\"20mbit\"" "what it may have when others leave it";
    "share.priority" Integer "0 to 7" "0" "7" "who is served first of what is left: 0 before 7";
    "share.total" Text "8kbit to 1tbit" "what others say, or 10gbit" "\"1gbit\"" "what the device passes in all";
    "autostart" Table "" "none" "{ order = 5, after = [\"db\"] }" "it begins with the machine";
    "autostart.order" Integer "-2147483648 to 2147483647" "0" "5" "those of a lower one come first";
    "autostart.after" Texts "names of containers" "none" "[\"db\"]" "not before these are ready";
    "autostart.groups" Texts "" "none" "[\"front\"]" "groups that can be started alone";
    "autostart.ready" Table "one of its keys" "as soon as it runs" "{ tcp = 5432 }" "when it is ready";
    "autostart.ready.tcp" Integer "1 to 65535" "none" "5432" "something inside listens on this port";
    "autostart.ready.exec" Text "" "none" "\"pg_isready\"" "this line for its shell ends with 0";
    "autostart.timeout" Integer "seconds" "0, no bound" "60" "until when it has to be ready";
    "system" Table "" "none" "{ machine_id = \"0123456789abcdef0123456789abcdef\" }" "it is a whole system, whose first process is an init";
    "system.machine_id" Text "32 hexadecimal digits" required "\"0123456789abcdef0123456789abcdef\"" "its `/etc/machine-id`";
    "system.nesting" Boolean "" "false" "true" "whether it is prepared for engines that run containers inside";
    "system.ttys" Integer "0 to 63" "0" "4" "terminals besides the console, on which gettys can be";
    "oci" Anything "" "none" "{ process = { oomScoreAdj = 500 } }" "a piece of config.json that is laid over the rendered one; as a text where TOML cannot say it";
    "lxc" Anything "" "none" "{ file = \"/var/lib/lxc/old/config\" }" "what a configuration of LXC says besides; `skep create --lxc-config` writes it";
}
