"""Columns are found by their names, among others, in any order and unit."""

import csv
import io
import random

import annotating
import pytest
from annotating import triples

LABELS = (
    *("label", "Behavior", "behaviour", "Action", "action_name", "Class Name", "Event"),
    *("trial_type", "ActionLabel", "state", "label_name", "Category", "activity"),
)
STARTS = (
    *("start", "Start Time", "StartTime", "begin", "onset", "From", "t_start", "tmin"),
    *("time_start", "segment_start"),
)
ENDS = (
    *("end", "Stop", "stop_time", "EndTime", "offset", "to", "t_end", "tmax", "Finish"),
    *("time_end", "segment_end"),
)
VIDEOS = ("video", "Video", "video_id", "filename", "Video Name", "clip", "media file")
OTHERS = {
    "": lambda rng: str(rng.randrange(99)),
    "id": lambda rng: str(rng.randrange(99)),
    "label_id": lambda rng: str(rng.randrange(9)),
    "confidence": lambda rng: f"{rng.random():.2f}",
    "annotator": lambda rng: rng.choice(["ann", "bob"]),
    "subject_name": lambda rng: "S1",
    "notes": lambda rng: rng.choice(["", "ok, then", 'say "hi"']),
    "fps": lambda rng: "25",
    "Frame": lambda rng: str(rng.randrange(999)),
    "video_duration": lambda rng: "93.5",
    "timestamp": lambda rng: f"{rng.randrange(99)}.5",
}
# How a column is written: its suffix, the text of milliseconds, its unit in them.
STYLES = {
    "seconds": ("", lambda ms: f"{ms / 1000:.3f}", 1000),
    "decimal commas": (" (s)", lambda ms: f"{ms / 1000:.3f}".replace(".", ","), 1000),
    "minutes": ("", lambda ms: annotating.clock(ms / 1000, parts=2), 1000),
    "hours": ("", lambda ms: annotating.clock(ms / 1000), 1000),
    "milliseconds": (" [ms]", str, 1000),
    "frames": ("_frame", str, 1),
}


def random_table(rng, style):
    """Returns a table and the segments of each video in it."""
    suffix, text, scale = STYLES[style]
    last = rng.choice(["end", "duration"])
    end = rng.choice(ENDS) if last == "end" else rng.choice(["duration", "length"])
    names = {"label": rng.choice(LABELS), "start": rng.choice(STARTS) + suffix}
    names[last] = end + suffix
    if rng.random() < 0.4:
        names["video"] = rng.choice(VIDEOS)
    names |= {name: name for name in rng.sample(list(OTHERS), rng.randrange(4))}
    order = rng.sample(list(names), len(names))
    rows, wanted, at = [[names[role] for role in order]], {}, 0
    for _ in range(rng.randrange(2, 8)):
        start = at + rng.choice([0, rng.randrange(2, 4000)])
        at = start + rng.randrange(2, 50000)
        label = rng.choice(["eat", "cut, slowly", "open jar", "S1"])
        video = rng.choice(["a", "b.mp4"])
        cells = {"label": label, "video": video, "start": text(start)}
        cells |= {"end": text(at), "duration": text(at - start)}
        cells |= {name: cell(rng) for name, cell in OTHERS.items()}
        rows.append([cells[role] for role in order])
        segment = label, start / scale, at / scale
        wanted.setdefault(video if "video" in names else "day1", []).append(segment)
    stream = io.StringIO(newline="")
    separator = ";" if style == "decimal commas" else rng.choice([",", ";", "\t"])
    csv.writer(stream, delimiter=separator).writerows(rows)
    return stream.getvalue(), wanted


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "seeds", [20, pytest.param(2000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_columns_are_found_among_others(style, seeds):
    for seed in range(seeds):
        text, wanted = random_table(random.Random(seed), style)
        found = annotating.read(text, "day1.csv")
        assert [annotation.video for annotation in found] == list(wanted), text
        for annotation in found:
            rounded = [(n, round(s, 6), round(e, 6)) for n, s, e in triples(annotation)]
            assert rounded == wanted[annotation.video], text
            assert annotation.unit == ("frames" if style == "frames" else "seconds")
