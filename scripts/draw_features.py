r"""Draws features that follow a data set's labels, to study labels in minutes.

    python scripts/draw_features.py --annotations=data/gtea --output=data/gtea_drawn
        [--group="(S\d+)"] [--every=1] [--hidden=0.35] [--noise=0.18] [--hold=16]
        [--seed=0]

Every frame has a vector of 16 numbers, as an image network might give: the class's,
the person's way with the class, and noise, of which one half stays for --hold frames.
In a share --hidden of the segments little of the class is to be seen. Order and
durations are those of the labels. No video is read, and none is needed to train:

    python -m svtas_jax.train --config=demo_transeger --workdir=runs/x
        --config.data.dataset=gtea_drawn --config.data.root=data/gtea_drawn
        --config.data.features=features --config.model.backbone=features
        --config.data.clip_frames=128 --config.data.frame_stride=4
"""

import dataclasses
import itertools
import json
import os
import pathlib
import shutil

import numpy as np
from absl import flags

from data_pipeline.rendered.dataset import texts_of
from data_pipeline.rendered.source import Source, read_source
from svtas_jax.errors import InputError
from svtas_jax.runtime import cli
from svtas_jax.runtime.files import draft_of, make_folder, write_atomic, writing

_OPTION = "--output"
WIDTH = 16
PERSON, SEGMENT = 0.12, 0.15  # standard deviations, of class vectors of length 1
SEEN = 0.2  # of the class, in a hidden segment


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How features are drawn, see above."""

    hidden: float = 0.35
    noise: float = 0.18
    hold: int = 16
    seed: int = 0


def main() -> None:
    """Writes the data set."""
    given = flags.FLAGS
    source = read_source(
        pathlib.Path(given.annotations), every=given.every, group=given.group
    )
    drawing = Drawing(given.hidden, given.noise, given.hold, given.seed)
    write(pathlib.Path(given.output), source, drawing)
    print(f"{len(source.labels)} videos of {len(set(source.people.values()))} people")


def write(output: pathlib.Path, source: Source, drawing: Drawing) -> None:
    """Writes labels, splits and features/NAME.npy (F, 16): all, or nothing.

    Raises:
        InputError: if the folder is there or cannot be written.
    """
    if output.exists():
        raise InputError(f"{_OPTION}={output} exists; choose a new folder.")
    make_folder(output.parent, option=_OPTION)
    draft = draft_of(output)
    try:
        with writing(output, option=_OPTION):
            for name, text in texts_of(source).items():
                write_atomic(draft / name, text, option=_OPTION)
            folder = draft / "features"
            folder.mkdir()
            for name in source.labels:
                np.save(folder / f"{name}.npy", draw(source, name, drawing))
                facts = json.dumps({"stride": 1})
                write_atomic(folder / f"{name}.json", facts, option=_OPTION)
            os.rename(draft, output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def draw(source: Source, name: str, drawing: Drawing) -> np.ndarray:
    """Returns the features of a video, (F, 16) float16; the arguments alone decide."""
    shape = (len(source.classes), WIDTH)
    classes = _generator(drawing, "classes").normal(size=shape)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    person = _generator(drawing, f"person {source.people[name]}").normal(size=shape)
    rng = _generator(drawing, f"video {name}")
    rows = []
    for label, frames in itertools.groupby(source.labels[name]):
        index, seen = source.classes.index(label), 1.0
        if rng.random() < drawing.hidden:
            seen = SEEN
        vector = seen * (classes[index] + PERSON * person[index])
        vector = vector + SEGMENT * rng.normal(size=WIDTH)
        rows += [vector] * len(list(frames))
    length, hold = len(rows), drawing.hold
    slow = np.repeat(rng.normal(size=(length // hold + 1, WIDTH)), hold, axis=0)
    noise = slow[:length] + rng.normal(size=(length, WIDTH))
    return (np.stack(rows) + drawing.noise * noise).astype(np.float16)


def _generator(drawing: Drawing, what: str) -> np.random.Generator:
    return np.random.default_rng([drawing.seed, *what.encode()])


if __name__ == "__main__":
    flags.DEFINE_string(
        "annotations", None, "Folder with groundTruth/, mapping.txt and splits/."
    )
    flags.DEFINE_string("output", None, "Folder to write; it must be new.")
    flags.DEFINE_string(
        "group",
        "",
        "Regular expression for the person in a video's name; else its beginning.",
    )
    flags.DEFINE_integer("every", 1, "Keep each N-th label.", lower_bound=1)
    flags.DEFINE_float(
        "hidden",
        0.35,
        "Share of the segments of which little is seen.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_float("noise", 0.18, "Standard deviation of noise.", lower_bound=0.0)
    flags.DEFINE_integer("hold", 16, "Frames for which noise stays.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of all that is drawn.", lower_bound=0)
    cli.run(main, required=("annotations", "output"))
