"""What the pictures of the videos tell, each for itself and beside the others."""

import collections
from collections.abc import Iterator, Mapping

import numpy as np

from data_pipeline import lengths
from data_pipeline.checking.dataset import DataSet
from data_pipeline.checking.facts import Scan
from data_pipeline.checking.findings import Finding, frames_of, many
from data_pipeline.stamps import is_gap
from svtas_jax.errors import DamagedVideoError, InputError

_MOST_REPEATS = 0.15  # share of frames that may equal the one before
_SAME_RATE = 1.05  # factor between the rates of two videos
_STATED_RATE = 1.25  # between a header's rate and that of the time stamps
_SAME_SHAPE = 1.25  # between the widths of two videos of one height
_STEADY = 0.5  # share of the usual step by which steps may differ
_UNSTEADY = 0.05  # share of the steps that may differ by more


def check(data: DataSet, scans: Mapping[str, Scan]) -> Iterator[Finding]:
    """Yields what is wrong with the videos."""
    for name, scan in scans.items():
        if scan.failure is not None:
            yield _failed(data, name, scan)
        if scan.info is None:
            continue
        yield from _frames(data, name, scan)
        if data.is_prepared:
            continue
        yield from _length(data, name, scan)
        yield from _file(data, name, scan)
        yield from _pictures(data, name, scan)
        yield from _times(data, name, scan)
    known = {name: scan for name, scan in scans.items() if scan.info is not None}
    yield from _rates(data, known)
    if not data.is_prepared:
        yield from _shapes(data, known)


def _found(data, name, kind, what, frames=None) -> Finding:
    place = frames_of(*frames) if frames else ""
    file = data.video_file(name)
    return Finding(kind, file, what, place, video=name, frames=frames)


def _failed(data: DataSet, name: str, scan: Scan) -> Finding:
    assert scan.failure is not None
    kind, text = scan.failure
    what = text.removeprefix(f"Video {data.videos[name]} ")
    first = (scan.num_frames, scan.num_frames + 1) if scan.num_frames else None
    return _found(data, name, kind, what, first)


def _frames(data: DataSet, name: str, scan: Scan) -> Iterator[Finding]:
    """Looks for stretches without anything to see."""
    for start, end, is_black in scan.plain:
        what = f"{'black' if is_black else 'of one colour'}{_labels(data, name, start)}"
        frames = start * scan.step, end * scan.step
        yield _found(data, name, "black", what, frames)
    for start, end in scan.frozen:
        what = f"the picture stands still{_labels(data, name, start)}"
        frames = start * scan.step, end * scan.step
        yield _found(data, name, "frozen", what, frames)
    if scan.num_repeats > _MOST_REPEATS * scan.num_frames:
        what = f"{scan.num_repeats} of {scan.num_frames} frames repeat the one before"
        yield _found(data, name, "repeated_frames", what)
    if scan.length <= data.config.frame_stride and not scan.failure:
        what = f"{many(scan.num_frames, 'frame')}, config.data.frame_stride="
        what += f"{data.config.frame_stride}"
        yield _found(data, name, "short_video", what)


def _labels(data: DataSet, name: str, start: int) -> str:
    labels = data.labels.get(name, ())
    return f", labelled {data.classes[labels[start]]!r}" if start < len(labels) else ""


def _length(data: DataSet, name: str, scan: Scan) -> Iterator[Finding]:
    """Compares the frames with the labels, by the rule of training."""
    labels, num_frames = data.labels.get(name), scan.num_frames
    if labels is None or not len(labels) or scan.failure or scan.info is None:
        return
    file = data.label_file(name)
    numbers = f"{many(len(labels), 'label')}, {many(num_frames, 'frame')}"
    try:
        lengths.check_video(
            data.video_file(name), scan.info, num_frames, file, len(labels), data.config
        )
    except DamagedVideoError:
        what = f"{num_frames} of {scan.info.num_frames} frames can be read; {numbers}"
        yield _found(data, name, "damaged_video", what)
    except InputError as error:
        what = f"{numbers}: {str(error).partition(' lines: ')[2]}"
        yield Finding("length", file, what, video=name)
    else:
        if num_frames != len(labels):
            yield Finding("length_cut", file, numbers, video=name)


