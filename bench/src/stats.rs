//! Medians and spread.

use std::time::Duration;

use serde::Serialize;

/// Seconds of several runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    seconds: Vec<f64>,
}

impl Sample {
    /// Adds a run.
    pub fn push(&mut self, took: Duration) {
        self.seconds.push(took.as_secs_f64());
    }

    /// The runs in their order.
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// The middle one, or the mean of the middle two; 0 without any.
    pub fn median(&self) -> f64 {
        median(&self.seconds)
    }

    /// The shortest run and the longest.
    pub fn range(&self) -> (f64, f64) {
        range(&self.seconds)
    }
}

/// The middle value, or the mean of the middle two; 0 without any.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (0, 0) => 0.0,
        (middle, 0) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        (middle, _) => sorted[middle],
    }
}

/// The least value and the greatest; 0 and 0 without any.
pub fn range(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().min_by(f64::total_cmp);
    let greatest = values.iter().copied().max_by(f64::total_cmp);
    (least.unwrap_or_default(), greatest.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(range(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }
}
