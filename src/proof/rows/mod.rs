//! The rows, one file a family.

use super::case::Row;

mod conv;
mod planes;
mod pointwise;
mod reduce;
mod softmax;

#[cfg(test)]
pub(crate) use pointwise::erf;

/// Every row of the table.
pub fn rows() -> Vec<Row> {
    [conv::ROWS, planes::ROWS, pointwise::ROWS, reduce::ROWS, softmax::ROWS].concat()
}
