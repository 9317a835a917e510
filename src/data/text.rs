//! Text as ids of characters or of words.

use std::collections::HashMap;

use crate::cpu::host_list;
use crate::error::{Error, Result};
use crate::random::{Use, below, pair};

/// The distinct characters of a text. The id of a character is its index in Unicode order.
///
/// ```
/// # use gristmill::data::Vocabulary;
/// let vocabulary = Vocabulary::of("to be or not to be");
/// assert_eq!((vocabulary.len(), vocabulary.is_empty()), (7, false));
/// assert_eq!(vocabulary.characters(), " benort");
/// assert_eq!(vocabulary.encode("not")?, [3, 4, 6]);
/// assert_eq!(vocabulary.decode(&[3, 4, 6])?, "not");
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
    #[track_caller]
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
    #[track_caller]
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let character = |&id: &u32| {
            let message = || format!("id {id} of {} characters", self.len());
            let known = self.characters.get(id as usize);
            known.ok_or_else(|| Error::argument("Vocabulary::decode", message()))
        };
        ids.iter().map(character).collect()
    }
}

/// The most frequent words of some texts.
///
/// A word is a longest run of letters, digits and apostrophes, in lower case; what is between words does not count.
/// Id 0 is for padding, id 1 for unknown words, and the words follow, the most frequent first, those of one frequency in
/// Unicode order. These are the conventions of Keras' `TextVectorization`.
///
/// ```
/// # use gristmill::data::WordVocabulary;
/// let vocabulary = WordVocabulary::of(["A rose is a rose.", "Is it?"], 3)?;
/// assert_eq!(vocabulary.words(), ["a", "is", "rose"]);
/// assert_eq!(vocabulary.encode("Rose: it is!"), [4, 1, 3]);
/// assert_eq!(vocabulary.encode_to("Rose: it is!", 5)?, [4, 1, 3, 0, 0]);
/// assert_eq!(vocabulary.decode(&[4, 1, 3, 0, 0])?, "rose [UNK] is");
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordVocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let is_inside = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '\u{2019}');
    let runs = text.split(move |c| !is_inside(c));
    // A run of apostrophes alone is no word.
    runs.filter(|run| run.contains(char::is_alphanumeric)).map(str::to_lowercase)
}

impl WordVocabulary {
    /// The id of padding.
    pub const PADDING: u32 = 0;
    /// The id of all words that are not in the vocabulary.
    pub const UNKNOWN: u32 = 1;

