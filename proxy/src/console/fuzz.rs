//! Any bytes on a connection of the console.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use spillway_protocol::Command;
use tokio::io::{AsyncRead, ReadBuf};

use super::packets::{Fault, MAX_PACKET_LEN, PacketReader, UNKNOWN_COMMAND};
use super::statements::{Item, Mistake, Statement, is_like};
use crate::fuzzing::{pieces, within};

/// ```text
/// 1  where it is cut    n  what the client sends
/// ```
///
/// However it is cut, opensrv-mysql gets one whole packet with each read, of those that it can take.
pub(crate) fn console(input: &[u8]) {
    let Some((&plan, sent)) = input.split_first() else { return };
    let expected = expected(sent);
    for plan in [0, 1, plan] {
        let (reads, fault) = reads(pieces(sent, plan));
        assert_eq!((&reads, &fault), (&expected.0, &expected.1), "cut by plan {plan}");
    }
    for packet in &expected.0 {
        if packet[3] == 0 && packet[4] == Command::QUERY.0 {
            statement(&packet[5..]);
        }
    }
    statement(sent);
}

/// One read after the other, and the fault in the end.
fn reads(pieces: Vec<&[u8]>) -> (Vec<Vec<u8>>, Option<Fault>) {
    let mut reader = PacketReader::new(Pieces(pieces.into_iter()), Arc::default());
    let mut reads = Vec::new();
    loop {
        let mut room = [0; MAX_PACKET_LEN];
        let mut room = ReadBuf::new(&mut room);
        // The reader's own room, and a packet.
        let read = within(4 * MAX_PACKET_LEN, || {
            pin!(&mut reader).poll_read(&mut Context::from_waker(Waker::noop()), &mut room)
        });
        match read {
            Poll::Pending => panic!("waits for more than there is"),
            Poll::Ready(Ok(())) if room.filled().is_empty() => return (reads, None),
            Poll::Ready(Ok(())) => reads.push(room.filled().to_vec()),
            Poll::Ready(Err(error)) => {
                let fault = error.get_ref().and_then(|source| source.downcast_ref::<Fault>());
                assert!(fault.is_some() || error.kind() == io::ErrorKind::UnexpectedEof, "{error}");
                return (reads, fault.cloned());
            }
        }
    }
}

