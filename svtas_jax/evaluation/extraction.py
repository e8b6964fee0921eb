"""Writes the image branch's features, one file per video, for a second stage.

NAME.npy holds (T, D), a row for every decoded frame. NAME.json beside it stores a
digest of the weights, the raw frames between two rows, and more.
"""

import functools
import hashlib
import io
import json
import pathlib
from collections.abc import Iterator, Sequence

import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from svtas_jax.errors import InputError
from svtas_jax.evaluation.scoring import stream_videos
from svtas_jax.runtime import provenance
from svtas_jax.runtime.files import write_atomic
from svtas_jax.runtime.progress import Progress
from svtas_jax.streaming import (
    compile_inference,
    reset_streams,
    scan_chunks,
    start_streams,
)
from svtas_jax.structs import Chunk, Model, Params, StreamState, VideoRecord

_OPTION = "--output"


def extract(
    config: ml_collections.ConfigDict,
    model: Model,
    variables: Params,
    records: Sequence[VideoRecord],
    folder: pathlib.Path,
    *,
    dtype: str = "float16",
) -> None:
    """Writes NAME.npy and NAME.json of every video to `folder`, unless they exist with
    the same weights, stride and dtype.

    Raises:
        InputError: if a feature is too large for `dtype`.
    """
    facts = {
        "model": config.model.backbone,
        "weights": digest(variables),
        "stride": config.data.frame_stride,
        "dtype": dtype,
        "config": config.to_dict(),
        "versions": provenance.versions(),
    }
    missing = [r for r in records if not is_written(folder, r.name, facts)]
    logging.info("%d of %d videos to extract", len(missing), len(records))
    total = sum(record.num_frames for record in missing)
    progress, done = Progress(first=0, last=total, unit="frames"), 0
    for record, rows in image_features(model, variables, missing, config):
        write_features(folder, record, rows, facts)
        done += record.num_frames
        progress.add(record.num_frames)
        logging.info("%s", progress.line(done, f"{record.name} {rows.shape}"))
    logging.info("features: %s", folder)


def digest(variables: Params) -> str:
    """Returns a hash of the image branch's weights and statistics."""
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    total = hashlib.sha256()
    for name in sorted(name for name in flat if "/image/" in name):
        total.update(name.encode())
        total.update(np.ascontiguousarray(flat[name]).tobytes())
    return total.hexdigest()[:16]


def is_written(folder: pathlib.Path, name: str, facts: dict) -> bool:
    """Whether a video's files exist and come from the same weights."""
    try:
        stored = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    same = ("weights", "stride", "dtype")
    agrees = all(stored.get(field) == facts[field] for field in same)
    return agrees and (folder / f"{name}.npy").is_file()


def image_features(
    model: Model,
    variables: Params,
    records: Sequence[VideoRecord],
    config: ml_collections.ConfigDict,
) -> Iterator[tuple[VideoRecord, np.ndarray]]:
    """Streams videos through the image branch; yields each with its features (T, D)."""
    run = compile_inference(functools.partial(_features_of_chunks, model))
    step = functools.partial(run, variables)
    state = start_streams(model, variables, config.eval.batch_size)
    for record, features in stream_videos(step, state, records, config):
        num_rows = -(-record.num_frames // config.data.frame_stride)
        yield record, features.reshape(-1, features.shape[-1])[:num_rows]


def _features_of_chunks(
    model: Model, variables: Params, state: StreamState, chunks: Chunk
) -> tuple[StreamState, jax.Array]:
    """Maps chunks, leaves (N, B, ...), to the next state and features (N, B, T, D)."""

    def of_chunk(variables, state, chunk):
        state = reset_streams(model, state, chunk.starts)
        state, features = model.apply(variables, state, chunk, method="image_features")
        # Feature maps, which a 3D head reads, are averaged over the image.
        return state, jnp.mean(features, axis=tuple(range(2, features.ndim - 1)))

    return scan_chunks(of_chunk, variables, state, chunks)


def write_features(
    folder: pathlib.Path, record: VideoRecord, rows: np.ndarray, facts: dict
) -> None:
    """Writes the array, then its description, so that no description lacks its array.

    Raises:
        InputError: if a value is too large for the files' dtype.
    """
    stored = rows.astype(facts["dtype"])
    if not np.isfinite(stored).all():
        raise InputError(
            f"the features of {record.name} are too large for {facts['dtype']} "
            f"(largest {np.abs(rows).max():.3g}); use --dtype=float32."
        )
    buffer = io.BytesIO()
    np.save(buffer, stored)
    write_atomic(folder / f"{record.name}.npy", buffer.getvalue(), option=_OPTION)
    own = {"num_frames": record.num_frames, "fps": record.fps, "shape": rows.shape}
    text = json.dumps({**own, **facts}, indent=1, default=list)
    write_atomic(folder / f"{record.name}.json", text, option=_OPTION)