    /// The `most` most frequent words of these texts.
    ///
    /// # Errors
    /// As [`WordVocabulary::from_words`], over 2^32 words.
    #[track_caller]
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>, most: usize) -> Result<WordVocabulary> {
        let mut counts: HashMap<String, u64> = HashMap::new();
        texts.into_iter().flat_map(words).for_each(|word| *counts.entry(word).or_default() += 1);
        let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
        counts.sort_unstable_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        counts.truncate(most);
        WordVocabulary::from_words(counts.into_iter().map(|(word, _)| word))
    }

    /// The vocabulary with these words, as [`WordVocabulary::words`] gave them: those of a checkpoint, or another list.
    ///
    /// ```
    /// # use gristmill::data::WordVocabulary;
    /// let vocabulary = WordVocabulary::of(["b a b"], 9)?;
    /// let stored = vocabulary.words().join(" "); // words have no spaces
    /// assert_eq!(WordVocabulary::from_words(stored.split(' '))?, vocabulary);
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    ///
    /// # Errors
    /// A word that appears twice, or more words than ids.
    #[track_caller]
    pub fn from_words(words: impl IntoIterator<Item: Into<String>>) -> Result<WordVocabulary> {
        let op = "WordVocabulary";
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        let mut ids = HashMap::new();
        for (at, word) in words.iter().enumerate() {
            let id = u32::try_from(at + 2).map_err(|_| Error::argument(op, "more than 2^32 - 2 words"))?;
            if ids.insert(word.clone(), id).is_some() {
                return Err(Error::argument(op, format!("the word {word:?} appears twice")));
            }
        }
        Ok(WordVocabulary { words, ids })
    }

    /// The words in the order of their ids, which begin with 2.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The number of ids: the words, padding and the unknown. An embedding has as many rows.
    ///
    /// ```
    /// # use gristmill::data::WordVocabulary;
    /// let vocabulary = WordVocabulary::of(["A rose is a rose."], 100)?;
    /// assert_eq!((vocabulary.words().len(), vocabulary.size()), (3, 5));
    /// # Ok::<(), gristmill::Error>(())
    /// ```
    pub fn size(&self) -> usize {
        self.words.len() + 2
    }

    /// The ids of a text's words.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        words(text).map(|word| self.ids.get(&word).copied().unwrap_or(Self::UNKNOWN)).collect()
    }

    /// The ids of a text's first `length` words, with padding behind shorter texts, so that texts fit into a batch.
    ///
    /// # Errors
    /// No room for `length` ids.
    #[track_caller]
    pub fn encode_to(&self, text: &str, length: usize) -> Result<Vec<u32>> {
        let mut ids = host_list(length)?;
        ids.extend(
            words(text).take(length).map(|word| self.ids.get(&word).copied().unwrap_or(Self::UNKNOWN)),
        );
        ids.resize(length, Self::PADDING);
        Ok(ids)
    }

    /// The words of these ids with spaces between them, without padding; `[UNK]` for unknown ones.
    ///
    /// # Errors
    /// An id out of range.
    #[track_caller]
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let word = |&id: &u32| match id {
            Self::UNKNOWN => Ok("[UNK]"),
            id => self.words.get((id as usize).wrapping_sub(2)).map(String::as_str).ok_or_else(|| {
                Error::argument("WordVocabulary::decode", format!("id {id} of {} ids", self.size()))
            }),
        };
        let words = ids.iter().filter(|&&id| id != Self::PADDING).map(word);
        Ok(words.collect::<Result<Vec<&str>>>()?.join(" "))
    }
}

/// Windows of a long sequence of ids, with their next ids as targets, for training a language model.
///
/// ```
/// # use gristmill::data::Windows;
/// let windows = Windows::new(&[10, 11, 12, 13, 14], 2)?;
/// assert_eq!(windows.count(), 2);
/// assert_eq!(windows.in_order(0, 2)?, (vec![10, 11, 12, 13], vec![11, 12, 13, 14]));
/// let (inputs, targets) = windows.random(1, 7, 0)?; // one window, of seed 7 and step 0
/// assert_eq!(inputs[1], targets[0]);
/// # Ok::<(), gristmill::Error>(())
/// ```
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
    #[track_caller]
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
    #[track_caller]
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
    #[track_caller]
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
    fn words_are_numbered_by_frequency() {
        let texts = ["Don't panic -- don\u{2019}t!", "PANIC, panic; \u{c4}pfel 42 ' ''"];
        let vocabulary = WordVocabulary::of(texts, usize::MAX).unwrap();
        assert_eq!(vocabulary.words(), ["panic", "42", "don't", "don\u{2019}t", "\u{e4}pfel"]);
        assert_eq!(vocabulary.size(), 7);
        assert_eq!(vocabulary.encode("\u{c4}PFEL? Birnen, panic"), [6, 1, 2]);
        assert_eq!(vocabulary.encode_to("panic panic panic", 2).unwrap(), [2, 2]);
        assert_eq!(vocabulary.encode_to("", 2).unwrap(), [0, 0]);
        assert_eq!(vocabulary.decode(&[0, 6, 0, 1, 2]).unwrap(), "\u{e4}pfel [UNK] panic");
        assert!(vocabulary.decode(&[7]).unwrap_err().to_string().contains("id 7 of 7 ids"));
        assert!(vocabulary.encode_to("a", usize::MAX).is_err());
        assert_eq!(WordVocabulary::from_words(vocabulary.words().to_vec()).unwrap(), vocabulary);
        assert!(WordVocabulary::from_words(["a", "a"]).unwrap_err().to_string().contains("appears twice"));
        let few = WordVocabulary::of(texts, 2).unwrap();
        assert_eq!(
            (few.words(), few.encode("don't")),
            (&["panic".to_string(), "42".to_string()][..], vec![1])
        );
        assert_eq!(WordVocabulary::of([""], 9).unwrap().size(), 2);
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
