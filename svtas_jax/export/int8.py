"""Quantises the image branch of an exported ONNX step to integers of 8 bits.

onnxruntime's static quantisation: pictures of training videos show the range of every
value; weights have a scale for each channel, and 7 bits, because products of 8-bit
values overflow on CPUs without VNNI. The head, whose state lives on, stays in float32.
"""

import contextlib
import dataclasses
import hashlib
import importlib
import json
import logging as std_logging
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from data_pipeline import annotations
from data_pipeline.dataset import make_dataset
from data_pipeline.demo import render
from svtas_jax.errors import InputError
from svtas_jax.export.load import Exported, load_exported
from svtas_jax.export.metadata import FILE
from svtas_jax.export.onnx_graph import IMAGE
from svtas_jax.structs import Chunk, VideoRecord

MOST_LOST = 0.5  # points of frame accuracy
_VIDEOS, _TRAIN_CHUNKS, _TEST_CHUNKS = 16, 2, 16  # at most, and of each video
_ENGINE = "onnxruntime"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What quantising costs on the first chunks of some test videos.

    Attributes:
        acc_float32, acc_int8: accuracy of the steps in percent.
        agreement: percent of the steps that have the same label.
        steps: how many were compared.
    """

    acc_float32: float
    acc_int8: float
    agreement: float
    steps: int

    def __str__(self) -> str:
        return (
            f"accuracy {self.acc_float32:.2f} % in float32, {self.acc_int8:.2f} % in "
            f"int8; {self.agreement:.1f} % of {self.steps} labels agree"
        )


def quantise(folder: pathlib.Path, config: ml_collections.ConfigDict) -> Comparison:
    """Replaces the ONNX step of an exported model, which must not be in use.

    Args:
        folder: of the model; its `model.json` records the comparison.
        config: of the run, with its data.

    Raises:
        InputError: if onnxruntime is not installed, the data cannot be read, or more
            than `MOST_LOST` points of accuracy would be lost.
    """
    render.ensure_configured(config.data)
    train, test = (
        _spread(annotations.read_split(config.data, subset))
        for subset in ("train", "test")
    )
    before = load_exported(folder, _ENGINE)
    logging.info("quantising with the pictures of %d training videos", len(train))
    played = _play(before, config, train, _TRAIN_CHUNKS)
    replace_step(folder, (call for call, _, _ in played))
    logging.info("comparing the labels of %d test videos", len(test))
    found = _compare(before, load_exported(folder, _ENGINE), config, test)
    logging.info("%s", found)
    if found.acc_float32 - found.acc_int8 > MOST_LOST:
        raise InputError(
            f"int8 would lose more than {MOST_LOST} points: {found}. Export without "
            "--int8."
        )
    _describe(folder, {"int8": dataclasses.asdict(found)})
    return found


def _spread(records: Sequence[VideoRecord]) -> list[VideoRecord]:
    """Returns at most `_VIDEOS` of the videos, evenly spread."""
    places = np.linspace(0, len(records) - 1, min(_VIDEOS, len(records)))
    return [records[round(place)] for place in places]


def _play(
    model: Exported,
    config: ml_collections.ConfigDict,
    records: Sequence[VideoRecord],
    num_chunks: int,
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """Streams the first chunks of some videos; yields of each the inputs of the model's
    step, its labels (steps,) and the true ones."""
    for record in records:
        state = model.initial_state(1)
        for chunk in _chunks(record, config, num_chunks):
            valid = np.asarray(chunk.step_valid)
            others = {
                "frames": np.asarray(chunk.frames),
                "count": valid.sum(axis=1, dtype=np.int32),
                "starts": np.asarray(chunk.starts),
            }
            if model.text_shape:
                others["text"] = np.asarray(model.text(state["labels"]))
            before = state
            state, logits = model.step(before, **others)
            truth = np.asarray(chunk.step_labels)
            yield before | others, logits.argmax(axis=-1)[valid], truth[valid]


def _chunks(
    record: VideoRecord, config: ml_collections.ConfigDict, num_chunks: int
) -> Iterator[Chunk]:
    data = config.data.copy_and_resolve_references()
    data.num_workers = 0  # they would start anew for every video
    dataset = make_dataset([record], data, batch_size=1, chunks_per_call=1, train=False)
    with contextlib.closing(iter(dataset)) as batches:
        for _, batch in zip(range(num_chunks), batches, strict=False):
            yield jax.tree.map(lambda leaf: leaf[0], batch.chunks)


def replace_step(
    folder: pathlib.Path, calls: Iterator[Mapping[str, np.ndarray]]
) -> None:
    """Quantises the step's file, and corrects its sum.

    Args:
        folder: of an exported model.
        calls: inputs of the step that show the range of its values.
    """
    onnx = importlib.import_module("onnx")
    quantization = importlib.import_module("onnxruntime.quantization")
    facts = json.loads((folder / FILE).read_text("utf-8"))
    file = facts["programs"]["step"]["files"]["onnx"]
    path = folder / file["name"]
    draft = path.with_suffix(".draft")
    nodes = [node.name for node in onnx.load(path).graph.node]
    reader = type(
        "Calls",
        (quantization.CalibrationDataReader,),
        {"get_next": lambda _: next(calls, None)},
    )
    with _without_advice():
        quantization.quantize_static(
            path,
            draft,
            reader(),
            quant_format=quantization.QuantFormat.QDQ,
            nodes_to_quantize=[name for name in nodes if name.startswith(IMAGE)],
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    draft.replace(path)
    file["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    _describe(folder, {"programs": facts["programs"]})


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Drops onnxruntime's advice to optimise the graph first: that loses the names."""
    root = std_logging.getLogger()

    def is_wanted(record: std_logging.LogRecord) -> bool:
        return "pre-processing" not in record.getMessage()

    root.addFilter(is_wanted)
    try:
        yield
    finally:
        root.removeFilter(is_wanted)


def _describe(folder: pathlib.Path, facts: dict[str, Any]) -> None:
    """Adds facts to `model.json`."""
    path = folder / FILE
    known = json.loads(path.read_text("utf-8"))
    text = json.dumps(known | facts, indent=1, ensure_ascii=False)
    path.write_text(text, "utf-8")


def _compare(
    before: Exported,
    after: Exported,
    config: ml_collections.ConfigDict,
    records: Sequence[VideoRecord],
) -> Comparison:
    """Plays the same videos to both models, each with a state of its own."""
    labels, truth = [], np.zeros(0)
    for model in (before, after):
        played = [own for _, *own in _play(model, config, records, _TEST_CHUNKS)]
        found, truth = (np.concatenate(steps) for steps in zip(*played, strict=True))
        labels.append(found)
    return Comparison(
        *(100 * float(np.mean(found == truth)) for found in labels),
        agreement=100 * float(np.mean(labels[0] == labels[1])),
        steps=len(truth),
    )
