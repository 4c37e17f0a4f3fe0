//! A client that speaks the protocol by hand: it can stop reading where it likes, log in with any capabilities, send
//! what no library would, and it checks every sequence number.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::packed::{Algorithm, Packed};
use crate::server::{PASSWORD, USER};
use crate::wire::{self, ErrPacket, Greeting, Reader, capability, command};

/// A connection. Reads nothing but what it is asked to read: between two calls it is a stalled client.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    sequence: u8,
    capabilities: u32,
    greeting: Greeting,
    /// The compressed protocol, from the end of the login on.
    packed: Option<Packed>,
    any_number: bool,
    /// Bytes read off the network so far.
    pub received: u64,
}

/// An answer that is not a result set, or the end of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// OK, or the EOF that ends rows.
    Ok {
        /// Rows changed.
        affected: u64,
        /// Status flags.
        status: u16,
    },
    /// ERR.
    Err(ErrPacket),
}

impl End {
    /// Whether another result follows.
    pub fn more(&self) -> bool {
        matches!(self, Self::Ok { status, .. } if status & MORE_RESULTS != 0)
    }

    /// The error, or a complaint that there is none.
    pub fn err(self) -> Result<ErrPacket> {
        match self {
            Self::Err(error) => Ok(error),
            Self::Ok { .. } => bail!("the result ended as if all were well"),
        }
    }

    pub fn ok(self) -> Result<()> {
        match self {
            Self::Ok { .. } => Ok(()),
            Self::Err(error) => bail!("error {} ({}): {}", error.code, error.state, error.message),
        }
    }
}

/// How a result starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Rows of so many columns follow.
    Columns(u64),
    /// There are none.
    End(End),
}

impl Raw {
    /// Connects and logs in with the tests' account.
    pub fn login(address: SocketAddr) -> Result<Self> {
        Self::login_with(address, capability::USUAL, Some("test"))
    }

    /// Connects and logs in with the tests' account, and speaks the compressed protocol from then on.
    pub fn login_packed(address: SocketAddr, algorithm: Algorithm) -> Result<Self> {
        let mut raw = Self::connect(address)?;
        raw.log_in_packed(algorithm, wire::NATIVE, USER, PASSWORD)?;
        Ok(raw)
    }

    /// As [`Raw::log_in`] for a login that succeeds; goes over to the compressed protocol.
    pub fn log_in_packed(
        &mut self,
        algorithm: Algorithm,
        plugin: &str,
        user: &str,
        password: &str,
    ) -> Result<()> {
        self.capabilities |= algorithm.capability();
        self.log_in(plugin, user, password, Some("test"))?.ok().context("login")?;
        self.packed = Some(Packed::new(algorithm));
        Ok(())
    }

    /// Connects and logs in with just these capabilities.
    pub fn login_with(address: SocketAddr, capabilities: u32, database: Option<&str>) -> Result<Self> {
        let mut raw = Self::connect(address)?;
        raw.capabilities = capabilities;
        raw.log_in(wire::NATIVE, USER, PASSWORD, database)?.ok().context("login")?;
        Ok(raw)
    }

    /// Answers the greeting with an account and a plugin's name, and the server's wish for `mysql_native_password`
    /// where it is another; gives what the server says in the end.
    pub fn log_in(
        &mut self,
        plugin: &str,
        user: &str,
        password: &str,
        database: Option<&str>,
    ) -> Result<End> {
        if database.is_some() {
            self.capabilities |= capability::CONNECT_WITH_DB;
        }
        let scramble = wire::native_scramble(password, &self.greeting.salt);
        let mut response = wire::handshake_response_of(plugin, self.capabilities, user, &scramble, database);
        if self.capabilities & capability::ZSTD_COMPRESSION_ALGORITHM != 0 {
            response.push(3);
        }
        self.write_packet(&response)?;
        self.end_of_login(password)
    }

