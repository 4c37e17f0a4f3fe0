//! What the fuzzers run: a function for each kind of bytes that come from outside. Each takes any bytes at all, and
//! panics where something does not hold that must. They stand beside the code that they try.
//!
//! Bounded runs of all of them are unit tests; `make fuzz` runs them for longer, led by coverage. ARCHITECTURE.md tells
//! how to add one. Not part of the library: only tests and fuzzers are built with it.

/// Its name, by which its corpus is called too, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: [Target; 10] = [
    ("packet_stream", crate::packet_stream::fuzz::packet_stream),
    ("proxy_header", crate::proxy_protocol::fuzz::proxy_header),
    ("spool_block", crate::spool::fuzz::spool_block),
    ("configuration", crate::config::fuzz::configuration),
    ("option_file", crate::credentials::fuzz::option_file),
    ("console", crate::console::fuzz::console),
    ("rows", crate::journal::fuzz::rows),
    ("report", crate::verify::fuzz::report),
    ("public_key", crate::rsa::fuzz::public_key),
    ("client_help", crate::run::fuzz::client_help),
];

/// Cuts `bytes` by a plan: 0 not at all, 1 behind each byte, others at places that the plan alone decides.
pub(crate) fn pieces(bytes: &[u8], plan: u8) -> Vec<&[u8]> {
    let mut dice = u32::from(plan).wrapping_mul(0x9e37_79b9) | 1;
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        dice ^= dice << 13;
        dice ^= dice >> 17;
        dice ^= dice << 5;
        let len = match plan {
            0 => rest.len(),
            1 => 1,
            // Short ones as a rule, long ones at times.
            _ => 1 + (dice >> 8) as usize % (2 << (dice % u32::from(plan % 10 + 1))),
        };
        let (piece, behind) = rest.split_at(len.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Runs what must not have more memory than this at any time. Only the unit tests count it.
#[cfg(test)]
pub(crate) fn within<T>(most: usize, run: impl FnOnce() -> T) -> T {
    spillway_fuzz::within(most, run)
}

#[cfg(not(test))]
pub(crate) fn within<T>(_: usize, run: impl FnOnce() -> T) -> T {
    run()
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    fn check(name: &str, cases: u32) {
        let (_, run) = TARGETS.into_iter().find(|(known, _)| *known == name).expect(name);
        spillway_fuzz::check_cases(name, cases, run);
    }

    #[test]
    fn packet_stream() {
        check("packet_stream", 20_000);
    }

    #[test]
    fn proxy_header() {
        check("proxy_header", 200_000);
    }

    #[test]
    fn spool_block() {
        check("spool_block", 30_000);
    }

    #[test]
    fn configuration() {
        check("configuration", 60_000);
    }

    #[test]
    fn option_file() {
        check("option_file", 200_000);
    }

    #[test]
    fn console() {
        check("console", 100_000);
    }

    #[test]
    fn rows() {
        check("rows", 100_000);
    }

    #[test]
    fn report() {
        check("report", 100_000);
    }

    #[test]
    fn public_key() {
        check("public_key", 50_000);
    }

    #[test]
    fn client_help() {
        check("client_help", 100_000);
    }
}
