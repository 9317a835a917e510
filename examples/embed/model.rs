//! The encoder: BERT ([Devlin et al.](https://arxiv.org/abs/1810.04805)) with six layers ([Wang et
//! al.](https://arxiv.org/abs/2002.10957)), whose last hidden states are averaged over the tokens ([Reimers &
//! Gurevych](https://arxiv.org/abs/1908.10084)).

use gristmill::{Activation, AttentionMask, AttentionOptions, Device, Error, Result, Tensor, io};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const LAYERS: usize = 6;
const HEADS: usize = 12;
const EPS: f32 = 1e-12;

/// The tensors of a file, by name.
struct Weights {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    fn load(path: &Path, device: &Device) -> Result<Weights> {
        let (tensors, _) = io::load(path, device)?;
        Ok(Weights { path: path.to_path_buf(), tensors: tensors.into_iter().collect() })
    }

    fn get(&self, name: &str) -> Result<Tensor> {
        let missing = || Error::File { path: self.path.clone(), message: format!("has no tensor {name}") };
        self.tensors.get(name).cloned().ok_or_else(missing)
    }

    /// A weight and its bias.
    fn pair(&self, name: &str) -> Result<[Tensor; 2]> {
        Ok([self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?])
    }
}

/// `x · weightᵀ + bias`.
fn linear(x: &Tensor, [weight, bias]: &[Tensor; 2]) -> Result<Tensor> {
    x.linear(weight, Some(bias), Activation::None)
}

fn norm(x: &Tensor, [weight, bias]: &[Tensor; 2]) -> Result<Tensor> {
    x.layer_norm(1, Some(weight), Some(bias), EPS)
}

struct Layer {
    query: [Tensor; 2],
    key: [Tensor; 2],
    value: [Tensor; 2],
    out: [Tensor; 2],
    attention_norm: [Tensor; 2],
    up: [Tensor; 2],
    down: [Tensor; 2],
    norm: [Tensor; 2],
}

impl Layer {
    fn load(weights: &Weights, number: usize) -> Result<Layer> {
        let part = |name: &str| weights.pair(&format!("encoder.layer.{number}.{name}"));
        Ok(Layer {
            query: part("attention.self.query")?,
            key: part("attention.self.key")?,
            value: part("attention.self.value")?,
            out: part("attention.output.dense")?,
            attention_norm: part("attention.output.LayerNorm")?,
            up: part("intermediate.dense")?,
            down: part("output.dense")?,
            norm: part("output.LayerNorm")?,
        })
    }

    /// Maps hidden states `[rows, length, width]` to hidden states.
    fn forward(&self, x: &Tensor, attention: &AttentionOptions) -> Result<Tensor> {
        let shape = x.shape();
        let (rows, length, width) = (shape[0], shape[1], shape[2]);
        let heads = |y: Tensor| y.reshape([rows, length, HEADS, width / HEADS])?.transpose(1, 2);
        let [q, k, v] = [&self.query, &self.key, &self.value].map(|weights| heads(linear(x, weights)?));
        let y = q?.scaled_dot_product_attention(&k?, &v?, attention)?;
        let y = linear(&y.transpose(1, 2)?.reshape(shape)?, &self.out)?;
        let x = norm(&x.add(&y)?, &self.attention_norm)?;
        let y = linear(&linear(&x, &self.up)?.gelu()?, &self.down)?;
        norm(&x.add(&y)?, &self.norm)
    }
}

pub struct MiniLm {
    words: Tensor,
    positions: Tensor,
    kind: Tensor,
    norm: [Tensor; 2],
    layers: Vec<Layer>,
}

impl MiniLm {
    /// Loads a file with BERT's names.
    pub fn load(path: &Path, device: &Device) -> Result<MiniLm> {
        let weights = Weights::load(path, device)?;
        Ok(MiniLm {
            words: weights.get("embeddings.word_embeddings.weight")?,
            positions: weights.get("embeddings.position_embeddings.weight")?,
            // Every input is a single sentence: token type 0 of 2.
            kind: weights.get("embeddings.token_type_embeddings.weight")?.slice(0, 0..1)?,
            norm: weights.pair("embeddings.LayerNorm")?,
            layers: (0..LAYERS).map(|number| Layer::load(&weights, number)).collect::<Result<_>>()?,
        })
    }

    /// Maps token ids `[rows, length]` and their mask, 1 for a token and 0 for padding, to unit vectors `[rows,
    /// width]`.
    pub fn embed(&self, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (rows, length) = (ids.shape()[0], ids.shape()[1]);
        let x = self.words.embedding(ids)?.add(&self.positions.slice(0, 0..length)?)?.add(&self.kind)?;
        let mut x = norm(&x, &self.norm)?;
        let keys = mask.reshape([rows, 1, 1, length])?;
        let attention =
            AttentionOptions { mask: Some(AttentionMask::Boolean(keys)), ..AttentionOptions::default() };
        for layer in &self.layers {
            x = layer.forward(&x, &attention)?;
        }
        // The sum has the direction of the mean, and is normalized to length 1.
        let sum = x.mul(&mask.reshape([rows, length, 1])?)?.sum(&[1], false)?;
        sum.div(&sum.norm(2.0, &[-1], true)?)
    }
}
