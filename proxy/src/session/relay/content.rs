//! Commands that Spillway looks into before they go on: those that can be sent again, and those that are to reach the
//! server in other words.

use spillway_protocol::{Command, ResponseForm, encode_packet, kill_target};

use super::super::backend::Setting;
use super::super::client::Route;
use super::super::continuity::{Effect, effect};
use super::Relay;
use crate::connection_ids::KillTarget;

impl Relay {
    /// The route of a command for what it says; none for the ordinary one.
    pub(super) fn route_by_content(&mut self, command: Command, form: ResponseForm) -> Option<Route> {
        if let Some(route) = self.note_effect() {
            return Some(route);
        }
        match command {
            Command::QUERY | Command::PROCESS_KILL => self.route_kill(command, form),
            _ => None,
        }
    }

    /// Takes note of what the command means for the session's continuity. A setting is sent here.
    fn note_effect(&mut self) -> Option<Route> {
        let continuity = self.continuity.as_mut().filter(|continuity| continuity.is_whole())?;
        let payload = self.client.whole_command();
        match effect(payload, self.login.has_query_attributes()) {
            Effect::Setting(keeps) if continuity.reserve(payload.unwrap_or_default()) => {
                let payload = payload?.to_vec();
                let id = self.open_response();
                self.backend.send_setting(Setting { id, keeps, payload });
                Some(Route::Sent(id))
            }
            Effect::Nothing | Effect::Wipes => None,
            Effect::Setting(_) | Effect::Unknown => {
                continuity.end();
                None
            }
        }
    }

    /// A KILL of the id that a client was told means the one that its session has on the server.
    fn route_kill(&mut self, command: Command, form: ResponseForm) -> Option<Route> {
        let payload = self.client.whole_command()?;
        let (id, ends_connection) = self.killed(command, payload)?;
        if ends_connection {
            self.told_id.kill(id);
        }
        match self.told_id.target(id) {
            KillTarget::Session(real) if u64::from(real) != id => {
                let payload = self.kill_of(command, payload, real)?;
                Some(self.send_instead(command, form, &payload))
            }
            KillTarget::Session(_) | KillTarget::Stranger => None,
            KillTarget::Ended => Some(Route::RefuseKill(id)),
        }
    }

    /// Whom the command would kill, and whether not only its query.
    fn killed(&self, command: Command, payload: &[u8]) -> Option<(u64, bool)> {
        if command == Command::PROCESS_KILL {
            return Some((u32::from_le_bytes(payload.get(1..)?.try_into().ok()?).into(), true));
        }
        let kill = kill_target(self.split_query(payload)?.1)?;
        Some((kill.id(), kill.ends_connection()))
    }

    /// The same command for another id.
    fn kill_of(&self, command: Command, payload: &[u8], id: u32) -> Option<Vec<u8>> {
        if command == Command::PROCESS_KILL {
            return Some([&[command.0][..], &id.to_le_bytes()].concat());
        }
        let (head, text) = self.split_query(payload)?;
        Some([head, &kill_target(text)?.with_id(text, id.into())].concat())
    }

    /// What stands before a COM_QUERY's text, and the text.
    fn split_query<'a>(&self, payload: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        payload.split_at_checked(if self.login.has_query_attributes() { 3 } else { 1 })
    }

    fn send_instead(&mut self, command: Command, form: ResponseForm, payload: &[u8]) -> Route {
        let id = self.open_response();
        self.backend.begin(command, form, id);
        self.backend.forward(&encode_packet(0, payload));
        Route::Sent(id)
    }
}
