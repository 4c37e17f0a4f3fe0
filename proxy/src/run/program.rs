//! The clients that `run` can redirect, known by the file name of the command.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::error::RunError;

/// How a client reads its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// The clients of MySQL and MariaDB: `my_getopt`, which `--help` describes in full.
    MyGetopt,
    /// mydumper and myloader: GLib's `GOption`.
    GOption,
}

/// The program of a command.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// As given: a name to be looked up in PATH, or a path.
    pub(crate) command: OsString,
    /// Its file name.
    pub(crate) name: &'static str,
    /// How it reads its options.
    pub(crate) family: Family,
}

impl Program {
    /// Looks the command up by its file name.
    pub(crate) fn identify(command: &OsStr) -> Result<Self, RunError> {
        let file_name = Path::new(command).file_name().unwrap_or(command);
        PROGRAMS
            .iter()
            .find(|(name, _)| file_name == *name)
            .map(|&(name, family)| Self { command: command.into(), name, family })
            .ok_or_else(|| RunError::UnknownProgram { program: command.to_string_lossy().into() })
    }

    /// Whether this is the interactive client, the only one of its family that looks at `MYSQL_HOST`.
    pub(crate) fn is_command_line(&self) -> bool {
        matches!(self.name, "mysql" | "mariadb")
    }
}

/// The names of all known programs, for messages.
pub(crate) fn known_names() -> String {
    PROGRAMS.map(|(name, _)| name).join(", ")
}

const PROGRAMS: [(&str, Family); 17] = [
    ("mysqldump", Family::MyGetopt),
    ("mariadb-dump", Family::MyGetopt),
    ("mysql", Family::MyGetopt),
    ("mariadb", Family::MyGetopt),
    ("mysqlbinlog", Family::MyGetopt),
    ("mariadb-binlog", Family::MyGetopt),
    ("mysqlcheck", Family::MyGetopt),
    ("mariadb-check", Family::MyGetopt),
    ("mysqlshow", Family::MyGetopt),
    ("mariadb-show", Family::MyGetopt),
    ("mysqladmin", Family::MyGetopt),
    ("mariadb-admin", Family::MyGetopt),
    ("mysqlimport", Family::MyGetopt),
    ("mariadb-import", Family::MyGetopt),
    ("mysqlpump", Family::MyGetopt),
    ("mydumper", Family::GOption),
    ("myloader", Family::GOption),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_by_file_name() {
        for (command, name, family) in [
            ("mysqldump", "mysqldump", Family::MyGetopt),
            ("/opt/mysql-9.7/bin/mysql", "mysql", Family::MyGetopt),
            ("./mydumper", "mydumper", Family::GOption),
        ] {
            let program = Program::identify(OsStr::new(command)).expect(command);
            assert_eq!((program.name, program.family), (name, family));
            assert_eq!(program.command, command);
        }
    }

    #[test]
    fn unknown_programs_are_refused_with_the_list() {
        for command in ["pg_dump", "", "/", "mysqldump.sh", "mysqldump/.."] {
            let error = Program::identify(OsStr::new(command)).expect_err(command);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("mariadb-dump, mysql, "), "{error}");
        }
    }
}
