use proptest::prelude::*;

use super::*;
use crate::packet::{PacketHeader, encode_packet};

const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
const EOF_MORE: &[u8] = &[0xfe, 0, 0, 0x0a, 0];
const EOF_CURSOR: &[u8] = &[0xfe, 0, 0, 0x42, 0];
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const OK_MORE: &[u8] = &[0, 1, 0, 0x0a, 0, 0, 0];
const OK_IN_TRANS: &[u8] = &[0, 0, 0, 3, 0, 0, 0];
const OK_AS_EOF: &[u8] = &[0xfe, 0, 0, 2, 0, 0, 0];
const DEFINITION: &[u8] = b"\x03def\0\0\0\x01a\0\x0c";
const ERR: &[u8] = b"\xff\x25\x05#70100Query execution was interrupted";
const PROGRESS: &[u8] = b"\xff\xff\xff\x01\x01\x02\x00\x00\x00\x05state";

const CLASSIC: Capabilities = Capabilities::PROTOCOL_41;
const DEPRECATE_EOF: Capabilities = Capabilities::DEPRECATE_EOF;

/// The server's packets behind a command of one packet: sequence ids from 1.
fn response(payloads: &[&[u8]]) -> Vec<u8> {
    payloads.iter().enumerate().flat_map(|(i, payload)| encode_packet(i as u8 + 1, payload)).collect()
}

