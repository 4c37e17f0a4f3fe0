//! Unmodified dumps whose connection is lost behind the login: up to the first statement that leaves more
//! than a setting they go on as if nothing had been; from there they fail, and say so.

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::fault::{Action, Direction};
use spillway_tests::handshakes::{Case, Matrix, Verdict};
use spillway_tests::{Endpoint, Server, Stored, client, mysql9, process, stored};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| load(Server::start(&[])).unwrap_or_else(|error| panic!("the server: {error:#}")));
    &SERVER
}

fn load(server: Result<Server>) -> Result<Server> {
    let server = server?;
    server.sql(
        "USE test;
         CREATE TABLE small (id INT PRIMARY KEY AUTO_INCREMENT, text VARCHAR(100));
         INSERT INTO small (text) VALUES (REPEAT('x', 50)), ('it''s'), (NULL);",
    )?;
    Ok(server)
}

fn dump(endpoint: &Endpoint) -> Command {
    let mut command = client::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "test"]);
    command
}

/// MySQL's own, from MySQL's own server.
fn dump_mysql9(endpoint: &Endpoint) -> Command {
    let mut command = mysql9::dumper("mysqldump", endpoint);
    command.args(["--single-transaction", "--set-gtid-purged=OFF", "test"]);
    command
}

/// Where a dump through Spillway stands, in bytes of one direction.
#[derive(Debug)]
struct Offsets {
    /// Behind the login.
    begin: u64,
    /// Before the first command that is no setting, or its answer.
    settings_end: u64,
    /// Before the first that may leave more behind.
    healing_ends: u64,
    /// All.
    total: u64,
}

/// The packets in what one side has sent: where each begins, its sequence id, its payload.
fn packets(bytes: &[u8]) -> Vec<(u64, u8, &[u8])> {
    let (mut packets, mut at) = (Vec::new(), 0);
    while let Some([a, b, c, sequence]) = bytes.get(at..at + 4) {
        let size = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let Some(payload) = bytes.get(at + 4..at + 4 + size) else { break };
        packets.push((at as u64, *sequence, payload));
        at += 4 + size;
    }
    packets
}

/// Watches a dump. Its first statement that is no setting contains the first of `marks`, and the first that
/// may leave more behind the second.
fn learn(server: &Server, dump: &dyn Fn(&Endpoint) -> Command, marks: [&str; 2]) -> Result<[Offsets; 2]> {
    let stored = Stored::start(server.address(), &[])?;
    process::run(&mut dump(stored.spillway.endpoint()), LIMIT)?.success()?;
    let fault = &stored.fault;
    let index = fault.connections() - 1;
    let login = fault.handshake(index)?;
    let [from_server, to_server] =
        [Direction::FromServer, Direction::ToServer].map(|direction| fault.head(index, direction));

    // A command has the number 0; the first packet of its answer has 1.
    let begin = login.total(Direction::FromServer);
    let commands: Vec<_> = packets(&to_server).into_iter().filter(|packet| packet.1 == 0).collect();
    let answers: Vec<_> =
        packets(&from_server).into_iter().filter(|packet| packet.0 >= begin && packet.1 == 1).collect();
    let mut places = [[0; 2]; 2];
    for (mark, place) in marks.into_iter().zip(&mut places) {
        let has_mark = |payload: &[u8]| payload.windows(mark.len()).any(|window| window == mark.as_bytes());
        let number =
            commands.iter().position(|packet| has_mark(packet.2)).with_context(|| mark.to_owned())?;
        ensure!(number > 5, "{mark} is command {number}: what was before it?");
        *place = [answers.get(number).context("no answer")?.0, commands[number].0];
    }
    Ok([Direction::FromServer, Direction::ToServer].map(|direction| Offsets {
        begin: login.total(direction),
        settings_end: places[0][direction as usize],
        healing_ends: places[1][direction as usize],
        total: fault.passed_in(index, direction),
    }))
}

/// Numbers in the server's answers may be longer or shorter by some digits in another session.
const SLACK: u64 = 24;

/// Hits every `fine`-th byte up to the end of healing, and every `coarse`-th of the rest.
fn compare(
    server: &Server,
    dump: &(dyn Fn(&Endpoint) -> Command + Sync),
    marks: [&str; 2],
    [fine, coarse]: [usize; 2],
) -> Result<()> {
    let offsets = learn(server, dump, marks)?;
    let direct = process::run(&mut dump(&server.tcp()), LIMIT)?.success()?;
    let credentials = stored::credentials()?;
    let path = credentials.path().display().to_string();
    let matrix = Matrix {
        server: server.address(),
        options: &["--auth=stored", "--credentials", &path],
        client: dump,
        expected: &client::normalised(&direct.stdout),
    };
    let mut cases = Vec::new();
    for (direction, offsets) in [Direction::FromServer, Direction::ToServer].into_iter().zip(&offsets) {
        let early = (offsets.begin..offsets.healing_ends + SLACK).step_by(fine);
        let late = (offsets.healing_ends + SLACK..offsets.total - SLACK).step_by(coarse);
        let actions = [Action::Cut, Action::Reset].into_iter().cycle();
        let cases_here = early.chain(late).zip(actions);
        cases.extend(cases_here.map(|(after, action)| Case { times: 1, direction, after, action }));
    }
    matrix.run(&cases, |case| {
        let offsets = &offsets[case.direction as usize];
        match case.after {
            after if after + SLACK < offsets.settings_end => Verdict::Right,
            after if after > offsets.healing_ends + SLACK => Verdict::Failed,
            _ => Verdict::Either,
        }
    })
}

#[test]
fn mariadbs_dump_up_to_its_transaction() -> Result<()> {
    compare(server(), &dump, ["SET SESSION TRANSACTION"; 2], [2, 17])
}

#[test]
fn mysqls_dump_up_to_its_first_question() -> Result<()> {
    let server = load(mysql9::start(&[]))?;
    compare(&server, &dump_mysql9, ["SHOW VARIABLES", "SET SESSION TRANSACTION"], [5, 41])
}

const LIMIT: Duration = Duration::from_secs(60);
