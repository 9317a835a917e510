//! One row, commented line by line: how a row is written.

use super::pointwise::piecewise;
use crate::proof::{Bounded, Case, Gen, Row};

pub(super) const ROWS: &[Row] = &[Row {
    // In reports and in the names of tests: `cargo test --test table leaky_relu`.
    name: "leaky_relu",
    // The public functions that the row tests. `tests/table.rs` fails for an op that no row covers.
    covers: &["leaky_relu"],
    // Draws a case.
    draw: leaky_relu,
    // Draws the case that `cargo bench --bench table` times. None here: the row silu times the same kernel.
    bench: None,
}];

/// `y = x` above 0, and `slope * x` elsewhere.
fn leaky_relu(g: &mut Gen) -> Case {
    // The attribute: the usual value, and values at which a wrong kernel is likely to fail. Every choice is `g`'s, so that a
    // seed draws the same case again.
    let slope = g.choose(&[0.01f32, 0.25, 1.5, -0.5, 0.0]);
    // A shape of rank 0 to 4, with at most `g.size` elements: some are empty, some just past the size of a tile.
    let shape = g.shape(4);
    // A differentiable input. Its range includes both signs; some tests replace elements by NaN, infinities and subnormals.
    // `g.constants` gives an input without a gradient, `g.ids` one of ids.
    let x = g.values(&shape, -3.0, 3.0);
    // The f32 that the device gets: as an f64, 0.01 is another number.
    let below = f64::from(slope);
    // The reference of an element. `Bounded` adds up the error that a device may make: none above 0, that of one product
    // elsewhere. NaN is not above 0, and the product keeps it.
    let y = move |x: Bounded| if x.value() > 0.0 { x } else { x * below };
    // Its derivative. A device may take a subnormal for 0; `piecewise` then allows the slope of either side.
    let slope_at = move |x: Bounded| piecewise(x, |x| x > 0.0, Bounded::ONE, below.into());
    Case::new(
        // The attributes, for the message of a failure.
        format!("slope {slope}"),
        // The inputs. The check lays each out: contiguous, transposed, strided or at an offset.
        vec![x],
        // The call, on tensors that hold the inputs.
        move |t| t[0].leaky_relu(slope),
        // The reference of the output, from the elements of the inputs.
        move |x| x[0].map(y),
    )
    // The references of the gradients, one for each input (`None` where there is none), from the inputs and `dy`, the gradient
    // of the output. The table's own tests compare them with central differences of the reference above.
    .gradient(move |x, dy| vec![Some(x[0].zip(dy, |x, dy| dy * slope_at(x)))])
}
