//! Few rows of many, so that each pair of values that occurs in any row occurs in one of the few.

use std::collections::HashSet;

/// The numbers of such rows, in the order in which they were picked; always the same ones for the same rows.
///
/// Greedy: of all rows, the first one that brings the most pairs which are still missing.
pub fn covering<const N: usize>(rows: &[[usize; N]]) -> Vec<usize> {
    let mut missing: HashSet<Pair> = rows.iter().flat_map(pairs).collect();
    let mut picked = Vec::new();
    while !missing.is_empty() {
        let brings = |row: &[usize; N]| pairs(row).filter(|pair| missing.contains(pair)).count();
        // The last of equals would win a plain `max_by_key`.
        let best = (0..rows.len()).rev().max_by_key(|&number| brings(&rows[number]));
        let Some(best) = best else { break };
        for pair in pairs(&rows[best]) {
            missing.remove(&pair);
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
