//! Matrix products on the CPU, by the `gemm` crate.

/// A matrix in a slice: element `(r, c)` is `data[r * rows + c * cols]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    /// The distance between rows.
    pub(crate) rows: usize,
    /// The distance between columns.
    pub(crate) cols: usize,
}

/// `c = a · b`, or `c += a · b` where `add`; `a` is m x k, `b` k x n, `c` m x n and row-major. One thread, unless
/// `parallel`: then rayon's.
///
/// A matrix that is too short for its dimensions is a bug of the caller and panics before anything is touched.
pub(crate) fn gemm(
    c: &mut [f32],
    (m, n, k): (usize, usize, usize),
    a: Matrix,
    b: Matrix,
    add: bool,
    parallel: bool,
) {
    let reach = |m: &Matrix, rows: usize, cols: usize| match rows * cols {
        0 => 0,
        _ => (rows - 1) * m.rows + (cols - 1) * m.cols + 1,
    };
    assert!(c.len() >= m * n && a.data.len() >= reach(&a, m, k) && b.data.len() >= reach(&b, k, n));
    let threads = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: the three extents were checked above, and `c` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a.cols as isize,
            a.rows as isize,
            b.data.as_ptr(),
            b.cols as isize,
            b.rows as isize,
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            threads,
        );
    }
}