/// Events with the offset behind which each was found.
fn drive(
    tracker: &mut ResponseTracker,
    chunks: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> Result<Vec<(usize, ResponseEvent)>, ResponseError> {
    let (mut at, mut events) = (0, Vec::new());
    for chunk in chunks {
        let mut chunk = chunk.as_ref();
        while !chunk.is_empty() {
            let step = tracker.advance(chunk)?;
            at += step.consumed;
            chunk = &chunk[step.consumed..];
            events.extend(step.event.map(|event| (at, event)));
        }
    }
    Ok(events)
}

/// One response, in one chunk and byte by byte; it must end with its last byte.
fn ends(capabilities: Capabilities, form: ResponseForm, payloads: &[&[u8]]) -> ResponseEnd {
    let stream = response(payloads);
    let mut ends = [stream.len(), 1].map(|size| {
        let mut tracker = ResponseTracker::new(capabilities);
        tracker.expect(form);
        let events = drive(&mut tracker, stream.chunks(size)).unwrap();
        let [(at, ResponseEvent::End(end))] = events[..] else { panic!("{events:?}") };
        assert_eq!(at, stream.len());
        assert!(tracker.is_idle());
        assert_eq!(usize::from(tracker.last_sequence_id()), payloads.len());
        end
    });
    assert_eq!(ends[0], ends[1]);
    std::mem::replace(&mut ends[0], ResponseEnd::Error(0))
}

fn status(flags: u16) -> ResponseEnd {
    ResponseEnd::Status(Some(StatusFlags(flags)))
}

#[test]
fn queries() {
    use ResponseForm::Query;
    let row: &[u8] = b"\x02ab";
    assert_eq!(ends(CLASSIC, Query, &[OK]), status(2));
    assert_eq!(ends(CLASSIC, Query, &[OK_IN_TRANS]), status(3));
    assert_eq!(ends(CLASSIC, Query, &[ERR]), ResponseEnd::Error(1317));
    assert_eq!(ends(CLASSIC, Query, &[&[1], DEFINITION, EOF, row, &[0xfb], EOF]), status(2));
    assert_eq!(ends(CLASSIC, Query, &[&[1], DEFINITION, EOF, EOF]), status(2));
    assert_eq!(ends(DEPRECATE_EOF, Query, &[&[2], DEFINITION, DEFINITION, row, OK_AS_EOF]), status(2));
    assert_eq!(ends(CLASSIC, Query, &[&[1], DEFINITION, EOF, row, ERR]), ResponseEnd::Error(1317));
    assert_eq!(ends(CLASSIC, Query, &[&[1], DEFINITION, ERR]), ResponseEnd::Error(1317));
}

#[test]
fn multi_results() {
    use ResponseForm::Query;
    let row: &[u8] = b"\x01a";
    let results: &[&[u8]] = &[OK_MORE, &[1], DEFINITION, EOF, row, EOF_MORE, OK];
    assert_eq!(ends(CLASSIC, Query, results), status(2));
    let more = &[0xfe, 0, 0, 0x0a, 0, 0, 0][..];
    assert_eq!(ends(DEPRECATE_EOF, Query, &[&[1], DEFINITION, row, more, &[1], DEFINITION, ERR]), {
        ResponseEnd::Error(1317)
    });
}

#[test]
fn session_tracking_in_ok_packets_does_not_hide_the_status() {
    let tracked = b"\x00\x00\x00\x0a\x40\x00\x00\x00\x06\x01\x04\x03abc";
    let capabilities = Capabilities::SESSION_TRACK;
    assert_eq!(ends(capabilities, ResponseForm::Query, &[tracked, OK]), status(2));
}

#[test]
fn progress_reports_are_no_end() {
    assert_eq!(
        ends(Capabilities::MARIADB_PROGRESS, ResponseForm::Query, &[PROGRESS, PROGRESS, OK]),
        status(2)
    );
}

#[test]
fn prepared_statements() {
    use ResponseForm::{Execute, Fetch, Prepare};
    let prepared = |columns, parameters| [0, 1, 0, 0, 0, columns, 0, parameters, 0, 0, 0, 0];
    let none = ResponseEnd::Status(None);
    assert_eq!(ends(CLASSIC, Prepare, &[&prepared(0, 0)]), none);
    assert_eq!(ends(CLASSIC, Prepare, &[&prepared(0, 1), DEFINITION, EOF]), none);
    assert_eq!(ends(DEPRECATE_EOF, Prepare, &[&prepared(0, 2), DEFINITION, DEFINITION]), none);
    assert_eq!(ends(DEPRECATE_EOF, Prepare, &[&prepared(1, 1), DEFINITION, DEFINITION]), none);
    let both: &[&[u8]] = &[&prepared(2, 1), DEFINITION, EOF, DEFINITION, DEFINITION, EOF];
    assert_eq!(ends(CLASSIC, Prepare, both), none);
    assert_eq!(ends(CLASSIC, Prepare, &[ERR]), ResponseEnd::Error(1317));

    let row: &[u8] = b"\x00\x00\x01a";
    assert_eq!(ends(CLASSIC, Execute, &[&[1], DEFINITION, EOF, row, row, EOF]), status(2));
    assert_eq!(ends(CLASSIC, Execute, &[&[1], DEFINITION, EOF_CURSOR]), status(0x42));
    let cursor = &[0xfe, 0, 0, 0x42, 0, 0, 0][..];
    assert_eq!(ends(DEPRECATE_EOF, Execute, &[&[1], DEFINITION, cursor]), status(0x42));
    assert_eq!(ends(CLASSIC, Fetch, &[row, row, EOF_CURSOR]), status(0x42));
    assert_eq!(ends(DEPRECATE_EOF, Fetch, &[cursor]), status(0x42));
    assert_eq!(ends(CLASSIC, Fetch, &[ERR]), ResponseEnd::Error(1317));
}

#[test]
fn left_out_metadata() {
    use ResponseForm::{Execute, Prepare, Query};
    let row: &[u8] = b"\x00\x00\x01a";
    let cached = Capabilities::MARIADB_CACHE_METADATA;
    assert_eq!(ends(cached, Execute, &[&[1, 0], EOF, row, EOF]), status(2));
    assert_eq!(ends(cached | DEPRECATE_EOF, Execute, &[&[1, 0], row, OK_AS_EOF]), status(2));
    assert_eq!(ends(cached | DEPRECATE_EOF, Execute, &[&[1, 1], DEFINITION, row, OK_AS_EOF]), status(2));
    let optional = Capabilities::OPTIONAL_RESULTSET_METADATA | DEPRECATE_EOF;
    assert_eq!(ends(optional, Query, &[&[1, 0], b"\x01a", OK_AS_EOF]), status(2));
    let prepared: &[u8] = &[0, 1, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0];
    assert_eq!(ends(optional, Prepare, &[prepared]), ResponseEnd::Status(None));
}

#[test]
fn small_forms() {
    use ResponseForm::{Binlog, FieldList, Status, Text};
    assert_eq!(ends(CLASSIC, Status, &[OK]), status(2));
    assert_eq!(ends(CLASSIC, Status, &[EOF]), status(2));
    assert_eq!(ends(DEPRECATE_EOF, Status, &[EOF]), status(2));
    assert_eq!(ends(CLASSIC, Text, &[b"Uptime: 1"]), ResponseEnd::Status(None));
    assert_eq!(ends(CLASSIC, Text, &[ERR]), ResponseEnd::Error(1317));
    assert_eq!(ends(CLASSIC, FieldList, &[DEFINITION, DEFINITION, EOF]), status(2));
    assert_eq!(ends(DEPRECATE_EOF, FieldList, &[OK_AS_EOF]), status(2));
    assert_eq!(ends(CLASSIC, Binlog, &[b"\0event", b"\0event", EOF]), status(2));
    assert_eq!(ends(DEPRECATE_EOF, Binlog, &[b"\0event", EOF]), status(2));
    assert_eq!(ends(CLASSIC, Binlog, &[b"\0event", ERR]), ResponseEnd::Error(1317));
}

#[test]
fn a_row_longer_than_a_packet_is_no_end_though_it_begins_like_one() {
    for capabilities in [CLASSIC, DEPRECATE_EOF] {
        let mut tracker = ResponseTracker::new(capabilities);
        tracker.expect(ResponseForm::Query);
        let mut stream = response(&[&[1], DEFINITION]);
        let mut next = 3;
        let mut put = |stream: &mut Vec<u8>, payload: &[u8]| {
            let header = PacketHeader { payload_len: payload.len() as u32, sequence_id: next };
            next += 1;
            stream.extend(header.encode());
            stream.extend(payload);
        };
        if capabilities == CLASSIC {
            put(&mut stream, EOF);
        }
        let mut piece = vec![b'x'; MAX_PAYLOAD_LEN as usize];
        piece[0] = EOF_HEADER;
        put(&mut stream, &piece);
        put(&mut stream, &[]);
        put(&mut stream, if capabilities == CLASSIC { EOF } else { OK_AS_EOF });
        let events = drive(&mut tracker, stream.chunks(70_000)).unwrap();
        assert_eq!(events, [(stream.len(), ResponseEvent::End(status(2)))]);
        assert_eq!(tracker.rows(), 1);
    }
}

#[test]
fn a_file_is_asked_for_and_then_acknowledged() {
    let mut tracker = ResponseTracker::new(CLASSIC);
    tracker.expect(ResponseForm::Query);
    let request = encode_packet(1, b"\xfb/tmp/rows.txt");
    let events = drive(&mut tracker, [&request]).unwrap();
    assert_eq!(events, [(request.len(), ResponseEvent::LocalInfile)]);
    assert_eq!(tracker.outstanding(), 1);
    // The client has sent packets 2 and 3 in between.
    let events = drive(&mut tracker, [encode_packet(4, OK)]).unwrap();
    assert!(matches!(events[..], [(_, ResponseEvent::End(_))]));
}

#[test]
fn pipelined_responses_end_one_by_one() {
    let mut tracker = ResponseTracker::new(CLASSIC);
    for form in [ResponseForm::Prepare, ResponseForm::None, ResponseForm::Execute, ResponseForm::Status] {
        tracker.expect(form);
    }
    let parts =
        [response(&[ERR]), response(&[&[1], DEFINITION, EOF, b"\0\0\x01a", EOF]), response(&[OK])].concat();
    let events = drive(&mut tracker, [parts]).unwrap();
    assert_eq!(events.len(), 3);
    assert!(tracker.is_idle());
}

#[test]
fn what_answers_nothing() {
    let mut tracker = ResponseTracker::new(CLASSIC);
    let events = drive(&mut tracker, [encode_packet(0, ERR)]).unwrap();
    assert!(matches!(events[..], [(_, ResponseEvent::UnsolicitedError)]));
    let error = drive(&mut tracker, [encode_packet(0, OK)]).unwrap_err();
    assert_eq!(error, ResponseError::Unsolicited { payload_len: 7, first: Some(0) });
}

#[test]
fn a_missing_packet_is_an_error() {
    let whole = response(&[&[1], DEFINITION, EOF, b"\x01a", b"\x01b", EOF]);
    let row = HEADER_LEN + 2;
    let at = response(&[&[1], DEFINITION, EOF]).len();
    let lacking = [&whole[..at], &whole[at + row..]].concat();
    for size in [1, lacking.len()] {
        let mut tracker = ResponseTracker::new(CLASSIC);
        tracker.expect(ResponseForm::Query);
        let error = drive(&mut tracker, lacking.chunks(size)).unwrap_err();
        assert_eq!(error, ResponseError::SequenceGap { expected: 4, got: 5 });
    }
}

#[test]
fn what_cannot_stand_where_it_stands_is_an_error() {
    let cases: [(ResponseForm, &[&[u8]]); 4] = [
        (ResponseForm::Query, &[&[1], DEFINITION, DEFINITION]),
        (ResponseForm::Query, &[&[]]),
        (ResponseForm::Status, &[b"text"]),
        (ResponseForm::Prepare, &[&[0, 1]]),
    ];
    for (form, payloads) in cases {
        let mut tracker = ResponseTracker::new(CLASSIC);
        tracker.expect(form);
        assert!(drive(&mut tracker, [response(payloads)]).is_err(), "{form:?} {payloads:?}");
    }
}

#[test]
fn the_unfinished_tail_is_known_at_every_byte() {
    let stream = response(&[&[1], DEFINITION, EOF, b"\x03abc", b"\x03def", EOF]);
    let mut tracker = ResponseTracker::new(CLASSIC);
    tracker.expect(ResponseForm::Query);
    let mut boundary = 0;
    for (at, byte) in stream.iter().enumerate() {
        tracker.advance(&[*byte]).unwrap();
        if tracker.unfinished_len() == 0 {
            boundary = at + 1;
        }
        assert_eq!(tracker.unfinished_len() as usize, at + 1 - boundary);
    }
    assert_eq!(boundary, stream.len());
}

/// A result set of rows of the given lengths, with or without CLIENT_DEPRECATE_EOF.
fn result_set(lens: &[usize], deprecate_eof: bool) -> Vec<u8> {
    let mut payloads: Vec<Vec<u8>> = vec![vec![1], DEFINITION.to_vec()];
    if !deprecate_eof {
        payloads.push(EOF.to_vec());
    }
    payloads.extend(lens.iter().map(|&len| vec![b'r'; len]));
    payloads.push(if deprecate_eof { OK_AS_EOF } else { EOF }.to_vec());
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    response(&payloads)
}

#[test]
fn jumping_sequence_ids_are_taken_in_the_compressed_protocol() {
    let packets = [(1, &b"\x01"[..]), (2, DEFINITION), (3, EOF), (4, b"\x01a"), (5, EOF_MORE), (2, OK)];
    let stream: Vec<u8> = packets.iter().flat_map(|(id, payload)| encode_packet(*id, payload)).collect();
    let mut plain = ResponseTracker::new(CLASSIC);
    plain.expect(ResponseForm::Query);
    let gap = ResponseError::SequenceGap { expected: 6, got: 2 };
    assert_eq!(drive(&mut plain, [&stream]), Err(gap));
    for size in [1, 5, stream.len()] {
        let mut tracker = ResponseTracker::new(CLASSIC).without_sequence_ids();
        tracker.expect(ResponseForm::Query);
        let events = drive(&mut tracker, stream.chunks(size)).unwrap();
        assert_eq!(events, [(stream.len(), ResponseEvent::End(status(2)))]);
    }
}

proptest! {
    #[test]
    fn any_split_into_chunks_gives_the_same_events(
        lens in prop::collection::vec(1usize..400, 0..40),
        more in prop::collection::vec(1usize..40, 0..5),
        deprecate_eof: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let stream = [result_set(&lens, deprecate_eof), response(&[ERR]), result_set(&more, deprecate_eof)].concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let run = |chunks: Vec<&[u8]>| {
            let mut tracker = ResponseTracker::new(if deprecate_eof { DEPRECATE_EOF } else { CLASSIC });
            for _ in 0..3 {
                tracker.expect(ResponseForm::Query);
            }
            let events = drive(&mut tracker, chunks).unwrap();
            (events, tracker.rows(), tracker.last_sequence_id(), tracker.is_idle())
        };
        let split = run(cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect());
        prop_assert_eq!(&split, &run(vec![&stream]));
        prop_assert_eq!(split.1, (lens.len() + more.len()) as u64);
        prop_assert!(split.3);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), form in 0u8..=255, caps: u64) {
        let mut tracker = ResponseTracker::new(Capabilities(caps));
        if let Some(form) = crate::Command(form).response_form() {
            tracker.expect(form);
        }
        let _ = drive(&mut tracker, [bytes]);
    }
}

