//! How long the server was busy with each statement, by its own clock: the slow query log, with a limit of 0 s.
//!
//! Its times are in microseconds, nothing has to be polled while a statement runs, and every way pays the same for it.
//! It ends a statement with its last rows: all but what fits into the server's last 16 KiB buffer has been sent then.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use spillway_tests::Server;
use spillway_tests::server::USER;
use spillway_tests::wait::wait_for;

/// A MariaDB that writes down every statement of the tests' account, until this is dropped.
#[derive(Debug)]
pub struct QueryTimes {
    server: Rc<Server>,
}

/// A statement that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// When it began, in seconds since 1970.
    pub start: f64,
    /// How long it took.
    pub took: Duration,
    /// Its text.
    pub text: String,
}

impl QueryTimes {
    /// Begins; holds for the sessions that begin from now on.
    pub fn start(server: Rc<Server>) -> Result<Self> {
        server.sql(
            "SET GLOBAL log_output = 'TABLE', GLOBAL long_query_time = 0, GLOBAL slow_query_log = ON;
             TRUNCATE mysql.slow_log;",
        )?;
        Ok(Self { server })
    }

    /// The statements since the last call, once there is one among them that begins with `wanted`: the last one may have
    /// been answered a moment before it is written down.
    pub fn take(&self, wanted: &str) -> Result<Vec<Statement>> {
        let statements = wait_for(LIMIT, &format!("{wanted:?} in the slow query log"), || {
            let statements: Vec<Statement> = self
                .server
                .query(&select())
                .context("the slow query log")?
                .iter()
                .map(|row| parse(row))
                .collect::<Result<_>>()?;
            Ok(statements.iter().any(|statement| statement.text.starts_with(wanted)).then_some(statements))
        })?;
        self.server.sql("TRUNCATE mysql.slow_log")?;
        Ok(statements)
    }
}

impl Drop for QueryTimes {
    fn drop(&mut self) {
        // The server is ending anyway where this fails.
        let _ = self.server.sql("SET GLOBAL slow_query_log = OFF, GLOBAL long_query_time = DEFAULT");
    }
}

/// `start_time` is when the statement was written down, which is its end.
fn select() -> String {
    format!(
        "SELECT UNIX_TIMESTAMP(start_time) - TIME_TO_SEC(query_time), TIME_TO_SEC(query_time),
             REPLACE(LEFT(sql_text, 200), '\\n', ' ')
         FROM mysql.slow_log WHERE user_host LIKE '{USER}[%' ORDER BY 1"
    )
}

fn parse(row: &str) -> Result<Statement> {
    let parse = || {
        let mut fields = row.splitn(3, '\t');
        let start = fields.next()?.parse().ok()?;
        let took = Duration::try_from_secs_f64(fields.next()?.parse().ok()?).ok()?;
        Some(Statement { start, took, text: fields.next()?.to_owned() })
    };
    parse().with_context(|| format!("a row of the slow query log: {row:?}"))
}

const LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::Client;

    #[test]
    fn a_statement_has_its_time() {
        let server = Rc::new(Server::start(&[]).unwrap());
        let times = QueryTimes::start(Rc::clone(&server)).unwrap();
        let mut client = Client::login(server.address()).unwrap();
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let start = Instant::now();
        client.execute("DO SLEEP(0.2)").unwrap();
        client.execute("DO 1").unwrap();
        let longest = start.elapsed();
        let statements = times.take("DO 1").unwrap();
        let texts: Vec<&str> = statements.iter().map(|statement| statement.text.as_str()).collect();
        assert_eq!(texts, ["DO SLEEP(0.2)", "DO 1"]);
        let sleep = &statements[0];
        assert!(sleep.took >= Duration::from_millis(200) && sleep.took <= longest, "{sleep:?}");
        assert!((sleep.start - before).abs() < longest.as_secs_f64(), "{sleep:?} began at {before}");
        assert!(statements[1].start >= sleep.start + 0.19, "{statements:?}");
    }
}
