import cv2
import numpy as np

from svtas_jax.evaluation import timeline
from svtas_jax.pages import colours
from svtas_jax.structs import IGNORE_LABEL

CLASS_NAMES = ["take", "pour", "background"]
GREY = colours.GREY
MIDDLE = timeline._BAR_HEIGHT // 4  # above the text in a bar
FIRST_ROW = timeline._TITLE_HEIGHT
SECOND_ROW = FIRST_ROW + timeline._BAR_HEIGHT + timeline._GAP
ERRORS = SECOND_ROW + timeline._BAR_HEIGHT + timeline._GAP


def picture_of(truth, prediction, **options):
    truth = None if truth is None else np.array(truth)
    options = {"fps": 15.0, "title": "video"} | options
    return timeline.draw_timeline(truth, np.array(prediction), CLASS_NAMES, **options)


def pixel(image, row, share):
    """Returns the colour at a share of the time axis, a quarter into the row."""
    x = timeline._LEFT + int(share * timeline._plot_width())
    return tuple(image[row, x].tolist())


def test_timeline_has_the_classes_colours_at_their_times():
    image = picture_of([0] * 50 + [2] * 50, [0] * 30 + [1] * 70)
    take, pour = (tuple(c) for c in colours.distinct_colours(2).tolist())
    assert image.shape[1:] == (timeline.WIDTH, 3) and image.dtype == np.uint8
    assert pixel(image, FIRST_ROW + MIDDLE, 0.25) == take
    assert pixel(image, FIRST_ROW + MIDDLE, 0.75) == GREY
    assert pixel(image, SECOND_ROW + MIDDLE, 0.15) == take
    assert pixel(image, SECOND_ROW + MIDDLE, 0.65) == pour
    assert pixel(image, ERRORS + 2, 0.15) == timeline._PALE
    assert pixel(image, ERRORS + 2, 0.65) == timeline._WRONG


def test_timeline_of_a_prediction_alone_has_one_bar():
    image = picture_of(None, [1] * 100)
    assert pixel(image, FIRST_ROW + MIDDLE, 0.5) == tuple(
        colours.distinct_colours(2)[1]
    )
    assert len(image) < len(picture_of([1] * 100, [1] * 100))


def test_timeline_leaves_unlabelled_frames_white_and_counts_no_error():
    image = picture_of([IGNORE_LABEL] * 50 + [0] * 50, [1] * 50 + [0] * 50)
    assert pixel(image, FIRST_ROW + MIDDLE, 0.25) == colours.WHITE
    assert pixel(image, ERRORS + 2, 0.25) == timeline._PALE


def test_timeline_draws_confidence_as_height():
    plain = picture_of(None, [0] * 100)
    image = picture_of(None, [0] * 100, confidence=np.array([0.0] * 50 + [0.75] * 50))
    assert len(image) == len(plain) + timeline._CURVE_HEIGHT + timeline._GAP
    top = SECOND_ROW
    low, high = top + timeline._CURVE_HEIGHT - 4, top + 4
    assert pixel(image, low, 0.25) == timeline._PALE == pixel(image, high, 0.75)
    assert pixel(image, low, 0.75) != timeline._PALE


def test_timeline_fits_any_length():
    for num_frames in (1, 7, 100_000):
        labels = np.arange(num_frames) % 3
        image = timeline.draw_timeline(
            labels, labels, CLASS_NAMES, fps=0.5, title="x" * 300, confidence=labels / 2
        )
        assert image.shape[1] == timeline.WIDTH


def test_error_strip_of_a_long_video_shows_the_share_of_wrong_frames():
    truth = np.zeros(100_000, int)
    prediction = np.arange(100_000) % 2  # every second frame is wrong
    strip = timeline._error_strip(truth, prediction)
    halfway = (np.array(timeline._WRONG) + np.array(timeline._PALE)) / 2
    assert np.abs(strip - halfway).max() < 4


def test_colour_of_a_class_does_not_depend_on_the_video():
    full = picture_of([0] * 50 + [1] * 50, [0] * 100)
    only_pour = picture_of([1] * 100, [1] * 100)
    assert pixel(full, FIRST_ROW + MIDDLE, 0.75) == pixel(
        only_pour, FIRST_ROW + MIDDLE, 0.75
    )


def test_time_labels_suit_the_length():
    assert timeline._time(0.5, 0.1, 1.0) == "0.5 s"
    assert timeline._time(30.0, 10, 90.0) == "30 s"
    assert timeline._time(90.0, 30, 300.0) == "1:30"
    assert timeline._time(3720.0, 600, 7200.0) == "1:02:00"


def test_write_picture_gives_the_same_pixels_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    path = timeline.write_picture(tmp_path, "tea", image)
    assert path == tmp_path / "pictures" / "tea.png"
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], image)
