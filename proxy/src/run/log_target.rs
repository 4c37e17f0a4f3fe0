//! Where `run` may write its log and its messages: never into the dump.

use std::ffi::OsString;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::MultiProgress;
use nix::sys::stat::fstat;
use tracing_subscriber::fmt::MakeWriter;

/// Where log lines and messages go: to stderr, or, where that is the file that the dump goes to
/// (`> dump.sql 2>&1`), to a file of their own that is made with the first line.
#[derive(Clone, Debug)]
pub struct LogTarget {
    kind: Kind,
    /// Lines of progress on the terminal, above which everything else goes.
    progress: MultiProgress,
}

#[derive(Clone, Debug)]
enum Kind {
    Stderr,
    File(Arc<Mutex<LazyFile>>),
}

impl LogTarget {
    /// Standard error, whatever it is.
    pub fn stderr() -> Self {
        Self { kind: Kind::Stderr, progress: MultiProgress::new() }
    }

    /// Looks at stdout and stderr.
    pub fn detect() -> Self {
        let kind = match is_same_file(&io::stdout(), &io::stderr()) {
            true => {
                Kind::File(Arc::new(Mutex::new(LazyFile::new(directories(&|name| std::env::var_os(name))))))
            }
            false => Kind::Stderr,
        };
        Self { kind, progress: MultiProgress::new() }
    }

    /// Whether lines go to a terminal, which shows colours.
    pub fn is_terminal(&self) -> bool {
        matches!(self.kind, Kind::Stderr) && io::stderr().is_terminal()
    }

    /// Where lines of progress may be drawn: a terminal that has nothing of the dump. None elsewhere.
    pub fn progress(&self) -> Option<&MultiProgress> {
        (self.is_terminal() && !io::stdout().is_terminal()).then_some(&self.progress)
    }

    /// Where the client's stderr must go, so that nothing of it gets into the dump. None if it may have our own.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn client_stderr(&self) -> io::Result<Option<OwnedFd>> {
        match &self.kind {
            Kind::Stderr => Ok(None),
            Kind::File(file) => {
                file.lock().unwrap_or_else(PoisonError::into_inner).open_for_another().map(Some)
            }
        }
    }

    /// Whether there is a file for the log, because stderr is the dump's.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File(_))
    }

    /// Whether there is a file for the log, and something in it.
    pub fn has_lines(&self) -> bool {
        self.path().is_some_and(|path| path.metadata().is_ok_and(|metadata| metadata.len() > 0))
    }

    /// The log is over: a file without a line goes.
    pub fn remove_if_empty(&self) {
        if let Kind::File(file) = &self.kind {
            file.lock().unwrap_or_else(PoisonError::into_inner).remove_if_empty();
        }
    }

    /// Writes a last message, such as the error that `run` ends with. Nothing is left to do if that fails.
    pub fn tell(&self, message: &dyn fmt::Display) {
        let line = format!("spillway: {message}\n");
        let _ = self.make_writer().write_all(line.as_bytes());
    }

    /// The file that was made for the log, if any was.
    pub fn path(&self) -> Option<PathBuf> {
        match &self.kind {
            Kind::Stderr => None,
            Kind::File(file) => match &file.lock().unwrap_or_else(PoisonError::into_inner).state {
                State::Open(_, path) => Some(path.clone()),
                State::Unopened | State::Nowhere => None,
            },
        }
    }
}

impl<'a> MakeWriter<'a> for LogTarget {
    type Writer = LogWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LogWriter { target: self }
    }
}

/// Writes to a [`LogTarget`].
#[derive(Debug)]
pub struct LogWriter<'a> {
    target: &'a LogTarget,
}

impl Write for LogWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.target.kind {
            Kind::Stderr => self.target.progress.suspend(|| io::stderr().write(line)),
            Kind::File(file) => file.lock().unwrap_or_else(PoisonError::into_inner).write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Neither stderr nor the file is buffered.
        Ok(())
    }
}

/// A log file that is made when there is something to write.
#[derive(Debug)]
struct LazyFile {
    directories: Vec<Directory>,
    state: State,
}

#[derive(Debug)]
enum State {
    Unopened,
    Open(File, PathBuf),
    /// No directory can be written to. There is nobody to be told.
    Nowhere,
}

#[derive(Debug, PartialEq, Eq)]
struct Directory {
    path: PathBuf,
    /// Ours: made if it is not there.
    own: bool,
}

impl LazyFile {
    fn new(directories: Vec<Directory>) -> Self {
        Self { directories, state: State::Unopened }
    }

    fn open(&mut self) {
        if matches!(self.state, State::Unopened) {
            self.state = match self.directories.iter().find_map(|dir| create_in(dir).ok()) {
                Some((file, path)) => State::Open(file, path),
                None => State::Nowhere,
            };
        }
    }

    /// The file, for the client to write to, too. Where there is none, nobody is to see what the client writes.
    fn open_for_another(&mut self) -> io::Result<OwnedFd> {
        self.open();
        match &self.state {
            State::Open(file, _) => Ok(file.try_clone()?.into()),
            State::Unopened | State::Nowhere => Ok(OpenOptions::new().write(true).open("/dev/null")?.into()),
        }
    }

