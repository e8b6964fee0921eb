"""Sessions: who is computed with whom, and how frames are fed, changes no answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.step_queue import Step
from svtas_jax.live.engine import JaxEngine, batch_sizes, make_programs
from svtas_jax.live.session import LiveSession
from svtas_jax.smoothing import OFF, Smoothing, smooth_labels

CLIP_STEPS = 4
SIZE = 32
NUM_SOURCES = 3
TOLERANCE = 1e-4  # of logits around 1, computed in float32 in other batches
KINDS = {
    "causal sete": dict(system="sete", causal=True),
    "causal transeger": dict(system="transeger", causal=True),
    "sete": dict(system="sete"),
    "transeger": dict(system="transeger"),
}


class Kit:
    """A model, and sessions of it."""

    def __init__(self, tiny, **fields):
        fields = dict(fields)
        self.model = tiny.model(fields.pop("system"), **fields)
        self.programs = make_programs(self.model, tiny.variables(self.model))
        self.classes = tiny.classes
        self._engines = {}

    def session(self, num_sources=1, *, steps_per_call=None, **options):
        """Sessions of one kind share an engine: every stream starts anew."""
        steps = steps_per_call or (1 if self.model.causal else CLIP_STEPS)
        if (num_sources, steps) not in self._engines:
            self._engines[num_sources, steps] = JaxEngine(
                self.programs,
                num_streams=num_sources,
                clip_steps=CLIP_STEPS,
                steps_per_call=steps,
                size=SIZE,
            )
        options = dict(step_s=0.2, fps=5.0, gap_reset_s=2.0) | options
        return LiveSession(
            self._engines[num_sources, steps],
            np.asarray,
            class_names=self.classes,
            clip_steps=CLIP_STEPS,
            num_sources=num_sources,
            **options,
        )

    def alone(self, frames, **options):
        """The answers for a video that is computed by itself."""
        session = self.session(**options)
        return session.push(frames) + session.close()


@pytest.fixture(scope="module", params=KINDS)
def kit(request, tiny):
    return Kit(tiny, **KINDS[request.param])


@pytest.fixture(scope="module")
def causal(tiny):
    return Kit(tiny, **KINDS["causal transeger"])


def video(seed, num_frames):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num_frames, SIZE, SIZE, 3), np.uint8)


def step_of(frames, index, *, resets=False, repeats=0):
    return Step(
        frame=frames[index],
        index=index,
        time_s=index / 5,
        repeats=repeats,
        dropped=0,
        resets=resets,
        captured_s=0.0,
        decode_s=0.0,
    )


def logs(results):
    return np.log(np.stack([result.scores for result in results]))


def assert_same(found, expected):
    assert [r.frame for r in found] == [r.frame for r in expected]
    np.testing.assert_allclose(logs(found), logs(expected), atol=TOLERANCE)


@pytest.mark.parametrize(
    "count, sizes",
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))],
)
def test_a_few_batch_sizes_are_compiled(count, sizes):
    assert batch_sizes(count) == sizes


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_sources_in_a_batch_are_answered_as_alone(kit, data):
    lengths = [9, 4, 7]
    videos = [video(seed, length) for seed, length in enumerate(lengths)]
    session = kit.session(NUM_SOURCES)
    done, found = [0] * NUM_SOURCES, []
    while left := [n for n in range(NUM_SOURCES) if done[n] < lengths[n]]:
        chosen = data.draw(st.sets(st.sampled_from(left), min_size=1))
        steps = {n: step_of(videos[n], done[n], resets=not done[n]) for n in chosen}
        found += session.advance(steps)
        done = [n + (i in chosen) for i, n in enumerate(done)]
    found += session.close()
    for n in range(NUM_SOURCES):
        own = [result for result in found if result.source == n]
        assert_same(own, kit.alone(videos[n]))


def test_a_causal_model_answers_at_once_and_others_when_a_chunk_is_full(kit):
    session = kit.session()
    counts = [len(session.push(frame)) for frame in video(0, 6)]
    if kit.model.causal:
        assert counts == [1] * 6
    else:
        assert counts == [0, 0, 0, CLIP_STEPS, 0, 0]
    assert len(session.close()) == (0 if kit.model.causal else 2)


def test_steps_one_by_one_are_answered_as_whole_chunks(causal):
    frames = video(1, 11)
    whole = causal.alone(frames, steps_per_call=CLIP_STEPS)
    assert_same(causal.alone(frames), whole)
    assert [result.chunk for result in whole] == [0] * 4 + [1] * 4 + [2] * 3


def test_a_missing_frame_is_filled_with_the_last_one(kit):
    frames = video(2, 9)
    shown = [0, 1, 4, 5, 6, 7, 8]
    session = kit.session()
    found = session.push(frames[shown], [n / 5 for n in shown]) + session.close()
    filled = frames.copy()
    filled[[2, 3]] = frames[1]
    expected = [r for r in kit.alone(filled) if r.frame not in (2, 3)]
    np.testing.assert_allclose(logs(found), logs(expected), atol=TOLERANCE)
    assert [result.time_s for result in found] == [n / 5 for n in shown]


def test_a_new_stream_begins_after_a_long_gap(kit):
    frames = video(3, 7)
    times = np.array([0, 1, 2, 20, 21, 22, 23]) / 5
    session = kit.session()
    found = session.push(frames, times) + session.close()
    assert [result.starts for result in found] == [n in (0, 3) for n in range(7)]
    expected = kit.alone(frames[:3]) + kit.alone(frames[3:])
    np.testing.assert_allclose(logs(found), logs(expected), atol=TOLERANCE)
    differs = np.abs(logs(found)[3:] - logs(kit.alone(frames))[3:]).max()
    assert differs > 10 * TOLERANCE  # what came before matters without the gap


def test_a_source_that_ends_leaves_its_place_to_another(causal):
    session = causal.session(2)
    first = session.push(video(4, 5), source=1) + session.flush(1)
    second = session.advance({1: step_of(video(5, 1), 0, resets=True)})
    assert_same(first, causal.alone(video(4, 5)))
    assert_same(second, causal.alone(video(5, 1)))


def test_frames_count_from_0_where_another_video_begins(kit):
    session = kit.session(fps=10.0)
    first = session.push(video(9, 5)) + session.flush(0)
    second = session.push(video(10, 6)) + session.close()
    for found, frames in ((first, video(9, 5)), (second, video(10, 6))):
        expected = kit.alone(frames, fps=10.0)
        assert_same(found, expected)
        assert [r.chunk for r in found] == [r.chunk for r in expected]
        assert [r.time_s for r in found] == [r.time_s for r in expected]


def test_frames_of_another_rate_are_chosen_by_time(causal):
    frames = video(6, 30)
    session = causal.session(fps=30.0)
    found = session.push(frames)
    assert [result.frame for result in found] == [0, 6, 12, 18, 24]
    np.testing.assert_allclose(
        logs(found), logs(causal.alone(frames[::6])), atol=TOLERANCE
    )


def test_every_frame_matters(causal):
    frames = video(7, 6)
    changed = frames.copy()
    changed[3] = 255 - changed[3]
    before, after = logs(causal.alone(frames)), logs(causal.alone(changed))
    np.testing.assert_array_equal(before[:3], after[:3])  # never an earlier answer
    assert (np.abs(before - after).max(axis=1)[3:] > 10 * TOLERANCE).all()


def test_an_answer_knows_where_its_time_went(causal):
    (result,) = causal.session().push(video(8, 1))
    latency = result.latency
    assert latency.compute_s > 0 and latency.wait_s >= 0
    parts = latency.decode_s + latency.wait_s + latency.compute_s
    assert latency.total_s == pytest.approx(parts)
    line = result.to_json()
    assert set(line["latency_ms"]) == {"decode", "wait", "compute", "total"}
    assert line["label"] == result.label and line["frame"] == 0


class Painted:
    """An engine that says what is painted: red is the class, green its logit."""

    size = 2

    def __init__(self, steps_per_call):
        self.steps_per_call = steps_per_call

    def run(self, sources, frames, valid, starts):
        red, green = frames[:, :, 0, 0, 0], frames[:, :, 0, 0, 1]
        return np.where(np.arange(3) == red[..., None], green[..., None] / 64, 0.0)


def painted(labels, logits):
    frames = np.zeros((len(labels), 2, 2, 3), np.uint8)
    frames[..., 0] = np.reshape(labels, (-1, 1, 1))
    frames[..., 1] = np.reshape(logits, (-1, 1, 1)) * 64
    return frames


def painted_session(smoothing, *, steps_per_call=1, num_sources=1):
    return LiveSession(
        Painted(steps_per_call),
        np.asarray,
        class_names=("take", "pour", "stir"),
        clip_steps=CLIP_STEPS,
        step_s=0.2,
        fps=5.0,
        gap_reset_s=2.0,
        num_sources=num_sources,
        smoothing=smoothing,
    )


@pytest.mark.parametrize("steps_per_call", [1, CLIP_STEPS])
@pytest.mark.parametrize("rule", [{"hysteresis": 0.2}, {"min_duration_s": 0.5}])
def test_labels_are_smoothed_as_those_of_a_whole_video(rule, steps_per_call):
    """Each source has a smoother of its own, whatever is computed together."""
    rng, smoothing = np.random.default_rng(0), Smoothing(**rule)
    videos = [
        painted(rng.integers(0, 3, 30).repeat(2), rng.uniform(0.2, 2, 60))
        for _ in range(2)
    ]
    session = painted_session(smoothing, steps_per_call=steps_per_call, num_sources=2)
    found = [session.push(frames[:41], source=n) for n, frames in enumerate(videos)]
    for n, frames in enumerate(videos):
        found[n] += session.push(frames[41:], source=n)
        rest, delays = session.end(n)
        found[n] += rest
        plain = painted_session(OFF)
        steps = plain.push(frames) + plain.close()
        labels = np.array([step.class_index for step in steps])
        scores = np.stack([step.scores for step in steps])
        times_s = np.array([step.time_s for step in steps])
        expected = smooth_labels(labels, scores, times_s, smoothing)
        assert [step.class_index for step in found[n]] == expected.tolist()
        assert expected.tolist() != labels.tolist()
        assert delays.number == np.count_nonzero(np.diff(expected))
        for step in found[n]:
            assert step.label == session.class_names[step.class_index]
            assert step.confidence == float(step.scores[step.class_index])


def test_smoothing_begins_anew_after_a_gap_and_with_the_next_source():
    session = painted_session(Smoothing(min_duration_s=60.0))
    labels, times_s = [0, 1, 1, 2, 1, 1], [0, 0.2, 0.4, 9.0, 9.2, 9.4]
    steps = session.push(painted(labels, np.ones(6)), times_s)
    assert [step.class_index for step in steps] == [0, 0, 0, 2, 2, 2]
    assert not session.flush(0)
    (step,) = session.push(painted([1], [1.0]))
    assert step.class_index == 1
