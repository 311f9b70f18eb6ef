//! Statistics of a row of measurements. Pure.

use std::collections::BTreeMap;

/// Values of one figure, in the order of measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// `None` if the row is empty.
    pub fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, p50, p99) = (*sorted.first()?, median(&sorted)?, nearest_rank(&sorted, 99)?);
        Some(Summary { n: sorted.len(), min, p50, p99 })
    }

    /// At most `n` values, from the beginning.
    pub fn first(&self, n: usize) -> Vec<f64> {
        self.0.iter().take(n).copied().collect()
    }

    /// At most `n` values, up to the end.
    pub fn last(&self, n: usize) -> Vec<f64> {
        self.0.iter().skip(self.0.len().saturating_sub(n)).copied().collect()
    }

    pub fn mean(&self) -> f64 {
        // A float holds the number of measurements without a loss of precision.
        #[allow(clippy::cast_precision_loss)]
        let n = self.0.len().max(1) as f64;
        self.0.iter().sum::<f64>() / n
    }
}

/// A row in four numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub n: usize,
    pub min: f64,
    pub p50: f64,
    pub p99: f64,
}

/// For an even number of values, the mean of the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle - 1)?, upper))
}

/// The smallest value that is at least as large as `percent` of all values. It is always a measured
/// value. With fewer than 100 values the 99th percentile is the greatest value.
fn nearest_rank(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// `a / b`, rounded to three decimal places, which is enough for readers.
pub fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| (a / b * 1000.0).round() / 1000.0)
}

/// The requested ratios of medians, by name. A ratio without both medians is left out.
pub fn ratios<'a>(
    wanted: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
    median_of: impl Fn(&str) -> Option<f64>,
) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for (name, above, below) in wanted {
        if let (Some(above), Some(below)) = (median_of(above), median_of(below))
            && let Some(ratio) = ratio(above, below)
        {
            found.insert(name.to_owned(), ratio);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples(values: impl IntoIterator<Item = u32>) -> Samples {
        Samples(values.into_iter().map(f64::from).collect())
    }

    #[test]
    fn a_row_is_summed_up_whatever_its_order() {
        let odd = samples([5, 1, 3]).summary().unwrap();
        assert_eq!(odd, Summary { n: 3, min: 1.0, p50: 3.0, p99: 5.0 });
        assert!((samples([4, 1, 2, 3]).summary().unwrap().p50 - 2.5).abs() < 1e-9);
        let many = samples(1..=200).summary().unwrap();
        assert_eq!((many.n, many.p99), (200, 198.0));
        for count in [99, 100] {
            let said = samples(1..=count).summary().unwrap();
            assert!((said.p99 - 99.0).abs() < 1e-9);
        }
        assert_eq!(samples([]).summary(), None);
    }

    #[test]
    fn both_ends_of_a_row_can_be_compared() {
        let row = samples(1..=5);
        assert_eq!((row.first(2), row.last(2)), (vec![1.0, 2.0], vec![4.0, 5.0]));
        assert_eq!((row.first(9).len(), row.last(9).len()), (5, 5));
    }

    #[test]
    fn a_ratio_needs_both_and_no_zero() {
        let medians = |name: &str| match name {
            "slow" => Some(300.0),
            "fast" => Some(9.0),
            "none" => Some(0.0),
            _ => None,
        };
        let found = ratios(
            [("a", "slow", "fast"), ("b", "slow", "absent"), ("c", "slow", "none")],
            medians,
        );
        assert_eq!(found, BTreeMap::from([("a".to_owned(), 33.333)]));
    }

    proptest! {
        #[test]
        fn what_is_said_was_measured_and_in_order(
            values in prop::collection::vec(0_u32..10_000, 1..300),
        ) {
            let row = samples(values.iter().copied());
            let said = row.summary().unwrap();
            prop_assert!(said.min <= said.p50 && said.p50 <= said.p99);
            prop_assert!(row.0.contains(&said.min) && row.0.contains(&said.p99));
            let above = row.0.iter().filter(|value| **value > said.p99).count();
            prop_assert!(above * 100 <= row.0.len());
        }
    }
}
