//! Does one thing to a store of images, in a process that a test may kill.
//!
//! usage: store-work DATA import SOURCE NAME | store-work DATA bootstrap PROGRAM NAME | store-work DATA gc

use std::path::Path;

use anyhow::{Context, Result, bail};
use rootfs_tools::store::{Store, gc};
use rootfs_tools::{Bootstrap, Limits, Select, Silent, Source, import};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [data, "import", source, name] => {
            let store = Store::open(Path::new(data))?;
            let source = Source::at(Path::new(source), Select::default())?;
            import(&store, source, name, &Limits::default(), &mut Silent)?;
        }
        [data, "bootstrap", program, name] => {
            let bootstrap = Bootstrap {
                shell: "/bin/sh".into(),
                program: program.into(),
                installer: Bootstrap::parse_installer(Path::new(program)).context("a name of no installer")?,
                options: vec!["--variant=minbase".into()],
                suite: "suite".into(),
                mirrors: Vec::new(),
            };
            let source = Source::Bootstrap(bootstrap);
            import(&Store::open(Path::new(data))?, source, name, &Limits::default(), &mut Silent)?;
        }
        [data, "gc"] => drop(gc(&Store::open(Path::new(data))?, &|_| false)?),
        _ => bail!("usage: store-work DATA import SOURCE NAME | bootstrap PROGRAM NAME | gc"),
    }
    Ok(())
}
