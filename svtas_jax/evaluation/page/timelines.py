"""The timelines of all videos, as data that a script draws when they come into view.

Labels are runs of a class and a number of frames, compressed, so that 500 videos need a
few hundred kilobytes. Where labels flicker so much that a page would become too large,
they are shown at every n-th frame only, and the page says so.
"""

import base64
import dataclasses
import gzip
import importlib.resources
import json
import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svtas_jax.evaluation.details import Details, VideoDetails, from_runs, to_runs
from svtas_jax.pages.colours import css_colours
from svtas_jax.pages.skeleton import escape
from svtas_jax.structs import IGNORE_LABEL

_COARSER = (1, 2, 4, 8, 16, 32, 64, 128)
_VIEWER = """<aside class="viewer" aria-label="Frame of a video" hidden>
<video controls muted playsinline preload="metadata"></video>
<p class="notice" hidden></p>
<pre></pre>
<button type="button">Close</button>
</aside>"""


@dataclasses.dataclass(frozen=True)
class Timelines:
    """What a page shows over time.

    Attributes:
        runs: name of a run -> its videos; all have the same ones.
        notes: name of a video -> figures beside its name.
        orders: name of an order -> names of all videos.
        folder: of the page, from which paths of videos are relative.
    """

    runs: Mapping[str, Details]
    notes: Mapping[str, str]
    orders: Mapping[str, Sequence[str]]
    folder: pathlib.Path

    @property
    def details(self) -> Details:
        """Of the first run, which has the truth and the videos."""
        return next(iter(self.runs.values()))


def section(timelines: Timelines, most_bytes: int) -> str:
    """Returns the section of timelines, as HTML of at most `most_bytes` if possible."""
    packed, step = "", 1
    for step in _COARSER:
        packed = _pack(_content(timelines, step))
        if len(packed) <= most_bytes:
            break
    coarse = (
        ""
        if step == 1
        else f'<p class="notice">Labels change so often that they are shown at every '
        f"{step}th frame only.</p>"
    )
    return f"""<section>
<h2>Videos</h2>
<p class="pale">Point at a moment for its time and labels; click for the frame, if the
video lies where the report found it. Red: the label is wrong.</p>
{coarse}{legend(timelines.details)}
<div id="choices" hidden><label>Order <select id="order"></select></label>
<label>Find <input id="filter" type="search" placeholder="part of a name"></label></div>
<div id="timelines"><noscript>Timelines are drawn by a script.</noscript></div>
</section>
{_VIEWER}
<script type="text/plain" id="timeline-data">{packed}</script>
<script>
{asset("timelines.js")}</script>"""


def asset(name: str) -> str:
    """Returns the text of a file in this folder."""
    source = importlib.resources.files("svtas_jax.evaluation.page") / name
    return source.read_text(encoding="utf-8")


def legend(details: Details) -> str:
    """Returns a list of the classes with their colours."""
    items = "".join(
        f"<li>{swatch(details, k)}</li>" for k in range(len(details.class_names))
    )
    return f'<ul class="legend">{items}</ul>'


def swatch(details: Details, label: int) -> str:
    """Returns a class's colour and name as HTML."""
    kind = "swatch none" if label in details.background else "swatch"
    colour = colours_of(details)[label]
    name = escape(details.class_names[label])
    return f'<span class="{kind}" style="background:{colour}"></span>{name}'


def colours_of(details: Details) -> tuple[str, ...]:
    """Returns the colours of the classes in CSS."""
    names = [details.class_names[k] for k in details.background]
    return css_colours(details.class_names, tuple(names))


def _content(timelines: Timelines, step: int) -> dict[str, Any]:
    details, names = timelines.details, list(timelines.details.videos)
    place = {name: index for index, name in enumerate(names)}
    return {
        "classes": list(details.class_names),
        "colours": list(colours_of(details)),
        "background": list(details.background),
        "rows": list(timelines.runs),
        "orders": [[o, [place[n] for n in of]] for o, of in timelines.orders.items()],
        "videos": [_video(timelines, name, step) for name in names],
    }


def _video(timelines: Timelines, name: str, step: int) -> dict[str, Any]:
    video = timelines.details.videos[name]
    others = [run.videos[name] for run in timelines.runs.values()]
    alone = len(others) == 1
    return {
        "name": name,
        "note": timelines.notes.get(name, ""),
        "fps": video.fps,
        "frames": video.num_frames,
        "times": video.times_s.round(2).tolist(),
        "src": _address(video, timelines.folder),
        "truth": _flat(video.truth, step),
        "runs": [_flat(other.prediction, step) for other in others],
        "sure": video.confidence.tolist() if alone else [],
    }


def _flat(runs: np.ndarray, step: int) -> list[int]:
    if step > 1:
        labels = from_runs(runs)
        shown = np.arange(len(labels)) // step * step + step // 2
        runs = to_runs(labels[np.minimum(shown, len(labels) - 1)])
    return np.where(runs == IGNORE_LABEL, -1, runs).ravel().tolist()


def _address(video: VideoDetails, folder: pathlib.Path) -> str:
    """Returns the video's address relative to the page, "" if there is no file."""
    if not video.path or not os.path.isfile(video.path):
        return ""
    try:
        path = os.path.relpath(video.path, folder.resolve())
    except ValueError:  # on another drive
        return pathlib.Path(video.path).as_uri()
    return urllib.parse.quote(pathlib.Path(path).as_posix(), errors="surrogateescape")


def _pack(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    # Without the time, the same report is the same file.
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()
