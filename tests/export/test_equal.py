"""An exported step equals the native one, however frames are fed."""

import functools
import importlib.util
import sys

import jax
import numpy as np
import pytest

from svtas_jax.errors import InputError
from svtas_jax.export import onnx_step
from svtas_jax.export.load import load_exported
from svtas_jax.live.exported import ExportedEngine
from svtas_jax.streaming import compile_inference, segment_chunk, start_streams
from svtas_jax.structs import Chunk

CLIP_STEPS = 4  # of the small models
TOLERANCE = 1e-4
SYSTEMS = (
    ("sete", dict(causal=True)),
    ("sete", dict(num_stages=2)),
    ("mete", dict(causal=True)),
    ("transeger", dict(causal=True)),
    ("transeger", {}),
    ("transeger", dict(causal=True, joint="fc", prompt="fixed")),
    ("transeger", dict(joint="fc", shared_context=True)),
    ("transeger", dict(causal=True, joint="transformer", class_position="front")),
    ("transeger", dict(joint="transformer", class_position="middle")),
    ("transeger", dict(causal=True, joint="transformer", joint_positions="fixed")),
    ("transeger", dict(prompt="none")),
    ("sete", dict(causal=True, head_norm="layer")),
)
QUICK = (0, 1, 3, 4, 5, 7)
IN_JAX = (0, 3)


def name_of(system):
    return " ".join([system[0], *(f"{k}={v}" for k, v in system[1].items())])


@pytest.fixture(scope="module", params=SYSTEMS, ids=name_of)
def case(request, make_case):
    system, fields = request.param
    return make_case(system, **fields)


@pytest.fixture(scope="module")
def native(case):
    """Returns the logits (L, K) of one stream, whole chunks at a time."""
    step = compile_inference(functools.partial(segment_chunk, model=case.model))

    def run(frames):
        state, found = start_streams(case.model, case.variables, 1), []
        for first in range(0, len(frames), CLIP_STEPS):
            part = frames[first : first + CLIP_STEPS]
            padded = np.zeros((1, CLIP_STEPS, *part.shape[1:]), np.uint8)
            padded[0, : len(part)] = part
            chunk = Chunk(
                frames=padded,
                labels=np.zeros((1, CLIP_STEPS), np.int32),
                valid=np.arange(CLIP_STEPS)[None] < len(part),
                starts=np.array([first == 0]),
                num_chunks=np.ones(1, np.int32),
            )
            state, logits = step(case.variables, state, chunk)
            found.extend(np.asarray(logits[0, : len(part)]))
        return np.stack(found)

    return run


def streams_of(num_steps, seed=0):
    """Pictures of streams that two rows play one after the other."""
    rng = np.random.default_rng(seed)
    lengths = [[num_steps // 2, num_steps // 2 + 3], [num_steps // 3, num_steps // 2]]
    return [[moving(rng, length) for length in row] for row in lengths]


def moving(rng, length):
    """Pictures that change as those of a video do, by parts."""
    frames = rng.integers(0, 256, (length, 32, 32, 3), np.uint8)
    scenes = rng.integers(0, 256, (length // 5 + 1, 1, 1, 3))
    return (frames // 2 + (scenes[np.arange(length) // 5] // 2)).astype(np.uint8)


def play(engine, rows, *, causal, seed=1):
    """Feeds random numbers of steps; returns the logits of every stream."""
    rng, found = np.random.default_rng(seed), [[[] for _ in row] for row in rows]
    place = [(0, 0)] * len(rows)  # number of the stream, steps done
    while any(number < len(row) for (number, _), row in zip(place, rows, strict=True)):
        shape = (len(rows), engine.steps_per_call)
        frames = np.zeros((*shape, 32, 32, 3), np.uint8)
        count, starts = np.zeros(len(rows), int), np.zeros(len(rows), bool)
        for row, (number, done) in enumerate(place):
            if number == len(rows[row]):
                continue
            wanted = rng.integers(0, shape[1] + 1) if causal else shape[1]
            part = rows[row][number][done : done + wanted]
            frames[row, : len(part)], count[row] = part, len(part)
            starts[row] = done == 0 and len(part) > 0
        valid = np.arange(shape[1]) < count[:, None]
        logits = engine.run(range(len(rows)), frames, valid, starts)
        assert not np.any(logits[~valid])
        for row, (number, done) in enumerate(place):
            if number < len(rows[row]):
                found[row][number].extend(logits[row, : count[row]])
                ends = done + count[row] == len(rows[row][number])
                place[row] = (number + 1, 0) if ends else (number, done + count[row])
    return [[np.stack(stream) for stream in row] for row in found]


def check(case, native, engine, num_steps):
    rows = streams_of(num_steps)
    causal = case.model.causal
    own = ExportedEngine(
        load_exported(case.folder, engine),
        num_streams=2,
        steps_per_call=3 if causal else CLIP_STEPS,
    )
    ours = play(own, rows, causal=causal)
    for row, streams in zip(ours, rows, strict=True):
        for logits, frames in zip(row, streams, strict=True):
            expected = native(frames)
            np.testing.assert_allclose(logits, expected, rtol=0, atol=TOLERANCE)
            assert np.ptp(expected, axis=0).max() > 1
            assert len(set(np.argmax(expected, axis=-1))) > 1


def choose(numbers):
    return [SYSTEMS[number] for number in numbers]


@pytest.mark.parametrize("case", choose(QUICK), ids=name_of, indirect=True)
def test_onnx_equals_the_native_step(case, native):
    check(case, native, "onnxruntime", 100)


@pytest.mark.parametrize("case", choose(IN_JAX), ids=name_of, indirect=True)
def test_stablehlo_equals_the_native_step(case, native):
    check(case, native, "jax", 100)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["jax", "onnxruntime"])
def test_long_streams_stay_equal(case, native, engine):
    check(case, native, engine, 1000)


@pytest.mark.parametrize("case", choose([0]), ids=name_of, indirect=True)
def test_openvino_equals_the_native_step(case, native):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    check(case, native, "openvino", 40)
    assert "openvino_telemetry.main" not in sys.modules  # it reports usage


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        ("transeger", dict(formats=("stablehlo",), feedback="soft", causal=causal))
        for causal in (False, True)
    ],
    ids=name_of,
    indirect=True,
)
def test_stablehlo_has_soft_feedback(case, native):
    check(case, native, "jax", 60)
    exported = load_exported(case.folder)
    with pytest.raises(InputError, match="takes labels and scores of the state"):
        exported.text(exported.initial_state(1)["labels"])
    with pytest.raises(InputError, match="feedback='soft' cannot be written as ONNX"):
        onnx_step.check(case.model)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        *(dict(head=head) for head in ("gru", "gtrm", "asformer", "ms_tcn", "tcn_3d")),
        dict(backbone="vit", image_layers=1, causal=True),
        dict(reference_padding=True),
        dict(head_norm="layer", head="ms_tcn"),
    ],
    ids=str,
)
def test_stablehlo_has_the_other_parts(make_case, fields):
    case = make_case("sete", formats=("stablehlo",), **fields)
    exported = load_exported(case.folder)
    step = compile_inference(functools.partial(segment_chunk, model=case.model))
    state, own = (
        start_streams(case.model, case.variables, 2),
        exported.initial_state(2),
    )
    rng = np.random.default_rng(0)
    for number in range(3):
        frames = rng.integers(0, 256, (2, CLIP_STEPS, 32, 32, 3), np.uint8)
        count, starts = np.array([CLIP_STEPS, 2]), np.array([number == 0, False])
        valid = np.arange(CLIP_STEPS) < count[:, None]
        labels = np.zeros(valid.shape, np.int32)
        chunk = Chunk(frames, labels, valid, starts, np.ones(2, np.int32))
        state, logits = step(case.variables, state, chunk)
        own, ours = exported.step(own, frames, count, starts)
        np.testing.assert_allclose(ours, logits, rtol=0, atol=TOLERANCE)
        assert np.ptp(ours) > 0.1


