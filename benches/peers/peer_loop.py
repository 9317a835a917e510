"""The talk with the Rust side: one line of JSON asks, one line answers. Arrays travel as raw f32 files.

A peer brings start(op, pad, inputs) -> (run, output):
run() does the work once, waits for its end and returns the seconds of the work alone;
output() returns the last results as numpy arrays.
"""

import json
import os
import sys
import traceback


def answer(**fields):
    print(json.dumps(fields), flush=True)


def serve(about, start):
    import numpy as np

    answer(about=about)
    run = output = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if question["do"] == "start":
                inputs = [
                    np.fromfile(array["file"], dtype="<f4").reshape(array["shape"])
                    for array in question["inputs"]
                ]
                run, output = start(question["op"], question["pad"], inputs)
                answer()
            elif question["do"] == "run":
                answer(seconds=run())
            else:
                files = []
                for i, array in enumerate(output()):
                    files.append(os.path.join(question["dir"], f"output{i}"))
                    np.ascontiguousarray(array, dtype="<f4").tofile(files[-1])
                answer(files=files)
        except Exception as error:
            traceback.print_exc()
            answer(error=f"{type(error).__name__}: {error}")


def load(make):
    """Calls make() -> (about, start), and says so where a package is missing."""
    try:
        about, start = make()
    except ImportError as error:
        answer(error=f"not installed: {error}")
        sys.exit(1)
    serve(about, start)
