#!/usr/bin/env python3
"""What TensorBoard reads from events.out.tfevents.golden, for the unit test of src/tensorboard/mod.rs.

    python3 -m venv /tmp/tensorboard                                          # outside of the repository
    /tmp/tensorboard/bin/pip install tensorboard==2.21.0                      # with it come pillow and numpy
    /tmp/tensorboard/bin/python tests/golden/tensorboard/read.py              # writes read.json beside this file

The test writes the same records with a clock that stands still. If what it writes is no longer the golden file, it says
where the new one is: copy that here, run this script, and see what changed in read.json.

Scalars, histograms, images and texts are read by EventAccumulator, which checks the checksums. The hyperparameters are the
rows of the tab HPARAMS.
"""

import io
import json
import math
import os
import platform
import shutil
import tempfile
from pathlib import Path

import google.protobuf
import PIL.Image
import tensorboard.version
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import (
    STORE_EVERYTHING_SIZE_GUIDANCE,
    EventAccumulator,
)
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups
from tensorboard.util import tensor_util

HERE = Path(__file__).parent
GOLDEN = HERE / "events.out.tfevents.golden"


def number(x):
    """JSON has no NaN and no infinities."""
    return x if math.isfinite(x) else str(x)


def accumulator(path):
    return EventAccumulator(str(path), size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE).Reload()


def scalars(events):
    tags = events.Tags()["scalars"]
    return {tag: [[e.step, number(e.value)] for e in events.Scalars(tag)] for tag in tags}


def histogram(event):
    h = event.histogram_value
    lows = [h.min, *h.bucket_limit]
    bins = [[lo, hi, n] for lo, hi, n in zip(lows, h.bucket_limit, h.bucket) if n > 0]
    return {"step": event.step, "moments": [h.min, h.max, h.num, h.sum, h.sum_squares], "bins": bins}


def image(event):
    picture = PIL.Image.open(io.BytesIO(event.encoded_image_string))
    pixels = [picture.getpixel((x, y)) for y in range(picture.height) for x in range(picture.width)]
    return {
        "step": event.step,
        "size": [event.width, event.height],
        "shown": list(picture.size),
        "mode": picture.mode,
        "pixels": pixels,
    }


def texts(events):
    found = {}
    for tag in events.Tags()["tensors"]:
        metadata = events.SummaryMetadata(tag)
        if metadata.plugin_data.plugin_name == "text":
            read = [[e.step, tensor_util.make_ndarray(e.tensor_proto).item().decode()] for e in events.Tensors(tag)]
            found[tag] = read
    return found


def hparams(directory):
    """The rows of the tab HPARAMS."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(directory))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(directory))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    wanted = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=10)
    for status in api_pb2.Status.values():
        wanted.allowed_statuses.append(status)
    found = list_session_groups.Handler(RequestContext(), context, "experiment", wanted).run()
    rows = []
    for group in found.session_groups:
        (session,) = group.sessions
        rows.append(
            {
                "hparams": {name: getattr(v, v.WhichOneof("kind")) for name, v in sorted(group.hparams.items())},
                "metrics": {v.name.tag: [v.training_step, number(v.value)] for v in session.metric_values},
                "status": api_pb2.Status.Name(session.status),
                "start": session.start_time_secs,
                "end": session.end_time_secs,
            }
        )
    return rows


def main():
    events = accumulator(GOLDEN)
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        run.mkdir()
        shutil.copy(GOLDEN, run)
        rows = hparams(directory)
        cut = run / GOLDEN.name
        os.truncate(cut, cut.stat().st_size - 1)
        without_last = scalars(accumulator(cut))
    tags = events.Tags()
    times = {e.wall_time for tag in tags["scalars"] for e in events.Scalars(tag)}
    read = {
        "read_by": f"tensorboard {tensorboard.version.VERSION}, protobuf {google.protobuf.__version__}, "
        f"pillow {PIL.__version__}, python {platform.python_version()}",
        "wall_times": sorted(times),
        "scalars": scalars(events),
        "histograms": {tag: [histogram(e) for e in events.Histograms(tag)] for tag in tags["histograms"]},
        "images": {tag: [image(e) for e in events.Images(tag)] for tag in tags["images"]},
        "texts": texts(events),
        "hparams": rows,
        "scalars_without_the_last_byte": without_last,
    }
    lines = [f'"{key}": {json.dumps(value, ensure_ascii=False, allow_nan=False)}' for key, value in read.items()]
    (HERE / "read.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
