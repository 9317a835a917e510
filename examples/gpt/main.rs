//! Trains a Transformer to write like Shakespeare, character by character.
//!
//!     cargo run --release --example gpt
//!
//! The text is embedded; `--help` lists the options. The example trains, writes checkpoints, and then samples text.
//! `--steps 0 --resume gpt.safetensors` only samples.

#[path = "../common/language.rs"]
mod language;

use clap::Parser;
use gristmill::io::Metadata;
use gristmill::nn::{
    BlockCache, BlockOptions, Embedding, Init, Layer, Linear, Module, MultiHeadOptions, Rotary,
    TransformerEncoder,
};
use gristmill::{AttentionOptions, Device, Result, RotaryPairs, Tensor};
use language::LanguageModel;
use std::process::ExitCode;
use std::sync::Arc;

/// Trains a Transformer on a text, character by character, and samples text from it.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    run: language::Options,
    /// Number of Transformer blocks
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Attention heads per block
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Size of the embedding
    #[arg(long, default_value_t = 128)]
    width: usize,
}

pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    let build = |characters: usize, device: &Device| Gpt::new(characters, &options, device);
    language::output::exit(language::run("gpt", &options.run, build))
}

/// A language model like GPT-2 (Radford et al., "Language models are unsupervised multitask learners", 2019): an
/// embedding of the characters, pre-norm blocks with causal attention, and logits for the next character. Positions are
/// encoded by rotary embeddings ([Su et al.](https://arxiv.org/abs/2104.09864)).
#[derive(Module)]
struct Gpt {
    characters: Embedding,
    blocks: TransformerEncoder,
    head: Linear,
    context: usize,
    heads: usize,
}

impl Gpt {
    fn new(characters: usize, options: &Options, device: &Device) -> Result<Gpt> {
        let (width, context) = (options.width, options.run.context);
        let mut init = Init::new(options.run.seed, device);
        // GPT-2's standard deviation for the embedding and the output layer.
        let table = |seed: u64| Tensor::randn([characters, width], 0.0, 0.02, seed, device);
        let [first, last] = [table(init.seed())?, table(init.seed())?];
        let rotary = Rotary::new(width / options.heads.max(1), context, 1e4, RotaryPairs::Halves, device)?;
        let attention = MultiHeadOptions {
            causal: true,
            rotary: Some(Arc::new(rotary)),
            dropout: options.run.dropout,
            ..MultiHeadOptions::new(options.heads)
        };
        let block = BlockOptions {
            attention,
            dropout: options.run.dropout,
            ..BlockOptions::new(options.heads, width.saturating_mul(4))
        };
        Ok(Gpt {
            characters: Embedding::from_tensor(&first)?,
            blocks: TransformerEncoder::new(width, options.layers, &block, &mut init)?,
            head: Linear::from_tensors(&last, None)?,
            context,
            heads: options.heads,
        })
    }
}

impl Layer for Gpt {
    /// Ids `[n, length]` to logits `[n, length, characters]`.
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.blocks.forward(&self.characters.forward(ids)?)?)
    }
}

impl LanguageModel for Gpt {
    type Memory = Vec<BlockCache>;

    fn memory(&self) -> Result<Vec<BlockCache>> {
        self.blocks.cache(1, self.context)
    }

    fn feed(&self, ids: &Tensor, memory: &mut Vec<BlockCache>) -> Result<Tensor> {
        let x = self.characters.forward(ids)?;
        self.head.forward(&self.blocks.forward_cached(&x, memory, &AttentionOptions::default())?)
    }

    fn most(&self) -> Option<usize> {
        Some(self.context)
    }

    fn hidden_options(&self) -> Metadata {
        Metadata::from([("heads".to_string(), self.heads.to_string())])
    }
}
