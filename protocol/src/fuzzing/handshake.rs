//! The packets of the connection phase, from either side.

use super::input::Input;
use super::within;
use crate::auth::{AuthPlugin, AuthSwitchRequest, ParsecSalt};
use crate::capabilities::Capabilities;
use crate::certificate_proof::prove_certificate;
use crate::change_user::ChangeUser;
use crate::handshake::{Greeting, HandshakeResponse, is_ssl_request};
use crate::status::{encode_err, eof_status, err_code, err_message, ok_status, ok_warnings};

/// ```text
/// 1  which packet    8  capabilities of the other side    n  its payload
/// ```
pub(super) fn handshake(input: &[u8]) {
    let mut input = Input(input);
    let kind = input.byte();
    let capabilities = Capabilities(u64::from_le_bytes(input.array()));
    let payload = input.0;
    match kind % 4 {
        0 => greeting(payload, capabilities),
        1 => response(payload, capabilities),
        2 => change_user(payload, capabilities),
        _ => answers(payload),
    }
}

/// A greeting that is passed on, or made anew, is one with exactly what it should have.
fn greeting(payload: &[u8], mask: Capabilities) {
    let Ok(greeting) = within(payload.len(), || Greeting::parse(payload.to_vec())) else { return };
    assert_eq!(greeting.offering(greeting.capabilities()), payload);
    let offered = greeting.capabilities() & (mask | ALWAYS);
    let Ok(masked) = Greeting::parse(greeting.offering(offered)) else { panic!("cannot be read again") };
    assert_eq!(masked.capabilities(), offered);
    assert_eq!(masked.scramble(), greeting.scramble());
    assert_eq!(masked.connection_id(), greeting.connection_id());
    assert!(masked.plugin().is_empty() || masked.plugin() == greeting.plugin());
    let scramble = b"01234567890123456789";
    let Ok(renewed) = Greeting::parse(greeting.renewed(offered, 7, scramble, b"plugin")) else {
        panic!("cannot be read again")
    };
    assert_eq!((renewed.connection_id(), renewed.scramble()), (7, scramble.to_vec()));
    assert_eq!(renewed.capabilities(), offered);
    assert_eq!(renewed.server_version(), greeting.server_version());
    let has_plugin = offered.contains(Capabilities::PLUGIN_AUTH);
    assert_eq!(renewed.plugin(), if has_plugin { &b"plugin"[..] } else { b"" });
}

/// What goes to the server says what the client has said, but for what is masked.
fn response(payload: &[u8], mask: Capabilities) {
    let parsed = within(2 * payload.len(), || HandshakeResponse::parse(payload));
    let Ok(parsed) = parsed else { return };
    assert!(!is_ssl_request(payload));
    let masked = parsed.masked(mask | ALWAYS);
    let Ok(again) = HandshakeResponse::parse(&masked) else { panic!("cannot be read again") };
    let capabilities = parsed.capabilities() & (mask | ALWAYS);
    assert_eq!(again.capabilities(), capabilities);
    assert!(again.user() == parsed.user(), "another user");
    assert_eq!(again.character_set(), parsed.character_set());
    let kept = |flag, field| if capabilities.contains(flag) { field } else { &b""[..] };
    assert_eq!(again.database(), kept(Capabilities::CONNECT_WITH_DB, parsed.database()));
    assert_eq!(again.plugin(), kept(Capabilities::PLUGIN_AUTH, parsed.plugin()));
    // Where there is no room for it, there is none: never half of it, or something else.
    let answer = again.auth_response();
    assert!(answer.is_empty() || answer == parsed.auth_response(), "another answer");
    if parsed.auth_response().len() < 256 && capabilities.contains(Capabilities::SECURE_CONNECTION) {
        assert!(answer == parsed.auth_response(), "no answer");
    }
    let name = b"program_name";
    if capabilities.contains(Capabilities::CONNECT_ATTRS) {
        assert_eq!(again.attribute(name), parsed.attribute(name));
    }
    assert!(again.masked(mask | ALWAYS) == masked, "differs the second time");
    if capabilities.contains(Capabilities::PLUGIN_AUTH) {
        let Ok(asking) = HandshakeResponse::parse(&parsed.asking_for_switch(capabilities)) else {
            panic!("cannot be read again")
        };
        assert!(asking.user() == parsed.user() && asking.auth_response().is_empty());
    }
}

fn change_user(payload: &[u8], capabilities: Capabilities) {
    let Some(command) = within(0, || ChangeUser::parse(payload, capabilities)) else { return };
    let asking = command.asking_for_switch();
    let with_plugin = capabilities | Capabilities::PLUGIN_AUTH;
    let Some(again) = ChangeUser::parse(&asking, with_plugin) else { panic!("cannot be read again") };
    assert!((again.user(), again.database()) == (command.user(), command.database()));
    assert!(again.auth_response().is_empty());
    assert_eq!(again.character_set(), command.character_set().or(Some(0)));
}

/// What a server says to an answer, and what a client is told then.
fn answers(payload: &[u8]) {
    let _ = (ok_status(payload), ok_warnings(payload), eof_status(payload), err_code(payload));
    assert!(payload.ends_with(err_message(payload)));
    let told = String::from_utf8_lossy(err_message(payload));
    assert!(encode_err(1, 1045, Some(b"28000"), &told).len() < 4 + 9 + 512);
    let next_factor = AuthSwitchRequest::parse_next_factor(payload);
    for request in AuthSwitchRequest::parse(payload).into_iter().chain(next_factor) {
        let _ = AuthPlugin::named(request.plugin).answer(b"secret", request.scramble());
        assert!(request.data.starts_with(request.scramble()));
        assert!(!request.plugin.is_empty());
    }
    if let Some(ParsecSalt { rounds, salt }) = ParsecSalt::parse(payload) {
        assert!(rounds <= 8 << 20 && salt.len() <= 64, "{rounds} rounds");
    }
    if let Some(proved) = prove_certificate(payload, b"secret", b"01234567890123456789", &[7; 32]) {
        assert_eq!((ok_status(&proved), ok_warnings(&proved)), (ok_status(payload), ok_warnings(payload)));
    }
}

/// What is never masked: without the first these are other packets, and without the second the filler means
/// something else.
const ALWAYS: Capabilities = Capabilities(Capabilities::PROTOCOL_41.0 | Capabilities::LONG_PASSWORD.0);
