// The activation that a kernel applies to what it is about to write, chosen by the constant ACTIVATION. The numbers are
// those of `Activation` in src/ops/unary.rs.

#import shared/functions.wgsl

fn activate(x: f32) -> f32 {
    switch ACTIVATION {
        case 1u: { return relu(x); }
        case 2u: { return sigmoid(x); }
        case 3u: { return tanh_nan(x); }
        default: { return x; }
    }
}
