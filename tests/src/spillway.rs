//! The proxy under test as a process.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::binary::spillway_bin;
use crate::client::{self, Endpoint};
use crate::leash::Leash;
use crate::log::Log;
use crate::mounts;
use crate::process::{self, Running};
use crate::wait::wait_for;

/// Where a [`Spillway`] keeps its spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolOn {
    /// A directory on the machine's disk.
    Disk,
    /// A file system in memory of this many MiB, in a mount namespace of its own: no one else sees the mount, and it
    /// is gone with the process. Needs root, or a kernel that lets users have a namespace.
    Tmpfs(u32),
    /// As `Tmpfs`, of the kind that takes no O_DIRECT and no limit.
    Ramfs,
    /// An ext4 of this many MiB on a loop device, mounted in the same way; it can be made to fail ([`Spillway::fail_disk`]).
    /// Needs root.
    Ext4(u32),
}

impl SpoolOn {
    /// The words that, put before a program, make it see the file system at `dir`.
    pub(crate) fn prefix(self, dir: &Path) -> Vec<OsString> {
        match self {
            Self::Disk => Vec::new(),
            Self::Tmpfs(mib) => mounted("tmpfs", &format!("size={mib}m"), dir),
            Self::Ramfs => mounted("ramfs", "mode=700", dir),
            Self::Ext4(mib) => {
                let mut words = mounts::in_own_namespace(LOOP_SCRIPT);
                words.extend([mib.to_string().into(), dir.into()]);
                words
            }
        }
    }
}

/// How a [`Spillway`] is to be started.
#[derive(Debug)]
pub struct Builder {
    /// None where a configuration file has the servers.
    upstream: Option<String>,
    /// None where a configuration file or a wrapper has the addresses.
    listen: Option<String>,
    spool: SpoolOn,
    wrapper: Vec<OsString>,
    options: Vec<String>,
}

impl Builder {
    /// Adds options to `spillway serve`.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// Listens there and not on a free port of 127.0.0.1.
    pub fn listen(mut self, listen: &str) -> Self {
        self.listen = Some(listen.to_owned());
        self
    }

    /// Says nothing of where to listen: the wrapper passes sockets.
    pub fn listen_where_told(mut self) -> Self {
        self.listen = None;
        self
    }

    /// Spools there and not on disk.
    pub fn spool(mut self, spool: SpoolOn) -> Self {
        self.spool = spool;
        self
    }

    /// Starts it by way of these words, which end in executing what follows them, such as
    /// [`Dns::prefix`](crate::Dns::prefix).
    pub fn wrapper(mut self, prefix: &[OsString]) -> Self {
        self.wrapper.extend_from_slice(prefix);
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Result<Spillway> {
        let spool = tempfile::Builder::new().prefix("spillway-spool-").tempdir()?;
        let leash = Leash::new(None, Some(spool.path()))?;
        let mut command = self.command(spool.path());
        let mut running = Running::start(&mut command)?;
        let log = Log::collect(running.child.stderr.take().context("no stderr")?);
        let output = Log::collect(running.child.stdout.take().context("no stdout")?);
        let first = wait_for(START_LIMIT, "the line `listening on …`", || {
            if let Some(line) = output.lines().first() {
                return Ok(Some(line.clone()));
            }
            if let Some(status) = running.ended()? {
                log.wait_for_end(START_LIMIT)?;
                bail!("spillway ended with {status}");
            }
            Ok(None)
        })
        .with_context(|| format!("{command:?}\n{}", log.tail()))?;
        let endpoint = announced(&first)?;
        Ok(Spillway { running, log, output, _leash: leash, spool, endpoint })
    }

    fn command(&self, spool: &Path) -> Command {
        let mut prefix = self.wrapper.clone();
        prefix.extend(self.spool.prefix(spool));
        let mut command = client::wrapped(&prefix, spillway_bin());
        if !geteuid().is_root() {
            // Root alone can look at its descriptors otherwise.
            command.env("SPILLWAY_CORE_DUMPS", "1");
        }
        command.arg("serve").arg("--spool-dir").arg(spool).args(["--spool-min-free", "0"]);
        for (option, value) in [("--upstream", &self.upstream), ("--listen", &self.listen)] {
            command.args(value.iter().flat_map(|value| [option, value]));
        }
        command.args(&self.options);
        command
    }
}

/// `spillway serve` under way. Dropping it kills it.
#[derive(Debug)]
pub struct Spillway {
    running: Running,
    log: Log,
    output: Log,
    _leash: Leash,
    spool: tempfile::TempDir,
    endpoint: Endpoint,
}

impl Spillway {
    /// One that leads to `upstream` (a [`Endpoint`], a [`SocketAddr`], or text as `--upstream` takes it).
    pub fn to(upstream: &(impl ToString + ?Sized)) -> Builder {
        Builder {
            upstream: Some(upstream.to_string()),
            listen: Some("127.0.0.1:0".to_owned()),
            spool: SpoolOn::Disk,
            wrapper: Vec::new(),
            options: Vec::new(),
        }
    }

