// Choice: y[i] = a[i] where c[i] is not 0 (NaN is not), else b[i], the operands broadcast and strided in any way. A copy
// of what is picked, whatever bits that has; the other is not looked at.
//
// shared/map3.wgsl has the bindings and the entries: c, a and b are its operands a, b and c.
//
//   WG: invocations a workgroup (prepended by ops/where_cond.rs)

#import shared/map3.wgsl
#import shared/float.wgsl

fn f(c: f32, a: f32, b: f32) -> f32 {
    return select(a, b, order(c) == 0);
}
