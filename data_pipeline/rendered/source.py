"""Reads the labels, splits and people of the data set that rendered videos follow."""

import dataclasses
import difflib
import itertools
import pathlib
from collections.abc import Sequence

from absl import logging

from data_pipeline import annotations
from data_pipeline.layout.folds import groups_in_names, groups_of
from data_pipeline.rendered.vocabulary import IDLE_CLASSES
from svtas_jax.config import default_config
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.structs import labels_to_segments


@dataclasses.dataclass(frozen=True)
class Source:
    """A labelled data set without its videos.

    Attributes:
        classes: in the order of mapping.txt.
        idle: those of them that show a hand at rest.
        splits: the names of videos by the split's number, then by subset.
        labels: the class of every frame by the video's name, of all splits.
        people: who is filmed, by the video's name.
    """

    classes: tuple[str, ...]
    idle: tuple[str, ...]
    splits: dict[int, dict[str, tuple[str, ...]]]
    labels: dict[str, tuple[str, ...]]
    people: dict[str, str]


def read_source(
    folder: pathlib.Path, *, every: int = 1, group: str = "", idle: Sequence[str] = ()
) -> Source:
    """Reads a folder of the field's common layout, in which Videos/ may be missing.

    Args:
        folder: holds groundTruth/, mapping.txt and splits/.
        every: of the labels, only each `every`-th is kept.
        group: a regular expression that finds the person in a video's name; "" for
            what the names begin with.
        idle: the classes that show a hand at rest; () for those commonly so called.

    Raises:
        MissingInputError: if the folder or a file is missing.
        InputError: if a file or an argument is invalid.
    """
    if not folder.is_dir():
        raise MissingInputError(
            f"--annotations={folder} is not a folder; give the one that holds "
            "groundTruth/, mapping.txt and splits/."
        )
    if not (folder / "mapping.txt").is_file():
        raise MissingInputError(
            f"--annotations={folder} holds no mapping.txt (one 'id name' per line); "
            "give the folder that holds groundTruth/, mapping.txt and splits/."
        )
    config = default_config().data
    config.root = str(folder)
    classes = annotations.class_names(config)
    # Without videos every line of a split names labels.
    splits = {
        number: {
            subset: annotations.split_names(
                config, subset, split=number, need_videos=False
            )
            for subset in ("train", "test")
        }
        for number in annotations.split_numbers(config)
    }
    subsets = itertools.chain(*(split.values() for split in splits.values()))
    names = sorted(set(itertools.chain(*subsets)))
    labels = {name: _read_labels(folder, name, classes, every) for name in names}
    people = _people(names, group)
    logging.info(
        "%d videos of %d people, %d frames", *(len(names), len(set(people.values()))),
        sum(map(len, labels.values())),
    )  # fmt: skip
    return Source(classes, _idle_of(classes, idle), splits, labels, people)


def _read_labels(
    folder: pathlib.Path, name: str, classes: tuple[str, ...], every: int
) -> tuple[str, ...]:
    ids = annotations.read_labels(folder / "groundTruth" / f"{name}.txt", classes)
    kept = tuple(classes[index] for index in ids[::every])
    if every > 1:
        before, after = map(len, map(labels_to_segments, (ids, ids[::every])))
        if after < before:
            logging.warning(
                "%s: %d of %d segments are shorter than --every=%d and are gone",
                *(name, before - after, before, every),
            )
    return kept


def _people(names: Sequence[str], group: str) -> dict[str, str]:
    groups = groups_of(names, group) if group else groups_in_names(names)
    if not groups:
        logging.warning(
            "the names do not tell who is filmed: every video gets a person of its "
            r"own; name them with --group, such as --group='(S\d+)'"
        )
        groups = tuple(names)
    return dict(zip(names, groups, strict=True))


def _idle_of(classes: tuple[str, ...], idle: Sequence[str]) -> tuple[str, ...]:
    for name in idle:
        if name not in classes:
            close = difflib.get_close_matches(name, classes, n=1)
            raise InputError(
                f"--idle={','.join(idle)}: {name!r} is not in mapping.txt"
                + (f"; did you mean {close[0]!r}?" if close else ".")
            )
    if set(idle) == set(classes):
        raise InputError(
            f"--idle={','.join(idle)} names all classes, so that the videos would show "
            "nothing; leave out those in which something is done."
        )
    return tuple(idle) or tuple(name for name in classes if name in IDLE_CLASSES)
