//! The text format in which Prometheus takes metrics, for what is read at the scrape.
//!
//! The recorder of `metrics` has whole numbers only for counters, and keeps a gauge for ever whose label is gone.

use std::fmt::{Display, Write as _};

/// Metrics, written one behind the other.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// What kind of metric it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Never falls, but to zero at a start.
    Counter,
    Gauge,
}

impl Exposition {
    /// A metric of one value.
    pub(super) fn value(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.values(kind, name, help, "", [("", value)]);
    }

    /// A metric that has a value for each text of a label.
    pub(super) fn values<T: AsRef<str>, V: Display>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (T, V)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (text, value) in values {
            let _ = match label {
                "" => writeln!(self.0, "{name} {value}"),
                _ => writeln!(self.0, "{name}{{{label}=\"{}\"}} {value}", escaped(text.as_ref())),
            };
        }
        self.0.push('\n');
    }

    /// All of them.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_prometheus_takes_it() {
        let mut exposition = Exposition::default();
        exposition.value(Kind::Counter, "a_total", "Of a.", 1.5);
        exposition.values(Kind::Gauge, "b", "Of b.", "route", [("x", 1), ("q\"\\\n", 2)]);
        assert_eq!(
            exposition.into_text(),
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total 1.5\n\n\
             # HELP b Of b.\n# TYPE b gauge\nb{route=\"x\"} 1\nb{route=\"q\\\"\\\\\\n\"} 2\n\n"
        );
    }
}
