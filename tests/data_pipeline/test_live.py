"""Chunks of a source as it comes, and the seconds of what is found in them."""

import io
import json

import numpy as np
import pytest

from data_pipeline.cameras import Shot, Source
from data_pipeline.live import ChunkFiller, read_chunks
from svtas_jax.config import default_config
from svtas_jax.errors import InputError
from svtas_jax.evaluation.results import ChunkResult
from svtas_jax.structs import StreamSpec

TIMES = (0.0, 0.1, 0.2, 0.4, 0.9, 1.9, 2.0, 2.1, 4.5)


class Played(Source):
    """Frames at given times; breaks off after the last one, or ends."""

    def __init__(self, *, breaks_off=False):
        super().__init__("played", 10.0)
        self._breaks_off = breaks_off

    def shots(self, stride=1, wanted=None):
        for index, time_s in enumerate(TIMES):
            self.num_frames, self.end_s = index + 1, time_s + 0.5
            if index % stride == 0:
                yield Shot(index, time_s, np.full((40, 48, 3), index, np.uint8))
        if self._breaks_off:
            raise InputError("played broke off after 9 frames")

    def close(self):
        pass


@pytest.fixture
def filler():
    config = default_config().data
    config.update(resize=(40, 48), crop=32)
    return ChunkFiller(StreamSpec(4, 2), config)


def test_chunks_know_when_their_frames_were_shown(filler):
    chunks = list(read_chunks(Played(), filler))
    assert [(c.start_frame, c.num_frames) for c in chunks] == [(0, 4), (4, 4), (8, 1)]
    assert [c.times_s.tolist() for c in chunks] == [
        [0.0, 0.2, 0.9],
        [0.9, 2.0, 4.5],
        [4.5, 5.0],
    ]


def test_chunks_hold_every_second_frame_and_padding(filler):
    chunks = [live.chunk for live in read_chunks(Played(), filler)]
    shown = [chunk.frames[0, :, 0, 0, 0].tolist() for chunk in chunks]
    assert shown == [[0, 2], [4, 6], [8, 0]]
    assert [chunk.valid[0].sum() for chunk in chunks] == [4, 4, 1]
    assert [bool(chunk.starts[0]) for chunk in chunks] == [True, False, False]


def test_what_came_before_a_source_broke_off_is_segmented(filler):
    source, seen = Played(breaks_off=True), []
    with pytest.raises(InputError, match="broke off after 9"):
        for chunk in read_chunks(source, filler):
            seen.append(chunk.num_frames)
    assert seen == [4, 4, 1]


def test_segments_have_the_seconds_of_their_frames():
    labels = np.array([0, 0, 1, 1, 1], np.int32)
    result = ChunkResult(
        class_names=("take", "put"),
        labels=labels,
        scores=np.eye(2, dtype=np.float32)[labels],
        times_s=np.array([3.0, 3.5, 7.25, 9.0]),
        stride=2,
        start_frame=8,
    )
    line = result.to_json()
    assert line["time_s"] == [3.0, 9.0] and line["frames"] == [8, 13]
    spans = [(s["label"], s["frames"], s["time_s"]) for s in line["segments"]]
    assert spans == [("take", [8, 10], [3.0, 3.5]), ("put", [10, 13], [3.5, 9.0])]
    assert line["latency_ms"]["wait"] == 6000.0
    json.dump(line, io.StringIO())
