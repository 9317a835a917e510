//! The rows, one file a family.

use super::case::Row;

mod indexing;
mod pointwise;
mod reduce;
mod softmax;
mod views;

#[cfg(test)]
pub(crate) use pointwise::erf;

/// Every row of the table.
pub fn rows() -> Vec<Row> {
    [indexing::ROWS, pointwise::ROWS, reduce::ROWS, softmax::ROWS, views::ROWS].concat()
}
