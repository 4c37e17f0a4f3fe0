//! A client that takes answers as fast as they come and throws them away, or leaves them where they are.

mod tls;

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use spillway_protocol::{
    Capabilities, Command, ERR_HEADER, HEADER_LEN, PacketHeader, ResponseEnd, ResponseEvent, ResponseTracker,
    encode_packet,
};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::wire::{self, Greeting, capability};

/// A connection with the kernel's own buffer sizes. Between two calls it is a stalled client.
#[derive(Debug)]
pub struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

trait Stream: Read + Write + Debug {}

impl<S: Read + Write + Debug> Stream for S {}

impl Client {
    /// Connects and logs in with the tests' account.
    pub fn login(address: SocketAddr) -> Result<Self> {
        Self::log_in(address, None)
    }

    /// The same with TLS; the certificate has to be of the authority in this file.
    pub fn login_with_tls(address: SocketAddr, authority: &Path) -> Result<Self> {
        Self::log_in(address, Some(authority))
    }

    fn log_in(address: SocketAddr, authority: Option<&Path>) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut client = Self { stream: Box::new(stream.try_clone()?), buffer: vec![0; READ_SIZE] };
        let greeting = Greeting::parse(&client.packet().context("the greeting")?)?;
        let scramble = wire::native_scramble(PASSWORD, &greeting.salt);
        let response = |more| wire::handshake_response(capability::USUAL | more, USER, &scramble, None);
        match authority {
            None => client.stream.write_all(&encode_packet(1, &response(0)))?,
            Some(authority) => {
                let response = response(capability::SSL);
                client.stream.write_all(&encode_packet(1, &response[..SSL_REQUEST_LEN]))?;
                client.stream = Box::new(tls::connect(stream, address.ip(), authority)?);
                client.stream.write_all(&encode_packet(2, &response))?;
            }
        }
        match client.packet().context("the answer to the login")?.as_slice() {
            [0, ..] => Ok(client),
            [ERR_HEADER, rest @ ..] => bail!("login: {}", rest.escape_ascii()),
            _ => bail!("the login is answered neither by OK nor by ERR"),
        }
    }

    /// Sends a statement, or several, and reads nothing.
    pub fn send(&mut self, statement: &str) -> Result<()> {
        let mut payload = vec![Command::QUERY.0];
        payload.extend(statement.as_bytes());
        Ok(self.stream.write_all(&encode_packet(0, &payload))?)
    }

    /// Reads the whole answer, giving each piece of it to `each`; gives its length.
    pub fn read_answer(&mut self, mut each: impl FnMut(&[u8])) -> Result<u64> {
        let mut tracker = ResponseTracker::new(Capabilities::PROTOCOL_41);
        tracker.expect(Command::QUERY.response_form().context("COM_QUERY has an answer")?);
        let mut total = 0;
        loop {
            let size = self.read(READ_SIZE)?;
            let piece = &self.buffer[..size];
            each(piece);
            total += size as u64;
            let step = tracker.advance(piece)?;
            match step.event {
                None => continue,
                Some(ResponseEvent::End(ResponseEnd::Status(_))) if step.consumed == size => {
                    return Ok(total);
                }
                Some(ResponseEvent::End(ResponseEnd::Error(code))) => {
                    let end = &piece[..step.consumed];
                    bail!("error {code}: …{}", end[end.len().saturating_sub(100)..].escape_ascii());
                }
                Some(event) => bail!("{event:?} with {} bytes behind it", size - step.consumed),
            }
        }
    }

    /// Runs a statement and throws its answer away.
    pub fn execute(&mut self, statement: &str) -> Result<()> {
        self.send(statement)?;
        self.read_answer(|_| ()).with_context(|| statement.to_owned())?;
        Ok(())
    }

    /// Reads `total` bytes without a look at them.
    pub fn discard(&mut self, total: u64) -> Result<()> {
        self.take(total, |_| ())
    }

    /// Reads `total` bytes, giving each piece of them to `each`.
    pub fn take(&mut self, total: u64, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut left = total;
        while left > 0 {
            let size = self.read(usize::try_from(left).unwrap_or(READ_SIZE))?;
            each(&self.buffer[..size]);
            left -= size as u64;
        }
        Ok(())
    }

    /// Says goodbye and closes, as programs do.
    pub fn quit(mut self) -> Result<()> {
        Ok(self.stream.write_all(&encode_packet(0, &[Command::QUIT.0]))?)
    }

    /// At most so many bytes into the buffer.
    fn read(&mut self, most: usize) -> Result<usize> {
        let end = most.min(READ_SIZE);
        let size = self.stream.read(&mut self.buffer[..end]).context("reading an answer")?;
        ensure!(size > 0, "the peer closed in the middle of an answer");
        Ok(size)
    }

    fn packet(&mut self) -> Result<Vec<u8>> {
        let mut header = [0; HEADER_LEN];
        self.stream.read_exact(&mut header)?;
        let mut payload = vec![0; PacketHeader::decode(header).payload_len as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(payload)
    }
}

/// From 64 KiB to 4 MiB it makes no difference that shows (tried): the server is what takes the time.
const READ_SIZE: usize = 256 << 10;
/// A piece of an answer may be waited for until the server has sent another client 20 GB.
const LIMIT: Duration = Duration::from_secs(600);
/// Of the HandshakeResponse41: what comes before the user's name.
const SSL_REQUEST_LEN: usize = 32;
