//! The packets that end things: OK, EOF and ERR, as far as a proxy reads or writes them.
//!
//! Sources: [OK](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_ok_packet.html),
//! [EOF](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_eof_packet.html),
//! [ERR](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_err_packet.html).

use crate::packet::encode_packet;

/// First payload byte of an OK packet.
pub const OK_HEADER: u8 = 0x00;
/// First payload byte of an EOF packet, of the OK packet in its place under CLIENT_DEPRECATE_EOF, and of an
/// AuthSwitchRequest.
pub const EOF_HEADER: u8 = 0xfe;
/// First payload byte of an ERR packet.
pub const ERR_HEADER: u8 = 0xff;
/// First payload byte of a LOCAL INFILE request.
pub(crate) const LOCAL_INFILE_HEADER: u8 = 0xfb;
/// The code of an ERR packet that is no error but a progress report (MariaDB).
pub(crate) const PROGRESS_REPORT: u16 = 0xffff;

/// Status flags of an OK or EOF packet. Unknown bits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusFlags(pub u16);

impl StatusFlags {
    /// A transaction is open (`SERVER_STATUS_IN_TRANS`).
    pub const IN_TRANS: Self = Self(0x0001);
    /// Every statement is its own transaction (`SERVER_STATUS_AUTOCOMMIT`).
    pub const AUTOCOMMIT: Self = Self(0x0002);
    /// Another result follows (`SERVER_MORE_RESULTS_EXISTS`).
    pub const MORE_RESULTS_EXISTS: Self = Self(0x0008);
    /// A cursor was opened: rows come by COM_STMT_FETCH (`SERVER_STATUS_CURSOR_EXISTS`).
    pub const CURSOR_EXISTS: Self = Self(0x0040);

    /// Whether every flag of `flags` is set.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// Status flags of an OK packet's payload, whatever its header byte. None if the payload is too short.
pub fn ok_status(payload: &[u8]) -> Option<StatusFlags> {
    let rest = payload.get(1..)?;
    let (_affected_rows, rest) = split_lenenc_int(rest)?;
    let (_last_insert_id, rest) = split_lenenc_int(rest)?;
    let [low, high, ..] = *rest else { return None };
    Some(StatusFlags(u16::from_le_bytes([low, high])))
}

/// The number of warnings that an OK packet's payload tells. None if the payload is too short.
pub fn ok_warnings(payload: &[u8]) -> Option<u16> {
    let rest = payload.get(1..)?;
    let (_affected_rows, rest) = split_lenenc_int(rest)?;
    let (_last_insert_id, rest) = split_lenenc_int(rest)?;
    let [_, _, low, high, ..] = *rest else { return None };
    Some(u16::from_le_bytes([low, high]))
}

/// Status flags of an EOF packet's payload (header, two bytes of warnings, two of status). None if too short.
pub fn eof_status(payload: &[u8]) -> Option<StatusFlags> {
    let [_, _, _, low, high, ..] = *payload else {
        return None;
    };
    Some(StatusFlags(u16::from_le_bytes([low, high])))
}

/// The error code of an ERR packet's payload. None if it is too short or no ERR packet.
pub fn err_code(payload: &[u8]) -> Option<u16> {
    let [ERR_HEADER, low, high, ..] = *payload else {
        return None;
    };
    Some(u16::from_le_bytes([low, high]))
}

/// The message of an ERR packet's payload, behind the code and, if there is one, the SQLSTATE marker.
pub fn err_message(payload: &[u8]) -> &[u8] {
    match payload {
        [_, _, _, b'#', _, _, _, _, _, message @ ..] | [_, _, _, message @ ..] => message,
        _ => &[],
    }
}

/// An ERR packet with its header. `sqlstate` is left out where the peer cannot expect one: before the greeting.
pub fn encode_err(sequence_id: u8, code: u16, sqlstate: Option<&[u8; 5]>, message: &str) -> Vec<u8> {
    // libmysql keeps 512 bytes of a message (MYSQL_ERRMSG_SIZE).
    let mut len = message.len().min(511);
    while !message.is_char_boundary(len) {
        len -= 1;
    }
    let message = &message.as_bytes()[..len];
    let mut payload = vec![ERR_HEADER];
    payload.extend_from_slice(&code.to_le_bytes());
    if let Some(sqlstate) = sqlstate {
        payload.push(b'#');
        payload.extend_from_slice(sqlstate);
    }
    payload.extend_from_slice(message);
    encode_packet(sequence_id, &payload)
}

/// Splits a length-encoded integer off `bytes`. None if it is cut short, or is NULL (0xFB) or an ERR byte (0xFF).
/// Source: [length-encoded integers](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_dt_integers.html).
pub fn split_lenenc_int(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let width = match first {
        0..=0xfa => return Some((u64::from(first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(width)?;
    let value = digits.iter().rev().fold(0, |value, &digit| value << 8 | u64::from(digit));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_flags_are_found_behind_wide_integers() {
        let mut payload = vec![OK_HEADER, 0xfe];
        payload.extend(u64::MAX.to_le_bytes());
        payload.extend([0xfd, 1, 2, 3, 0x0a, 0x00, 1, 0]);
        assert_eq!(ok_status(&payload), Some(StatusFlags(0x0a)));
        assert_eq!(ok_status(&payload[..13]), None);
        assert_eq!(eof_status(&[EOF_HEADER, 1, 0, 0x22, 0]), Some(StatusFlags(0x22)));
    }

    #[test]
    fn err_packets_carry_code_state_and_message() {
        let packet = encode_err(3, 2013, Some(b"HY000"), "spillway: gone");
        assert_eq!(packet[3], 3);
        assert_eq!(err_code(&packet[4..]), Some(2013));
        assert_eq!(err_message(&packet[4..]), b"spillway: gone");
        assert_eq!(err_message(&[ERR_HEADER, 1, 0, b'n', b'o']), b"no");
        assert_eq!(err_code(b"\xff\x01"), None);
    }

    #[test]
    fn lenenc_integers_of_every_width() {
        assert_eq!(split_lenenc_int(&[0xfa, 9]), Some((0xfa, &[9][..])));
        assert_eq!(split_lenenc_int(&[0xfc, 1, 2]), Some((0x201, &[][..])));
        assert_eq!(split_lenenc_int(&[0xfd, 1, 2]), None);
        assert_eq!(split_lenenc_int(&[0xfb]), None);
        assert_eq!(split_lenenc_int(&[]), None);
    }
}
