//! The bodies of the fuzz targets (`fuzz/bodies.rs`), run over the stored corpus.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

/// Runs a target on each file of its corpus, and on truncated copies of it.
fn over_the_corpus(target: &str, body: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty(), "no corpus in {}", dir.display());
    files.sort();
    for path in files {
        println!("{}", path.display()); // shown if the target fails
        let bytes = std::fs::read(&path).unwrap();
        body(&bytes);
        for end in (0..bytes.len()).rev().take(64) {
            body(&bytes[..end]);
        }
    }
}

#[test]
fn safetensors() {
    over_the_corpus("safetensors", bodies::safetensors);
}

#[test]
fn pytorch() {
    over_the_corpus("pytorch", bodies::pytorch);
}

#[test]
fn idx() {
    over_the_corpus("idx", bodies::idx);
}

#[test]
fn views() {
    over_the_corpus("views", bodies::views);
}
