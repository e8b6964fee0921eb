"""Reads golden files."""

import dataclasses
import json
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class GoldenFile:
    """The contents of a golden file, for a .json together with its .npz."""

    name: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def settings(self) -> dict[str, Any]:
        """The metadata merged with the constructor arguments in it."""
        return {**self.meta, **self.meta.get("kwargs", {})}


def below(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays under a prefix, without it."""
    return {k[len(prefix) :]: a for k, a in arrays.items() if k.startswith(prefix)}


def indices(arrays: Arrays, prefix: str = "") -> list[int]:
    """Returns the numbers that follow a prefix, ascending."""
    firsts = {key.split("/")[0] for key in below(arrays, prefix)}
    return sorted(int(first) for first in firsts if first.isdecimal())


def list_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the golden files of a folder, without the .npz files that belong to a
    .json."""
    descriptions = sorted(folder.glob("*.json"))
    partners = {_partner(path, _read(_read_json, path)) for path in descriptions}
    return sorted({*folder.glob("*.npz"), *descriptions} - partners)


def read_file(path: pathlib.Path) -> GoldenFile:
    """Reads one golden file; an unreadable one has no content, so that it fails as of
    unknown kind."""
    if path.suffix == ".json":
        description = _read(_read_json, path)
        partner = _partner(path, description)
        arrays = _read(_read_npz, partner) if partner else {}
        return GoldenFile(path.name, description, arrays)
    arrays = _read(_read_npz, path)
    meta = arrays.pop("meta_json", None)
    return GoldenFile(path.name, {} if meta is None else _read(_parse, meta), arrays)


def _partner(path: pathlib.Path, description: dict) -> pathlib.Path | None:
    """Returns the .npz of a .json: that of the same name, or the one it names."""
    named = re.search(r"[\w.-]+\.npz", str(description.get("arrays", "")))
    candidates = [path.with_suffix(".npz")]
    candidates += [path.parent / named[0]] if named else []
    return next((c for c in candidates if c.exists()), None)


def _read(reader, source) -> dict[str, Any]:
    try:
        return reader(source)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return {}


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as data:
        return dict(data)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    return _parse(path.read_text(encoding="utf-8"))


def _parse(text) -> dict[str, Any]:
    content = json.loads(str(text))
    return content if isinstance(content, dict) else {}