/// What a real server sent, see the file's first line.
fn captures() -> impl Iterator<Item = (Capabilities, ResponseForm, &'static str, Vec<u8>)> {
    include_str!("captures.txt").lines().filter(|line| !line.starts_with('#')).map(|line| {
        let [capabilities, form, label, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let capabilities = u64::from_str_radix(&capabilities[2..], 16).unwrap();
        let form = match form {
            "Query" => ResponseForm::Query,
            "Status" => ResponseForm::Status,
            "Text" => ResponseForm::Text,
            "FieldList" => ResponseForm::FieldList,
            "Prepare" => ResponseForm::Prepare,
            "Execute" => ResponseForm::Execute,
            "Fetch" => ResponseForm::Fetch,
            "Binlog" => ResponseForm::Binlog,
            _ => panic!("{line}"),
        };
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        (Capabilities(capabilities), form, label, bytes.collect())
    })
}

#[test]
fn captured_responses_end_with_their_last_byte() {
    let mut seen = 0;
    for (capabilities, form, label, bytes) in captures() {
        for size in [1, 3, 7, bytes.len()] {
            let mut tracker = ResponseTracker::new(capabilities);
            tracker.expect(form);
            let events = drive(&mut tracker, bytes.chunks(size)).unwrap();
            let ends = matches!(events[..], [(at, ResponseEvent::End(_))] if at == bytes.len());
            assert!(ends, "{label} under {capabilities:?} in chunks of {size}: {events:?}");
            assert!(tracker.is_idle());
        }
        seen += 1;
    }
    assert!(seen > 150, "{seen} captures");
}

#[test]
fn captured_responses_end_one_by_one_when_pipelined() {
    let all: Vec<_> = captures().collect();
    for run in all.chunk_by(|a, b| a.0 == b.0) {
        let mut tracker = ResponseTracker::new(run[0].0);
        let stream: Vec<u8> = run.iter().flat_map(|(.., bytes)| bytes).copied().collect();
        run.iter().for_each(|(_, form, ..)| tracker.expect(*form));
        let events = drive(&mut tracker, stream.chunks(1000)).unwrap();
        assert_eq!(events.len(), run.len());
        assert!(tracker.is_idle());
    }
}
