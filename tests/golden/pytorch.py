#!/usr/bin/env python3
"""Files of `torch.save`, for tests/pytorch.rs, and what PyTorch says is in them.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy torch    # outside of the repository
    /tmp/venv/bin/python tests/golden/pytorch.py                          # writes tests/golden/pytorch/

`expected.json` has, by the name of the file, the shape and the elements of each tensor by its name in gristmill, in the
order of the file. A file that must be refused is not there.
"""

import json
import os
import sys
from collections import OrderedDict
from pathlib import Path

sys.dont_write_bytecode = True
import torch
from torch import nn

HERE = Path(__file__).parent / "pytorch"
EXPECTED = {"made_by": f"PyTorch {torch.__version__}"}


def flat(value, name):
    """The tensors in a value, by their names joined by dots."""
    if isinstance(value, torch.Tensor):
        return {name or "tensor": value}
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    else:
        return {}
    tensors = {}
    for key, part in parts:
        tensors |= flat(part, f"{name}.{key}" if name else str(key))
    return tensors


def save(file, value, **options):
    torch.save(value, HERE / file, **options)
    print(f"{file}: {(HERE / file).stat().st_size} bytes")


def expect(file, value, **options):
    save(file, value, **options)
    tensors = flat(value, "").items()
    number = lambda tensor: tensor.double() if tensor.is_floating_point() else tensor.long()
    EXPECTED[file] = [[n, list(t.shape), number(t).detach().flatten().tolist()] for n, t in tensors]


def cnn():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = torch.rand(3, 1, 4, 4)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    return model, optimizer


class Command:
    """A pickle of it runs a command when Python reads it."""

    def __reduce__(self):
        return os.system, ("touch gristmill-must-not-run-this",)


def main():
    model, optimizer = cnn()
    expect("cnn.pt", model.state_dict())

    whole = torch.arange(12.0).reshape(3, 4)
    views = {
        "whole": whole,
        "again": whole,
        "transposed": whole.t(),
        "sliced": whole[1:, 1::2],
        "row": whole[2],
        "expanded": whole[:, :1].expand(3, 5),
        "permuted": torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(3, 0),
    }
    expect("views.pt", views)

    halves = torch.tensor([[1.0, -2.0], [65504.0, 2.0**-24]])
    types = {
        "f16": halves.half(),
        "f16.t": halves.half().t(),
        "bf16": torch.tensor([1.0, 3.0e38, 1.0e-38, -0.15625]).bfloat16(),
        "i64": torch.tensor([0, 7, 2**32 - 1]),
        "i32": torch.tensor([[0, 7, 2**31 - 1]], dtype=torch.int32),
        "u32": torch.tensor([0, 2**32 - 1], dtype=torch.int64).to(torch.uint32),
    }
    expect("types.pt", types)
    expect("protocol_4.pt", types, pickle_protocol=4)

    others = {
        "weight": torch.tensor([[1.5]]),
        "f64": torch.tensor([0.1], dtype=torch.float64),
        "bool": torch.tensor([True]),
        "u8": torch.tensor([1], dtype=torch.uint8),
        "i8": torch.tensor([1], dtype=torch.int8),
        "i16": torch.tensor([1], dtype=torch.int16),
        "f8": torch.tensor([1.0]).to(torch.float8_e4m3fn),
        "rank_7": torch.zeros(1, 1, 1, 1, 1, 1, 1),
    }
    save("other_types.pt", others)
    save("negative.pt", [torch.tensor([1, -1])])

    checkpoint = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "loss": 1.0e-30,
        "seed": 2**64 - 1,
        "shift": -(2**40),
        "name": 'a "quoted" ü\n',
        "best": True,
        "none": None,
        "sizes": (1, [2, -300], {}, {4: 70000, 0.5: "half"}),
        "parameter": nn.Parameter(torch.tensor([1.0, 2.0])),
    }
    expect("checkpoint.pt", checkpoint)
    expect("tensor.pt", torch.tensor([1.0, 2.5, -3.0]))
    expect("list.pt", (torch.tensor(1.0), [torch.tensor(2.0)]))

    save("model.pt", model)
    save("command.pt", {"weight": torch.tensor([1.0]), "command": Command()})
    save("complex.pt", torch.tensor([1j]))
    save("before_1.6.pt", OrderedDict(x=torch.tensor([1.0])), _use_new_zipfile_serialization=False)

    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in EXPECTED.items()]
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