    fn remove_if_empty(&mut self) {
        if let State::Open(file, path) = &self.state
            && file.metadata().is_ok_and(|metadata| metadata.len() == 0)
        {
            let _ = std::fs::remove_file(path);
            self.state = State::Nowhere;
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.open();
        match &mut self.state {
            State::Open(file, _) => file.write(line),
            State::Unopened | State::Nowhere => Ok(line.len()),
        }
    }
}

/// Makes a log file under a name that nobody has put anything under, as the directory may be anybody's.
fn create_in(directory: &Directory) -> io::Result<(File, PathBuf)> {
    if directory.own {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory.path)?;
    }
    let pid = std::process::id();
    let mut tried = 0;
    loop {
        tried += 1;
        let name = match tried {
            1 => format!("spillway-run-{pid}.log"),
            _ => format!("spillway-run-{pid}-{tried}.log"),
        };
        let path = directory.path.join(name);
        // `create_new` follows no symbolic link.
        match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((file, path)),
            // Of an earlier process with our number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < MAX_NAMES => {}
            Err(error) => return Err(error),
        }
    }
}

/// The state directory, by the environment: systemd's, the user's; where none can be had, the temporary directory.
fn directories(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<Directory> {
    let var = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd separates several by colons.
    let systemd = env("STATE_DIRECTORY").and_then(|list| std::env::split_paths(&list).next());
    let xdg = var("XDG_STATE_HOME").map(|dir| dir.join("spillway"));
    let home = var("HOME").or_else(std::env::home_dir).map(|dir| dir.join(".local/state/spillway"));
    let own = [systemd.filter(|dir| dir.is_absolute()), xdg, home];
    let temporary = Directory { path: var("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp")), own: false };
    own.into_iter().flatten().map(|path| Directory { path, own: true }).chain([temporary]).collect()
}

/// Whether both write to one file, pipe or socket, and that is not a terminal.
pub(super) fn is_same_file(one: &(impl AsFd + IsTerminal), other: &(impl AsFd + IsTerminal)) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(first), Ok(second)) => {
            (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino) && !one.is_terminal()
        }
        // Closed: nothing can be written there anyway.
        _ => false,
    }
}

/// More than one log of one process number in a directory is rare already.
const MAX_NAMES: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn target(directories: Vec<Directory>) -> LogTarget {
        let file = Arc::new(Mutex::new(LazyFile::new(directories)));
        LogTarget { kind: Kind::File(file), progress: MultiProgress::new() }
    }

    fn own(path: &Path) -> Directory {
        Directory { path: path.to_owned(), own: true }
    }

    fn count(dir: &Path) -> usize {
        std::fs::read_dir(dir).map_or(0, Iterator::count)
    }

    #[test]
    fn a_file_is_made_with_the_first_line() {
        let temp = tempfile::tempdir().expect("a directory");
        let state = temp.path().join("a/spillway");
        let target = target(vec![own(&state)]);
        assert_eq!((target.path(), count(temp.path())), (None, 0));
        target.make_writer().write_all(b"one\n").expect("written");
        target.tell(&"two");
        let path = target.path().expect("open");
        assert_eq!(path, state.join(format!("spillway-run-{}.log", std::process::id())));
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "one\nspillway: two\n");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&state)), (0o600, 0o700));
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let temp = tempfile::tempdir().expect("a directory");
        let name = temp.path().join(format!("spillway-run-{}.log", std::process::id()));
        let victim = temp.path().join("victim");
        std::os::unix::fs::symlink(&victim, &name).expect("linked");
        let target = target(vec![own(temp.path())]);
        target.tell(&"hello");
        assert!(!victim.exists());
        assert_ne!(target.path().expect("open"), name);
    }

    #[test]
    fn the_next_directory_where_one_cannot_be_had() {
        let temp = tempfile::tempdir().expect("a directory");
        let none = || vec![own(Path::new("/proc/nonexistent/spillway"))];
        let with_next = target(none().into_iter().chain([own(temp.path())]).collect());
        with_next.tell(&"hello");
        assert!(with_next.path().expect("open").starts_with(temp.path()));
        let nowhere = target(none());
        nowhere.tell(&"lost");
        assert_eq!(nowhere.path(), None);
    }

    #[test]
    fn directories_by_the_environment() {
        let paths = |vars: &[(&str, &str)]| -> Vec<PathBuf> {
            let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            directories(&env).into_iter().map(|dir| dir.path).collect()
        };
        let all = [
            ("STATE_DIRECTORY", "/var/lib/spillway:/var/lib/other"),
            ("XDG_STATE_HOME", "/x"),
            ("HOME", "/home/u"),
            ("TMPDIR", "/t"),
        ];
        let home = "/home/u/.local/state/spillway";
        assert_eq!(paths(&all), ["/var/lib/spillway", "/x/spillway", home, "/t"].map(PathBuf::from));
        let relative = [("XDG_STATE_HOME", "x"), ("HOME", "/home/u")];
        assert_eq!(paths(&relative), [home, "/tmp"].map(PathBuf::from));
    }

    #[test]
    fn one_file_or_two() {
        let temp = tempfile::tempdir().expect("a directory");
        let open = |name: &str| File::create(temp.path().join(name)).expect("created");
        let (dump, log) = (open("dump"), open("log"));
        assert!(is_same_file(&dump, &dump.try_clone().expect("cloned")));
        assert!(is_same_file(&dump, &open("dump")));
        assert!(!is_same_file(&dump, &log));
    }
}