    /// COM_CHANGE_USER.
    pub fn change_user(&mut self, user: &str, password: &str, database: &str) -> Result<End> {
        let scramble = wire::native_scramble(password, &self.greeting.salt);
        self.send(command::CHANGE_USER, &wire::change_user(user, &scramble, database))?;
        self.end_of_login(password)
    }

    fn end_of_login(&mut self, password: &str) -> Result<End> {
        let mut answer = self.message()?;
        if answer.first() == Some(&0xfe) {
            let mut reader = Reader(&answer[1..]);
            let plugin = reader.text()?;
            ensure!(plugin == wire::NATIVE, "asked for the plugin {plugin}");
            let salt = reader.0.strip_suffix(&[0]).unwrap_or(reader.0).to_vec();
            self.write_packet(&wire::native_scramble(password, &salt))?;
            answer = self.message()?;
        }
        self.end_of(&answer)
    }

    /// Connects and reads the greeting, no more.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        Self::over(connect_small(address)?)
    }

    /// As [`Raw::connect`], over a connection on which all is said that goes before the protocol.
    pub fn over(stream: TcpStream) -> Result<Self> {
        let mut raw = Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            sequence: 0,
            capabilities: capability::USUAL,
            greeting: Greeting {
                version: String::new(),
                id: 0,
                capabilities: 0,
                extended: 0,
                salt: Vec::new(),
                plugin: String::new(),
            },
            packed: None,
            any_number: false,
            received: 0,
        };
        let payload = raw.message().context("the greeting")?;
        if payload.first() == Some(&0xff) {
            raw.end_of(&payload)?.ok().context("instead of a greeting")?;
        }
        raw.greeting = Greeting::parse(&payload)?;
        Ok(raw)
    }

    /// The greeting.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// The socket, for what goes past the protocol.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Waits at most so long for each read.
    pub fn set_limit(&self, limit: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(limit))?)
    }

    /// Sends a command and reads nothing.
    pub fn send(&mut self, command: u8, body: &[u8]) -> Result<()> {
        self.sequence = 0;
        if let Some(packed) = &mut self.packed {
            packed.next = 0;
        }
        let mut payload = Vec::with_capacity(body.len() + 1);
        payload.push(command);
        payload.extend_from_slice(body);
        self.write_packet(&payload)
    }

    /// Runs a command that is answered by OK or ERR.
    pub fn run(&mut self, command: u8, body: &[u8]) -> Result<End> {
        self.send(command, body)?;
        self.end()
    }

    /// Sends a payload with the next sequence number, in pieces where it is longer than one packet may be.
    pub fn write_packet(&mut self, payload: &[u8]) -> Result<()> {
        let mut rest = payload;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(LONGEST_PIECE));
            let mut packet = u32::try_from(piece.len())?.to_le_bytes()[..3].to_vec();
            packet.push(self.sequence);
            packet.extend_from_slice(piece);
            self.write_bytes(&packet)?;
            self.sequence = self.sequence.wrapping_add(1);
            if piece.len() < LONGEST_PIECE {
                break;
            }
            rest = after;
        }
        if let Some(packed) = &self.packed {
            // As libmysql does when it has flushed a command.
            self.sequence = packed.next;
        }
        Ok(())
    }

    /// Sends bytes of the protocol as they are, compressed where that is spoken.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.packed {
            Some(packed) => self.stream.write_all(&packed.pack(bytes)?),
            None => self.stream.write_all(bytes),
        }
        .context("sending a packet")
    }

    /// Compressed packets read so far.
    pub fn packed_received(&self) -> usize {
        self.packed.as_ref().map_or(0, |packed| packed.received)
    }

    /// Expects the answer to another command: for a client that has sent several before it reads.
    pub fn restart_sequence(&mut self) {
        self.sequence = 1;
        if let Some(packed) = &mut self.packed {
            packed.next = 1;
        }
    }

    /// The next packet may have any number, and so may the compressed packet that it is in.
    pub fn take_any_number(&mut self) {
        self.any_number = true;
    }

    /// Expects the next packet to have this number.
    pub fn set_sequence(&mut self, sequence: u8) {
        self.sequence = sequence;
    }

    /// The payload of the next packet, as it is on the wire (one piece).
    pub fn packet(&mut self) -> Result<Vec<u8>> {
        let header = self.bytes(4)?;
        let length = Reader(&header).int(3)?;
        if let Some(packed) = &self.packed
            && header[3] == packed.next.wrapping_sub(1)
        {
            // The server has flushed a result, and goes on with the number of the compressed packet.
            self.sequence = header[3];
        }
        if std::mem::take(&mut self.any_number) {
            self.sequence = header[3];
        }
        ensure!(
            header[3] == self.sequence,
            "packet out of order: number {} where {} was due",
            header[3],
            self.sequence
        );
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes(usize::try_from(length)?)
    }

    /// The payload of the next logical packet, all its pieces joined.
    pub fn message(&mut self) -> Result<Vec<u8>> {
        let mut message = self.packet()?;
        let mut last = message.len();
        while last == LONGEST_PIECE {
            let piece = self.packet()?;
            last = piece.len();
            message.extend(piece);
        }
        Ok(message)
    }

    /// Asserts that the peer closes without another byte.
    pub fn expect_closed(&mut self, limit: Duration) -> Result<()> {
        ensure!(self.start == self.buffer.len(), "unread bytes are left");
        self.set_limit(limit)?;
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => Ok(()),
            Ok(_) => bail!("another byte where the end was due"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error).context("waiting for the peer to close"),
        }
    }

    /// Sends a statement and reads how its result starts, with the columns.
    pub fn start(&mut self, statement: &str) -> Result<Head> {
        self.send(command::QUERY, statement.as_bytes())?;
        self.head()
    }

    /// Reads how a result starts, with the columns.
    pub fn head(&mut self) -> Result<Head> {
        let first = self.message()?;
        match first.first() {
            Some(0 | 0xff) => Ok(Head::End(self.end_of(&first)?)),
            Some(0xfb) => bail!("LOCAL INFILE is not for this client"),
            _ => {
                let count = Reader(&first).length()?;
                for _ in 0..count {
                    self.message().context("a column")?;
                }
                if self.capabilities & capability::DEPRECATE_EOF == 0 {
                    let end = self.message().context("the end of the columns")?;
                    ensure!(end.first() == Some(&0xfe), "no EOF after the columns");
                }
                Ok(Head::Columns(count))
            }
        }
    }

    /// The next row, undecoded, or the end of the rows.
    pub fn row(&mut self) -> Result<Result<Vec<u8>, End>> {
        let payload = self.message()?;
        Ok(match payload.first() {
            Some(0xff) => Err(self.end_of(&payload)?),
            Some(0xfe) if payload.len() < LONGEST_PIECE => Err(self.end_of(&payload)?),
            _ => Ok(payload),
        })
    }

    /// Reads the rows that are left, giving each to `row`; gives how they ended.
    pub fn rows(&mut self, mut row: impl FnMut(&[u8])) -> Result<End> {
        loop {
            match self.row()? {
                Ok(payload) => row(&payload),
                Err(end) => return Ok(end),
            }
        }
    }

    /// Runs a statement; gives the rows of its (one) result as text, NULL as `NULL`.
    pub fn query(&mut self, statement: &str) -> Result<Vec<Vec<String>>> {
        let mut rows = Vec::new();
        let head = self.start(statement).with_context(|| statement.to_owned())?;
        let end = match head {
            Head::End(end) => end,
            Head::Columns(_) => loop {
                match self.row()? {
                    Err(end) => break end,
                    Ok(payload) => {
                        let fields = wire::text_row(&payload)?;
                        rows.push(
                            fields
                                .into_iter()
                                .map(|field| field.map_or_else(|| "NULL".into(), text))
                                .collect(),
                        );
                    }
                }
            },
        };
        ensure!(!end.more(), "more results than one");
        end.ok().with_context(|| statement.to_owned())?;
        Ok(rows)
    }

    /// The first field of the first row.
    pub fn value(&mut self, statement: &str) -> Result<String> {
        let rows = self.query(statement)?;
        rows.into_iter().next().and_then(|row| row.into_iter().next()).context("no row")
    }

    /// Runs a statement that gives no rows; gives the number of rows changed.
    pub fn execute(&mut self, statement: &str) -> Result<u64> {
        match self.start(statement)? {
            Head::End(End::Ok { affected, .. }) => Ok(affected),
            Head::End(End::Err(error)) => bail!("{statement}: {} {}", error.code, error.message),
            Head::Columns(_) => bail!("{statement}: rows where none were due"),
        }
    }

    /// Reads an OK, EOF or ERR packet.
    pub fn end(&mut self) -> Result<End> {
        let payload = self.message()?;
        self.end_of(&payload)
    }

    /// Takes an OK, EOF or ERR packet apart.
    pub fn end_of(&self, payload: &[u8]) -> Result<End> {
        let mut reader = Reader(payload);
        match reader.byte()? {
            0xff => Ok(End::Err(ErrPacket::parse(payload)?)),
            0xfe if self.capabilities & capability::DEPRECATE_EOF == 0 => {
                reader.int(2)?;
                Ok(End::Ok { affected: 0, status: u16::try_from(reader.int(2)?)? })
            }
            0 | 0xfe => {
                let affected = reader.length()?;
                reader.length()?;
                Ok(End::Ok { affected, status: u16::try_from(reader.int(2)?)? })
            }
            _ => bail!("neither OK nor ERR: {}", payload[..payload.len().min(100)].escape_ascii()),
        }
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut taken = Vec::with_capacity(count);
        loop {
            let piece = (count - taken.len()).min(self.buffer.len() - self.start);
            taken.extend_from_slice(&self.buffer[self.start..self.start + piece]);
            self.start += piece;
            if taken.len() == count {
                return Ok(taken);
            }
            if let (true, Some(packed)) = (self.any_number, &mut self.packed) {
                packed.take_any_number();
            }
            if let Some(plain) = self.packed.as_mut().map(Packed::unpack).transpose()?.flatten() {
                (self.buffer, self.start) = (plain, 0);
                continue;
            }
            self.buffer.resize(READ_SIZE, 0);
            self.start = 0;
            let size = self.stream.read(&mut self.buffer);
            self.buffer.truncate(*size.as_ref().unwrap_or(&0));
            let size = size.context("reading a packet")?;
            self.received += u64::try_from(size)?;
            if size == 0 {
                bail!("the peer closed in the middle of a packet, or where one was due");
            }
            if let Some(packed) = &mut self.packed {
                packed.push(&self.buffer);
                self.buffer.clear();
            }
        }
    }
}