    /// One whose servers and addresses are those of this configuration file.
    pub fn configured(file: &Path) -> Builder {
        let options = vec![format!("--config={}", file.display())];
        Builder { upstream: None, listen: None, spool: SpoolOn::Disk, wrapper: Vec::new(), options }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The TCP address where a route listens, once it does; the last one that it was given.
    pub fn address_of(&self, route: &str) -> Result<SocketAddr> {
        let mark = format!(" (route {route})");
        self.output.wait_for(&mark, START_LIMIT)?;
        let line = self.output.matching(&mark).pop().context("no such line")?;
        match announced(&line)? {
            Endpoint::Tcp(address) => Ok(address),
            Endpoint::Unix(path) => bail!("listens on {}, not on TCP", path.display()),
        }
    }

    /// The TCP address where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        match &self.endpoint {
            Endpoint::Tcp(address) => Ok(*address),
            Endpoint::Unix(path) => bail!("listens on {}, not on TCP", path.display()),
        }
    }

    /// Its log (stderr).
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its stdout.
    pub fn output(&self) -> &Log {
        &self.output
    }

    /// Waits for a line of its log.
    pub fn wait_for_log(&self, pattern: &str, limit: Duration) -> Result<String> {
        self.log.wait_for(pattern, limit)
    }

    /// Waits for the end of the `count`-th session; gives its log line, with `drained=` and so on ([`crate::log::field`]).
    pub fn wait_for_session_end(&self, count: usize, limit: Duration) -> Result<String> {
        self.log.wait_for_nth("session ended", count, limit)
    }

    /// Where it serves over HTTP, by the line that begins so: `metrics on`, `web page on`.
    pub fn http_address(&self, what: &str) -> Result<SocketAddr> {
        let line = self.output.wait_for(&format!("{what} http://"), START_LIMIT)?;
        let (_, url) = line.split_once("http://").context("no URL")?;
        let address = url.split('/').next().unwrap_or_default();
        address.parse().with_context(|| line.clone())
    }

