"""Writes segments in the formats that annotation programs write."""

import csv
import html
import io
import json
import pathlib
import tempfile
import zipfile
from xml.sax.saxutils import escape, quoteattr

from data_pipeline.annotators.read import read_annotations


def read(content, name="day1.txt", **options):
    """Reads a file of this name and content: text, which becomes UTF-8, or bytes."""
    data = content if isinstance(content, bytes) else content.encode()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, name)
        path.write_bytes(data)
        return read_annotations(path, **options)


def triples(annotation):
    """Returns label, start and end of every segment."""
    return [(s.label, s.start, s.end) for s in annotation.segments]


def clock(seconds, *, point=".", parts=3):
    """Returns hh:mm:ss.mmm."""
    ms = round(seconds * 1000)
    text = f"{ms // 60000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
    return f"{ms // 3600000:02}:{text}" if parts == 3 else text


def frames(segments):
    return "".join(f"{label}\n" * (end - start) for label, start, end in segments)


def breakfast(segments):
    return "".join(f"{start + 1}-{end} {label}  \n" for label, start, end in segments)


def table(segments, *, separator=",", header=("label", "start", "end"), comma=False):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator)
    writer.writerows([header] if header else [])
    for label, start, end in segments:
        times = [f"{value:.3f}" for value in (start, end)]
        writer.writerow([label, *(t.replace(".", ",") if comma else t for t in times)])
    return stream.getvalue()


def elan(segments, *, tier="action", media="file:///C:/films/day1.mp4"):
    slots = [round(t * 1000) for _, start, end in segments for t in (start, end)]
    order = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{k}" TIME_VALUE="{slot}"/>\n'
        for k, slot in enumerate(slots)
    )
    entries = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{k}" '
        f'TIME_SLOT_REF1="ts{2 * k}" TIME_SLOT_REF2="ts{2 * k + 1}">'
        f"<ANNOTATION_VALUE>{escape(label)}</ANNOTATION_VALUE>"
        "</ALIGNABLE_ANNOTATION></ANNOTATION>\n"
        for k, (label, _, _) in enumerate(segments)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT VERSION="3.0">\n'
        f'<HEADER TIME_UNITS="milliseconds"><MEDIA_DESCRIPTOR MEDIA_URL="{media}" '
        f'MIME_TYPE="video/mp4"/></HEADER>\n<TIME_ORDER>\n{order}</TIME_ORDER>\n'
        f"<TIER TIER_ID={quoteattr(tier)}>\n{entries}</TIER>\n</ANNOTATION_DOCUMENT>\n"
    )


def _filled(segments):
    """Praat's intervals leave no gap."""
    found, last = [], 0.0
    for label, start, end in segments:
        found += [("", last, start)] if start > last else []
        found.append((label, start, end))
        last = end
    return [*found, ("", last, last + 1)]


def textgrid(segments, *, short=False, tier="action"):
    intervals = _filled(segments)
    last = intervals[-1][2]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    quoted = [(label.replace('"', '""'), s, e) for label, s, e in intervals]
    if short:
        lines += ["0", f"{last!r}", "<exists>", "1", '"IntervalTier"', f'"{tier}"', "0"]
        lines += [f"{last!r}", f"{len(intervals)}"]
        for label, start, end in quoted:
            lines += [f"{start!r}", f"{end!r}", f'"{label}"']
        return "\n".join(lines) + "\n"
    lines += ["xmin = 0 ", f"xmax = {last!r} ", "tiers? <exists> ", "size = 1 "]
    lines += ["item []: ", "    item [1]:", '        class = "IntervalTier" ']
    lines += [f'        name = "{tier}" ', "        xmin = 0 ", f"  xmax = {last!r} "]
    lines += [f"        intervals: size = {len(intervals)} "]
    for number, (label, start, end) in enumerate(quoted, 1):
        lines += [f"        intervals [{number}]:", f"            xmin = {start!r} "]
        lines += [f"            xmax = {end!r} ", f'            text = "{label}" ']
    return "\n".join(lines) + "\n"


def audacity(segments):
    return "".join(
        f"{start:.6f}\t{end:.6f}\t{label}\n" for label, start, end in segments
    )


def srt(segments):
    return "".join(
        f"{k}\n{clock(start, point=',')} --> {clock(end, point=',')}\n{label}\n\n"
        for k, (label, start, end) in enumerate(segments, 1)
    )


def vtt(segments):
    return "WEBVTT\n\n" + "".join(
        f"{clock(start)} --> {clock(end)} align:start\n{html.escape(label)}\n\n"
        for label, start, end in segments
    )


def boris(segments, *, subject="", media=("films/day1.mp4",), **extra):
    codes = sorted({label for label, _, _ in segments})
    events = [
        [time, subject, label, "", ""]
        for label, start, end in segments
        for time in (start, end)
    ]
    observation = {
        "type": "MEDIA",
        "file": {"1": list(media), "2": []},
        "events": events,
        "time offset": 0.0,
        "media_info": {"length": {name: 100.0 for name in media}},
    }
    behaviors = {
        str(k): {"code": code, "type": "State event"} for k, code in enumerate(codes)
    }
    return json.dumps(
        {
            "project_name": "kitchen",
            "behaviors_conf": behaviors,
            "observations": {"morning": observation | extra},
        }
    )


