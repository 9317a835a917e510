#!/usr/bin/env python3
"""Golden files: what PyTorch and JAX say of every op, its result and its gradients, for tests/golden.rs.

    apt-get install python3-torch libopenblas0                                # Debian 12: PyTorch 1.13
    /usr/bin/python3 -m venv --system-site-packages /tmp/oracles              # outside of the repository
    /tmp/oracles/bin/pip install 'jax==0.4.35' 'numpy<2' 'scipy<1.14' 'ml_dtypes<0.5'
    /tmp/oracles/bin/python tests/golden/make.py [FAMILY ...]                 # writes tests/golden/*.safetensors

The cases are in cases.py, one file a family. Inputs are values that f32 holds, drawn from a seed that is the case's name,
so a new case moves no other. The oracle computes in f64 on one thread; what it says is rounded to f32 once, in writing.
Versions are in each file's metadata. The same versions give the same bytes; another CPU may move the last bit of an
f64, which next to never survives the rounding.

A file is safetensors. Its metadata has `made_by`, and for each case `case NAME`: JSON with `op`, `attrs` (the
oracle's own keyword arguments) and `oracle`. Its tensors:

    NAME/x0 x1 ...      the inputs: F32, or U32 for ids
    NAME/y0 y1 ...      the outputs
    NAME/dy0 ...        the gradients of the outputs, random; an output that is not differentiated has none
    NAME/dx0 ...        the gradients of sum(y · dy) with regard to the inputs; a constant input has none
    NAME/y0~ ... dx0~   the condition of each element of an output or a gradient: sum_j |J_j| |x_j| over all that it was
                        computed from. It says how far the element moves when every input moves by a relative unit, and
                        with that how far a good f32 algorithm may be off: of a sum of products it is sum |a| |b|.

A case at a size that models have is too large for a file. Its JSON has `long` as well: the `shapes` of all its tensors,
the `seeds` of inputs and gradient of the output, which are hashed anew (oracle.py, `Hashed`; those numbered in `bits` are
0 or 1), and `terms`, the length of its longest sum. Of the results there are

    NAME/y0 ... dx0     the elements at the places that
    NAME/y0@ ... dx0@   has, in row-major order
    NAME/y0! ... dx2!   what they would be with one term left out, which a test must find wrong
"""

import json
import struct
import sys
from pathlib import Path

sys.dont_write_bytecode = True
from cases import CASES
from oracle import VERSIONS

HERE = Path(__file__).parent


def write(path, tensors, metadata):
    """Safetensors: the header's length, the header, the elements; the same content gives the same bytes."""
    header, data = {"__metadata__": dict(sorted(metadata.items()))}, b""
    for name, value in sorted(tensors.items()):
        dtype = {"u": "U32", "f": "F32"}[value.dtype.kind]
        place = [len(data), len(data) + value.nbytes]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": place}
        data += value.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    wanted = set(sys.argv[1:])  # families; all by default
    for file in dict.fromkeys(case.file for case in CASES):
        if wanted and file not in wanted:
            continue
        tensors, metadata = {}, {"made_by": VERSIONS}
        for case in (case for case in CASES if case.file == file):
            new = case.tensors()
            assert max(v.size for v in new.values()) <= 400, f"{case.name} is too large for a golden case"
            tensors |= new
            metadata[f"case {case.name}"] = case.metadata()
        path = HERE / f"{file}.safetensors"
        write(path, tensors, metadata)
        print(f"{path.name}: {len(metadata) - 1} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
