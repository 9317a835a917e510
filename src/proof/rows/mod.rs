//! The rows, one file a family.

use super::case::Row;

mod norms;
mod pointwise;
mod reduce;
mod softmax;

/// Every row of the table.
pub fn rows() -> Vec<Row> {
    [norms::ROWS, pointwise::ROWS, reduce::ROWS, softmax::ROWS].concat()
}
