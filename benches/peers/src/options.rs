//! The command line.

use std::time::Duration;

use crate::ENGINES;
use crate::cases::CASES;
use crate::engine::Result;

const USAGE: &str = "\
Usage: cargo run --release -- [OPTIONS]
  --engine NAMES  only these engines, with commas between: burn-wgpu, candle ...
  --case TEXT     only the cases whose name contains the text; may be given more than once
  --rounds N      rounds (7); in each, every engine has its turn
  --quick         2 short rounds, to see that everything runs; its times mean little
  --list          the engines and the cases";

pub struct Options {
    engines: Vec<String>,
    cases: Vec<String>,
    pub rounds: usize,
    /// Duration of the timed calls of an engine in a round.
    pub turn: Duration,
}

impl Options {
    pub fn wants_engine(&self, name: &str) -> bool {
        self.engines.is_empty() || self.engines.iter().any(|wanted| wanted == name)
    }

    pub fn wants_case(&self, name: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|text| name.contains(text.as_str()))
    }
}

/// `None` if the arguments only asked for information, which has been printed.
pub fn parse() -> Result<Option<Options>> {
    let mut options = Options { engines: vec![], cases: vec![], rounds: 7, turn: Duration::from_millis(100) };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value\n{USAGE}"));
        match arg.as_str() {
            "--engine" => options.engines.extend(value()?.split(',').map(|name| name.trim().to_string())),
            "--case" => options.cases.push(value()?),
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--quick" => (options.rounds, options.turn) = (2, Duration::ZERO),
            "--list" => {
                ENGINES.iter().for_each(|(name, _)| println!("engine  {name}"));
                CASES.iter().for_each(|(name, _)| println!("case    {name}"));
                return Ok(None);
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(None);
            }
            _ => return Err(format!("no option {arg}\n{USAGE}").into()),
        }
    }
    if let Some(name) = options.engines.iter().find(|name| !ENGINES.iter().any(|(known, _)| known == name)) {
        return Err(format!("no engine {name}: see --list").into());
    }
    if let Some(text) =
        options.cases.iter().find(|text| !CASES.iter().any(|(known, _)| known.contains(text.as_str())))
    {
        return Err(format!("no case contains {text}: see --list").into());
    }
    Ok(Some(options))
}