    /// Where its console is (`--console`).
    pub fn console(&self) -> Result<Endpoint> {
        let line = self.output.wait_for("console on ", START_LIMIT)?;
        let place = line.strip_prefix("console on ").context("where the console is")?;
        Ok(match place.strip_prefix("unix:") {
            Some(path) => Endpoint::Unix(path.into()),
            None => Endpoint::Tcp(place.parse().with_context(|| line.clone())?),
        })
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The most memory that was resident so far.
    pub fn peak_memory(&self) -> Result<u64> {
        process::memory(self.pid(), "VmHWM")
    }

    /// The memory that is resident now.
    pub fn memory(&self) -> Result<u64> {
        process::memory(self.pid(), "VmRSS")
    }

    /// The spool directory as it sees it.
    pub fn spool_dir(&self) -> &Path {
        self.spool.path()
    }

    /// The spool directory as the test can see it, through the mount namespace of the process.
    pub fn spool_dir_inside(&self) -> PathBuf {
        let path = self.spool.path();
        Path::new(&format!("/proc/{}/root", self.pid())).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Bytes that its spool files take on disk now.
    pub fn spool_space(&self) -> Result<u64> {
        process::open_file_space(self.pid(), self.spool.path())
    }

    /// The first file of its spool, as in [`spool_files`](Self::spool_files).
    pub fn spool_file(&self) -> Result<File> {
        self.spool_files()?.into_iter().next().context("no spool file is open")
    }

    /// The files of its spool by way of its own descriptors: for reading, and for writing what it did not write.
    pub fn spool_files(&self) -> Result<Vec<File>> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid()))?;
        let is_spool = |path: &PathBuf| {
            fs::read_link(path).is_ok_and(|target| target.starts_with(self.spool_dir()) && !target.is_dir())
        };
        let files = descriptors.filter_map(|entry| Some(entry.ok()?.path())).filter(is_spool);
        let open = |file: PathBuf| {
            File::options().read(true).write(true).open(&file).with_context(|| file.display().to_string())
        };
        files.map(open).collect()
    }

    /// From now on the file system of [`SpoolOn::Ext4`] gives nothing back and takes nothing: every call ends with EIO, as
    /// when its disk is gone.
    pub fn fail_disk(&self) -> Result<()> {
        let mut python = client::clean("python3");
        python.args(["-c", SHUTDOWN_SCRIPT]).arg(self.spool_dir_inside());
        process::run(&mut python, START_LIMIT)?.success().context("EXT4_IOC_SHUTDOWN").map(drop)
    }

    /// Mounts the file system of [`SpoolOn::Ext4`] anew with this option: `ro`, as the kernel does after an error, or `rw`.
    pub fn remount_disk(&self, option: &str) -> Result<()> {
        let mut nsenter = client::clean("nsenter");
        nsenter.arg(format!("--target={}", self.pid())).args(["--mount", "mount", "-o"]);
        nsenter.arg(format!("remount,{option}")).arg(self.spool_dir());
        process::run(&mut nsenter, START_LIMIT)?.success().context("mounting it anew").map(drop)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::send(self.pid(), signal)
    }

    /// Waits for its end, and for the last line of its log.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = self.running.wait(limit).with_context(|| self.log.tail())?;
        self.log.wait_for_end(limit)?;
        Ok(status)
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.running.ended()?.is_none())
    }
}

/// The place in a line `listening on PLACE` or `listening on PLACE (route NAME)`.
fn announced(line: &str) -> Result<Endpoint> {
    let place = line.strip_prefix("listening on ").with_context(|| format!("the line {line:?}"))?;
    let place = place.split_once(" (route ").map_or(place, |(place, _)| place);
    Ok(match place.strip_prefix("unix:") {
        Some(path) => Endpoint::Unix(path.into()),
        None => Endpoint::Tcp(place.parse().with_context(|| line.to_owned())?),
    })
}

/// The words that give what follows a mount namespace of its own with a file system at `dir`. Each step replaces the
/// one before, so the process number is that of the proxy itself.
fn mounted(kind: &str, options: &str, dir: &Path) -> Vec<OsString> {
    let mut words = mounts::in_own_namespace(MOUNT_SCRIPT);
    words.extend([kind.into(), options.into(), dir.into()]);
    words
}

const MOUNT_SCRIPT: &str = r#"
mount -t "$1" -o "$2" "$1" "$3" || { echo "cannot mount a $1: run as root, or allow user namespaces" >&2; exit 1; }
shift 3
exec "$@"
"#;
/// The file system is mounted over the one that holds its image.
const LOOP_SCRIPT: &str = r#"
mount -t tmpfs -o "size=$(($1 + 8))m" tmpfs "$2" && truncate -s "$1M" "$2/image" && mkfs.ext4 -q "$2/image" &&
    mount -o loop "$2/image" "$2" && chmod 700 "$2" || { echo "cannot mount a loop device: run as root" >&2; exit 1; }
shift 2
exec "$@"
"#;
/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH` (`fs/ext4/ext4.h`).
const SHUTDOWN_SCRIPT: &str = "
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))
";
const START_LIMIT: Duration = Duration::from_secs(20);
