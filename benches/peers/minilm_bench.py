"""Latency of all-MiniLM-L6-v2 in PyTorch, for comparison with `--example embed -- DIR … --bench 20`.

    python3 minilm_bench.py DIR ROWS LENGTH

DIR holds model.safetensors. The encoder is written with PyTorch's own functions, as the eager code of sentence-transformers
runs it: ROWS sentences of LENGTH tokens without padding, mean pooling, vectors of length 1.
"""

import json
import struct
import sys
import time

import numpy
import torch
import torch.nn.functional as F

HEADS, LAYERS, EPS = 12, 6, 1e-12


def load(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    types = {"F32": numpy.float32, "I64": numpy.int64}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = numpy.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
        tensors[name.removeprefix("bert.")] = torch.from_numpy(array.copy())
    return tensors


def embed(w, ids):
    rows, length = ids.shape
    linear = lambda x, name: F.linear(x, w[name + ".weight"], w[name + ".bias"])
    norm = lambda x, name: F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], EPS)
    heads = lambda x: x.view(rows, length, HEADS, -1).transpose(1, 2)
    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:length]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        q, k, v = (heads(linear(x, at + "attention.self." + part)) for part in ("query", "key", "value"))
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        mixed = (weights @ v).transpose(1, 2).reshape(rows, length, -1)
        x = norm(linear(mixed, at + "attention.output.dense") + x, at + "attention.output.LayerNorm")
        wide = F.gelu(linear(x, at + "intermediate.dense"))
        x = norm(linear(wide, at + "output.dense") + x, at + "output.LayerNorm")
    return F.normalize(x.mean(1), dim=-1)


def main():
    directory, rows, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(2)
    weights = load(directory + "/model.safetensors")
    ids = torch.randint(1000, 30000, (rows, length), generator=torch.Generator().manual_seed(1))
    times = []
    with torch.no_grad():
        for _ in range(25):
            began = time.perf_counter()
            embed(weights, ids)
            times.append(time.perf_counter() - began)
    times = sorted(times[5:])
    print(f"torch {torch.__version__}: {rows} sentences of {length} tokens: {times[len(times) // 2] * 1e3:.2f} ms, median of {len(times)}")


main()
