#!/usr/bin/env python3
"""Golden files of whole layers: what PyTorch's make of an input, with all gradients, for tests/nn_golden.rs.

    /tmp/oracles/bin/python tests/golden/layers.py        # the environment of make.py; writes tests/golden/layers/

A file holds one layer, PyTorch's module in f64, rounded to f32 in writing:

    p NAME              a parameter, by its name in the state_dict
    x0 x1 ...           the inputs, those that are None left out
    y0 y1 ...           the outputs
    dy0 dy1 ...         their gradients, random
    dp NAME, dx0 ...    the gradients of sum(y · dy)
"""

import sys
import zlib
from pathlib import Path

sys.dont_write_bytecode = True
import numpy as np
import torch
from torch import nn

from make import write
from oracle import VERSIONS, word

HERE = Path(__file__).parent / "layers"


def flat(y):
    """The tensors in what a layer gives, in order."""
    if isinstance(y, torch.Tensor):
        return [y]
    return [t for part in y if part is not None for t in flat(part)]


def make(name, module, call, *shapes):
    """`call(module, *inputs)`; the inputs are drawn."""
    random = np.random.RandomState(zlib.crc32(name.encode()))

    def draw(shape, size):
        values = random.uniform(-size, size, tuple(shape)).astype(np.float32).astype(np.float64)
        return torch.tensor(values)

    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(draw(parameter.shape, 0.6))
    x = [draw(shape, 1.0).requires_grad_() for shape in shapes]
    y = flat(call(module, *x))
    dy = [draw(v.shape, 1.0) for v in y]
    sum((v * d).sum() for v, d in zip(y, dy)).backward()
    tensors = {f"p {n}": p for n, p in module.named_parameters()}
    tensors |= {f"dp {n}": p.grad for n, p in module.named_parameters()}
    for kind, values in {"x": x, "dx": [v.grad for v in x], "y": y, "dy": dy}.items():
        tensors |= {f"{kind}{i}": v for i, v in enumerate(values)}
    path = HERE / f"{name}.safetensors"
    write(path, {n: word(v.detach().numpy()) for n, v in tensors.items()}, {"made_by": VERSIONS})
    print(f"{path.name}: {path.stat().st_size} bytes")


def main():
    HERE.mkdir(exist_ok=True)
    plain = lambda m, x: m(x)
    stateful = lambda m, x, h: m(x, h)
    lstm = lambda m, x, h, c: m(x, (h, c))
    two = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    one = {"batch_first": True}
    make("rnn", nn.RNN(3, 4, **one), stateful, [2, 5, 3], [1, 2, 4])
    make("rnn_relu", nn.RNN(3, 4, nonlinearity="relu", bias=False, **two), plain, [2, 4, 3])
    make("lstm", nn.LSTM(3, 4, **one), lstm, [2, 5, 3], [1, 2, 4], [1, 2, 4])
    make("lstm_deep", nn.LSTM(3, 2, **two), lstm, [2, 4, 3], [4, 2, 2], [4, 2, 2])
    make("gru", nn.GRU(3, 4, **one), stateful, [2, 5, 3], [1, 2, 4])
    make("gru_deep", nn.GRU(3, 2, **two), stateful, [2, 4, 3], [4, 2, 2])

    later = lambda n: torch.triu(torch.ones(n, n, dtype=torch.bool), 1)  # True hides
    attend = lambda m, x: m(x, x, x, need_weights=False)[0]
    causal = lambda m, x: m(x, x, x, need_weights=False, attn_mask=later(x.shape[1]))[0]
    across = lambda m, x, memory: m(x, memory, memory, need_weights=False)[0]
    make("attention", nn.MultiheadAttention(8, 2, **one), attend, [2, 5, 8])
    make("attention_causal", nn.MultiheadAttention(8, 4, bias=False, **one), causal, [2, 5, 8])
    make("attention_across", nn.MultiheadAttention(8, 2, **one), across, [2, 3, 8], [2, 5, 8])
    block = {"d_model": 8, "nhead": 2, "dim_feedforward": 12, "dropout": 0.0, "batch_first": True}
    masked = lambda m, x: m(x, later(x.shape[1]))
    make("block_post", nn.TransformerEncoderLayer(**block, activation="relu"), plain, [2, 4, 8])
    layer = nn.TransformerEncoderLayer(**block, activation="gelu", norm_first=True)
    make("encoder", nn.TransformerEncoder(layer, 2, nn.LayerNorm(8)), masked, [2, 4, 8])
    decode = lambda m, x, memory: m(x, memory, tgt_mask=later(x.shape[1]))
    layer = nn.TransformerDecoderLayer(**block, activation="gelu", norm_first=True)
    make("decoder", nn.TransformerDecoder(layer, 2, nn.LayerNorm(8)), decode, [2, 4, 8], [2, 3, 8])
    layer = nn.TransformerDecoderLayer(**block, activation="relu")
    make("decoder_post", nn.TransformerDecoder(layer, 1), decode, [2, 4, 8], [2, 3, 8])


if __name__ == "__main__":
    main()
