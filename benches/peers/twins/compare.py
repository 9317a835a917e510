"""Runs each program beside its twin in PyTorch, from the same parameters and data, and compares their losses.

    python3 -m venv venv && venv/bin/pip install numpy torch safetensors
    venv/bin/python compare.py          # all, or the names of some

Prints for each the lines of code (formatted, without blank lines and comments), the question marks of the Rust program, and the
largest relative difference of a loss in 100 steps; fails where that is over 5e-5, half a unit of the fourth digit.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
NAMES = ["gan", "lora", "multi_task", "seq2seq", "unet", "custom_op"]


def losses(command):
    out = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout
    return [float(word) for word in out.split()]


def lines(text, comment):
    text = re.sub(r'^""".*?"""', "", text, flags=re.S)
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith(comment)]


def main():
    subprocess.run(["cargo", "build", "--release", "--bins", "-q"], cwd=HERE, check=True)
    print(f"{'program':<12} {'rust':>5} {'torch':>6} {'ratio':>6} {'?':>4} {'difference':>11}")
    failed = False
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            start = f"{folder}/start.safetensors"
            theirs = losses([sys.executable, f"{name}.py", start])
            ours = losses([f"target/release/{name}", start])
        assert len(ours) == len(theirs) >= 100, f"{name}: {len(ours)} and {len(theirs)} losses"
        difference = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
        rust = lines((HERE / f"src/bin/{name}.rs").read_text(), "//")
        torch = lines((HERE / f"{name}.py").read_text(), "#")
        marks = sum(line.count("?") for line in rust)
        ratio = len(rust) / len(torch)
        print(f"{name:<12} {len(rust):>5} {len(torch):>6} {ratio:>6.2f} {marks:>4} {difference:>11.1e}")
        failed |= difference > 5e-5
    sys.exit(failed)


if __name__ == "__main__":
    main()
