//! How long `mysqldump` takes with a sink that takes everything.

use std::time::Duration;

use anyhow::{Result, ensure};
use spillway_tests::{Endpoint, Server, client};

use crate::clock;
use crate::proxy::Proxy;
use crate::scenario::{Subject, Through};

/// `mysqldump` to /dev/null.
pub(super) struct Dump<'a> {
    server: &'a Server,
    arguments: &'a [&'a str],
}

impl<'a> Dump<'a> {
    pub(super) fn new(server: &'a Server, arguments: &'a [&'a str]) -> Self {
        Self { server, arguments }
    }

    fn run(&self, endpoint: &Endpoint) -> Result<Duration> {
        let mut command = client::dumper("mysqldump", endpoint);
        let (took, status) = clock::time(command.args(self.arguments), LIMIT)?;
        ensure!(status.success(), "mysqldump ended with {status}");
        Ok(took)
    }
}

impl Subject for Dump<'_> {
    fn warm_up(&mut self, proxy: &mut Proxy) -> Result<()> {
        self.direct()?;
        self.through(proxy)?;
        Ok(())
    }

    fn direct(&mut self) -> Result<Duration> {
        self.run(&self.server.tcp())
    }

    fn through(&mut self, proxy: &mut Proxy) -> Result<Through> {
        let took = self.run(&proxy.endpoint())?;
        let session = proxy.session_end()?;
        Ok(Through { took, bytes: session.drained })
    }
}

const LIMIT: Duration = Duration::from_secs(300);
