import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import windows
from svtas_jax.structs import IGNORE_LABEL, StreamSpec

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "video_stream_sampler.json").read_text())["cases"]

specs = st.builds(
    lambda steps, stride, hop: StreamSpec(steps * stride, stride, hop),
    steps=st.integers(1, 12),
    stride=st.integers(1, 6),
    hop=st.just(0),
)


@pytest.mark.parametrize("case_index", range(len(CASES)))
def test_windows_equal_the_reference(case_index):
    case = CASES[case_index]
    arrays = np.load(GOLDEN / "video_stream_sampler.npz")
    stride = case["sample_rate"]
    spec = StreamSpec(case["clip_seg_num"] * stride, stride, case["sliding_window"])
    num_labels = case["frames_len"]
    plan = windows.plan_windows(
        case["video_len"], spec, num_labels=num_labels, count=len(case["windows"])
    )
    labels, valid = windows.window_targets(
        arrays[f"{case_index}/raw_labels"], plan, spec, per_step=case["is_train"]
    )
    assert windows.num_windows(num_labels, spec) == case["sliding_num"]
    for window in case["windows"]:
        index = window["idx"]
        where = f"{case_index}/{index}"
        np.testing.assert_array_equal(plan.frames[index], arrays[f"{where}/frames"])
        np.testing.assert_array_equal(labels[index], arrays[f"{where}/labels"])
        np.testing.assert_array_equal(valid[index], arrays[f"{where}/mask"])


@given(num_frames=st.integers(0, 300), spec=specs)
def test_every_frame_is_covered_once(num_frames, spec):
    plan = windows.plan_windows(num_frames, spec)
    assert plan.valid.sum() == num_frames
    assert len(plan.valid) == windows.num_windows(num_frames, spec)
    decoded = plan.frames[plan.frames >= 0]
    np.testing.assert_array_equal(decoded, np.arange(0, num_frames, spec.frame_stride))
    np.testing.assert_array_equal(
        plan.frames >= 0, windows.step_valid(plan.valid, spec)
    )


@given(num_frames=st.integers(1, 200), spec=specs, per_step=st.booleans())
def test_labels_are_of_the_frame_or_of_its_step(num_frames, spec, per_step):
    truth = np.arange(num_frames) + 1000
    plan = windows.plan_windows(num_frames, spec)
    labels, valid = windows.window_targets(truth, plan, spec, per_step=per_step)
    np.testing.assert_array_equal(labels == IGNORE_LABEL, ~valid)
    frame = np.arange(labels.size).reshape(labels.shape)
    if per_step:
        frame -= np.arange(spec.clip_frames) % spec.frame_stride
    np.testing.assert_array_equal(labels[valid] - 1000, frame[valid])
    np.testing.assert_array_equal(valid, frame < num_frames)
    np.testing.assert_array_equal(
        labels, windows.window_labels(truth, plan, spec, per_step=per_step)
    )


@given(
    num_frames=st.integers(1, 200),
    spec=specs,
    first=st.integers(0, 30),
    count=st.integers(1, 9),
)
def test_a_part_of_a_plan_equals_the_whole(num_frames, spec, first, count):
    whole = windows.plan_windows(num_frames, spec, count=50)
    part = windows.plan_windows(num_frames, spec, first=first, count=count)
    truth = np.arange(num_frames)
    for name in ("frames", "valid", "starts"):
        np.testing.assert_array_equal(
            getattr(part, name), getattr(whole, name)[first : first + count]
        )
    labels = windows.window_labels(truth, part, spec, per_step=False)
    expected = windows.window_labels(truth, whole, spec, per_step=False)
    np.testing.assert_array_equal(labels, expected[first : first + count])


def test_the_shorter_of_video_and_labels_counts():
    spec = StreamSpec(8, 2)
    plan = windows.plan_windows(21, spec, num_labels=11)
    labels, valid = windows.window_targets(np.ones(11), plan, spec, per_step=False)
    assert valid.sum() == 11 and (labels == 1).sum() == 11
    longer_labels = windows.plan_windows(11, spec, num_labels=21)
    assert longer_labels.valid.sum() == 11
    assert longer_labels.frames.max() == 10
