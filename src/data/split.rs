//! Which samples belong together, and in which order: shuffling, splits, folds.

use crate::cpu::host_list;
use crate::error::{Error, Result};
use crate::random::{Use, below, pair};

/// The numbers `0..len` in an order that depends only on what it is for, the seed and the epoch: a Fisher-Yates shuffle
/// (Durstenfeld, CACM algorithm 235) with random numbers from Philox, the same on every platform.
///
/// # Errors
/// No room for the order.
pub(super) fn shuffled(len: usize, what: Use, seed: u64, epoch: u64) -> Result<Vec<usize>> {
    let mut order = host_list(len)?;
    order.extend(0..len);
    let random = (0u64..).flat_map(|at| pair(seed, what, epoch, at as u32));
    for (last, bits) in (1..len).rev().zip(random) {
        order.swap(last, below(bits, last as u64 + 1) as usize);
    }
    Ok(order)
}

fn copy(indices: &[usize]) -> Result<Vec<usize>> {
    let mut list = host_list(indices.len())?;
    list.extend_from_slice(indices);
    Ok(list)
}

/// Distributes the sample indices `0..len` at random over parts of these fractions, such as training, validation and
/// test. A seed always gives the same parts. [`Subset`](super::Subset) and [`Table::rows`](super::Table::rows) take
/// them.
///
/// A part has `floor(len * fraction)` samples. Those left over go one each to the first parts, as in PyTorch's
/// `random_split`.
///
/// ```
/// # use gristmill::data::random_split;
/// let [train, validation] = random_split(11, [0.8, 0.2], 7)?;
/// assert_eq!((train.len(), validation.len()), (9, 2));
/// assert!((0..11).all(|index| train.contains(&index) != validation.contains(&index)));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// A fraction outside 0 to 1, fractions whose sum is not 1, or no room for the indices.
#[track_caller]
pub fn random_split<const N: usize>(len: usize, fractions: [f64; N], seed: u64) -> Result<[Vec<usize>; N]> {
    let sum: f64 = fractions.iter().sum();
    // As close as PyTorch asks, since sums such as 0.7 + 0.2 + 0.1 are rounded.
    if !fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction)) || (sum - 1.0).abs() > 1e-9 {
        let message = format!("fractions {fractions:?}; each must be from 0 to 1, and their sum 1");
        return Err(Error::argument("random_split", message));
    }
    let order = shuffled(len, Use::Split, seed, 0)?;
    let mut left = len;
    let mut lengths = fractions.map(|fraction| {
        let length = ((len as f64 * fraction) as usize).min(left);
        left -= length;
        length
    });
    for at in (0..N).cycle().take(left) {
        lengths[at] += 1;
    }
    let mut parts = [const { Vec::new() }; N];
    let mut rest = &order[..];
    for (part, length) in parts.iter_mut().zip(lengths) {
        let (indices, after) = rest.split_at(length);
        (*part, rest) = (copy(indices)?, after);
    }
    Ok(parts)
}

