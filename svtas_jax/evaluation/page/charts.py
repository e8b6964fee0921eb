"""Charts as inline SVG, drawn by Vega-Lite.

vl-convert renders Vega-Lite without a browser, a network or Altair: one wheel of 84 MB,
which is imported in milliseconds and only here. The SVG of a chart is 5 to 100 kB and
needs no script, so that a report of a few charts is small, can be read where scripts
are off, and prints. Plotly and Vega-Embed would put 1 to 4 MB of JavaScript into every
report; matplotlib with what it needs is as large as vl-convert, and its SVG knows no
text for each mark, which the pages show on hover.

Colours of text and lines are set by the page's style sheet, light or dark.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from svtas_jax.pages.skeleton import escape

_MOST_CELLS = 2000  # of a confusion matrix; about 200 bytes each
_MOST_BINS = 40
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CONFIG = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": 500},
    "legend": {"labelFontSize": 12, "title": None, "orient": "top"},
}


def draw(spec: Mapping[str, Any], *, name: str) -> str:
    """Returns a chart as an `<svg>` element.

    Args:
        spec: of Vega-Lite; data are part of it.
        name: what the chart shows, in words, for readers who do not see it.
    """
    import vl_convert  # loads V8

    whole = _printable({"config": _CONFIG, **spec})
    svg = vl_convert.vegalite_to_svg(whole, allowed_base_urls=[])
    start = svg.index("<svg")
    label = escape(name)
    return re.sub("<svg", f'<svg role="img" aria-label="{label}"', svg[start:], count=1)


def confusion_chart(
    confusion: np.ndarray, class_names: Sequence[str]
) -> tuple[dict[str, Any], float]:
    """Returns the matrix of shares of each true class's frames, and the share below
    which no cell is drawn, 0 if all are.

    Args:
        confusion: (K, K) frames, by true class (row) and predicted class (column).
        class_names: names in the order of the class indices.
    """
    class_names = [_printable(name) for name in class_names]
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(1, totals)
    rows, columns = np.nonzero(confusion)
    least = 0.0
    if len(rows) > _MOST_CELLS:
        least = float(np.sort(shares[rows, columns])[-_MOST_CELLS])
        rows, columns = np.nonzero((confusion > 0) & (shares >= least))
    names = [_label(name) for name in class_names]
    values = [
        {
            "row": int(row),
            "column": int(column),
            "share": round(float(shares[row, column]), 4),
            "said": f"{class_names[row]} → {class_names[column]}: "
            f"{100 * shares[row, column]:.1f} %, {confusion[row, column]:,} of "
            f"{totals[row, 0]:,} frames",
        }
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    return _matrix(values, names), least


def histogram_chart(
    groups: Mapping[str, np.ndarray], *, title: str, edges: np.ndarray
) -> dict[str, Any]:
    """Returns the distributions of several groups of numbers, as steps.

    Args:
        groups: name -> (n,) numbers; those outside are in the first and last bin.
        title: of the axis.
        edges: (bins + 1,) ascending.
    """
    rows = []
    for name, values in groups.items():
        clipped = np.clip(values, edges[0], np.nextafter(edges[-1], edges[0]))
        counts, _ = np.histogram(clipped, edges)
        rows += [
            {
                "group": name,
                "low": float(low),
                "high": float(high),
                "count": int(count),
                "said": f"{name}, {low:.4g} to {high:.4g}: {count}",
            }
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ]
    return {
        "data": {"values": rows},
        "width": 380,
        "height": 190,
        "mark": {"type": "bar", "fillOpacity": 0.55, "strokeWidth": 0},
        "encoding": {
            "x": {
                "field": "low",
                "type": "quantitative",
                "title": title,
                "bin": "binned",
            },
            "x2": {"field": "high"},
            "y": {
                "field": "count",
                "type": "quantitative",
                "stack": None,
                "title": None,
                "axis": {"tickCount": 5, "format": "~s"},
            },
            "color": {"field": "group", "type": "nominal", **_GROUPS, "sort": None},
            "description": {"field": "said", "type": "nominal"},
        },
    }


def even_edges(values: np.ndarray, *, share: float = 0.98) -> np.ndarray:
    """Returns bins of one width around 0 that hold a share of the values."""
    reach = float(np.quantile(np.abs(values), share)) if len(values) else 1.0
    reach = max(reach, 1e-3)
    return np.linspace(-reach, reach, _MOST_BINS // 2 * 2 + 1)


def interval_chart(
    rows: Sequence[tuple[str, str, float, tuple[float, float] | None]],
) -> dict[str, Any]:
    """Returns metrics in percent as points with their intervals.

    Args:
        rows: of each point, the metric, the run, the value and the interval if there
            is one.
    """
    values = [
        {
            "metric": metric,
            "run": run,
            "value": round(value, 3),
            "low": round(interval[0] if interval else value, 3),
            "high": round(interval[1] if interval else value, 3),
            "said": f"{metric}{f', {run}' if run else ''}: {value:.2f}"
            + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""),
        }
        for metric, run, value, interval in rows
    ]
    many = len({run for _, run, _, _ in rows}) > 1
    shared = {
        "y": {"field": "metric", "type": "nominal", "sort": None, "title": None},
        "description": {"field": "said", "type": "nominal"},
    }
    if many:
        shared["yOffset"] = {"field": "run", "type": "nominal", "sort": None}
    colour = {"field": "run", "type": "nominal", "sort": None, **_GROUPS}
    if not many:
        colour["legend"] = None
    least = 10 * math.floor(min(row["low"] for row in values) / 10) if values else 0
    scale = {"domain": [max(0, least), 100]}
    axis = {"tickCount": 6}
    x = {"type": "quantitative", "title": None, "scale": scale, "axis": axis}
    return {
        "data": {"values": values},
        "width": 380,
        "height": {"step": 12 if many else 24},
        "encoding": shared | {"color": colour},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.45},
                "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {"x": {"field": "value", **x}},
            },
        ],
    }


# Close to Okabe and Ito's; to be seen on white and on black.
_GROUPS = {
    "scale": {
        "range": ["#2b83c6", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"]
    }
}


def _matrix(
    values: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> dict[str, Any]:
    size, numbers = len(names), len(names) <= 16
    step = 34 if numbers else max(9, min(26, 640 // size))

    def axis(field: str, **more) -> dict[str, Any]:
        return {
            "field": field,
            "type": "ordinal",
            "title": None,
            # Positions, not names: two classes may be drawn under one shortened name.
            "scale": {"domain": list(range(size)), "padding": 0.04},
            "axis": {
                "labelExpr": f"{json.dumps(list(names))}[datum.value]",
                **_PLAIN,
                **more,
            },
        }

    layers: list[dict[str, Any]] = [
        {"mark": "rect", "encoding": {"fillOpacity": _OPACITY}}
    ]
    for test in ("datum.share < 0.5", "datum.share >= 0.5") if numbers else ():
        layers.append(
            {
                "transform": [{"filter": f"{test} && datum.share >= 0.005"}],
                "mark": {"type": "text", "fontSize": 10.5},
                "encoding": {"text": {"field": "share", "format": ".0%"}},
            }
        )
    return {
        "data": {"values": values},
        "width": {"step": step},
        "height": {"step": step},
        "encoding": {
            "x": axis("column", orient="top", labelAngle=-60),
            "y": axis("row"),
            "description": {"field": "said", "type": "nominal"},
        },
        "layer": layers,
    }


_PLAIN = {"ticks": False, "domain": False, "labelOverlap": False}
_OPACITY = {
    "field": "share",
    "type": "quantitative",
    "scale": {"domain": [0, 1], "range": [0.06, 1]},
    "legend": None,
}


def _printable(part: Any) -> Any:
    """Replaces what XML cannot hold, for which vl-convert would abort the process."""
    if isinstance(part, str):
        return _NOT_IN_XML.sub("\ufffd", part)
    if isinstance(part, Mapping):
        return {_printable(name): _printable(item) for name, item in part.items()}
    if isinstance(part, list):
        return [_printable(item) for item in part]
    return part


def _label(name: str, most: int = 26) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
