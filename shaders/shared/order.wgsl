// Sort keys: u32 words whose order is that of the elements. f32 elements are ordered with NaN after everything else and -0 equal
// to 0.
//
// Imported by: sort_tiles.wgsl, sort_merge.wgsl, arg.wgsl
// Expects: IDS: 1 where the elements are u32, 0 where they are f32.

/// The sort key of an element.
fn key_of(bits: u32) -> u32 {
    if (IDS == 1u) { return bits; }
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
    // A negative number is smaller the larger its magnitude.
    if (bits > 0x80000000u) { return ~bits; }
    return bits | 0x80000000u;
}

/// The element with this sort key.
fn bits_of(key: u32) -> u32 {
    if (IDS == 1u) { return key; }
    return select(~key, key & 0x7fffffffu, key >= 0x80000000u);
}
