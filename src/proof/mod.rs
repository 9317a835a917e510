//! The table of test cases for all ops, and the checks that run over it.
//!
//! A [`Row`] represents an op. It draws random cases. Each [`Case`] has a reference for the output and one for the
//! gradients, written as plain loops over [`Bounded`], a number with a bound on a device's error. The same rows serve
//! the property tests (`tests/table.rs`), the benches and `gristmill doctor`; adding an op means adding one row.
//!
//! ```
//! use gristmill::{Device, proof};
//!
//! let row = proof::rows().into_iter().find(|row| row.name == "softmax").expect("it is in the table");
//! let case = row.case(7, 1000, proof::Values::Ordinary);
//! let outcome = proof::check(&case, &Device::cpu(), 7).expect("within its bound");
//! assert!(outcome.forward <= 1.0);
//! ```

mod array;
mod bounded;
mod case;
mod check;
mod r#gen;
mod input;
mod rows;

pub use array::{Array, broadcast, ravel, unravel};
pub use bounded::{Bounded, TINY, ULP};
pub use case::{Bench, Case, Row, Work};
pub use check::{Failure, Outcome, check, check_differences, check_tightness, located};
pub use r#gen::{Gen, Values};
pub use input::{Input, Kind};
#[cfg(test)]
pub(crate) use rows::erf;
pub use rows::rows;
