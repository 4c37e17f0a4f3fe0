//! Few wake-ups where much is coming.
//!
//! A server writes its rows 16 KiB at a time. Whoever reads as fast as it writes is woken for each such piece, and
//! waking costs more than reading. So in a long response the kernel is asked to wake the session for a larger piece
//! (SO_RCVLOWAT): for the same bytes a tenth of the wake-ups, and less CPU time for the server, too. The end of a
//! response may be shorter than that, so the session never waits for long in this way.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::stream::Stream;

/// Bytes of a response that make it a long one.
const LONG: u64 = 4 << 20;

/// Bytes to be woken for. The kernel lets the server have twice that under way.
const PIECE: i32 = 512 * 1024;

/// How long fewer bytes may be left lying: the shortest time that tokio knows. Faster than 4 Gbit/s, pieces come sooner;
/// a slower line costs a session little CPU anyway.
const PATIENCE: Duration = Duration::from_millis(1);

/// Knows how much of the response under way has come.
#[derive(Default)]
pub(super) struct Bulk {
    read: u64,
    /// Woken for whole pieces only.
    is_armed: bool,
    /// When fewer bytes will be taken, too, if a wait is under way.
    patience: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl Bulk {
    /// So many bytes were read.
    pub(super) fn on_read(&mut self, len: usize, stream: &Stream) {
        self.waits = false;
        self.read += len as u64;
        if !self.is_armed && self.read >= LONG {
            self.is_armed = stream.set_least_readable(PIECE);
            // Where there is no such thing, it is not asked for with every piece.
            self.read = 0;
        }
    }

    /// Nothing was there to be read, or too little. Wakes the task when its time is over.
    pub(super) fn poll_patience(&mut self, cx: &mut Context<'_>, stream: &Stream) {
        if !self.is_armed {
            return;
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        if !std::mem::replace(&mut self.waits, true) {
            patience.as_mut().reset(Instant::now() + PATIENCE);
        }
        if let Poll::Ready(()) = patience.as_mut().poll(cx) {
            self.end(stream);
        }
    }

    /// The response is over, or comes slowly: every byte counts again. The kernel wakes for what is there already.
    pub(super) fn end(&mut self, stream: &Stream) {
        if std::mem::take(&mut self.is_armed) {
            stream.set_least_readable(1);
        }
        self.read = 0;
        self.waits = false;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    /// Reads as the session does, until nothing more is there at once.
    fn read_all(stream: &mut Stream, bulk: &mut Bulk, cx: &mut Context<'_>) -> usize {
        let mut room = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match stream.poll_read_into(cx, &mut room) {
                Poll::Ready(read) => {
                    let len = read.unwrap();
                    bulk.on_read(len, stream);
                    total += len;
                }
                Poll::Pending => {
                    bulk.poll_patience(cx, stream);
                    return total;
                }
            }
        }
    }

    #[tokio::test]
    async fn the_end_of_a_long_response_is_not_left_lying() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let len = LONG as usize + 3 * PIECE as usize + 5;
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(&vec![7; len]).await.unwrap();
            socket
        });
        let mut stream = Stream::tcp(TcpStream::connect(address).await.unwrap()).unwrap();
        let (mut bulk, mut total, mut was_armed) = (Bulk::default(), 0, false);
        let read = poll_fn(|cx| {
            total += read_all(&mut stream, &mut bulk, cx);
            was_armed |= bulk.is_armed;
            if total == len { Poll::Ready(()) } else { Poll::Pending }
        });
        timeout(Duration::from_secs(30), read).await.unwrap();
        assert!(was_armed, "{total} bytes came without a wait for more");

        bulk.end(&stream);
        server.await.unwrap().write_all(b"x").await.unwrap();
        let byte = poll_fn(|cx| match read_all(&mut stream, &mut bulk, cx) {
            0 => Poll::Pending,
            len => Poll::Ready(len),
        });
        assert_eq!(timeout(Duration::from_secs(30), byte).await.unwrap(), 1);
    }
}
