// The activation that a kernel applies to a result before it stores it, chosen by the constant ACTIVATION. The numbers are those of
// `Activation` in ops/unary.rs.
//
// Imported by: matmul_reduce.wgsl, shared/matmul.wgsl, shared/conv2d.wgsl
// Expects: ACTIVATION.

#import shared/functions.wgsl

fn activate(x: f32) -> f32 {
    switch ACTIVATION {
        case 1u: { return relu(x); }
        case 2u: { return sigmoid(x); }
        case 3u: { return tanh_nan(x); }
        default: { return x; }
    }
}
