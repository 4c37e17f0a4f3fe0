//! The server and the data that cases share. Each is made when the first case asks for it.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::Result;
use spillway_tests::{Server, data};

use crate::clock::Progress;
use crate::data::{Cells, load_cells, load_narrow};

/// What is there so far.
#[derive(Debug)]
pub struct Stock {
    size: Size,
    progress: Progress,
    server: Option<Rc<Server>>,
    databases: BTreeSet<String>,
}

/// How much data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What the targets are for.
    Full,
    /// Enough to see that all works.
    Quick,
}

impl Size {
    /// One of two amounts.
    pub fn of<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

impl Stock {
    /// Nothing yet.
    pub fn new(size: Size, progress: Progress) -> Self {
        Self { size, progress, server: None, databases: BTreeSet::new() }
    }

    /// How much data there is to be.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Says what takes its time.
    pub fn say(&self, what: &str) {
        self.progress.say(what);
    }

    /// A MariaDB that all cases share which have no need of their own.
    pub fn server(&mut self) -> Result<Rc<Server>> {
        if self.server.is_none() {
            self.say("starting a MariaDB");
            self.server = Some(Rc::new(Server::start(&OPTIONS)?));
        }
        self.server.clone().ok_or_else(|| anyhow::anyhow!("no server"))
    }

    /// On that server, at least so many bytes of wide rows (doubled from one); gives `DATABASE`, whose only table is
    /// `test`.
    pub fn wide(&mut self, bytes: u64) -> Result<String> {
        let name = format!("wide_{bytes}");
        self.load(&name, |server| data::report::load(server, &name, bytes).map(drop))?;
        Ok(name)
    }

    /// The same of wide rows with text in them, which shrinks as text does.
    pub fn text(&mut self, bytes: u64) -> Result<String> {
        let name = format!("text_{bytes}");
        self.load(&name, |server| load_cells(server, &name, bytes, Cells::Text))?;
        Ok(name)
    }

    /// The same of wide rows with random bytes in them, which do not shrink.
    pub fn random(&mut self, bytes: u64) -> Result<String> {
        let name = format!("random_{bytes}");
        self.load(&name, |server| load_cells(server, &name, bytes, Cells::Random))?;
        Ok(name)
    }

    /// The same of so many rows of 24 bytes.
    pub fn narrow(&mut self, rows: u64) -> Result<String> {
        let name = format!("narrow_{rows}");
        self.load(&name, |server| load_narrow(server, &name, rows))?;
        Ok(name)
    }

    fn load(&mut self, name: &str, load: impl FnOnce(&Server) -> Result<()>) -> Result<()> {
        let server = self.server()?;
        if self.databases.insert(name.to_owned()) {
            self.say(&format!("loading {name}"));
            load(&server)?;
        }
        Ok(())
    }
}

/// A dump that waits for its sink is to wait, not to die. (How it dies is what the demo shows.)
const OPTIONS: [&str; 1] = ["--net-write-timeout=600"];
