// Selection: y[i] = a[i] where c[i] is not 0 (NaN is not 0), else b[i]. The operands may be broadcast and strided in any way. The
// bits of the selected element, a number or an id, are copied unchanged, and the other element has no influence.
//
// Used by: where_cond, masked_fill, tril, triu
//
// shared/elementwise.wgsl has the bindings and the entry points: c (the bits of f32), a and b (words) are its operands a, b and c.
// Memory bound.
//
// Constants prepended by ops/where_cond.rs: WG: invocations per workgroup.

#import shared/elementwise.wgsl

alias Element = u32;

fn f(c: u32, a: u32, b: u32) -> u32 {
    return select(a, b, (c << 1u) == 0u); // without its sign, so that -0 is 0 too
}
