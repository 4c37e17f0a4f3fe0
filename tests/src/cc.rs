//! Small C programs that use the real client library, compiled at test time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process;

/// Compiles `tests/clients/NAME.c` with libmariadb into `dir`; gives the path of the program.
pub fn compile(name: &str, dir: &Path) -> Result<PathBuf> {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(format!("{name}.c"));
    let program = dir.join(name);
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Wextra", "-Werror", "-O1", "-o"]).arg(&program).arg(source);
    for what in ["--cflags", "--libs"] {
        let mut config = Command::new("mariadb_config");
        let flags = process::run(config.arg(what), LIMIT)?.success()?.text();
        compiler.args(flags.split_whitespace());
    }
    process::run(&mut compiler, LIMIT)?.success().with_context(|| format!("compiling {name}.c"))?;
    Ok(program)
}

const LIMIT: Duration = Duration::from_secs(60);
