//! Medians, and how far chance alone may move them.

use serde::Serialize;

/// The middle of some values and their bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// A ratio of medians and, given two rounds or more, where it lies with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub ratio: f64,
    pub interval: Option<[f64; 2]>,
}

pub(super) fn spread(values: &[f64]) -> Option<Spread> {
    let sorted = sorted(values.iter().copied());
    Some(Spread {
        min: *sorted.first()?,
        median: median(&sorted)?,
        max: *sorted.last()?,
    })
}

/// Ours to theirs. The rounds are drawn again with replacement, each with both of its values: what moved the machine in a round moved both.
pub(super) fn ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let ratio = ratio_of_medians(pairs.iter().copied())?;
    if pairs.len() < 2 {
        return Some(Ratio {
            ratio,
            interval: None,
        });
    }
    let mut dice = Dice(SEED);
    let drawn = (0..DRAWS).filter_map(|_| {
        let draw = (0..pairs.len()).filter_map(|_| pairs.get(dice.below(pairs.len())).copied());
        ratio_of_medians(draw.collect::<Vec<_>>().into_iter())
    });
    let drawn = sorted(drawn);
    let at = |permille: usize| drawn.get(drawn.len() * permille / 1000).copied();
    Some(Ratio {
        ratio,
        interval: at(25).zip(at(975)).map(|(low, high)| [low, high]),
    })
}

fn ratio_of_medians(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let ratio = median(&sorted(ours.into_iter()))? / median(&sorted(theirs.into_iter()))?;
    ratio.is_finite().then_some(ratio)
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get((sorted.len() / 2).checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

/// xorshift64*: the same numbers every time, so that a report can be made again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap_or(0) % bound.max(1)
    }
}

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
const DRAWS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = spread(&[4.0, 1.0, 2.0, 3.0]).expect("values");
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.5, 4.0));
        assert!(super::spread(&[]).is_none());
    }

    #[test]
    fn an_interval_holds_its_ratio_and_is_the_same_every_time() {
        let pairs = [(1.0, 2.0), (1.1, 2.0), (0.9, 2.1), (1.0, 1.9)];
        let found = ratio(&pairs).expect("values");
        let [low, high] = found.interval.expect("several rounds");
        assert!(low <= found.ratio && found.ratio <= high, "{found:?}");
        assert!(low < high, "{found:?}");
        assert_eq!(ratio(&pairs), Some(found));
    }

    #[test]
    fn one_round_has_no_interval_and_nothing_no_ratio() {
        assert_eq!(
            ratio(&[(1.0, 4.0)]).map(|r| (r.ratio, r.interval)),
            Some((0.25, None))
        );
        assert!(ratio(&[]).is_none());
        assert!(ratio(&[(1.0, 0.0)]).is_none());
    }
}
