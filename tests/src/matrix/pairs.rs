//! Few rows of many, so that each pair of values that occurs in any row occurs in one of the few.

use std::cmp::Reverse;
use std::collections::HashMap;

/// The numbers of such rows, in the order in which they were picked; always the same ones for the same rows.
///
/// Greedy: of all rows one that brings the most pairs which are still missing; of such rows one whose other pairs were
/// seldom picked, so that the last ones do not all look alike; of such the first.
pub fn covering<const N: usize>(rows: &[[usize; N]]) -> Vec<usize> {
    let mut seen: HashMap<Pair, usize> = rows.iter().flat_map(pairs).map(|pair| (pair, 0)).collect();
    let mut picked = Vec::new();
    while seen.values().any(|count| *count == 0) {
        let worth = |row: &[usize; N]| {
            let counts = || pairs(row).filter_map(|pair| seen.get(&pair));
            (counts().filter(|count| **count == 0).count(), Reverse(counts().sum::<usize>()))
        };
        // Of equals `max_by_key` takes the last.
        let Some(best) = (0..rows.len()).rev().max_by_key(|&number| worth(&rows[number])) else { break };
        for pair in pairs(&rows[best]) {
            *seen.entry(pair).or_default() += 1;
        }
        picked.push(best);
    }
    picked
}

/// Two places in a row and what is there.
type Pair = [(usize, usize); 2];

fn pairs<const N: usize>(row: &[usize; N]) -> impl Iterator<Item = Pair> {
    (0..N).flat_map(move |second| (0..second).map(move |first| [(first, row[first]), (second, row[second])]))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::matrix::Cell;

    #[test]
    fn each_pair_is_in_a_picked_row() {
        let rows: Vec<_> = Cell::all().iter().map(Cell::values).collect();
        let picked = covering(&rows);
        let all: HashSet<Pair> = rows.iter().flat_map(pairs).collect();
        let covered: HashSet<Pair> = picked.iter().flat_map(|&number| pairs(&rows[number])).collect();
        assert_eq!(all, covered);
        assert_eq!(picked, covering(&rows));
    }

    #[test]
    fn few_are_enough() {
        // Four places with three values each have 54 pairs, and nine rows hold them all if they are chosen well.
        let rows: Vec<[usize; 4]> = (0..81).map(|n| [n % 3, n / 3 % 3, n / 9 % 3, n / 27]).collect();
        let picked = covering(&rows);
        assert!(picked.len() <= 12, "{} rows", picked.len());
        assert!(covering::<3>(&[]).is_empty());
    }
}
