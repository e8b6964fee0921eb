"""Writes a rendered data set in the field's common layout: all of it, or nothing."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shutil

import cv2
from absl import logging

from data_pipeline.demo.render import write_video
from data_pipeline.layout.writing import put_in_place
from data_pipeline.rendered.film import Settings, render_frames
from data_pipeline.rendered.source import Source
from data_pipeline.rendered.vocabulary import read_vocabulary
from svtas_jax.errors import InputError
from svtas_jax.runtime.files import draft_of, make_folder, write_atomic, writing

VERSION = 1  # of what is rendered: raise it when pixels change
MANIFEST = "manifest.json"
_MADE_BY = "data_pipeline.render"
_OPTION = "--output"
_LINE_EVERY = 10  # videos


def render_dataset(
    output: pathlib.Path, source: Source, settings: Settings, *, overwrite: bool = False
) -> None:
    """Renders all videos of a data set's splits, unless the folder holds them already.

    The same arguments give the same files, however many threads render them.

    Raises:
        InputError: if a setting is out of range, or the folder holds something else or
            cannot be written; then it is as it was.
    """
    check_settings(settings)
    manifest = manifest_of(source, settings)
    if _is_complete(output, manifest, overwrite=overwrite):
        logging.info("%s holds these videos already; nothing to render", output)
        return
    make_folder(output.parent, option=_OPTION)
    draft = draft_of(output)
    try:
        with writing(output, option=_OPTION):
            for name, text in texts_of(source).items():
                write_atomic(draft / name, text, option=_OPTION)
            _write_videos(draft / "Videos", source, settings)
            write_atomic(draft / MANIFEST, manifest, option=_OPTION)
            put_in_place(draft, output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    logging.info("rendered %s", output)


def check_settings(settings: Settings) -> None:
    """Checks what the flags set.

    Raises:
        InputError: if a value is out of range.
    """
    if not 0 <= settings.difficulty <= 1:
        raise InputError(
            f"--difficulty={settings.difficulty} is not between 0 (as easy as the "
            "demo) and 1."
        )
    if not 1 <= settings.fps <= 120:
        raise InputError(
            f"--fps={settings.fps} is not between 1 and 120 frames per second."
        )


def manifest_of(source: Source, settings: Settings) -> str:
    """Returns what determines a rendered data set, as JSON."""
    people: dict[str, list[str]] = {}
    for name, person in source.people.items():
        people.setdefault(person, []).append(name)
    facts = {
        "made_by": _MADE_BY,
        "version": VERSION,
        **dataclasses.asdict(settings),
        "idle": source.idle,
        "annotations": _digest(source),
        "people": people,
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def _digest(source: Source) -> str:
    texts = sorted(texts_of(source).items())
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def texts_of(source: Source) -> dict[str, str]:
    """Returns labels, mapping and splits: text by path in the folder."""
    lines = {
        f"groundTruth/{name}.txt": labels for name, labels in source.labels.items()
    }
    lines["mapping.txt"] = tuple(f"{i} {name}" for i, name in enumerate(source.classes))
    for number, subsets in source.splits.items():
        for subset, names in subsets.items():
            path = f"splits/{subset}.split{number}.bundle"
            lines[path] = tuple(f"{name}.txt" for name in names)
    return {path: "\n".join(content) + "\n" for path, content in lines.items()}


def _is_complete(output: pathlib.Path, manifest: str, *, overwrite: bool) -> bool:
    """Returns whether the folder holds this data set; raises if it may not be written.

    Raises:
        InputError: if it holds something else.
    """
    if not os.path.lexists(output):
        return False
    if not output.is_dir():
        raise InputError(f"{_OPTION}={output} is a file; choose a new folder.")
    if not any(output.iterdir()):
        return False
    found = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found = (output / MANIFEST).read_text(encoding="utf-8")
    if found == manifest:
        return True
    if not _is_ours(found):
        raise InputError(
            f"{_OPTION}={output} is not empty and was not rendered by this command; "
            "choose a new folder."
        )
    if not overwrite:
        raise InputError(
            f"{_OPTION}={output} holds videos of other labels, settings or version; "
            "choose a new folder, or replace it with --overwrite."
        )
    return False


def _is_ours(manifest: str) -> bool:
    with contextlib.suppress(json.JSONDecodeError):
        facts = json.loads(manifest)
        return isinstance(facts, dict) and facts.get("made_by") == _MADE_BY
    return False


def _write_videos(folder: pathlib.Path, source: Source, settings: Settings) -> None:
    vocabulary = read_vocabulary(source.classes, source.idle)

    def render(name: str) -> None:
        path, labels = folder / f"{name}.mp4", source.labels[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        person = source.people[name]
        frames = render_frames(name, person, labels, vocabulary, settings)
        write_video(path, frames, fps=settings.fps)
        _check_length(path, len(labels))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(render, name) for name in source.labels]
        try:
            for done, job in enumerate(jobs, 1):
                job.result()
                if done % _LINE_EVERY == 0:
                    logging.info("%d of %d videos", done, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _check_length(path: pathlib.Path, num_frames: int) -> None:
    """Checks that the encoder, which does not tell, has written all frames."""
    video = cv2.VideoCapture(str(path))
    found = round(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    if found != num_frames:
        raise InputError(
            f"{path.name} has {found} of {num_frames} frames after writing; is there "
            f"space left on the disk? Free some, or choose another {_OPTION}."
        )
