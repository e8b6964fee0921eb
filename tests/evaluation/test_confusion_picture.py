import numpy as np

from svtas_jax.evaluation.confusion_picture import draw_confusion


def corner(image, size, row, column):
    """The colour of a cell, in its corner, beside the number."""
    margin = image.shape[0] - size * 34
    return image[margin + row * 34 + 2, margin + column * 34 + 2].tolist()


def test_cells_are_as_dark_as_their_share():
    image = draw_confusion(np.array([[8, 0], [5, 5]]), ["take", "pour"])
    assert image.dtype == np.uint8 and image.shape[0] == image.shape[1]
    assert corner(image, 2, 0, 0) == [10, 88, 168]
    assert corner(image, 2, 0, 1) == [255, 255, 255]
    assert corner(image, 2, 1, 0) == corner(image, 2, 1, 1) == [132, 172, 212]


def test_names_stand_at_both_sides():
    image = draw_confusion(np.eye(3, dtype=int), ["take", "background", "x" * 99])
    margin = image.shape[0] - 3 * 34
    ink = (image < 128).all(axis=-1)
    for n in range(3):
        part = slice(margin + n * 34, margin + (n + 1) * 34)
        assert ink[part, :margin].any() and ink[:margin, part].any()
    assert not ink[:margin, :margin].any()


def test_many_classes_still_fit_until_there_is_nothing_to_see():
    names = [f"class {k}" for k in range(121)]
    assert draw_confusion(np.eye(120, dtype=int), names[:120]).shape[0] < 1300
    assert draw_confusion(np.eye(121, dtype=int), names) is None
    assert draw_confusion(np.zeros((2, 2), int), names[:2]) is not None