/// The sample indices `0..len` in `k` folds, for cross-validation: for each fold the indices to train on, all others,
/// and those to validate on, the fold itself; both ascending. A seed always gives the same folds.
///
/// The first `len % k` folds have one sample more than the others, as in scikit-learn's `KFold` with `shuffle=True`.
///
/// ```
/// # use gristmill::data::k_fold;
/// let folds = k_fold(10, 5, 1)?;
/// let (train, validation) = &folds[0];
/// assert_eq!((folds.len(), train.len(), validation.len()), (5, 8, 2));
/// # Ok::<(), gristmill::Error>(())
/// ```
///
/// # Errors
/// `k` below 2 or over `len`, or no room for `k` lists of `len` indices.
#[track_caller]
pub fn k_fold(len: usize, k: usize, seed: u64) -> Result<Vec<(Vec<usize>, Vec<usize>)>> {
    if k < 2 || k > len {
        return Err(Error::argument("k_fold", format!("{k} folds of {len} samples; it takes 2 to {len}")));
    }
    // Each list alone would fit where all together do not.
    drop(host_list::<usize>(len.saturating_mul(k))?);
    let order = shuffled(len, Use::Split, seed, 0)?;
    let mut folds = host_list(k)?;
    let mut start = 0;
    for fold in 0..k {
        let end = start + len / k + usize::from(fold < len % k);
        let mut validation = copy(&order[start..end])?;
        let mut train = host_list(len - validation.len())?;
        train.extend(order[..start].iter().chain(&order[end..]));
        validation.sort_unstable();
        train.sort_unstable();
        folds.push((train, validation));
        start = end;
    }
    Ok(folds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_and_epoch_decide_the_order() {
        let order = |seed, epoch| shuffled(100, Use::Shuffle, seed, epoch).unwrap();
        assert_eq!(order(1, 2), order(1, 2));
        assert_ne!(order(1, 2), order(2, 1));
        assert_ne!(order(1, 2), order(1, 3));
        // Computed independently in Python. A change here would change every training run.
        assert_eq!(shuffled(8, Use::Shuffle, 0, 0).unwrap(), [5, 7, 6, 0, 4, 3, 1, 2]);
        assert!(shuffled(usize::MAX, Use::Shuffle, 0, 0).is_err());
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..6_000 {
            *counts.entry(shuffled(3, Use::Shuffle, 5, epoch).unwrap()).or_insert(0u32) += 1;
        }
        // Binomial(6000, 1/6): deviation 28.9, so 145 is five of them.
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|&count| count.abs_diff(1_000) < 145), "{counts:?}");
    }

    #[test]
    fn a_split_holds_every_index_once() {
        // The floors of 103 * 0.7, 0.2 and 0.1 are 72, 20 and 10; the one left over goes to the first.
        let parts = random_split(103, [0.7, 0.2, 0.1], 5).unwrap();
        assert_eq!(parts.each_ref().map(Vec::len), [73, 20, 10]);
        let mut all = parts.concat();
        assert_ne!(all, (0..103).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<_>>());
        assert_eq!(random_split(103, [0.7, 0.2, 0.1], 5).unwrap(), parts);
        assert_ne!(random_split(103, [0.7, 0.2, 0.1], 6).unwrap(), parts);
        assert!(random_split(0, [1.0], 5).unwrap()[0].is_empty());
        // Other words than the loader's: the first epoch's order would say which part a sample is in.
        assert_ne!(parts.concat(), shuffled(103, Use::Shuffle, 5, 0).unwrap());
    }

    #[test]
    fn fractions_that_are_no_parts_of_a_whole_are_refused() {
        for fractions in [[0.5, 0.6], [1.5, -0.5], [0.5, f64::NAN], [0.5, 0.4]] {
            assert!(random_split(9, fractions, 1).unwrap_err().to_string().contains("their sum 1"));
        }
        assert!(random_split(9, [], 1).is_err());
        assert!(random_split(usize::MAX, [1.0], 1).is_err());
    }

    #[test]
    fn each_fold_validates_what_the_others_train_on() {
        let folds = k_fold(11, 3, 2).unwrap();
        assert_eq!(folds.iter().map(|(_, fold)| fold.len()).collect::<Vec<_>>(), [4, 4, 3]);
        for (train, validation) in &folds {
            assert!(train.is_sorted() && validation.is_sorted());
            let mut all = [&train[..], validation].concat();
            all.sort_unstable();
            assert_eq!(all, (0..11).collect::<Vec<_>>());
        }
        let mut validated: Vec<usize> = folds.iter().flat_map(|(_, fold)| fold.clone()).collect();
        validated.sort_unstable();
        assert_eq!(validated, (0..11).collect::<Vec<_>>());
        assert_ne!(k_fold(11, 3, 3).unwrap(), folds);
        for k in [0, 1, 12] {
            assert!(k_fold(11, k, 2).unwrap_err().to_string().contains("it takes 2 to 11"));
        }
        assert!(k_fold(usize::MAX, 2, 0).is_err());
        assert!(k_fold(1 << 22, 1 << 22, 0).is_err());
    }
}
