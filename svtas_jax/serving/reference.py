"""Writes an OpenAPI document as a page that needs no script."""

import html
import json
from collections.abc import Iterator
from typing import Any


def to_html(document: dict[str, Any]) -> str:
    """Returns the page."""
    info = document["info"]
    operations = "".join(
        _operation(method, path, found)
        for path, methods in document["paths"].items()
        for method, found in methods.items()
    )
    schemas = "".join(
        f'<details id="{_safe(name)}"><summary><code>{_safe(name)}</code></summary>'
        f"<pre tabindex=0>{_safe(json.dumps(schema, indent=2))}</pre></details>"
        for name, schema in document["components"]["schemas"].items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(info['title'])}: interface</title>"
        '<link rel="icon" href="icon.svg"><link rel="stylesheet" href="style.css">'
        f'<body class="reference"><main><p><a href="./">Back to the page</a></p>'
        f"<h1>{_safe(info['title'])} {_safe(info['version'])}</h1>"
        f"<p>{_safe(info['summary'])} {_safe(info['description'])} "
        '<a href="openapi.json">openapi.json</a> describes it for programs.</p>'
        f"{operations}<h2>Types</h2>{schemas}</main></body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(_rows(operation))
    return (
        f'<section class="operation"><h2><span class="method">{method.upper()}</span> '
        f"<code>{_safe(path)}</code></h2><p>{_safe(operation['description'])}</p>"
        f"<table>{rows}</table></section>"
    )


def _rows(operation: dict[str, Any]) -> Iterator[str]:
    for parameter in operation["parameters"]:
        yield _row(parameter["name"], parameter["in"], parameter["description"])
    body = operation.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        for name, schema in content["schema"]["properties"].items():
            yield _row(name, kind, schema.get("description", "A file."))
    for status, answer in operation["responses"].items():
        kinds = ", ".join(answer.get("content", {"": None}))
        yield _row(status, kinds, answer["description"])


def _row(*cells: str) -> str:
    first, *others = (_safe(cell) for cell in cells)
    return f"<tr><th scope=row>{first}</th><td>{'</td><td>'.join(others)}</td></tr>"


def _safe(text: str) -> str:
    return html.escape(str(text))
