//! Medians and spread.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// Values of several runs, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    values: Vec<f64>,
}

impl Sample {
    /// Adds a run.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Adds a run, in seconds.
    pub fn push_duration(&mut self, took: Duration) {
        self.values.push(took.as_secs_f64());
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The runs in their order.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The middle one, or the mean of the middle two; nothing without any.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        match (sorted.len() / 2, sorted.len() % 2) {
            (0, 0) => None,
            (middle, 0) => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
            (middle, _) => Some(sorted[middle]),
        }
    }

    /// The least and the greatest; nothing without any.
    pub fn range(&self) -> Option<(f64, f64)> {
        let least = self.values.iter().copied().min_by(f64::total_cmp)?;
        let greatest = self.values.iter().copied().max_by(f64::total_cmp)?;
        Some((least, greatest))
    }

    /// All together.
    pub fn sum(&self) -> f64 {
        self.values.iter().sum()
    }

    /// Each value divided by the other sample's of the same run.
    pub fn over(&self, other: &Self) -> Self {
        self.values.iter().zip(&other.values).map(|(own, other)| own / other).collect()
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self { values: values.into_iter().collect() }
    }
}

impl Extend<f64> for Sample {
    fn extend<T: IntoIterator<Item = f64>>(&mut self, values: T) {
        self.values.extend(values);
    }
}

impl Serialize for Sample {
    /// With what is made of the values, for programs that only want to show it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Summary<'a> {
            median: Option<f64>,
            least: Option<f64>,
            greatest: Option<f64>,
            values: &'a [f64],
        }
        let (least, greatest) = self.range().unzip();
        Summary { median: self.median(), least, greatest, values: &self.values }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        let sample = |values: &[f64]| values.iter().copied().collect::<Sample>();
        assert_eq!(sample(&[]).median(), None);
        assert_eq!(sample(&[3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(sample(&[4.0, 1.0, 2.0, 3.0]).median(), Some(2.5));
        assert_eq!(sample(&[3.0, 1.0, 2.0]).range(), Some((1.0, 3.0)));
        assert_eq!(sample(&[3.0, 1.0]).over(&sample(&[2.0, 4.0])), sample(&[1.5, 0.25]));
    }
}
