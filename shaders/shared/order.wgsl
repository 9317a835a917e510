// The order of sorting: words whose order as u32 is that of the elements. The importing file has the constant IDS:
// whether the elements are u32; else they are f32, with NaN after everything else and -0 equal to 0.

/// The word that an element is sorted by.
fn key_of(bits: u32) -> u32 {
    if (IDS == 1u) { return bits; }
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
    // Of the negative numbers the larger magnitude is the smaller.
    if (bits > 0x80000000u) { return ~bits; }
    return bits | 0x80000000u;
}

/// The element that is sorted by a word.
fn bits_of(key: u32) -> u32 {
    if (IDS == 1u) { return key; }
    return select(~key, key & 0x7fffffffu, key >= 0x80000000u);
}
