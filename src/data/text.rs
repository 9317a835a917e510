//! Text as character ids.

use crate::cpu::host_list;
use crate::error::{Error, Result};
use crate::random::{Use, below, pair};

/// The distinct characters of a text. The id of a character is its index in Unicode order.
///
/// ```
/// # use gristmill::data::Vocabulary;
/// let vocabulary = Vocabulary::of("to be or not to be");
/// let ids = vocabulary.encode("not")?;
/// assert_eq!(vocabulary.decode(&ids)?, "not");
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    characters: Vec<char>,
}

impl Vocabulary {
    /// The vocabulary of a text.
    pub fn of(text: &str) -> Vocabulary {
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        Vocabulary { characters }
    }

    /// The number of characters.
    pub fn len(&self) -> usize {
        self.characters.len()
    }

    /// Whether there are no characters.
    pub fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }

    /// All characters in the order of their ids. [`Vocabulary::of`] makes the same vocabulary from them, so they can be
    /// stored in a checkpoint's metadata.
    pub fn characters(&self) -> String {
        self.characters.iter().collect()
    }

    /// The ids of a text's characters.
    ///
    /// # Errors
    /// A character that is not in the vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let id = |character: char| match self.characters.binary_search(&character) {
            Ok(at) => Ok(at as u32),
            Err(_) => {
                let message = format!("{character:?} is none of the {} known characters", self.len());
                Err(Error::argument("Vocabulary::encode", message))
            }
        };
        text.chars().map(id).collect()
    }

    /// The text of these ids.
    ///
    /// # Errors
    /// An id out of range.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let character = |&id: &u32| {
            let message = || format!("id {id} of {} characters", self.len());
            let known = self.characters.get(id as usize);
            known.ok_or_else(|| Error::argument("Vocabulary::decode", message()))
        };
        ids.iter().map(character).collect()
    }
}

/// Windows of a long sequence of ids, with their next ids as targets, for training a language model.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    ids: &'a [u32],
    length: usize,
}

impl<'a> Windows<'a> {
    /// Windows of `length` ids.
    ///
    /// # Errors
    /// A length of 0, or fewer than `length + 1` ids.
    pub fn new(ids: &'a [u32], length: usize) -> Result<Windows<'a>> {
        if length == 0 || ids.len() <= length {
            let message =
                format!("windows of {length} ids, each with the next, in a sequence of {}", ids.len());
            return Err(Error::argument("Windows", message));
        }
        Ok(Windows { ids, length })
    }

    /// The number of non-overlapping windows in the sequence.
    pub fn count(&self) -> usize {
        (self.ids.len() - 1) / self.length
    }

    /// `batch_size` windows at random starts, as inputs and targets of `batch_size * length` ids each.
    ///
    /// The target of an id is the next id. The windows depend only on (seed, step), so resumed training sees the same
    /// ones.
    ///
    /// # Errors
    /// The host is out of memory.
    pub fn random(&self, batch_size: usize, seed: u64, step: u64) -> Result<(Vec<u32>, Vec<u32>)> {
        let starts = (self.ids.len() - self.length) as u64;
        let bits = (0..batch_size).map(|at| pair(seed, Use::Window, step, at as u32)[0]);
        self.at(batch_size, bits.map(|bits| below(bits, starts) as usize))
    }

    /// As [`Windows::random`], for the non-overlapping windows `first..first + count`; fewer at the end of the
    /// sequence.
    ///
    /// # Errors
    /// As [`Windows::random`].
    pub fn in_order(&self, first: usize, count: usize) -> Result<(Vec<u32>, Vec<u32>)> {
        let end = first.saturating_add(count).min(self.count());
        self.at(end.saturating_sub(first), (first..end).map(|number| number * self.length))
    }

    /// The inputs and targets of the windows at `count` starts.
    fn at(&self, count: usize, starts: impl Iterator<Item = usize>) -> Result<(Vec<u32>, Vec<u32>)> {
        let room = || host_list(count.saturating_mul(self.length));
        let (mut inputs, mut targets) = (room()?, room()?);
        for start in starts {
            inputs.extend_from_slice(&self.ids[start..][..self.length]);
            targets.extend_from_slice(&self.ids[start + 1..][..self.length]);
        }
        Ok((inputs, targets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vocabulary_is_made_again_from_its_characters() {
        let vocabulary = Vocabulary::of("héllo\nwörld");
        assert_eq!(Vocabulary::of(&vocabulary.characters()), vocabulary);
        assert_eq!(vocabulary.decode(&vocabulary.encode("dröh").unwrap()).unwrap(), "dröh");
        assert!(vocabulary.encode("a").unwrap_err().to_string().contains("'a'"));
        assert!(vocabulary.decode(&[99]).unwrap_err().to_string().contains("id 99"));
        assert!(Vocabulary::of("").is_empty());
    }

    #[test]
    fn windows_come_with_what_follows() {
        let ids: Vec<u32> = (0..10).collect();
        let windows = Windows::new(&ids, 3).unwrap();
        assert_eq!(windows.count(), 3);
        assert_eq!(windows.in_order(1, 9).unwrap(), (vec![3, 4, 5, 6, 7, 8], vec![4, 5, 6, 7, 8, 9]));
        assert_eq!(windows.in_order(3, 1).unwrap(), (vec![], vec![]));
        let (inputs, targets) = windows.random(50, 1, 7).unwrap();
        assert_eq!(
            (inputs.len(), windows.random(50, 1, 7).unwrap()),
            (150, (inputs.clone(), targets.clone()))
        );
        assert!(inputs.iter().zip(&targets).all(|(a, b)| a + 1 == *b));
        assert_ne!(windows.random(50, 1, 8).unwrap().0, inputs);
        // Every start is drawn: 0 to 6.
        assert!((0..7).all(|start| inputs.chunks(3).any(|window| window[0] == start)));
        assert!(Windows::new(&ids, 10).is_err());
        assert!(Windows::new(&ids, 0).is_err());
    }
}
