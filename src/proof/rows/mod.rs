//! The rows, one file per family of ops.

use super::case::Row;

mod attention;
mod conv;
mod cumsum;
mod example;
mod ids;
mod indexing;
mod layers;
mod losses;
mod matmul;
mod norms;
mod planes;
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
        attention::ROWS,
        conv::ROWS,
        cumsum::ROWS,
        example::ROWS,
        ids::ROWS,
        indexing::ROWS,
        layers::ROWS,
        losses::ROWS,
        matmul::ROWS,
        norms::ROWS,
        planes::ROWS,
        pointwise::ROWS,
        reduce::ROWS,
        softmax::ROWS,
        training::ROWS,
        views::ROWS,
    ]
    .concat()
}