BORIS_HEADER = (
    *("Observation id", "Time offset (s)", "FPS (frame/s)", "Subject", "Behavior"),
    *("Behavioral category", "Modifier #1", "Behavior type"),
)


def boris_tabular(segments):
    rows = [(*BORIS_HEADER, "Time", "Media file name")]
    for label, start, end in segments:
        for time, kind in ((start, "START"), (end, "STOP")):
            about = ("morning", 0, "25.000", "", label, "", "", kind)
            rows.append((*about, f"{time:.3f}", "films/day1.mp4"))
    return _tabbed(rows)


def boris_aggregated(segments):
    names = ("Start (s)", "Stop (s)", "Duration (s)", "Media file name")
    rows = [(*BORIS_HEADER, *names)]
    for label, start, end in segments:
        about = ("morning", 0, "25.000", "", label, "", "", "STATE")
        times = (f"{start:.3f}", f"{end:.3f}", f"{end - start:.3f}")
        rows.append((*about, *times, "films/day1.mp4"))
    return _tabbed(rows)


def _tabbed(rows):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter="\t").writerows(rows)
    return stream.getvalue()


def via(segments):
    entries = {
        f"1_{k}": {
            "vid": "1",
            "flg": 0,
            "z": [start, end],
            "xy": [],
            "av": {"1": label},
        }
        for k, (label, start, end) in enumerate(segments)
    }
    attribute = {"aname": "action", "anchor_id": "FILE1_Z2_XY0", "type": 1}
    return json.dumps(
        {
            "project": {"pname": "kitchen", "vid_list": ["1"]},
            "attribute": {"1": attribute | {"options": {}}},
            "file": {"1": {"fid": "1", "fname": "day1.mp4", "type": 4}},
            "view": {"1": {"fid_list": ["1"]}},
            "metadata": entries,
        }
    )


def cvat(segments):
    box = (
        '<box frame="{}" outside="{}" keyframe="1" xtl="1" ytl="1" xbr="9" ybr="9"/>\n'
    )
    tracks = "".join(
        f'<track id="{k}" label={quoteattr(label)}>\n'
        f"{box.format(start, 0)}{box.format(end, 1)}</track>\n"
        for k, (label, start, end) in enumerate(segments)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>\n'
        "<meta><task><id>7</id><source>day1.mp4</source></task></meta>\n"
        f"{tracks}</annotations>\n"
    )


def label_studio(segments):
    results = [
        {
            "type": "timelinelabels",
            "from_name": "actions",
            "value": {
                "ranges": [{"start": start + 1, "end": end}],
                "timelinelabels": [label],
            },
        }
        for label, start, end in segments
    ]
    data = {"video": "/data/upload/3/0a1b2c3d-day1.mp4"}
    annotations = [{"id": 1, "result": results, "was_cancelled": False}]
    return json.dumps([{"id": 5, "data": data, "annotations": annotations}])


def datavyu(segments):
    lines = ["#4", "action (MATRIX,true,)-code01|NOMINAL"]
    for label, start, end in segments:
        last = clock(end - 0.001, point=":")
        value = "".join(f"\\{c}" if c in "\\,()" else c for c in label)
        lines.append(f"{clock(start, point=':')},{last},({value})")
    return "\n".join(lines) + "\n"


def opf(segments):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("db", datavyu(segments))
        archive.writestr("project", "!project\nviewers:\n- feed: /films/day1.mp4\n")
    return stream.getvalue()


def activitynet(segments):
    entries = [
        {"segment": [start, end], "label": label} for label, start, end in segments
    ]
    video = {"duration": 99.0, "subset": "training", "annotations": entries}
    return json.dumps({"version": "1.3", "database": {"day1": video}})


def epic(segments):
    rows = [("narration_id", "video_id", "start_timestamp", "stop_timestamp")]
    rows[0] += ("start_frame", "stop_frame", "narration", "verb", "verb_class", "noun")
    for k, (label, start, end) in enumerate(segments):
        verb, _, noun = label.partition(" ")
        times = (clock(start), clock(end), round(start * 60), round(end * 60))
        rows.append((f"day1_{k}", "day1", *times, f"{verb} a {noun}", verb, 3, noun))
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def egtea(segments):
    lines = ["# Clip Prefix (Unique); Video Session; Starting Time (ms); "]
    lines[0] += "Ending Time (ms); Action Label; Verb Label; Noun Label(s)"
    for label, start, end in segments:
        first, last = round(start * 1000), round(end * 1000)
        clip = f"day1-{first}-{last}-F000001-F000002"
        lines.append(f"{clip}; day1; {first}; {last}; {label}; take; cup")
    return "\n".join(lines) + "\n"
