//! The fields of the connection phase's packets.

use crate::status::split_lenenc_int;

/// Takes fields off the front of a payload, one after the other.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn until_nul(&mut self) -> Option<&'a [u8]> {
        let len = until_nul(self.0)?;
        let field = &self.0[..len];
        self.0 = &self.0[len + 1..];
        Some(field)
    }

    /// Some clients leave out the NUL, or the whole field, at the end of the packet.
    pub(crate) fn until_nul_or_end(&mut self) -> &'a [u8] {
        self.until_nul().unwrap_or_else(|| std::mem::take(&mut self.0))
    }

    pub(crate) fn behind_length_byte(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take(usize::from(len))
    }

    pub(crate) fn behind_lenenc_length(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = split_lenenc_int(self.0)?;
        self.0 = rest;
        self.take(usize::try_from(len).ok()?)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }
}

pub(crate) fn until_nul(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == 0)
}

pub(crate) fn put_nul_terminated(payload: &mut Vec<u8>, field: &[u8]) {
    payload.extend_from_slice(field);
    payload.push(0);
}

/// The fields of a handshake packet are shorter than 2^24 bytes, as the packet is.
pub(crate) fn put_behind_lenenc_length(payload: &mut Vec<u8>, field: &[u8]) {
    let [a, b, c, ..] = field.len().to_le_bytes();
    match field.len() {
        0..=0xfa => payload.push(a),
        0xfb..=0xffff => payload.extend_from_slice(&[0xfc, a, b]),
        _ => payload.extend_from_slice(&[0xfd, a, b, c]),
    }
    payload.extend_from_slice(field);
}
