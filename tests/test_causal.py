"""The contract of causal models: how frames are fed does not change the scores."""

import jax
import numpy as np
import pytest
from contract import CAUSAL, CLIP_STEPS, STRIDE, Kit, assert_close, differ, params
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from svtas_jax.config import default_config
from svtas_jax.config_rules import validate_config
from svtas_jax.errors import InputError
from svtas_jax.structs import IGNORE_LABEL, Chunk

SIZES = (1, 4, 2 * CLIP_STEPS + 1)  # steps in a call; each is compiled once
LENGTHS = (13, 7, 12)  # steps of the videos


@pytest.fixture(scope="module", params=params(CAUSAL))
def kit(request):
    with jax.enable_x64(True):
        yield Kit(request.param)


def frames_of(kit, length, seed):
    chunks = kit.video(-(-length // CLIP_STEPS), seed)
    frames = chunks.frames[:, 0]
    return frames.reshape(-1, *frames.shape[2:])[:length]


def chunk_of(rows, valid, starts):
    """A chunk of these frames (B, T, ...); those that are not valid are NaN."""
    valid = np.asarray(valid)
    frames = np.array(rows)
    frames[~valid] = np.nan
    full = np.repeat(valid, STRIDE, axis=1)
    return Chunk(
        frames=frames,
        labels=np.full(full.shape, IGNORE_LABEL, np.int32),
        valid=full,
        starts=np.asarray(starts),
        num_chunks=np.ones(len(valid), np.int32),
    )


@pytest.fixture(scope="module")
def videos(kit):
    """Videos, and their scores in one call."""
    frames = [frames_of(kit, length, seed) for seed, length in enumerate(LENGTHS)]
    scores = []
    for own in frames:
        padded = np.zeros((1, SIZES[-1], *own.shape[1:]), own.dtype)
        padded[0, : len(own)] = own
        valid = np.arange(SIZES[-1])[None] < len(own)
        _, logits = kit.step(kit.variables, kit.start(1), chunk_of(padded, valid, [1]))
        scores.append(np.asarray(logits[0, : len(own)]))
    return frames, scores


class Row:
    """A slot of the batch, in which videos follow each other."""

    def __init__(self, videos, order):
        self.videos, self.queue, self.done = videos, list(order), 0
        self.scores = {}

    def feed(self, size, wanted):
        """Returns frames, validity and start of a call: at most the wanted steps."""
        shape = self.videos[0].shape[1:]
        frames, valid = np.zeros((size, *shape), self.videos[0].dtype), [False] * size
        if not self.queue:
            return frames, valid, False
        left = len(self.videos[self.queue[0]]) - self.done
        steps = [step for step in range(size) if wanted[step]][:left]
        is_start = self.done == 0 and bool(steps)
        for step in steps:
            frames[step] = self.videos[self.queue[0]][self.done]
            valid[step] = True
            self.done += 1
        return frames, valid, is_start

    def take(self, logits, valid):
        """Keeps the scores of a call, and goes on to the next video after its last."""
        if not self.queue:
            return
        video = self.queue[0]
        self.scores.setdefault(video, []).extend(logits[np.asarray(valid)])
        if self.done == len(self.videos[video]):
            self.queue.pop(0)
            self.done = 0


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_scores_do_not_depend_on_how_frames_are_fed(kit, videos, data):
    """Two streams of other ages in a batch, with gaps, one video after the other."""
    frames, expected = videos
    rows = [Row(frames, order) for order in ((0, 1), (2,))]
    state = kit.start(2)
    while any(row.queue for row in rows):
        size = data.draw(st.sampled_from(SIZES))
        masks = st.lists(st.booleans(), min_size=size, max_size=size)
        fed = [row.feed(size, data.draw(masks)) for row in rows]
        if not any(any(valid) for _, valid, _ in fed):
            fed = [row.feed(size, [True] * size) for row in rows]
        pictures, valid, starts = zip(*fed, strict=True)
        chunk = chunk_of(pictures, valid, starts)
        state, logits = kit.step(kit.variables, state, chunk)
        logits = np.asarray(logits)
        assert not np.any(logits[~np.asarray(valid)])
        for row, own, is_valid in zip(rows, logits, valid, strict=True):
            row.take(own, is_valid)
    for row in rows:
        for video, scores in row.scores.items():
            assert_close(np.stack(scores), expected[video])


def test_training_chunks_give_the_scores_of_single_steps(kit, videos):
    frames, expected = videos
    chunks = kit.video(2, seed=2)
    _, logits = kit.scan(chunks)
    own = np.asarray(logits[:, 0]).reshape(-1, logits.shape[-1])
    assert_close(own[: LENGTHS[2]], expected[2])


def test_text_that_is_computed_ahead_is_that_of_the_running_chunk(kit, videos):
    """As a live stream does it: once a chunk, between two frames."""
    frames, expected = videos
    state, ahead = kit.start(1), None
    for index, frame in enumerate(frames[0]):
        if index % CLIP_STEPS == 0:
            ahead = kit.prepare(kit.variables, state)
        chunk = chunk_of(frame[None, None], [[True]], [False])
        state, logits = kit.step(kit.variables, state, chunk, ahead)
        assert_close(logits[0, 0], expected[0][index])


def test_everything_in_the_state_matters_within_a_chunk(kit, videos):
    """Half a chunk before the change, and more than one after it."""
    frames, _ = videos
    is_transeger = kit.system.feeds_back
    is_attention = kit.system.model.get("joint") == "transformer"

    def run(change):
        first = np.stack([frames[0][:4]])
        chunk = chunk_of(first, np.ones((1, 4), bool), [True])
        state, _ = kit.step(kit.variables, kit.start(1), chunk)
        rest = np.zeros((1, SIZES[-1], *first.shape[2:]), first.dtype)
        rest[0, :9] = frames[0][4:13]
        valid = np.arange(SIZES[-1])[None] < 9
        chunk = chunk_of(rest, valid, [False])
        return np.asarray(kit.step(kit.variables, change(state), chunk)[1])

    plain = run(lambda state: state)
    for name in ("context", "image", "running", "position", "labels"):
        leaves = jax.tree.leaves(getattr(kit.start(1), name))
        for index in range(len(leaves)):

            def change(state, name=name, index=index):
                own, tree = jax.tree.flatten(getattr(state, name))
                own[index] = (
                    own[index] * 0 + 2 if name == "position" else own[index] + 1
                )
                own[index] = own[index] % 11 if name == "running" else own[index]
                return state.replace(**{name: jax.tree.unflatten(tree, own)})

            hears = kit.system.labels or (name == "position" and is_attention)
            matters = name in ("context", "image") or hears
            assert differ(run(change), plain) == matters, (name, index)
    assert bool(kit.start(1).running is not None) == is_transeger


@pytest.mark.parametrize(
    "fields, named",
    [
        (dict(backbone="i3d"), "backbone='i3d'"),
        (dict(backbone="r2plus1d"), "backbone='r2plus1d'"),
        (dict(head="ms_tcn"), "head='ms_tcn'"),
        (dict(head="gru"), "head='gru'"),
        (dict(head="asformer"), "head='asformer'"),
        (dict(reference_padding=True), "reference_padding=True"),
        (
            dict(system="transeger", joint_positions="fixed_by_row"),
            "joint_positions='fixed_by_row'",
        ),
    ],
)
def test_parts_that_look_ahead_are_refused(fields, named):
    config = default_config()
    config.model.update(fields)
    validate_config(config)
    config.model.causal = True
    with pytest.raises(InputError, match="causal=True does not go with") as raised:
        validate_config(config)
    assert named in str(raised.value)
