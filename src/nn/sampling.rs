//! Sampling of the next token of a language model.

use crate::random::{Use, pair};
use crate::{Error, Result};

/// How a token is drawn from a model's logits.
///
/// ```
/// # use gristmill::nn::Sampling;
/// let logits = [0.0, 2.0, 1.0];
/// let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
/// assert_eq!(greedy.choose(&logits, 1, 0)?, 1);
/// let two = Sampling { top_k: Some(2), ..Sampling::default() };
/// assert!((0..100).all(|at| two.choose(&logits, 1, at) != Ok(0)));
/// # Ok::<(), gristmill::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// The divisor of the logits. Below 1 it sharpens the distribution; 0 is greedy: the most likely token.
    pub temperature: f32,
    /// Draws only from the k most likely tokens ([Fan et al.](https://arxiv.org/abs/1805.04833)).
    pub top_k: Option<usize>,
    /// Draws only from the smallest set of most likely tokens whose total probability is at least p: nucleus sampling
    /// ([Holtzman et al.](https://arxiv.org/abs/1904.09751)). Applied after `top_k`.
    pub top_p: Option<f32>,
}

impl Default for Sampling {
    /// Samples from all tokens by their probabilities.
    fn default() -> Sampling {
        Sampling { temperature: 1.0, top_k: None, top_p: None }
    }
}

impl Sampling {
    /// Draws an id from a row of logits. The result depends only on the arguments; `at` is the number of the draw.
    ///
    /// # Errors
    /// No logits, a logit that is NaN or +inf, only logits of -inf, or an option out of its range.
    #[track_caller]
    pub fn choose(&self, logits: &[f32], seed: u64, at: u64) -> Result<u32> {
        self.check()?;
        let wrong = |message: &str| Err(Error::argument("Sampling::choose", message));
        if logits.iter().any(|x| x.is_nan() || *x == f32::INFINITY) {
            return wrong("a logit is NaN or infinite");
        }
        // By descending logits; ties by ascending ids.
        let mut ids: Vec<usize> = (0..logits.len()).filter(|&id| logits[id] > f32::NEG_INFINITY).collect();
        ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let Some(&best) = ids.first() else { return wrong("no token has a probability") };
        if self.temperature == 0.0 {
            return Ok(best as u32);
        }
        ids.truncate(self.top_k.unwrap_or(usize::MAX));
        let weight = |id: &usize| (f64::from(logits[*id] - logits[best]) / f64::from(self.temperature)).exp();
        let mut weights: Vec<f64> = ids.iter().map(weight).collect();
        if let Some(top_p) = self.top_p {
            let enough = f64::from(top_p) * weights.iter().sum::<f64>();
            let sums = weights.iter().scan(0.0, |sum, weight| Some(std::mem::replace(sum, *sum + weight)));
            // Keeps tokens until the sum before the next reaches top_p.
            let kept = sums.take_while(|&before| before < enough).count();
            weights.truncate(kept);
        }
        let unit = pair(seed, Use::Sample, at, 0)[0] as f64 / 2f64.powi(64);
        let mut left = unit * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // `left` may stay above 0 by rounding: then the last token.
        Ok(ids[drawn.unwrap_or(weights.len() - 1)] as u32)
    }

    #[track_caller]
    fn check(&self) -> Result<()> {
        let Sampling { temperature, top_k, top_p } = *self;
        let wrong = |message: String| Err(Error::argument("Sampling", message));
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return wrong(format!("a temperature of {temperature}, should be 0 or more"));
        }
        if top_k == Some(0) {
            return wrong("a top_k of 0, should be 1 or more".to_string());
        }
        match top_p {
            Some(p) if !(p > 0.0 && p <= 1.0) => {
                wrong(format!("a top_p of {p}, should be above 0 and at most 1"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: Sampling, logits: &[f32]) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        (0..4000).for_each(|at| counts[sampling.choose(logits, 5, at).unwrap() as usize] += 1);
        counts
    }

    /// Whether a count is within five standard deviations of its expectation.
    fn near(count: usize, probability: f64) -> bool {
        (count as f64 - 4000.0 * probability).abs()
            <= 5.0 * (4000.0 * probability * (1.0 - probability)).sqrt()
    }

    #[test]
    fn tokens_come_by_their_probabilities() {
        let logits = [1f32.ln(), 2f32.ln(), f32::NEG_INFINITY, 5f32.ln()];
        let drawn = counts(Sampling::default(), &logits);
        assert!(drawn.iter().zip([0.125, 0.25, 0.0, 0.625]).all(|(&n, p)| near(n, p)), "{drawn:?}");
        // Squared: 1, 4, 25.
        let drawn = counts(Sampling { temperature: 0.5, ..Sampling::default() }, &logits);
        assert!(drawn.iter().zip([1.0, 4.0, 0.0, 25.0]).all(|(&n, w)| near(n, w / 30.0)), "{drawn:?}");
    }

    #[test]
    fn only_the_likeliest_are_drawn() {
        let logits = [1f32.ln(), 2f32.ln(), 4f32.ln(), 3f32.ln()];
        let drawn = counts(Sampling { top_k: Some(2), ..Sampling::default() }, &logits);
        assert!(drawn[0] + drawn[1] == 0 && near(drawn[2], 4.0 / 7.0), "{drawn:?}");
        // 0.4 is not enough, 0.4 + 0.3 is.
        let drawn = counts(Sampling { top_p: Some(0.65), ..Sampling::default() }, &logits);
        assert!(drawn[0] + drawn[1] == 0 && near(drawn[3], 3.0 / 7.0), "{drawn:?}");
        let drawn = counts(Sampling { top_p: Some(0.01), ..Sampling::default() }, &logits);
        assert_eq!(drawn[2], 4000);
        let all = Sampling { top_p: Some(1.0), top_k: Some(9), ..Sampling::default() };
        assert_eq!(counts(all, &logits), counts(Sampling::default(), &logits));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong =
            |sampling: Sampling, logits: &[f32]| sampling.choose(logits, 0, 0).unwrap_err().to_string();
        let all = Sampling::default();
        assert!(wrong(Sampling { temperature: -1.0, ..all }, &[0.0]).contains("temperature of -1"));
        assert!(wrong(Sampling { top_k: Some(0), ..all }, &[0.0]).contains("top_k of 0"));
        assert!(wrong(Sampling { top_p: Some(1.5), ..all }, &[0.0]).contains("top_p of 1.5"));
        assert!(wrong(all, &[0.0, f32::NAN]).contains("NaN"));
        assert!(wrong(all, &[f32::NEG_INFINITY]).contains("no token"));
        assert!(wrong(all, &[]).contains("no token"));
    }
}