@pytest.mark.parametrize("case", choose((0, 3, 4)), ids=name_of, indirect=True)
def test_every_state_array_and_frame_matters(case):
    exported = load_exported(case.folder, "onnxruntime")
    rng, size = np.random.default_rng(0), 1 if case.model.causal else CLIP_STEPS
    frames = rng.integers(0, 256, (9, 1, size, 32, 32, 3), np.uint8)

    def run(change=None, frames=frames):
        state, text, found = exported.initial_state(1), None, []
        for number, part in enumerate(frames):
            if number == 2 and change:
                state[change] = (state[change] + 1).astype(state[change].dtype)
            is_first = number == 0
            if "labels" in state and (
                not case.model.causal or number % CLIP_STEPS == 0
            ):
                text = exported.text(state["labels"])
            if "position" in state and state["position"][0] == CLIP_STEPS:
                break
            state, logits = exported.step(state, part, [size], [is_first], text)
            found.append(logits)
        return np.concatenate(found)

    plain = run()
    for name in exported.initial_state(1):
        if name in ("labels", "running", "position"):
            continue  # `test_causal` has them; here they are compared over streams
        assert np.abs(run(name) - plain).max() > 100 * TOLERANCE, name
    changed = frames.copy()
    changed[2] = 255 - changed[2]
    assert np.abs(run(frames=changed) - plain).max() > 100 * TOLERANCE


@pytest.mark.parametrize("case", choose([3]), ids=name_of, indirect=True)
@pytest.mark.parametrize("engine", ["jax", "onnxruntime"])
def test_steps_beyond_the_chunk_are_not_a_number(case, engine):
    """Whoever calls the program without our checks sees that the text is too old."""
    exported = load_exported(case.folder, engine)
    state = exported.initial_state(2) | {"position": np.int32([2, 0])}
    frames = np.zeros((2, 3, 32, 32, 3), np.uint8)
    arrays = state | {
        "frames": frames,
        "count": np.int32([3, 3]),
        "starts": np.zeros(2, bool),
        "text": exported.text(state["labels"]),
    }
    found = exported.programs["step"](arrays)
    is_lost = np.isnan(found["logits"]).all(axis=-1)
    np.testing.assert_array_equal(is_lost, [[False, False, True], [False] * 3])
    np.testing.assert_array_equal(found["next_position"], [0, 3])


@pytest.mark.parametrize("case", choose((0, 3, 4)), ids=name_of, indirect=True)
def test_an_empty_row_keeps_its_state(case):
    exported = load_exported(case.folder, "onnxruntime")
    rng, state = np.random.default_rng(0), exported.initial_state(2)
    state = {
        name: (array + rng.integers(0, 2, array.shape)).astype(array.dtype)
        for name, array in state.items()
    }
    frames = rng.integers(0, 256, (2, CLIP_STEPS, 32, 32, 3), np.uint8)
    text = exported.text(np.zeros((2, CLIP_STEPS), int))
    after, logits = exported.step(state, frames, [0, 0], [False, True], text)
    fresh = exported.initial_state(2)
    for name, array in after.items():
        np.testing.assert_array_equal(array[0], state[name][0])
        np.testing.assert_array_equal(array[1], fresh[name][1])
    assert not np.any(logits)
    assert jax.tree.structure(after) == jax.tree.structure(state)
