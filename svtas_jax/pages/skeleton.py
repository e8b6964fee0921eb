"""The frame of HTML pages: one file each, which loads nothing from the network.

Text of the user's, such as the name of a class, must pass through `escape`, `table` or
`embed_json`; everything else here takes HTML.
"""

import functools
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["embed_json", "escape", "page", "table"]

# The browser itself refuses whatever a page would fetch, apart from media beside it.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src 'self' file: data: blob:; media-src 'self' file: blob:"
)


def page(title: str, body: str, *, head: str = "") -> str:
    """Returns a page with one style sheet: light or dark as the reader's system is, and
    as wide as a phone or more.

    Args:
        title: text, shown in the browser's tab and as the heading.
        body: HTML below the heading; a `<section>` is a panel.
        head: further HTML of `<head>`, such as `<style>` and `<script>`.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>
{_style()}</style>
{head}
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    num_texts: int = 1,
    as_html: bool = False,
) -> str:
    """Returns a table that scrolls inside itself where the screen is too small.

    Args:
        head: title of each column.
        rows: cells of each row.
        num_texts: columns on the left that hold text; the others are aligned right, as
            numbers are.
        as_html: the cells of `rows` are HTML, not text.
    """
    kinds = ["" if n < num_texts else ' class="number"' for n in range(len(head))]

    def row(cells: Sequence[str], tag: str, as_html: bool) -> str:
        inner = cells if as_html else [escape(cell) for cell in cells]
        pairs = zip(inner, kinds, strict=True)
        return f"<tr>{''.join(f'<{tag}{k}>{cell}</{tag}>' for cell, k in pairs)}</tr>"

    lines = "\n".join(row(cells, "td", as_html) for cells in rows)
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead>{row(head, "th", False)}'
        f"</thead>\n<tbody>\n{lines}\n</tbody>\n</table></div>"
    )


def embed_json(name: str, content: Any) -> str:
    """Returns a `<script>` element that holds data, for
    `JSON.parse(document.getElementById(name).textContent)`.

    Args:
        name: id of the element.
        content: what JSON can hold; numbers must be finite.
    """
    text = json.dumps(
        content, allow_nan=False, ensure_ascii=False, separators=(",", ":")
    )
    # In a string, the one place where "<" can stand, "\\u003c" means the same, and
    # nothing in the data can end the element.
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


@functools.cache
def _style() -> str:
    source = importlib.resources.files("svtas_jax.pages") / "page.css"
    return source.read_text(encoding="utf-8")
