"""What is written in a format is read again, whatever the format is called."""

import itertools

import annotating
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from data_pipeline.annotators.read import FORMATS

QUICKLY = settings(max_examples=10, deadline=None)
LETTERS = "abcXYZäßлか 0159"
NAMES = st.text(LETTERS, min_size=1, max_size=8).map(str.strip).filter(bool)
# A label never looks like a number: it would be a column of times.
PLAIN = NAMES.map(lambda name: f"a{name}")
PUNCTUATED = st.text(LETTERS + ",;\"'\\()|&-_.:#!<>", max_size=8).map(
    lambda name: f"a{name}".strip()
)
STRETCHES = st.tuples(st.integers(1, 5000), st.integers(2, 90000))


@st.composite
def segments(draw, labels, *, scale=1000, gaps=True):
    """Draws segments that follow each other, in seconds or, at scale 1, frames."""
    found, last = [], 0
    for gap, length in draw(st.lists(STRETCHES, min_size=1, max_size=6)):
        start = last + (draw(st.sampled_from([0, gap])) if gaps else 0)
        last = start + length
        times = (start / scale, last / scale) if scale > 1 else (start, last)
        found.append((draw(labels), *times))
    return found


SECONDS = {
    # format: writer, name of the file, labels, name of the video
    "csv": (annotating.table, "day1.csv", PUNCTUATED, "day1"),
    "elan": (annotating.elan, "day1.eaf", PUNCTUATED, "day1.mp4"),
    "textgrid": (annotating.textgrid, "day1.TextGrid", PUNCTUATED, "day1"),
    "audacity": (annotating.audacity, "day1.txt", PUNCTUATED, "day1"),
    "srt": (annotating.srt, "day1.srt", PLAIN, "day1"),
    "vtt": (annotating.vtt, "day1.vtt", PUNCTUATED, "day1"),
    "boris": (annotating.boris, "day1.boris", PUNCTUATED, "day1.mp4"),
    "via": (annotating.via, "day1.json", PUNCTUATED, "day1.mp4"),
    "datavyu": (annotating.opf, "day1.opf", PUNCTUATED, "day1.mp4"),
    "activitynet": (annotating.activitynet, "any.json", PUNCTUATED, "day1"),
    "epic": (annotating.epic, "EPIC_100_train.csv", PLAIN, "day1"),
    "egtea": (annotating.egtea, "action_labels.csv", PLAIN, "day1"),
}
FRAMES = {
    "breakfast": (annotating.breakfast, "day1.txt", PLAIN, "day1"),
    "cvat": (annotating.cvat, "annotations.xml", PUNCTUATED, "day1.mp4"),
    "label_studio": (annotating.label_studio, "project-1.json", PUNCTUATED, "day1.mp4"),
}


def check(wanted, content, name, video, unit, **options):
    (annotation,) = annotating.read(content, name, **options)
    assert annotation.unit == unit and annotation.video == video
    assert annotation.source.endswith(name)
    assert [s.label for s in annotation.segments] == [label for label, _, _ in wanted]
    found = [t for s in annotation.segments for t in (s.start, s.end)]
    assert found == pytest.approx([t for _, *times in wanted for t in times], abs=1e-9)


def test_every_format_is_here():
    assert {*SECONDS, *FRAMES, "frames"} == set(FORMATS)


@pytest.mark.parametrize("format", SECONDS)
@QUICKLY
@given(data=st.data())
def test_seconds_are_read_again(format, data):
    write, name, labels, video = SECONDS[format]
    wanted = data.draw(segments(labels))
    check(wanted, write(wanted), name, video, "seconds")
    check(wanted, write(wanted), name, video, "seconds", format=format)


@pytest.mark.parametrize("format", FRAMES)
@QUICKLY
@given(data=st.data())
def test_frames_are_read_again(format, data):
    write, name, labels, video = FRAMES[format]
    wanted = data.draw(segments(labels, scale=1))
    if format == "cvat":  # what touches with the same label is one segment
        wanted = [(f"{label}{k}", *times) for k, (label, *times) in enumerate(wanted)]
    check(wanted, write(wanted), name, video, "frames")
    check(wanted, write(wanted), name, video, "frames", format=format)


@QUICKLY
@given(data=st.data())
def test_labels_of_frames_are_read_again(data):
    lengths = data.draw(st.lists(st.integers(2, 40), min_size=1, max_size=6))
    ends = list(itertools.accumulate(lengths))
    label = data.draw(PUNCTUATED)
    wanted = [
        (f"{label}{k % 2}", end - length, end)
        for k, (length, end) in enumerate(zip(lengths, ends, strict=True))
    ]
    content = annotating.frames(wanted)
    check(wanted, content, "day1.txt", "day1", "frames", format="frames")
    wanted.append(("rest", ends[-1], ends[-1] + 50))
    check(wanted, annotating.frames(wanted), "day1.txt", "day1", "frames")


VARIANTS = {
    "semicolons": lambda s: annotating.table(s, separator=";", comma=True),
    "tabs": lambda s: annotating.table(s, separator="\t"),
    "commas in times": lambda s: annotating.table(s, comma=True),
    "bars": lambda s: annotating.table(s, separator="|"),
    "no header": lambda s: annotating.table(s, header=None),
    "UTF-16": lambda s: annotating.table(s).encode("utf-16"),
    "UTF-16 without a mark": lambda s: annotating.table(s).encode("utf-16-be"),
    "a byte order mark": lambda s: annotating.table(s).encode("utf-8-sig"),
    "old line ends": lambda s: annotating.table(s).replace("\r\n", "\r"),
    "Excel's first line": lambda s: "sep=,\r\n" + annotating.table(s),
    "short": lambda s: annotating.textgrid(s, short=True),
    "UTF-16, short": lambda s: annotating.textgrid(s, short=True).encode("utf-16"),
    "text of Datavyu": lambda s: annotating.datavyu(s),
    "tabular": annotating.boris_tabular,
    "aggregated": annotating.boris_aggregated,
}


@pytest.mark.parametrize("variant", VARIANTS)
@QUICKLY
@given(data=st.data())
def test_variants_are_read_again(variant, data):
    wanted = data.draw(segments(PUNCTUATED))
    content = VARIANTS[variant](wanted)
    video = "day1.mp4" if variant in ("tabular", "aggregated") else "day1"
    check(wanted, content, "day1.txt", video, "seconds")
