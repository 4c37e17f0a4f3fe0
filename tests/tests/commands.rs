//! Commands packet by packet, as no driver sends them: cursors, packets of every critical length, many commands before
//! an answer is read, unknown commands. Each answer is, to the byte, the direct one.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::raw::{End, Head, LONGEST_PIECE};
use spillway_tests::wire::{Reader, capability, command};
use spillway_tests::{Raw, Server, Spillway};

/// The addresses of a server and of a proxy before it, for all of these tests.
fn direct_and_through() -> Result<[SocketAddr; 2]> {
    static PLACES: LazyLock<Result<(Server, Spillway)>> = LazyLock::new(|| {
        let server = Server::start(&[])?;
        let spillway = Spillway::to(&server.tcp()).start()?;
        Ok((server, spillway))
    });
    match &*PLACES {
        Ok((server, spillway)) => Ok([server.address(), spillway.address()?]),
        Err(error) => anyhow::bail!("{error:#}"),
    }
}

#[test]
fn a_raw_cursor() -> Result<()> {
    for extra in [0, capability::DEPRECATE_EOF] {
        let mut answers = Vec::new();
        for address in direct_and_through()? {
            let mut raw = Raw::login_with(address, capability::USUAL | extra, Some("test"))?;
            let mut answer = Vec::new();
            raw.send(command::STMT_PREPARE, b"SELECT seq, REPEAT('c', 100) FROM seq_1_to_10")?;
            let prepared = raw.message()?;
            let id = Reader(&prepared[1..]).int(4)?.to_le_bytes();
            let eof = usize::from(extra == 0);
            for _ in 0..2 + eof {
                raw.message()?;
            }
            // CURSOR_TYPE_READ_ONLY, one iteration.
            raw.send(command::STMT_EXECUTE, &[&id[..], &[1, 1, 0, 0, 0]].concat())?;
            for _ in 0..1 + 2 + 1 {
                answer.push(raw.message()?);
            }
            for _ in 0..4 {
                raw.send(command::STMT_FETCH, &[&id[..], &3_u32.to_le_bytes()].concat())?;
                loop {
                    let message = raw.message()?;
                    let last = matches!(message.first(), Some(0xfe | 0xff));
                    answer.push(message);
                    if last {
                        break;
                    }
                }
            }
            raw.send(command::STMT_CLOSE, &id)?;
            ensure!(raw.value("SELECT 'next'")? == "next", "the next statement");
            answers.push(answer);
        }
        ensure!(answers[0] == answers[1], "directly {:?}, through {:?}", answers[0], answers[1]);
        ensure!(answers[0].len() > 10, "{} packets", answers[0].len());
    }
    Ok(())
}

#[test]
fn packets_of_every_critical_length() -> Result<()> {
    for extra in [0, capability::DEPRECATE_EOF] {
        let [direct, through] =
            direct_and_through()?.map(|address| Raw::login_with(address, capability::USUAL | extra, None));
        let (mut direct, mut through) = (direct?, through?);
        // A length prefix of 4 bytes up to 2^24 - 1, of 9 beyond.
        for length in
            [0, 250, 251, 65_535, 65_536, 16_777_210, 16_777_211, 16_777_212, 16_777_216, 33_554_421]
        {
            let statement = format!("SELECT REPEAT('x', {length}) UNION ALL SELECT 'end'");
            let mut pieces = Vec::new();
            for raw in [&mut direct, &mut through] {
                raw.send(command::QUERY, statement.as_bytes())?;
                // Count, column, EOF, row (in pieces), row, end.
                let mut sizes = Vec::new();
                let mut logical = 0;
                while logical < 5 + usize::from(extra == 0) {
                    let size = raw.packet().with_context(|| statement.clone())?.len();
                    logical += usize::from(size < LONGEST_PIECE);
                    sizes.push(size);
                }
                pieces.push(sizes);
            }
            ensure!(pieces[0] == pieces[1], "{statement}: {pieces:?}");
            // And as a statement of that length.
            let filler = " ".repeat(length);
            for raw in [&mut direct, &mut through] {
                ensure!(raw.value(&format!("SELECT {filler} 1"))? == "1", "a statement of {length} bytes");
            }
        }
    }
    Ok(())
}

#[test]
fn commands_sent_before_the_answer_is_read() -> Result<()> {
    let mut sessions = Vec::new();
    for address in direct_and_through()? {
        let mut raw = Raw::login(address)?;
        for number in 0..300 {
            let statement =
                if number % 10 == 3 { "SELECT nonsense".into() } else { format!("SELECT {number}") };
            raw.send(command::QUERY, statement.as_bytes())?;
            raw.send(command::PING, b"")?;
        }
        let mut answers = Vec::new();
        for _ in 0..300 {
            raw.restart_sequence();
            let mut rows = Vec::new();
            let end = match raw.head()? {
                Head::End(end) => end,
                Head::Columns(_) => raw.rows(|row| rows.push(row.to_vec()))?,
            };
            raw.restart_sequence();
            let ping = raw.message()?;
            answers.push((rows, end, raw.end_of(&ping)?));
        }
        sessions.push(answers);
    }
    ensure!(sessions[0] == sessions[1], "the answers differ");
    let failed = sessions[1].iter().filter(|(_, end, _)| matches!(end, End::Err(_))).count();
    ensure!(failed == 30, "{failed} errors");
    Ok(())
}

#[test]
fn other_commands() -> Result<()> {
    for address in direct_and_through()? {
        let mut raw = Raw::login(address)?;
        raw.send(command::STATISTICS, b"")?;
        ensure!(String::from_utf8_lossy(&raw.message()?).contains("Uptime"), "COM_STATISTICS");
        raw.send(command::INIT_DB, b"mysql")?;
        let answer = raw.message()?;
        ensure!(matches!(raw.end_of(&answer)?, End::Ok { .. }), "COM_INIT_DB");
        ensure!(raw.value("SELECT DATABASE()")? == "mysql", "the database");
        // A byte that is no command.
        raw.send(0xf0, b"what?")?;
        let answer = raw.message()?;
        ensure!(raw.end_of(&answer)?.err()?.code == 1047, "an unknown command");
        ensure!(raw.value("SELECT 'next'")? == "next", "the session afterwards");
        raw.send(command::QUIT, b"")?;
        raw.expect_closed(LIMIT)?;
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
