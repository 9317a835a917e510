//! Trains a recurrent network to write like Shakespeare, character by character, for comparison with the example `gpt`.
//!
//!     cargo run --release --example lstm
//!
//! `--help` lists the options; `--cell` chooses between LSTM, GRU and a plain recurrent network.

#[path = "../common/language.rs"]
mod language;

use clap::{Parser, ValueEnum};
use gristmill::nn::{Embedding, Gru, Init, Layer, Linear, Lstm, LstmState, Module, RecurrentOptions, Rnn};
use gristmill::{Device, Result, Tensor};
use language::LanguageModel;
use std::process::ExitCode;

/// Trains a recurrent network on a text, character by character, and samples text from it.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    run: language::Options,
    /// Type of the recurrent layers
    #[arg(long, value_enum, default_value_t = Cell::Lstm)]
    cell: Cell,
    /// Number of recurrent layers
    #[arg(long, default_value_t = 2)]
    layers: usize,
    /// Units per layer
    #[arg(long, default_value_t = 256)]
    width: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Cell {
    Lstm,
    Gru,
    Rnn,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let build = |characters: usize, device: &Device| Network::new(characters, &options, device);
    language::output::exit(language::run("lstm", &options.run, build))
}

/// The recurrent layers.
#[derive(Module)]
enum Layers {
    Lstm(Lstm),
    Gru(Gru),
    Rnn(Rnn),
}

/// The states of the layers after the last step; `None` at the beginning.
enum Memory {
    Lstm(LstmState),
    Other(Tensor),
}

impl Layers {
    fn run(&self, x: &Tensor, memory: Option<Memory>) -> Result<(Tensor, Memory)> {
        let (lstm, other) = match memory {
            Some(Memory::Lstm(state)) => (Some(state), None),
            Some(Memory::Other(state)) => (None, Some(state)),
            None => (None, None),
        };
        Ok(match self {
            Layers::Lstm(layers) => {
                let (y, state) = layers.forward_from(x, lstm.as_ref())?;
                (y, Memory::Lstm(state))
            }
            Layers::Gru(layers) => {
                let (y, state) = layers.forward_from(x, other.as_ref())?;
                (y, Memory::Other(state))
            }
            Layers::Rnn(layers) => {
                let (y, state) = layers.forward_from(x, other.as_ref())?;
                (y, Memory::Other(state))
            }
        })
    }
}

/// An embedding of the characters, recurrent layers, and logits for the next character.
#[derive(Module)]
struct Network {
    characters: Embedding,
    layers: Layers,
    head: Linear,
}

impl Network {
    fn new(characters: usize, options: &Options, device: &Device) -> Result<Network> {
        let (width, mut init) = (options.width, Init::new(options.run.seed, device));
        let recurrent = RecurrentOptions { layers: options.layers, ..RecurrentOptions::default() };
        let characters_table = Embedding::new(characters, width, &mut init)?;
        let layers = match options.cell {
            Cell::Lstm => Layers::Lstm(Lstm::with_options(width, width, recurrent, &mut init)?),
            Cell::Gru => Layers::Gru(Gru::with_options(width, width, recurrent, &mut init)?),
            Cell::Rnn => Layers::Rnn(Rnn::with_options(width, width, recurrent, &mut init)?),
        };
        Ok(Network { characters: characters_table, layers, head: Linear::new(width, characters, &mut init)? })
    }
}

impl Layer for Network {
    /// Ids `[n, length]` to logits `[n, length, characters]`.
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.layers.run(&self.characters.forward(ids)?, None)?.0)
    }
}

impl LanguageModel for Network {
    type Memory = Option<Memory>;

    fn memory(&self) -> Result<Option<Memory>> {
        Ok(None)
    }

    fn feed(&self, ids: &Tensor, memory: &mut Option<Memory>) -> Result<Tensor> {
        let (y, next) = self.layers.run(&self.characters.forward(ids)?, memory.take())?;
        *memory = Some(next);
        self.head.forward(&y)
    }

    fn most(&self) -> Option<usize> {
        None
    }
}
