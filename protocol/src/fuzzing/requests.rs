//! What a client sends behind its login: commands, and files that a server asks for.

use super::input::{Input, pieces};
use crate::command::Command;
use crate::packet::{HEADER_LEN, PacketHeader};
use crate::request::{PREFIX_LEN, RequestEvent, RequestReader, WHOLE_COMMAND_LEN, whole_command};

/// An event, how much of the stream stands before it, and at an end the beginning of the command.
type Seen = (usize, RequestEvent, Vec<u8>);

/// ```text
/// 1  where it is cut    1  commands before the server asks for a file    n  what the client sends
/// ```
///
/// However it is cut, the reader finds what is found in the whole of it.
pub(super) fn requests(input: &[u8]) {
    let mut input = Input(input);
    let (plan, file_behind) = (input.byte(), u32::from(input.byte() & 7));
    let stream = input.0;
    let expected = reference(stream, file_behind);
    for plan in [0, 1, plan] {
        assert_eq!(read(&pieces(stream, plan), stream, file_behind), expected, "cut by plan {plan}");
    }
}

fn read(pieces: &[&[u8]], stream: &[u8], file_behind: u32) -> Vec<Seen> {
    let mut reader = RequestReader::default();
    let (mut at, mut there, mut commands, mut seen) = (0, 0, 0, Vec::new());
    if file_behind == 0 {
        assert!(reader.expect_file());
    }
    for piece in pieces {
        there += piece.len();
        loop {
            let step = reader.advance(&stream[at..there]);
            at += step.consumed;
            let Some(event) = step.event else {
                if step.consumed == 0 {
                    break;
                }
                continue;
            };
            let prefix = match event {
                RequestEvent::End { .. } | RequestEvent::FileEnd { .. } => reader.prefix().to_vec(),
                RequestEvent::Start(_) | RequestEvent::Continuation => {
                    assert_eq!((step.consumed, reader.expect_file()), (0, false));
                    Vec::new()
                }
            };
            seen.push((at, event, prefix));
            commands += u32::from(matches!(event, RequestEvent::End { .. }));
            if matches!(event, RequestEvent::End { .. }) && commands == file_behind {
                assert!(reader.expect_file());
            }
        }
    }
    seen
}

/// The same from the whole stream.
fn reference(stream: &[u8], file_behind: u32) -> Vec<Seen> {
    let (mut at, mut commands, mut seen) = (0, 0, Vec::new());
    let (mut in_file, mut prefix) = (file_behind == 0, Vec::new());
    while let Some((header, payload)) = stream[at..].split_first_chunk::<HEADER_LEN>() {
        let header = PacketHeader::decode(*header);
        let len = header.payload_len as usize;
        if in_file {
            if len == 0 {
                at += HEADER_LEN;
                let sequence_id = header.sequence_id;
                seen.push((at, RequestEvent::FileEnd { sequence_id }, prefix.clone()));
                in_file = false;
                continue;
            }
            let Some((end, ..)) = logical(&stream[at..]) else { break };
            at += end;
            continue;
        }
        let wanted = if len <= WHOLE_COMMAND_LEN { len } else { 1 };
        if payload.len() < wanted {
            break;
        }
        if len <= WHOLE_COMMAND_LEN {
            assert_eq!(whole_command(&stream[at..]), Some(&payload[..len]));
        }
        let first = payload[..wanted.min(1)].first().copied().unwrap_or(0);
        let begin = match header.sequence_id {
            0 => RequestEvent::Start(Command(first)),
            _ => RequestEvent::Continuation,
        };
        seen.push((at, begin, Vec::new()));
        let Some((end, sequence_id, payload)) = logical(&stream[at..]) else { break };
        at += end;
        prefix = payload[..payload.len().min(PREFIX_LEN)].to_vec();
        seen.push((at, RequestEvent::End { sequence_id }, prefix.clone()));
        commands += 1;
        in_file = commands == file_behind;
    }
    seen
}

/// The logical packet at the beginning, if it is whole: its length, its last sequence id, its payload.
fn logical(stream: &[u8]) -> Option<(usize, u8, Vec<u8>)> {
    let (mut at, mut payload) = (0, Vec::new());
    loop {
        let (header, rest) = stream[at..].split_first_chunk::<HEADER_LEN>()?;
        let header = PacketHeader::decode(*header);
        payload.extend_from_slice(rest.get(..header.payload_len as usize)?);
        at += HEADER_LEN + header.payload_len as usize;
        if !header.is_continued() {
            return Some((at, header.sequence_id, payload));
        }
    }
}