/// A server's greeting as it is on the wire, with its header.
pub fn greeting_packet(server: SocketAddr) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    let mut packet = vec![0; 4];
    stream.read_exact(&mut packet)?;
    packet.resize(4 + usize::from(packet[0]), 0);
    stream.read_exact(&mut packet[4..])?;
    Ok(packet)
}

/// A connection from this address of the machine's own (loopback has many).
pub fn connect_from(own: Ipv4Addr, address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((own, 0)).into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.set_write_timeout(Some(LIMIT))?;
    socket.connect(&address.into()).with_context(|| format!("connecting from {own} to {address}"))?;
    Ok(socket.into())
}

/// A connection with a small receive buffer, so that a stalled reader stalls the sender soon.
fn connect_small(address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_recv_buffer_size(64 << 10)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.set_write_timeout(Some(LIMIT))?;
    socket
        .connect_timeout(&address.into(), Duration::from_secs(10))
        .with_context(|| format!("connecting to {address}"))?;
    Ok(socket.into())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string())
}

/// What one packet holds; a payload of just this length is followed by another piece.
pub const LONGEST_PIECE: usize = 0xff_ffff;
const READ_SIZE: usize = 64 << 10;
const MORE_RESULTS: u16 = 8;
const LIMIT: Duration = Duration::from_secs(60);