def _file(data: DataSet, name: str, scan: Scan) -> Iterator[Finding]:
    """Looks at the container and its header."""
    info = scan.info
    assert info is not None
    if scan.num_films > 1:
        yield _found(data, name, "several_films", f"holds {scan.num_films} films")
    if scan.num_covers:
        yield _found(data, name, "cover_picture", "holds a picture beside the film")
    if info.hidden_frames:
        hidden = many(info.hidden_frames, "frame")
        what = f"hides {hidden} besides {scan.num_frames}"
        yield _found(data, name, "edit_list", what)
    if scan.failure:
        return
    if scan.num_damaged or scan.num_frames < info.num_frames:
        promised = f" of {info.num_frames}" if info.num_frames else ""
        what = f"is cut off after {scan.num_frames}{promised} frames"
        yield _found(data, name, "cut_off", what)
    elif info.num_frames and scan.num_frames > info.num_frames:
        what = f"the header says {info.num_frames}; it has {scan.num_frames} frames"
        yield _found(data, name, "header_count", what)


def _pictures(data: DataSet, name: str, scan: Scan) -> Iterator[Finding]:
    """Looks at sizes and shapes."""
    info = scan.info
    assert info is not None
    if any(scan.turn):
        yield _found(data, name, "rotated", f"shown turned, {_size(scan)}")
    for frame, width, height in scan.sizes[1:]:
        what = f"from here on {width}x{height} instead of {_size(scan)}"
        yield _found(data, name, "size_changes", what, (frame, frame + 1))
    if scan.pixel_shape != 1:
        what = f"a pixel is {float(scan.pixel_shape):.3g} times as wide as high"
        yield _found(data, name, "anamorphic", what)
    if scan.is_interlaced:
        yield _found(data, name, "interlaced", "is interlaced")
    height, width = data.config.resize
    if info.height < height and info.width < width:
        what = f"{_size(scan)} pixels are enlarged to {width}x{height}"
        yield _found(data, name, "small_pictures", what)


def _size(scan: Scan) -> str:
    assert scan.info is not None
    return f"{scan.info.width}x{scan.info.height}"


def _times(data: DataSet, name: str, scan: Scan) -> Iterator[Finding]:
    """Looks at the time stamps."""
    assert scan.info is not None
    steps = np.diff(scan.times)
    if scan.num_back:
        does = "does" if scan.num_back == 1 else "do"
        what = (
            f"{many(scan.num_back, 'frame')} {does} not come later than the one before"
        )
        yield _found(data, name, "time_back", what)
    if not len(steps):
        return
    gaps = is_gap(steps)
    for frame in np.flatnonzero(gaps).tolist():
        what = f"{steps[frame]:.1f} s pass from second {scan.times[frame]:.1f} on"
        yield _found(data, name, "time_gap", what, (frame, frame + 2))
    usual = np.median(steps)
    odd = np.abs(steps[~gaps] - usual) > _STEADY * usual
    if odd.mean() > _UNSTEADY:
        low, high = np.percentile(steps[~gaps], (5, 95))
        what = f"frames last {1000 * low:.0f} to {1000 * high:.0f} ms"
        yield _found(data, name, "variable_rate", what)
    fps, stated = scan.info.fps, scan.stated_fps
    if fps and stated and not 1 / _STATED_RATE < stated / fps < _STATED_RATE:
        what = f"the header says {stated:.4g} frames a second; it has {fps:.4g}"
        yield _found(data, name, "header_rate", what)


def _rates(data: DataSet, scans: Mapping[str, Scan]) -> Iterator[Finding]:
    """Names the videos that have another rate than most."""
    rates = {n: _fps(s) for n, s in scans.items() if _fps(s) and n in data.labels}
    usual = _most_common([round(rate, 2) for rate in rates.values()])
    for name, rate in rates.items():
        if not 1 / _SAME_RATE < rate / usual < _SAME_RATE:
            what = f"{rate:.4g} frames a second; most have {usual:.4g}"
            yield _found(data, name, "other_rate", what)


def _shapes(data: DataSet, scans: Mapping[str, Scan]) -> Iterator[Finding]:
    """Names the videos that have another shape than most."""
    shapes = {n: s.info.width / s.info.height for n, s in scans.items() if s.info}
    shapes = {name: shape for name, shape in shapes.items() if name in data.labels}
    usual = _most_common([round(shape, 2) for shape in shapes.values()])
    for name, shape in shapes.items():
        if not 1 / _SAME_SHAPE < shape / usual < _SAME_SHAPE:
            what = f"{_size(scans[name])}; most are {usual:.3g} times as wide as high"
            yield _found(data, name, "other_shape", what)


def _fps(scan: Scan) -> float:
    return scan.info.fps if scan.info else 0.0


def _most_common(values: list[float]) -> float:
    return collections.Counter(values).most_common(1)[0][0] if values else 1.0
