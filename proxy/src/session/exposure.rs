//! Who could read a password on its two ways: from the client, and on to the server.

use spillway_protocol::AuthPlugin;

use crate::secrecy::Way;
use crate::stream::Stream;

/// The two ways of a session. A client knows the one only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exposure {
    client: Way,
    server: Way,
}

impl Exposure {
    /// While there is no server yet: the worst.
    pub(crate) const UNKNOWN: Self = Self { client: Way::Socket, server: Way::Open };

    pub(crate) fn of(client: &Stream, server: &Stream) -> Self {
        Self { client: Way::of(client), server: Way::of(server) }
    }

    #[cfg(test)]
    pub(crate) fn for_test(client: Way, server: Way) -> Self {
        Self { client, server }
    }

    /// The way to the server.
    pub(crate) fn server(self) -> Way {
        self.server
    }

    /// Whether the client may send the password in clear, which then only Spillway sees.
    pub(crate) fn client_is_safe(self) -> bool {
        self.client.is_safe()
    }

    /// Whether more people could read along than the client believes.
    pub(crate) fn is_weaker(self) -> bool {
        self.client.is_safe() && !self.server.is_safe()
    }

    /// Whether the server takes the password in clear.
    pub(crate) fn server_takes_clear(self, plugin: AuthPlugin) -> bool {
        self.server.takes_clear(plugin)
    }
}
