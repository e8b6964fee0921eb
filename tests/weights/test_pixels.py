"""A first convolution computes the same of pixels that are normalised otherwise."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from svtas_jax.weights import pixels

TOLERANCE = 1e-4

three = st.tuples(*[st.floats(0.1, 0.9)] * 3)


def output(variables, x):
    """The normalised output of the first convolution at one place inside an image."""
    image = variables["params"]["image"]["backbone"]["conv1"]
    stats = variables["batch_stats"]["image"]["backbone"]["conv1"]["bn"]
    y = np.einsum("hwc,hwcd->d", x, image["conv"]["kernel"])
    return (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)


@given(theirs=st.builds(pixels.Pixels, three, three), mean=three, std=three)
def test_inside_an_image_nothing_changes(theirs, mean, std):
    rng = np.random.default_rng(0)
    norm = {"mean": rng.normal(size=4), "var": rng.uniform(1, 2, 4)}
    kernel = rng.normal(size=(3, 3, 3, 4))
    first = {"conv1": {"conv": {"kernel": kernel}}}
    variables = {
        "params": {"image": {"backbone": first}},
        "batch_stats": {"image": {"backbone": {"conv1": {"bn": norm}}}},
    }
    colours = rng.uniform(0, 1, (3, 3, 3))
    ours = pixels.Pixels(mean, std)
    after = pixels.adapt_mobilenet(variables, theirs, ours)
    expected = output(variables, (colours - theirs.mean) / theirs.std)
    said = output(after, (colours - ours.mean) / ours.std)
    largest = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(said, expected, rtol=0, atol=TOLERANCE * largest)


def test_rounded_pixels_are_the_same():
    assert pixels.CLIP.nearly(
        pixels.Pixels((0.481, 0.458, 0.408), (0.269, 0.261, 0.276))
    )
    assert not pixels.CLIP.nearly(pixels.IMAGENET)
