"""torch on the CPU. It computes at once, so there is nothing to wait for."""

import os
from time import perf_counter

import peer_loop


def make():
    import numpy as np
    import torch
    import torch.nn.functional as F

    # Debian's build comes up with a single thread.
    torch.set_num_threads(os.cpu_count())

    def start(op, pad, inputs):
        if op == "train_step":
            return train(inputs)
        x = [torch.from_numpy(array) for array in inputs]
        if op == "conv2d_backward":
            for tensor in x:
                tensor.requires_grad_()
            y = F.conv2d(*x, padding=pad)
            ones = torch.ones_like(y)
            work = lambda: torch.autograd.grad(y, x, ones, retain_graph=True)
        else:
            work = {
                "matmul": lambda: x[0] @ x[1],
                "conv2d": lambda: F.conv2d(*x, padding=pad),
                "max_pool2d": lambda: F.max_pool2d(x[0], 2),
                "softmax": lambda: torch.softmax(x[0], dim=-1),
                # Debian's torch 1.13 has no scaled_dot_product_attention.
                "attention": lambda: torch.softmax(x[0] @ x[1].mT * x[0].shape[-1] ** -0.5, dim=-1) @ x[2],
                "add": lambda: x[0] + x[1],
                "sum": lambda: x[0].sum(),
                "gelu_mul_add": lambda: F.gelu(x[0] * x[1] + 1.0),
            }[op]
        last = None

        def run():
            nonlocal last
            start = perf_counter()
            result = work()
            seconds = perf_counter() - start
            last = result if isinstance(result, tuple) else (result,)
            return seconds

        return run, lambda: [tensor.numpy() for tensor in last]

    def train(inputs):
        conv, hidden, last = torch.nn.Conv2d(1, 32, 3), torch.nn.Linear(5408, 128), torch.nn.Linear(128, 10)
        net = torch.nn.Sequential(
            conv, torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), hidden, torch.nn.ReLU(), last
        )
        with torch.no_grad():
            for layer, weight, bias in [(conv, *inputs[0:2]), (hidden, *inputs[2:4]), (last, *inputs[4:6])]:
                # torch keeps dense weights as [out, in].
                weight = torch.from_numpy(weight)
                layer.weight.copy_(weight if layer is conv else weight.T)
                layer.bias.copy_(torch.from_numpy(bias))
        adam = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-8)
        images, labels = inputs[6], inputs[7].astype("int64")
        losses = []

        def run():
            batch = len(losses) % len(images)
            start = perf_counter()
            loss = F.cross_entropy(net(torch.from_numpy(images[batch])), torch.from_numpy(labels[batch]))
            adam.zero_grad()
            loss.backward()
            adam.step()
            seconds = perf_counter() - start
            losses.append(loss.item())
            return seconds

        return run, lambda: [np.array(losses[:5])]

    blas = "OpenBLAS" if "libopenblas" in open("/proc/self/maps").read() else "no OpenBLAS: see README.md"
    return f"torch {torch.__version__} (CPU, {torch.get_num_threads()} threads, {blas})", start


peer_loop.load(make)
