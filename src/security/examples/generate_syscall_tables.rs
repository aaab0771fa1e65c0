//! Writes `src/seccomp/tables/names.rs` and one file of numbers per architecture.
//!
//! Input are the `general.rs` files of the crate `linux-raw-sys`, which bindgen made from the kernel's own headers:
//!
//! ```text
//! cargo run -p security --example generate_syscall_tables -- ~/.cargo/registry/src/*/linux-raw-sys-0.12.1/src
//! cargo fmt -p security
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Name of the module to write, folder in `linux-raw-sys`, title.
const ARCHITECTURES: [(&str, &str, &str); 8] = [
    ("x86_64", "x86_64", "x86-64"),
    ("x86", "x86", "32-bit x86"),
    ("x32", "x32", "x32, without the bit 0x4000_0000"),
    ("aarch64", "aarch64", "64-bit Arm"),
    ("arm", "arm", "32-bit Arm, EABI; 0xf001 to 0xf006 stand for the private calls 0xf0001 to 0xf0006"),
    ("riscv64", "riscv64", "64-bit RISC-V"),
    ("ppc64le", "powerpc64", "64-bit PowerPC"),
    ("s390x", "s390x", "64-bit IBM Z"),
];

/// Calls younger than the headers of `linux-raw-sys` 0.12.1 (Linux 6.17). KERNEL(7.0): drop what a newer crate has.
const YOUNGER: [(&str, u32, &[&str]); 3] = [
    ("uprobe", 336, &["x86_64", "x32"]),
    ("listns", 470, &["x86_64", "x86", "x32", "aarch64", "arm", "riscv64", "ppc64le", "s390x"]),
    ("rseq_slice_yield", 471, &["x86_64", "x86", "x32", "aarch64", "arm", "riscv64", "ppc64le", "s390x"]),
];

/// Constants of the headers that name no call.
const NOT_CALLS: [&str; 2] = ["syscalls", "arch_specific_syscall"];

fn main() -> Result<()> {
    let source = std::env::args_os().nth(1).context("usage: generate_syscall_tables <linux-raw-sys>/src")?;
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/seccomp/tables");
    let mut tables = BTreeMap::new();
    for (module, folder, _) in ARCHITECTURES {
        let mut table = read_constants(&PathBuf::from(&source).join(folder).join("general.rs"))?;
        for (name, number, _) in YOUNGER.iter().filter(|(_, _, on)| on.contains(&module)) {
            table.insert((*name).to_owned(), *number);
        }
        tables.insert(module, table);
    }
    let names: BTreeSet<&String> = tables.values().flat_map(BTreeMap::keys).collect();
    fs::write(target.join("names.rs"), render_names(&names)?)?;
    for (module, _, title) in ARCHITECTURES {
        fs::write(target.join(format!("{module}.rs")), render_numbers(title, &names, &tables[module])?)?;
    }
    Ok(())
}

/// Reads the numbers of one architecture.
fn read_constants(file: &Path) -> Result<BTreeMap<String, u32>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut table = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("pub const __NR_").or_else(|| line.strip_prefix("pub const __ARM_NR_"))
        else {
            continue;
        };
        let Some((name, number)) = rest.trim_end_matches(';').split_once(": u32 = ") else { continue };
        if name.contains(|letter: char| letter.is_ascii_uppercase() && name == name.to_uppercase())
            || NOT_CALLS.contains(&name)
        {
            continue;
        }
        table.insert(name.to_owned(), number.parse().with_context(|| format!("number of {name}"))?);
    }
    ensure!(table.len() > 250, "{} has only {} calls", file.display(), table.len());
    Ok(table)
}

fn render_names(names: &BTreeSet<&String>) -> Result<String> {
    let mut text = String::from(
        "//! Names of all system calls of all architectures, sorted. Made by `examples/generate_syscall_tables.rs`.\n\n",
    );
    writeln!(text, "/// How many there are.\npub(super) const COUNT: usize = {};\n", names.len())?;
    writeln!(text, "/// The names; a place in this list is a place in each table of numbers.")?;
    writeln!(text, "#[rustfmt::skip]\npub(super) const NAMES: [&str; COUNT] = [")?;
    wrap(&mut text, names.iter().map(|name| format!("\"{name}\",")))?;
    text.push_str("];\n");
    Ok(text)
}

fn render_numbers(title: &str, names: &BTreeSet<&String>, table: &BTreeMap<String, u32>) -> Result<String> {
    let mut text = format!("//! Numbers for {title}. Made by `examples/generate_syscall_tables.rs`.\n\n");
    text.push_str("use super::{NONE, names::COUNT};\n\n/// By place of the name.\n#[rustfmt::skip]\n");
    text.push_str("pub(super) static NUMBERS: [u16; COUNT] = [\n");
    let mut cells = Vec::new();
    for name in names {
        cells.push(match table.get(*name) {
            None => "NONE,".to_owned(),
            Some(number) => format!("{},", pack(*number).with_context(|| format!("{name} is {number}"))?),
        });
    }
    wrap(&mut text, cells.into_iter())?;
    text.push_str("];\n");
    Ok(text)
}

/// Fits a number into 16 bits.
fn pack(number: u32) -> Result<u16> {
    let number = number & !0x4000_0000;
    let packed = if number & 0xf_0000 != 0 { number & 0xf | 0xf000 } else { number };
    Ok(u16::try_from(packed)?)
}

/// Adds cells in lines of at most 120 columns.
fn wrap(text: &mut String, cells: impl Iterator<Item = String>) -> Result<()> {
    let mut line = String::from("   ");
    for cell in cells {
        if line.len() + 1 + cell.len() > 120 {
            writeln!(text, "{line}")?;
            line = String::from("   ");
        }
        write!(line, " {cell}")?;
    }
    writeln!(text, "{line}")?;
    Ok(())
}
