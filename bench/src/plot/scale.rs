//! Numbers on an axis: which are marked, and how they are written.

/// An axis from 0 to a round number.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    step: f64,
    last: usize,
}

impl Scale {
    /// One that `most` fits on, with about so many marks.
    pub(super) fn new(most: f64, marks: usize) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let rough = most / marks.max(1) as f64;
        let magnitude = 10f64.powf(rough.log10().floor());
        let factor =
            [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * magnitude >= rough).unwrap_or(10.0);
        let step = factor * magnitude;
        // A hair less, or a greatest value that is a mark would give one mark more by its rounding.
        Self { step, last: ((most / step) - 1e-9).ceil().max(1.0) as usize }
    }

    /// Where it ends.
    pub(super) fn end(&self) -> f64 {
        self.step * self.last as f64
    }

    /// The marks and their texts.
    pub(super) fn marks(&self) -> Vec<(f64, String)> {
        let digits = (0..6).find(|&digits| is_whole(self.step * 10f64.powi(digits))).unwrap_or(6) as usize;
        (0..=self.last)
            .map(|number| self.step * number as f64)
            .map(|value| (value, thousands(&format!("{value:.digits$}"))))
            .collect()
    }
}

/// `12000` as `12,000`.
fn thousands(number: &str) -> String {
    let (whole, rest) = number.find('.').map_or((number, ""), |point| number.split_at(point));
    let mut text = String::new();
    for (position, digit) in whole.chars().enumerate() {
        if position > 0 && (whole.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

fn is_whole(value: f64) -> bool {
    (value - value.round()).abs() < 1e-9 * value.abs().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(most: f64, marks: usize) -> Vec<String> {
        Scale::new(most, marks).marks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(texts(1.3, 5), ["0.0", "0.5", "1.0", "1.5"]);
        assert_eq!(texts(1.0, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(19_000.0, 4), ["0", "5,000", "10,000", "15,000", "20,000"]);
        assert_eq!(texts(0.9, 4), ["0.00", "0.25", "0.50", "0.75", "1.00"]);
    }

    #[test]
    fn nothing_at_all_still_has_an_axis() {
        assert_eq!(Scale::new(0.0, 5).end(), 1.0);
        assert_eq!(Scale::new(f64::NAN, 5).end(), 1.0);
    }
}
