"""What the twins share: initial parameters and data, which the Rust twin reads."""

import sys

import torch
from safetensors.torch import save_file

torch.manual_seed(1)
torch.set_num_threads(2)


def start(models, data):
    """Writes the models' parameters, by their prefixes, and the data to the file that the first argument names."""
    tensors = {f"{prefix}{name}": value for prefix, model in models.items() for name, value in model.state_dict().items()}
    tensors = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    save_file({name: value.contiguous() for name, value in (tensors | data).items()}, sys.argv[1])
    return data
