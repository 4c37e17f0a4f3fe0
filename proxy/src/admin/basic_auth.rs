//! The web page's password: HTTP Basic (RFC 7617), within limits that keep it from being guessed.
//!
//! Whoever was wrong is not listened to for a moment, and nobody else waits for that: no answer is held back, so a
//! guesser takes no connection's place from others. Each address has its own moment.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Digest, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use subtle::ConstantTimeEq;
use tracing::info;
use zeroize::Zeroizing;

use crate::config::Secret;

/// The only account, as in the console.
pub(super) const USER: &str = "admin";

/// How long an address is not listened to that was wrong.
const PAUSE: Duration = Duration::from_secs(1);

/// Addresses that are not listened to at a time. When there are more, no new one is for that moment, so that many
/// addresses do not make guessing fast either.
const MAX_BARRED: usize = 1000;

/// Who knows the password, and who was wrong a moment ago.
pub(super) struct BasicAuth {
    /// Of what the right credentials look like in a request: two digests are of one length, so comparing them tells
    /// nothing of the password's.
    right: Digest,
    barred: Mutex<HashMap<IpAddr, Instant>>,
}

impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BasicAuth")
    }
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It has no credentials, or wrong ones.
    NotProved,
    /// Its credentials were not looked at.
    TooSoon,
}

impl BasicAuth {
    pub(super) fn new(password: &Secret) -> Self {
        let pair = Zeroizing::new([USER.as_bytes(), b":", password.as_bytes()].concat());
        let encoded = Zeroizing::new(STANDARD.encode(&*pair));
        Self { right: digest(&SHA256, encoded.as_bytes()), barred: Mutex::default() }
    }

    /// Whether a request with this Authorization header, from this address, may be answered.
    pub(super) fn check(&self, authorization: Option<&HeaderValue>, from: IpAddr) -> Result<(), Denied> {
        self.check_at(authorization, from, Instant::now())
    }

    fn check_at(
        &self,
        authorization: Option<&HeaderValue>,
        from: IpAddr,
        now: Instant,
    ) -> Result<(), Denied> {
        let credentials = authorization.and_then(credentials_of).ok_or(Denied::NotProved)?;
        let from = network_of(from);
        let mut barred = self.barred.lock().unwrap_or_else(PoisonError::into_inner);
        barred.retain(|_, until| *until > now);
        if barred.contains_key(&from) || barred.len() >= MAX_BARRED {
            return Err(Denied::TooSoon);
        }
        let given = digest(&SHA256, credentials);
        if bool::from(given.as_ref().ct_eq(self.right.as_ref())) {
            return Ok(());
        }
        barred.insert(from, now + PAUSE);
        drop(barred);
        info!(peer = %from, "refused a login to the web page");
        Err(Denied::NotProved)
    }
}

/// The credentials in a header, as they are encoded there.
fn credentials_of(header: &HeaderValue) -> Option<&[u8]> {
    let (scheme, credentials) = header.as_bytes().split_at_checked(SCHEME.len())?;
    let credentials = credentials.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && !credentials.is_empty()).then_some(credentials)
}

const SCHEME: &[u8] = b"Basic ";

/// All that one host of IPv6 may call its own is one address here.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> BasicAuth {
        BasicAuth::new(&toml::from_str::<HashMap<String, Secret>>("p = 'open: sésame'").unwrap()["p"])
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn header(credentials: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(credentials))).unwrap()
    }

    #[test]
    fn the_password_and_nothing_else() {
        let right = header("admin:open: sésame");
        for (number, (given, expected)) in [
            (Some(right.clone()), Ok(())),
            (
                Some(HeaderValue::from_str(&right.to_str().unwrap().replace("Basic", "basic")).unwrap()),
                Ok(()),
            ),
            (None, Err(Denied::NotProved)),
            (Some(header("admin:open")), Err(Denied::NotProved)),
            (Some(header("root:open: sésame")), Err(Denied::NotProved)),
            (Some(header("open: sésame")), Err(Denied::NotProved)),
            (Some(HeaderValue::from_static("Basic")), Err(Denied::NotProved)),
            (Some(HeaderValue::from_static("Basic !")), Err(Denied::NotProved)),
            (Some(HeaderValue::from_static("Bearer YWRtaW4")), Err(Denied::NotProved)),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(auth().check(given.as_ref(), address("10.0.0.1")), expected, "{number}");
        }
    }

    #[test]
    fn who_was_wrong_is_not_listened_to_and_others_are() {
        let auth = auth();
        let start = Instant::now();
        let ask = |credentials: &str, from: &str, millis| {
            auth.check_at(Some(&header(credentials)), address(from), start + Duration::from_millis(millis))
        };
        let (right, wrong) = ("admin:open: sésame", "admin:x");
        assert_eq!(ask(wrong, "2001:db8::1", 0), Err(Denied::NotProved));
        assert_eq!(ask(wrong, "2001:db8::2", 500), Err(Denied::TooSoon));
        assert_eq!(ask(right, "2001:db8::1", 999), Err(Denied::TooSoon));
        assert_eq!(ask(right, "2001:db8:0:1::1", 999), Ok(()));
        // Who asks without credentials has made no guess.
        assert_eq!(auth.check_at(None, address("2001:db8::1"), start), Err(Denied::NotProved));
        assert_eq!(ask(right, "2001:db8::1", 1000), Ok(()));
    }

    #[test]
    fn many_addresses_guess_no_faster() {
        let auth = auth();
        let now = Instant::now();
        let guesses = (0..5000_u32).filter(|number| {
            let denied = auth.check_at(Some(&header("admin:x")), IpAddr::from(number.to_be_bytes()), now);
            denied == Err(Denied::NotProved)
        });
        assert_eq!(guesses.count(), MAX_BARRED);
    }
}
