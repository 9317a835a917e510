// Selection: y[i] = a[i] where c[i] is not 0 (NaN is not 0), else b[i]. The operands may be broadcast and strided in any way. The
// bits of the selected element are copied unchanged, and the other element has no influence.
//
// Used by: where_cond, masked_fill, tril, triu
//
// shared/elementwise.wgsl has the bindings and the entry points: c, a and b are its operands a, b and c.
// Memory bound.
//
// Constants prepended by ops/where_cond.rs: WG: invocations per workgroup.

#import shared/elementwise.wgsl
#import shared/common.wgsl

fn f(c: f32, a: f32, b: f32) -> f32 {
    return select(a, b, order(c) == 0);
}
