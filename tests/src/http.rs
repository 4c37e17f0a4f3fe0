//! Requests over HTTP, written by hand: with the Host header and the mistakes that a test wants.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// What a server answers.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    head: String,
    /// Behind the head.
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| self.body.clone())
    }
}

/// GET.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// Sends these bytes, which must have the server close the connection when it has answered.
pub fn ask(address: SocketAddr, request: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).context("connecting over HTTP")?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("reading an answer over HTTP")?;
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no head in {answer:?}"))?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).context("no status line")?;
    let answer = Answer { status: status.parse()?, head: head.to_owned(), body: body.to_owned() };
    let declared = answer.header("content-length").map(str::parse::<usize>).transpose()?;
    let has_body = !request.starts_with("HEAD ");
    ensure!(!has_body || declared == Some(body.len()), "{declared:?} bytes declared, {} sent", body.len());
    Ok(answer)
}

const LIMIT: Duration = Duration::from_secs(30);
