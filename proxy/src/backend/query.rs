//! Single statements over a connection that has no session: Spillway's own questions.

use std::time::Duration;

use spillway_protocol::{
    Capabilities, Command, ResponseEnd, ResponseEvent, ResponseForm, ResponseTracker, encode_packet,
};
use tokio::time::timeout;

use super::failure::Cause;
use crate::packet_stream::PacketStream;

/// The longest response that is read: rows of a few variables.
const MAX_RESPONSE: usize = 64 * 1024;

/// Sends a statement and reads its response, as packets, for which the server may take `limit`. `capabilities` are those
/// of the login, without query attributes.
///
/// # Errors
/// [`Cause::Told`] if the server refuses the statement; the connection can be used on then.
pub(crate) async fn query(
    stream: &mut PacketStream,
    sql: &str,
    capabilities: Capabilities,
    limit: Duration,
) -> Result<Vec<u8>, Cause> {
    let answered = async {
        let command = [&[Command::QUERY.0], sql.as_bytes()].concat();
        stream.write_numbered(0, &command).await?;
        read_response(stream, capabilities).await
    };
    timeout(limit, answered).await.unwrap_or(Err(Cause::TimedOut(limit)))
}

/// Ends a connection in the regular way. It is of no matter whether the server gets to know.
pub(crate) async fn quit(mut stream: PacketStream) {
    let _ = stream.write_numbered(0, &[Command::QUIT.0]).await;
}

async fn read_response(stream: &mut PacketStream, capabilities: Capabilities) -> Result<Vec<u8>, Cause> {
    let mut tracker = ResponseTracker::new(capabilities).without_sequence_ids();
    tracker.expect(Command::QUERY.response_form().unwrap_or(ResponseForm::None));
    let mut packets = Vec::new();
    while packets.len() < MAX_RESPONSE {
        let packet = stream.read_packet().await?;
        let encoded = encode_packet(packet.sequence_id, &packet.payload);
        let step = tracker.advance(&encoded).map_err(|_| Cause::Unexpected)?;
        packets.extend(encoded);
        match step.event {
            None => {}
            Some(ResponseEvent::End(ResponseEnd::Error(_))) => return Err(Cause::told(&packet.payload)),
            Some(ResponseEvent::End(_)) => return Ok(packets),
            Some(_) => return Err(Cause::Unexpected),
        }
    }
    Err(Cause::Unexpected)
}

#[cfg(test)]
mod tests {
    use spillway_protocol::encode_err;
    use tokio::net::UnixStream;

    use super::*;
    use crate::session::row_values;
    use crate::stream::Stream;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Asks a server that answers with these packets.
    async fn ask(answer: &[u8]) -> Result<Vec<u8>, Cause> {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut client, mut server) =
            (PacketStream::new(Stream::unix(here)), PacketStream::new(Stream::unix(there)));
        let served = async {
            let asked = server.read_packet().await.unwrap();
            assert_eq!(&asked.payload[..], b"\x03SELECT 1");
            server.write_encoded(answer.to_vec()).await.unwrap();
        };
        tokio::join!(query(&mut client, "SELECT 1", Capabilities::PROTOCOL_41, LIMIT), served).0
    }

    #[tokio::test]
    async fn a_row_is_read_to_its_end() {
        let eof = [0xfe, 0, 0, 2, 0];
        let payloads: [&[u8]; 5] = [&[1], b"\x03def", &eof, b"\x0242", &eof];
        let packets: Vec<u8> =
            (1..).zip(payloads).flat_map(|(number, payload)| encode_packet(number, payload)).collect();
        let answer = ask(&packets).await.unwrap();
        assert_eq!(row_values(&answer, Capabilities::PROTOCOL_41), [b"42"]);
    }

    #[tokio::test]
    async fn a_refusal_is_told() {
        let refused = ask(&encode_err(1, 1193, Some(b"HY000"), "Unknown system variable")).await;
        assert!(matches!(refused, Err(Cause::Told { code: 1193, .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn an_endless_answer_ends() {
        let row = encode_packet(1, &[b'x'; 30_000]);
        let head =
            [encode_packet(1, &[1]), encode_packet(2, b"\x03def"), encode_packet(3, &[0xfe, 0, 0, 2, 0])];
        let endless = [head.concat(), row.clone(), row.clone(), row].concat();
        assert!(matches!(ask(&endless).await, Err(Cause::Unexpected)));
    }
}
