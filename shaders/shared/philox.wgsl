// Philox 4x32-10: a counter-based random number generator. It maps a counter and a key to four random words, the same on
// every device. Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). CPU twin: src/random.rs.
//
// Imported by: dropout.wgsl, shared/attention.wgsl

#import shared/common.wgsl

fn philox(counter: vec4u, key: vec2u) -> vec4u {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let p0 = mul_wide(0xd2511f53u, c.x);
        let p1 = mul_wide(0xcd9e8d57u, c.z);
        c = vec4u(p1.x ^ c.y ^ k.x, p1.y, p0.x ^ c.w ^ k.y, p0.y);
        k += vec2u(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}
