//! Standard output that may be closed or full, where `println!` would panic; for examples and commands.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// The error after which nothing more is printed.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Prints at once, unless printing has failed before. Returns whether all printing has succeeded.
pub fn print(text: impl Display) -> bool {
    if FAILED.get().is_none() {
        let mut out = io::stdout().lock();
        if let Err(error) = write!(out, "{text}").and_then(|()| out.flush()) {
            let _ = FAILED.set(error);
        }
    }
    FAILED.get().is_none()
}

/// Prints a line.
pub fn say(line: impl Display) {
    print(format!("{line}\n"));
}

/// The exit code of the program. A closed pipe, as with `| head`, is no failure; a full disk is one.
pub fn exit(result: Result<(), impl Display>) -> ExitCode {
    let broken = FAILED.get().filter(|error| error.kind() != ErrorKind::BrokenPipe);
    let message = match (result, broken) {
        (Err(error), _) => error.to_string(),
        (Ok(()), Some(error)) => format!("standard output can't be written: {error}"),
        (Ok(()), None) => return ExitCode::SUCCESS,
    };
    // If this fails too, there is nowhere to report it.
    let _ = writeln!(io::stderr(), "error: {message}");
    ExitCode::FAILURE
}
