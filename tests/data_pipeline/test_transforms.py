import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import transforms

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "transform.npz")
CASES = json.loads(str(GOLDEN["meta_json"]))["cases"]


def _noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("index", range(len(CASES)))
def test_evaluation_transform_is_within_one_level_of_the_reference(index):
    case = CASES[index]
    resize = tuple(case["resize"])
    frames = transforms.transform_frames(
        GOLDEN[f"{index}/image_uint8"][None],
        resize=resize,
        crop=transforms.centre_crop(resize, case["center_crop"]),
    )
    expected = GOLDEN[f"{index}/cropped_uint8"].astype(int)
    assert frames.dtype == np.uint8
    assert np.abs(frames[0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(30, 50), (48, 64), (101, 77)])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_flip_equal_those_of_the_whole_resized_frame(shape, flip):
    frames = _noise(2, *shape, 3)
    height, width = 48, 64
    tall = transforms.resize_matrix(shape[0], height)
    wide = transforms.resize_matrix(shape[1], width)
    whole = np.einsum(
        "hi,tijc,wj->thwc", tall, frames.astype(np.float64), wide, optimize=True
    )
    expected = whole[:, 5:37, 11:43]
    expected = expected[:, :, ::-1] if flip else expected
    kept = transforms.transform_frames(
        frames, resize=(height, width), crop=transforms.Crop(32, 5, 11), flip=flip
    )
    # Rounded to the nearest level, after rounding to the nearest 32nd of one between.
    assert np.abs(kept - expected).max() <= 1 / 2 + 1 / 64


@given(
    height=st.integers(8, 130),
    width=st.integers(8, 130),
    seed=st.integers(0, 99),
)
def test_a_crop_is_exactly_a_part_of_the_whole_frame(height, width, seed):
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    crop, flip = transforms.draw_crop(rng, (40, 48), 32)
    kept = transforms.transform_frames(
        frame[None], resize=(40, 48), crop=crop, flip=flip
    )
    whole = transforms.resize_frame(frame, (40, 48))
    part = transforms.transform_frames(
        whole[None], resize=(40, 48), crop=crop, flip=flip
    )
    np.testing.assert_array_equal(kept, part)


@given(in_size=st.integers(1, 300), out_size=st.integers(1, 300))
def test_resize_matrix_averages_and_keeps_the_place(in_size, out_size):
    matrix = transforms.resize_matrix(in_size, out_size)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-5)


def test_resize_to_the_same_size_changes_nothing():
    frames = _noise(2, 40, 48, 3)
    kept = transforms.transform_frames(
        frames, resize=(40, 48), crop=transforms.Crop(32, 3, 4)
    )
    np.testing.assert_array_equal(kept, frames[:, 3:35, 4:36])
    mirrored = transforms.transform_frames(
        frames, resize=(40, 48), crop=transforms.Crop(32, 3, 4), flip=True
    )
    np.testing.assert_array_equal(mirrored, kept[:, :, ::-1])
    np.testing.assert_array_equal(transforms.resize_matrix(40, 40), np.eye(40))


def test_extremes_do_not_wrap_around():
    for level in (0, 255):
        frames = np.full((1, 100, 70, 3), level, np.uint8)
        crop = transforms.Crop(32, 0, 0)
        kept = transforms.transform_frames(frames, resize=(32, 48), crop=crop)
        assert (kept == level).all()


def test_drawn_crops_reach_every_place_and_stay_inside():
    rng = np.random.default_rng(0)
    draws = [transforms.draw_crop(rng, (10, 12), 8) for _ in range(300)]
    assert {crop.top for crop, _ in draws} == {0, 1, 2}
    assert {crop.left for crop, _ in draws} == {0, 1, 2, 3, 4}
    assert {flip for _, flip in draws} == {False, True}
    assert transforms.draw_crop(rng, (8, 8), 8)[0] == (8, 0, 0)


def test_centre_crop_is_in_the_middle():
    assert transforms.centre_crop((256, 320), 224) == (224, 16, 48)


@pytest.mark.parametrize("shape", [(144, 192), (404, 720), (1080, 1920)])
def test_products_are_too_small_to_be_split_over_cores(shape, monkeypatch):
    sizes = []

    def matmul(first, second, out):
        sizes.append(first.shape[0] * first.shape[1] * second.shape[1])
        out[...] = first @ second

    monkeypatch.setattr(transforms.np, "matmul", matmul)
    crop = transforms.Crop(224, 5, 9)
    transforms.transform_frames(_noise(1, *shape, 3), resize=(256, 320), crop=crop)
    assert 50 < len(sizes) < 2000
    assert max(sizes) < 1 << 18  # OpenBLAS's own limit
