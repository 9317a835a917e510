//! The rows, one file a family.

use super::case::Row;

mod indexing;
mod losses;
mod matmul;
mod norms;
mod pointwise;
mod reduce;
mod softmax;
mod training;
mod views;

#[cfg(test)]
pub(crate) use pointwise::erf;

/// Every row of the table.
pub fn rows() -> Vec<Row> {
    [
        indexing::ROWS,
        losses::ROWS,
        matmul::ROWS,
        norms::ROWS,
        pointwise::ROWS,
        reduce::ROWS,
        softmax::ROWS,
        training::ROWS,
        views::ROWS,
    ]
    .concat()
}
