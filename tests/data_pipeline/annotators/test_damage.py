"""Damaged files end with a message or are read: nothing else is raised."""

import json
import random

import annotating
import pytest

from svtas_jax.errors import InputError

WANTED = [("eat", 0.5, 2.0), ("cut, slowly", 2.0, 3.25), ("eat", 4.0, 9.0)]
STEPS = [("eat", 1, 20), ("cut", 20, 32), ("sit", 40, 90)]
INTACT = {
    "a.csv": annotating.table(WANTED),
    "b.tsv": annotating.table(WANTED, separator="\t", header=None),
    "a.eaf": annotating.elan(WANTED),
    "a.TextGrid": annotating.textgrid(WANTED),
    "b.TextGrid": annotating.textgrid(WANTED, short=True),
    "audacity.txt": annotating.audacity(WANTED),
    "a.srt": annotating.srt(WANTED),
    "a.vtt": annotating.vtt(WANTED),
    "a.boris": annotating.boris(WANTED),
    "tabular.tsv": annotating.boris_tabular(WANTED),
    "aggregated.tsv": annotating.boris_aggregated(WANTED),
    "via.json": annotating.via(WANTED),
    "a.xml": annotating.cvat(STEPS),
    "studio.json": annotating.label_studio(STEPS),
    "a.opf": annotating.opf(WANTED),
    "datavyu.csv": annotating.datavyu(WANTED),
    "cells.csv": 'a.ordinal,a.onset,a.offset,a.code,\n0,1,99,"x",\n1,100,300,"y",\n',
    "net.json": annotating.activitynet(WANTED),
    "epic.csv": annotating.epic(WANTED),
    "egtea.csv": annotating.egtea(STEPS),
    "coarse.txt": annotating.breakfast(STEPS),
    "frames.txt": annotating.frames(STEPS),
}
NOISE = [b"\0", b"-1", b"nan", b'"', b"\n", b",", b"<", b"1e999", "ß".encode()]
ODD = [None, True, -1, 1e400, "", "x", "1", [], {}, [1], [None], {"a": 1}, "nan"]


def damaged(data, rng):
    """Cuts, repeats or overwrites a part of the bytes."""
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice([1, 1, 2, 8, 60]))
    noise = bytes(rng.randrange(256) for _ in range(end - start))
    part = rng.choice([b"", data[start:end] * 2, noise, *NOISE])
    return data[:start] + part + data[end:]


def odd_json(value, rng):
    """Replaces, drops or adds something in a JSON value."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(list(keys))
        copy = value.copy()
        if isinstance(copy, dict) and rng.random() < 0.1:
            del copy[key]
        else:
            copy[key] = odd_json(value[key], rng)
        return copy
    return rng.choice(ODD)


def attempt(name, data):
    try:
        annotating.read(data, name)
    except InputError as error:
        assert name in str(error) and len(str(error)) < 700, error


@pytest.mark.parametrize("name", INTACT)
@pytest.mark.parametrize(
    "times", [12, pytest.param(2000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_damage_is_said_or_read(name, times):
    content = INTACT[name]
    data = content if isinstance(content, bytes) else content.encode()
    rng = random.Random(name)
    for _ in range(times):
        broken = data
        for _ in range(rng.choice([1, 1, 3])):
            broken = damaged(broken or b"x", rng)
        attempt(name, broken)


@pytest.mark.parametrize("name", [n for n in INTACT if n.endswith((".json", ".boris"))])
@pytest.mark.parametrize(
    "times", [40, pytest.param(5000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_odd_json_is_said_or_read(name, times):
    rng = random.Random(name)
    for _ in range(times):
        value = json.loads(INTACT[name])
        for _ in range(rng.choice([1, 1, 2])):
            value = odd_json(value, rng)
        attempt(name, json.dumps(value).encode())
