//! COM_CHANGE_USER: a login over a connection that has one already.
//!
//! Source: [COM_CHANGE_USER](https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_change_user.html).

use crate::capabilities::Capabilities;
use crate::command::Command;
use crate::handshake::fields::{Fields, put_nul_terminated};
use crate::handshake::response::NO_PLUGIN;

/// A COM_CHANGE_USER.
///
/// ```text
/// 1  command                     n  database, NUL       n  plugin name, NUL (CLIENT_PLUGIN_AUTH)
/// n  user, NUL                   2  character set       n  attributes behind their length
/// n  auth response behind a length byte (or a NUL behind it, without CLIENT_SECURE_CONNECTION)
/// ```
///
/// Has no `Debug`: it carries the answer to the scramble.
pub struct ChangeUser<'a> {
    user: &'a [u8],
    auth_response: &'a [u8],
    database: &'a [u8],
    character_set: Option<[u8; 2]>,
    plugin: &'a [u8],
    attributes: &'a [u8],
}

impl<'a> ChangeUser<'a> {
    /// Reads a command's payload. None if it is cut short, or something else.
    pub fn parse(payload: &'a [u8], capabilities: Capabilities) -> Option<Self> {
        let rest = payload.strip_prefix(&[Command::CHANGE_USER.0])?;
        let mut fields = Fields(rest);
        let user = fields.until_nul()?;
        let auth_response = if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            fields.behind_length_byte()?
        } else {
            fields.until_nul()?
        };
        let database = fields.until_nul_or_end();
        let character_set = fields.take(2).map(|set| [set[0], set[1]]);
        let plugin =
            if capabilities.contains(Capabilities::PLUGIN_AUTH) { fields.until_nul_or_end() } else { &[] };
        Some(Self { user, auth_response, database, character_set, plugin, attributes: fields.0 })
    }

    /// One of one's own, to this user: no answer, no database, the server's default character set, no attributes.
    pub fn to(user: &'a [u8], capabilities: Capabilities) -> Self {
        let attributes: &[u8] = if capabilities.contains(Capabilities::CONNECT_ATTRS) { &[0] } else { &[] };
        Self { user, auth_response: &[], database: &[], character_set: None, plugin: &[], attributes }
    }

    /// The account that the client wants to be.
    pub fn user(&self) -> &'a [u8] {
        self.user
    }

    /// The client's answer to the scramble that it has, by [`plugin`](Self::plugin).
    pub fn auth_response(&self) -> &'a [u8] {
        self.auth_response
    }

    /// The authentication plugin that the client has answered with, if it names one.
    pub fn plugin(&self) -> &'a [u8] {
        self.plugin
    }

    /// The default database; empty for none.
    pub fn database(&self) -> &'a [u8] {
        self.database
    }

    /// The number of the character set, if the command names one.
    pub fn character_set(&self) -> Option<u16> {
        self.character_set.map(u16::from_le_bytes)
    }

    /// The same command, but so that the server asks for an answer to a scramble of this connection, as
    /// [`HandshakeResponse::asking_for_switch`](crate::HandshakeResponse::asking_for_switch) does. Needs
    /// CLIENT_PLUGIN_AUTH.
    pub fn asking_for_switch(&self) -> Vec<u8> {
        let mut payload = vec![Command::CHANGE_USER.0];
        put_nul_terminated(&mut payload, self.user);
        payload.push(0);
        put_nul_terminated(&mut payload, self.database);
        payload.extend(self.character_set.unwrap_or_default());
        put_nul_terminated(&mut payload, NO_PLUGIN);
        payload.extend_from_slice(self.attributes);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPABILITIES: Capabilities =
        Capabilities(Capabilities::SECURE_CONNECTION.0 | Capabilities::PLUGIN_AUTH.0);
    const PAYLOAD: &[u8] = b"\x11dump\0\x03abcshop\0\x2d\0mysql_native_password\0\x04\x01a\x01b";

    #[test]
    fn the_answer_is_taken_out_and_the_rest_stays() {
        let command = ChangeUser::parse(PAYLOAD, CAPABILITIES).unwrap();
        assert_eq!((command.user(), command.database()), (&b"dump"[..], &b"shop"[..]));
        assert_eq!(command.character_set(), Some(45));
        assert_eq!((command.plugin(), command.auth_response()), (&b"mysql_native_password"[..], &b"abc"[..]));
        let asking = command.asking_for_switch();
        assert_eq!(asking, b"\x11dump\0\0shop\0\x2d\0spillway_asks_which\0\x04\x01a\x01b");
    }

    #[test]
    fn one_of_ones_own_is_a_command_like_any_other() {
        let capabilities = CAPABILITIES | Capabilities::CONNECT_ATTRS;
        let payload = ChangeUser::to(b"nobody", capabilities).asking_for_switch();
        assert_eq!(payload, b"\x11nobody\0\0\0\0\0spillway_asks_which\0\0");
        assert_eq!(ChangeUser::parse(&payload, capabilities).unwrap().user(), b"nobody");
    }

    #[test]
    fn a_command_cut_anywhere_does_not_panic() {
        for len in 0..PAYLOAD.len() {
            let _ = ChangeUser::parse(&PAYLOAD[..len], CAPABILITIES);
        }
        assert!(ChangeUser::parse(b"\x03SELECT 1", CAPABILITIES).is_none());
        assert!(ChangeUser::parse(&PAYLOAD[..7], CAPABILITIES).is_none());
    }
}
