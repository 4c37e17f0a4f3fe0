//! What a finished login has agreed on.

use spillway_protocol::{Capabilities, Compression, Greeting, HandshakeResponse, StatusFlags, ok_status};

use crate::backend::{Reached, Server};
use crate::packet_stream::PacketStream;

/// A client and a server that are logged in, as the command phase needs to know them.
pub(crate) struct Login {
    pub(crate) capabilities: Capabilities,
    pub(crate) is_mariadb: bool,
    pub(crate) server_version: String,
    /// The server's connection id, as SHOW PROCESSLIST shows it.
    pub(crate) connection_id: u32,
    /// The one that the client was told.
    pub(crate) told_connection_id: u32,
    pub(crate) user: Vec<u8>,
    /// On the client's connection.
    pub(crate) client_compression: Option<Compression>,
    /// On the first connection to the server.
    pub(crate) server_compression: Option<Compression>,
    /// The scramble of the greeting that the client has answered.
    pub(crate) told_scramble: Vec<u8>,
    /// This server connection has another scramble.
    pub(crate) has_other_scramble: bool,
    /// Status flags of the OK packet that ended the login.
    pub(crate) status: Option<StatusFlags>,
}

impl Login {
    /// The text of a COM_QUERY stands behind a count of attributes and of their sets.
    pub(crate) fn has_query_attributes(&self) -> bool {
        self.capabilities.contains(Capabilities::QUERY_ATTRIBUTES)
    }
}

/// A finished login, with its server connection.
pub(crate) struct Ready {
    pub(crate) backend: PacketStream,
    pub(crate) server: Server,
    pub(crate) login: Login,
    /// What the client was greeted with.
    pub(crate) greeting: Greeting,
    /// What it answered.
    pub(crate) response: HandshakeResponse,
}

impl Ready {
    /// `told` is the greeting that the client has answered, under the connection id `told_connection_id` and with
    /// `told_scramble`; `mask` the capabilities that both sides may have; `ok` the payload that ended the server's side
    /// of the login.
    pub(crate) fn new(
        reached: Reached,
        told: &Greeting,
        told_connection_id: u32,
        told_scramble: &[u8],
        response: HandshakeResponse,
        mask: Capabilities,
        ok: &[u8],
    ) -> Self {
        let Reached { stream: backend, greeting, server, hop } = reached;
        let is_mariadb = greeting.is_mariadb();
        let login = Login {
            capabilities: response.capabilities() & mask,
            is_mariadb,
            server_version: String::from_utf8_lossy(greeting.server_version()).into_owned(),
            connection_id: greeting.connection_id(),
            told_connection_id,
            user: response.user().to_vec(),
            told_scramble: told_scramble.to_vec(),
            client_compression: Compression::asked_for(&response),
            server_compression: Compression::agreed(hop),
            has_other_scramble: greeting.scramble() != told_scramble,
            status: ok_status(ok),
        };
        Self { backend, server, login, greeting: told.clone(), response: response.without_answer() }
    }
}
