//! How tensors print: NumPy's text, shape and device.

mod common;

use common::*;
use gristmill::{Device, Tensor};

/// NumPy 2.4: `print(np.array(values, np.float32).reshape(shape))`.
#[rustfmt::skip]
const NUMPY: &[(&[f32], &[usize], &str)] = &[
    (&[1.0, 2.5, -3.0], &[3], "[ 1.   2.5 -3. ]"),
    (&[1.0, 2.0, 3.0, 4.0], &[2, 2], "[[1. 2.]\n [3. 4.]]"),
    (&[], &[0], "[]"),
    (&[], &[2, 0], "[]"),
    (&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.5], &[4], "[ nan  inf -inf  1.5]"),
    (&[1e-5, 1.234e5], &[2], "[1.000e-05 1.234e+05]"),
    (&[0.1, 0.012_345_678, 1.0 / 3.0], &[3], "[0.1        0.01234568 0.33333334]"),
    (&[1e10, 1.0], &[2], "[1.e+10 1.e+00]"),
    (&[1e8], &[1], "[1.e+08]"),
    (&[1e-5, f32::NAN, -1.25], &[3], "[ 1.00e-05       nan -1.25e+00]"),
    (&[0.0, -0.0], &[2], "[ 0. -0.]"),
    (&[16_777_216.0, 1e-3], &[2], "[1.6777216e+07 1.0000000e-03]"),
    (&[1e-40], &[1], "[1.e-40]"),
    (&[123_456.79, 0.5], &[2], "[1.2345679e+05 5.0000000e-01]"),
];

fn counting(count: usize, shape: &[usize], device: &Device) -> Tensor {
    Tensor::from_slice(&(0..count).map(|i| i as f32).collect::<Vec<_>>(), shape, device).unwrap()
}

#[test]
fn values_print_as_by_numpy() {
    for device in devices() {
        let id = device.id();
        for &(values, shape, text) in NUMPY {
            let x = Tensor::from_slice(values, shape, &device).unwrap();
            let between = if text.contains('\n') { '\n' } else { ' ' };
            assert_eq!(x.to_string(), format!("{text}{between}f32 {shape:?} on {id}"));
        }
        let lines = "[[[ 0.  1.  2.  3.]\n  [ 4.  5.  6.  7.]\n  [ 8.  9. 10. 11.]]\n\n \
                     [[12. 13. 14. 15.]\n  [16. 17. 18. 19.]\n  [20. 21. 22. 23.]]]";
        let x = counting(24, &[2, 3, 4], &device);
        assert_eq!(x.to_string(), format!("{lines}\nf32 [2, 3, 4] on {id}"));
        // A view prints as what it shows.
        let text = counting(4, &[2, 2], &device).t().unwrap().to_string();
        assert!(text.starts_with("[[0. 2.]\n [1. 3.]]\n"), "{text}");
        let ids = Tensor::from_ids(&[3, 100, 7], [3], &device).unwrap();
        assert_eq!(ids.to_string(), format!("[  3 100   7] u32 [3] on {id}"));
        let scalars = [
            (3.0, "3.0"),
            (0.012_345_678, "0.012345678"),
            (1e-5, "1e-05"),
            (1e17, "1e+17"),
            (f32::NAN, "nan"),
        ];
        for (value, text) in scalars {
            let x = Tensor::scalar(value, &device).unwrap();
            assert_eq!(x.to_string(), format!("{text} f32 [] on {id}"));
        }
    }
}

#[test]
fn long_lines_break_and_long_axes_are_cut_as_by_numpy() {
    for device in devices() {
        let text = "[ 0.  1.  2.  3.  4.  5.  6.  7.  8.  9. 10. 11. 12. 13. 14. 15. 16. 17.\n \
                    18. 19. 20. 21. 22. 23. 24. 25. 26. 27. 28. 29.]\n";
        let x = counting(30, &[30], &device).to_string();
        assert!(x.starts_with(text), "{x}");
        let text = "\
[[0.000e+00 1.000e+00 2.000e+00 ... 4.700e+01 4.800e+01 4.900e+01]
 [5.000e+01 5.100e+01 5.200e+01 ... 9.700e+01 9.800e+01 9.900e+01]
 [1.000e+02 1.010e+02 1.020e+02 ... 1.470e+02 1.480e+02 1.490e+02]
 ...
 [1.850e+03 1.851e+03 1.852e+03 ... 1.897e+03 1.898e+03 1.899e+03]
 [1.900e+03 1.901e+03 1.902e+03 ... 1.947e+03 1.948e+03 1.949e+03]
 [1.950e+03 1.951e+03 1.952e+03 ... 1.997e+03 1.998e+03 1.999e+03]]
";
        let x = counting(2000, &[40, 50], &device).to_string();
        assert!(x.starts_with(text), "{x}");
        let ids = Tensor::from_ids(&(0..1200).collect::<Vec<_>>(), [1200], &device).unwrap().to_string();
        assert!(ids.starts_with("[   0    1    2 ... 1197 1198 1199] u32 [1200]"), "{ids}");
    }
}

#[test]
fn debug_is_one_line() {
    let device = device();
    let x = counting(4, &[2, 2], &device);
    assert_eq!(format!("{x:?}"), format!("Tensor([[0. 1.] [2. 3.]], f32 [2, 2] on {})", device.id()));
}
