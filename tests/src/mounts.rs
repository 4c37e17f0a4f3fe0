//! Programs that see other files in `/etc` than the rest of the machine does, each in a mount namespace of its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::leash::Leash;

/// Files put in the place of the machine's. Only programs started with [`Mounts::prefix`] see them; their mounts are
/// gone with them. Needs root, or a kernel that lets users have a namespace.
#[derive(Debug)]
pub struct Mounts {
    files: Vec<(PathBuf, PathBuf)>,
    _leash: Leash,
    dir: tempfile::TempDir,
}

impl Mounts {
    /// None yet.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("spillway-mounts-").tempdir()?;
        let leash = Leash::new(None, Some(dir.path()))?;
        Ok(Self { files: Vec::new(), _leash: leash, dir })
    }

    /// Puts a file with this text in the place of `target`, which must be there.
    pub fn file(mut self, target: &str, text: &str) -> Result<Self> {
        let source = self.dir.path().join(self.files.len().to_string());
        fs::write(&source, text).with_context(|| format!("writing {}", source.display()))?;
        self.files.push((source, target.into()));
        Ok(self)
    }

    /// The order in which names are looked up, such as `files dns`, whatever the machine's is.
    pub fn host_lookup(self, sources: &str) -> Result<Self> {
        const NSSWITCH: &str = "/etc/nsswitch.conf";
        if !Path::new(NSSWITCH).exists() {
            // The C library's own default, `files dns`, has to do.
            return Ok(self);
        }
        self.file(NSSWITCH, &format!("hosts: {sources}\n"))
    }

    /// The words that, put before a program and its arguments, make it see the files. Each step replaces the one
    /// before, so the process number is that of the program itself.
    pub fn prefix(&self) -> Vec<OsString> {
        let mut words = in_own_namespace(SCRIPT);
        words.extend(self.files.iter().flat_map(|(source, target)| [source.into(), target.into()]));
        words.push("--".into());
        words
    }
}

/// The words that run a shell script as the only user of a mount namespace; its arguments are to follow.
pub(crate) fn in_own_namespace(script: &str) -> Vec<OsString> {
    let mut words = vec!["unshare", "--mount", "--propagation", "private"];
    if !nix::unistd::getuid().is_root() {
        words.push("--map-root-user");
    }
    words.extend(["--", "/bin/sh", "-c", script, "mounts"]);
    words.into_iter().map(Into::into).collect()
}

const SCRIPT: &str = r#"
while [ "$1" != -- ]; do
    mount --bind "$1" "$2" || { echo "cannot mount: run as root, or allow user namespaces" >&2; exit 1; }
    shift 2
done
shift
exec "$@"
"#;
