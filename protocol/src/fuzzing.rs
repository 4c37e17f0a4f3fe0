//! What the fuzzers run: a function for each kind of bytes that come from outside. Each takes any bytes at all, and
//! panics where something does not hold that must.
//!
//! Bounded runs of all of them are unit tests; `make fuzz` runs them for longer, led by coverage. ARCHITECTURE.md tells
//! how to add one. Not part of the library: only tests and fuzzers are built with it.

mod compression;
mod handshake;
mod input;
mod reference;
mod requests;
mod responses;
mod statements;

/// Its name, by which its corpus is called too, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: [Target; 5] = [
    ("responses", responses::responses),
    ("requests", requests::requests),
    ("handshake", handshake::handshake),
    ("statements", statements::statements),
    ("compression", compression::compression),
];

/// Runs what must not have more memory than this at any time. Only the unit tests count it.
#[cfg(test)]
fn within<T>(most: usize, run: impl FnOnce() -> T) -> T {
    spillway_fuzz::within(most, run)
}

#[cfg(not(test))]
fn within<T>(_: usize, run: impl FnOnce() -> T) -> T {
    run()
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    fn check(name: &str) {
        let (_, run) = TARGETS.into_iter().find(|(known, _)| *known == name).expect(name);
        spillway_fuzz::check(name, run);
    }

    #[test]
    fn responses() {
        check("responses");
    }

    #[test]
    fn requests() {
        check("requests");
    }

    #[test]
    fn handshake() {
        check("handshake");
    }

    #[test]
    fn statements() {
        check("statements");
    }

    #[test]
    fn compression() {
        check("compression");
    }
}
