//! Who gets a session at all: `--allow` and `--max-sessions`, looked at before anything else is done for a client.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::applicant::Applicant;
use super::refusal::Refusal;
use crate::client_address::ClientAddress;
use crate::log_limit::LogLimit;
use crate::proxy_protocol::Network;
use crate::slots::{Full, Slot, Slots};
use crate::stream::Stream;

/// The way in to a route.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Clients that may come in.
    allowed: Vec<Network>,
    pub(crate) slots: Arc<Slots>,
    not_allowed: LogLimit,
    full: LogLimit,
}

impl Gate {
    /// For clients of these networks.
    pub(crate) fn new(allowed: Vec<Network>, slots: Arc<Slots>) -> Self {
        Self { allowed, slots, not_allowed: LogLimit::default(), full: LogLimit::default() }
    }

    /// A slot for a client that comes `from` there: the address that counts is the one of its PROXY header, if it had to
    /// begin with one.
    pub(super) fn admit(&self, from: &ClientAddress) -> Result<Slot, Refusal> {
        if !self.allowed.iter().any(|network| network.has(from.ip())) {
            return Err(Refusal::NotAllowed(from.ip()));
        }
        self.slots.take().map_err(|Full(max)| Refusal::TooManySessions(max))
    }

    /// Tells a client that it was not admitted, and the log now and then.
    pub(super) async fn turn_away(&self, client: Stream, refusal: &Refusal) {
        let limit = if matches!(refusal, Refusal::NotAllowed(_)) { &self.not_allowed } else { &self.full };
        match limit.line() {
            Some(untold) => warn!(%refusal, untold, "turned a client away"),
            None => debug!(%refusal, "turned a client away"),
        }
        // It is told, and not listened to.
        Applicant::new(client, None, Duration::ZERO).tell(refusal).await;
    }
}