/// A stream that gives one piece with each read.
struct Pieces<'a>(std::vec::IntoIter<&'a [u8]>);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.next() {
            let (now, later) = piece.split_at(piece.len().min(room.remaining()));
            room.put_slice(now);
            if !later.is_empty() {
                let rest: Vec<_> = [later].into_iter().chain(self.0.as_slice().iter().copied()).collect();
                self.0 = rest.into_iter();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The same from all that is sent.
fn expected(mut sent: &[u8]) -> (Vec<Vec<u8>>, Option<Fault>) {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut is_answered = false;
    while let Some(&[a, b, c, got]) = sent.first_chunk() {
        let len = 4 + u32::from_le_bytes([a, b, c, 0]) as usize;
        let is_due = match packets.len() {
            0 => got == 1,
            1 => got == 0 || got == 3,
            _ => got == 0,
        };
        if !is_due {
            return (packets, Some(Fault::OutOfOrder { got, due: u8::from(!is_answered) }));
        }
        if len > MAX_PACKET_LEN {
            return (packets, Some(Fault::TooLong(len)));
        }
        let Some((packet, rest)) = sent.split_at_checked(len) else { break };
        packets.push(if got == 0 { fit(packet) } else { packet.to_vec() });
        is_answered = true;
        sent = rest;
    }
    (packets, None)
}

/// A command as opensrv-mysql is to see it.
fn fit(packet: &[u8]) -> Vec<u8> {
    let text = packet.get(5..).unwrap_or_default();
    let is_known = match packet.get(4) {
        Some(0x02 | 0x03 | 0x16) => {
            if str::from_utf8(text).is_err() {
                let ascii = text.iter().map(|&byte| if byte < 0x80 { byte } else { b'?' });
                return packet[..5].iter().copied().chain(ascii).collect();
            }
            true
        }
        Some(0x19) => text.len() == 4,
        Some(0x01 | 0x0e | 0x1f) => true,
        _ => false,
    };
    if is_known {
        return packet.to_vec();
    }
    let len = [UNKNOWN_COMMAND.len() as u8 + 1, 0, 0, 0, 3];
    [&len, UNKNOWN_COMMAND.as_bytes()].concat()
}

fn statement(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    match Statement::parse(text) {
        Ok(Statement::ShowStatus(Some(pattern)) | Statement::ShowVariables(Some(pattern))) => {
            let _ = is_like("sessions_running", pattern);
        }
        Ok(Statement::Select(items)) => {
            assert!(items.iter().all(|(text, _)| !text.is_empty()));
            let is_number = |(text, item): &(&str, Item)| {
                !matches!(item, Item::Number(_)) || text.bytes().all(|byte| byte.is_ascii_digit())
            };
            assert!(items.iter().all(is_number));
        }
        Ok(_) => {}
        Err(Mistake::UnknownCommand) => assert_eq!(text, UNKNOWN_COMMAND),
        Err(mistake) => {
            let told = mistake.to_string();
            assert!(told.chars().count() < 300 && !told.contains(char::is_control), "{told:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use opensrv_mysql::{
        AsyncMysqlIntermediary, AsyncMysqlShim, ErrorKind, InitWriter, OkResponse, ParamParser,
        QueryResultWriter, StatementMetaWriter,
    };
    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    /// Lets everybody in, and says OK to everything.
    struct Agreeable;

    #[async_trait]
    impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Agreeable {
        type Error = io::Error;

        async fn on_prepare<'a>(
            &'a mut self,
            _: &'a str,
            info: StatementMetaWriter<'a, W>,
        ) -> io::Result<()> {
            info.error(ErrorKind::ER_UNSUPPORTED_PS, &b"none"[..]).await
        }

        async fn on_execute<'a>(
            &'a mut self,
            _: u32,
            _: ParamParser<'a>,
            results: QueryResultWriter<'a, W>,
        ) -> io::Result<()> {
            results.error(ErrorKind::ER_UNSUPPORTED_PS, &b"none"[..]).await
        }

        async fn on_close<'a>(&'a mut self, _: u32)
        where
            W: 'async_trait,
        {
        }

        async fn on_query<'a>(&'a mut self, _: &'a str, results: QueryResultWriter<'a, W>) -> io::Result<()> {
            results.completed(OkResponse::default()).await
        }

        async fn on_init<'a>(&'a mut self, _: &'a str, writer: InitWriter<'a, W>) -> io::Result<()> {
            writer.ok().await
        }
    }

    static PANICS: AtomicU32 = AtomicU32::new(0);

    /// opensrv-mysql may panic, in the connection's own task. It must not abort the process, nor go on for ever.
    fn converse(input: &[u8]) {
        let Some((_, sent)) = input.split_first() else { return };
        let sent = sent.to_vec();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (here, there) = duplex(1 << 20);
            let (read, write) = tokio::io::split(there);
            let reader = PacketReader::new(read, Arc::default());
            let served = tokio::spawn(AsyncMysqlIntermediary::run_on(Agreeable, reader, write));
            let (mut from, mut to) = tokio::io::split(here);
            let _ = to.write_all(&sent).await;
            let _ = to.shutdown().await;
            let mut answers = Vec::new();
            let ended = async {
                let _ = from.read_to_end(&mut answers).await;
                served.await
            };
            let ended = timeout(Duration::from_secs(20), ended).await.expect("it goes on for ever");
            if let Err(error) = ended {
                assert!(error.is_panic());
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    #[test]
    fn opensrv_mysql_ends_no_more_than_a_connection() {
        spillway_fuzz::check_cases("console", 6_000, converse);
        println!("{} panics inside of opensrv-mysql", PANICS.load(Ordering::Relaxed));
    }
}
