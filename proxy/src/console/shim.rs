//! The console's side of opensrv-mysql: who may log in, and what a statement does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use opensrv_mysql::{
    AsyncMysqlShim, Column, ColumnFlags, ColumnType, ErrorKind, InitWriter, OkResponse, ParamParser,
    QueryResultWriter, StatementMetaWriter,
};
use spillway_protocol::{AuthPlugin, SCRAMBLE_LEN};
use subtle::ConstantTimeEq;
use tokio::io::AsyncWrite;
use tokio::time::sleep;
use tracing::{debug, info};
use zeroize::Zeroizing;

use super::State;
use super::connections::Progress;
use super::packets::Fault;
use super::statements::{Mistake, Statement};
use super::tables::{Kind, Table, Value};
use crate::printable::printable;
use crate::session::new_scramble;

/// The only account.
const USER: &str = "admin";

/// How long the answer to a wrong password takes.
const WRONG_PASSWORD_PAUSE: Duration = Duration::from_secs(1);

/// One connection, as opensrv-mysql sees it.
pub(super) struct Shim {
    state: Arc<State>,
    progress: Arc<Progress>,
    id: u32,
    scramble: [u8; SCRAMBLE_LEN],
}

impl Shim {
    pub(super) fn new(state: Arc<State>, progress: Arc<Progress>, id: u32) -> Self {
        Self { state, progress, id, scramble: new_scramble() }
    }

    fn knows(&self, user: &[u8], answer: &[u8]) -> bool {
        let is_right = match &self.state.password {
            Some(password) => {
                let right = AuthPlugin::Native.answer(password.as_bytes(), &self.scramble);
                Zeroizing::new(right.unwrap_or_default()).ct_eq(answer).into()
            }
            // A client may have one for its servers in its option file, and give it.
            None => true,
        };
        is_right & bool::from(user.ct_eq(USER.as_bytes()))
    }

    async fn run(&self, statement: Statement<'_>) -> Result<Answer, Refusal> {
        let watched = &self.state.watched;
        Ok(match statement {
            Statement::Help => Answer::Table(Table::help()),
            Statement::ShowSessions => Answer::Table(Table::sessions(&watched.sessions.snapshot())),
            Statement::ShowSpool => Answer::Table(Table::spool(watched).await),
            Statement::ShowRoutes => Answer::Table(Table::routes(watched)),
            Statement::ShowUpstreams => Answer::Table(Table::upstreams(watched)),
            Statement::ShowStatus(pattern) => Answer::Table(Table::status(watched).like(pattern)),
            Statement::ShowVariables(pattern) => {
                Answer::Table(Table::pairs(watched.in_force.get().variables.clone()).like(pattern))
            }
            Statement::ShowWarnings => Answer::Table(Table::warnings()),
            Statement::Select(items) => Answer::Table(Table::selected(&items, USER, self.id)),
            Statement::Setting => Answer::Ok,
            Statement::Kill(id) => {
                if !watched.sessions.kill(id) {
                    return Err(Refusal::NoSuchSession(id));
                }
                info!(session = id, "the console ended a session");
                Answer::Ok
            }
            Statement::Drain => {
                if !watched.stop_accepting.is_cancelled() {
                    watched.stop_accepting.cancel();
                    let running = watched.sessions.running();
                    info!(
                        running,
                        "drained by the console: no new sessions; the running ones may end by themselves"
                    );
                }
                Answer::Ok
            }
        })
    }
}

enum Answer {
    Ok,
    Table(Table),
}

/// What a client is told instead of an answer.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Mistake(#[from] Mistake),
    #[error("spillway: there is no session {0}; SHOW SESSIONS lists those that run")]
    NoSuchSession(u64),
}

impl Refusal {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Mistake(Mistake::UnknownStatement(_)) => ErrorKind::ER_PARSE_ERROR,
            Self::Mistake(Mistake::UnknownCommand) => ErrorKind::ER_UNKNOWN_COM_ERROR,
            Self::NoSuchSession(_) => ErrorKind::ER_NO_SUCH_THREAD,
        }
    }
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Shim {
    type Error = io::Error;

    /// Clients look at the number: with this one they expect nothing that is not there.
    fn version(&self) -> String {
        concat!("8.0.0-spillway-", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn connect_id(&self) -> u32 {
        self.id
    }

    fn salt(&self) -> [u8; SCRAMBLE_LEN] {
        self.scramble
    }

    async fn authenticate(&self, _plugin: &str, user: &[u8], _scramble: &[u8], answer: &[u8]) -> bool {
        let is_known = self.knows(user, answer);
        if is_known {
            self.progress.is_logged_in.store(true, Ordering::Relaxed);
            debug!("logged in to the console");
        } else {
            let with_password = if answer.is_empty() { "NO" } else { "YES" };
            let user = printable(user);
            info!(user, "refused a login to the console");
            // opensrv-mysql has error 1698 for this; 1045 is what clients know.
            let _ = self.progress.refused.set(Fault::AccessDenied { user, with_password });
            sleep(WRONG_PASSWORD_PAUSE).await;
        }
        is_known
    }

    async fn on_prepare<'a>(&'a mut self, _: &'a str, info: StatementMetaWriter<'a, W>) -> io::Result<()> {
        let text = b"spillway: the console has no prepared statements; send it as plain text";
        info.error(ErrorKind::ER_UNSUPPORTED_PS, &text[..]).await
    }

    /// Nothing was ever prepared.
    async fn on_execute<'a>(
        &'a mut self,
        _: u32,
        _: ParamParser<'a>,
        results: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        results.error(ErrorKind::ER_UNSUPPORTED_PS, &b"spillway: nothing is prepared"[..]).await
    }

    async fn on_close<'a>(&'a mut self, _: u32)
    where
        W: 'async_trait,
    {
    }

    async fn on_query<'a>(&'a mut self, text: &'a str, results: QueryResultWriter<'a, W>) -> io::Result<()> {
        let answer = match Statement::parse(text) {
            Ok(statement) => self.run(statement).await,
            Err(mistake) => Err(mistake.into()),
        };
        match answer {
            Ok(Answer::Table(table)) => send(&table, results).await,
            Ok(Answer::Ok) => results.completed(OkResponse::default()).await,
            Err(refusal) => results.error(refusal.kind(), refusal.to_string().as_bytes()).await,
        }
    }

    /// Some clients insist on a database.
    async fn on_init<'a>(&'a mut self, _: &'a str, writer: InitWriter<'a, W>) -> io::Result<()> {
        writer.ok().await
    }
}

async fn send<W: AsyncWrite + Send + Unpin>(
    table: &Table,
    results: QueryResultWriter<'_, W>,
) -> io::Result<()> {
    let columns: Vec<_> = table.columns.iter().map(|(name, kind)| column(name, *kind)).collect();
    let mut writer = results.start(&columns).await?;
    for row in &table.rows {
        for value in row {
            match value {
                Value::Text(text) => writer.write_col(text.as_str())?,
                Value::Number(number) => writer.write_col(*number)?,
                Value::Null => writer.write_col(None::<u64>)?,
            }
        }
        writer.end_row().await?;
    }
    writer.finish().await
}

fn column(name: &str, kind: Kind) -> Column {
    let (coltype, colflags) = match kind {
        Kind::Number => (ColumnType::MYSQL_TYPE_LONGLONG, ColumnFlags::UNSIGNED_FLAG | ColumnFlags::NUM_FLAG),
        Kind::Text => (ColumnType::MYSQL_TYPE_VAR_STRING, ColumnFlags::empty()),
    };
    Column { table: String::new(), column: name.to_owned(), coltype, colflags }
}
