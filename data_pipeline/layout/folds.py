"""Cuts a data set into folds: whole groups, and every class in every fold if it can."""

import itertools
import re
from collections.abc import Sequence

import numpy as np

from data_pipeline import groups as grouping
from data_pipeline.layout.findings import Finding
from svtas_jax.errors import InputError

_FREE = -1
_MOST_MOVES = 200  # each is a pass over all pairs of groups
_GROUP_IN_NAME = re.compile(r"((?:[A-Za-z]{1,8}[-_]?)?\d+)[-_ .]")


def groups_of(names: Sequence[str], pattern: str) -> tuple[str, ...]:
    """Returns the group of every video, such as the person.

    Args:
        names: of the videos.
        pattern: see `data_pipeline.groups`; "" makes every video a group.

    Raises:
        InputError: if the pattern is none, or a name does not match.
    """
    if not pattern:
        return tuple(names)
    return grouping.groups_of(names, pattern, "--group")


def groups_in_names(names: Sequence[str]) -> tuple[str, ...]:
    """Returns what every name begins with, such as "S1" or "rgb-01"; () if it tells
    no groups apart."""
    matches = [_GROUP_IN_NAME.match(name) for name in names]
    groups = tuple(match[1] for match in matches if match)
    return groups if len(groups) == len(names) > len(set(groups)) > 1 else ()


def make_folds(
    groups: Sequence[str],
    frames: np.ndarray,
    num_folds: int,
    *,
    kept: Sequence[int | None] = (),
) -> np.ndarray:
    """Returns the fold of every video, the same for the same input.

    The groups with most frames come first; each goes to the fold whose classes are
    then spread most evenly, as in scikit-learn's StratifiedGroupKFold. Then groups
    move or change places as long as that evens the folds further.

    Args:
        groups: the group of every video.
        frames: (V, K) frames of every class in every video.
        num_folds: at most the number of groups.
        kept: the fold that a video, and so its group, keeps, None for those that are
            free; () if all are.

    Raises:
        InputError: if there are fewer groups than folds, or fewer than two folds.
    """
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    if not 2 <= num_folds <= len(names):
        raise InputError(_impossible(num_folds, len(names)))
    weights = np.zeros((len(names), frames.shape[1] + 1))
    np.add.at(weights[:, :-1], group_of, frames)
    weights[:, -1] = weights.sum(axis=1)  # the size
    # Shares of every class, so that rare ones count as much. Sizes weigh more than all
    # classes together: an empty fold must be filled before others grow.
    weights /= np.maximum(weights.sum(axis=0), 1)
    weights[:, :-1] /= np.sqrt(max(1, frames.shape[1]))
    fold_of = np.full(len(names), _FREE)
    for group, fold in zip(group_of, kept, strict=False):
        if fold is not None:
            fold_of[group] = fold
    is_free = fold_of == _FREE
    _spread(fold_of, weights, num_folds)
    _improve(fold_of, weights, num_folds, is_free)
    return fold_of[group_of]


def kept_folds(
    names: Sequence[str], groups: Sequence[str], tested: Sequence[Sequence[str]]
) -> list[int | None]:
    """Returns the fold that each video keeps, None for new videos.

    A video that was tested stays a test video when videos are added, so that a model
    that goes on training has never seen it.

    Args:
        names: of the videos.
        groups: of the videos.
        tested: the test videos of every split that there was before.

    Returns:
        (V,) the folds; all None if the groups were cut otherwise before.
    """
    fold_of = {name: fold for fold, part in enumerate(tested) for name in part}
    kept = [fold_of.get(name) for name in names]
    pairs = {(g, f) for g, f in zip(groups, kept, strict=True) if f is not None}
    return kept if len(pairs) == len({g for g, _ in pairs}) else [None] * len(names)


def _spread(fold_of: np.ndarray, weights: np.ndarray, num_folds: int) -> None:
    """Gives every free group a fold, in place."""
    sums = np.stack([weights[fold_of == f].sum(axis=0) for f in range(num_folds)])
    for group in np.argsort(-weights[:, -1], kind="stable"):
        if fold_of[group] != _FREE:
            continue
        # The sum of squares grows by 2 * sums * own + own**2.
        fold_of[group] = int(np.argmin(sums @ weights[group]))
        sums[fold_of[group]] += weights[group]


def _improve(
    fold_of: np.ndarray, weights: np.ndarray, num_folds: int, is_free: np.ndarray
) -> None:
    """Moves one group, or swaps two, while that makes the sum of squares smaller."""
    free = np.flatnonzero(is_free)
    for _ in range(_MOST_MOVES):
        best, change = -1e-9, None
        sums = np.stack([weights[fold_of == f].sum(axis=0) for f in range(num_folds)])
        for group, fold in itertools.product(free, range(num_folds)):
            own = fold_of[group]
            others = [None, *free[fold_of[free] == fold]] if fold != own else []
            for other in others:
                step = weights[group] - (0 if other is None else weights[other])
                gain = 2 * step @ (sums[fold] - sums[own] + step)
                if gain < best and (other is not None or (fold_of == own).sum() > 1):
                    best, change = gain, (group, fold, other)
        if change is None:
            break
        group, fold, other = change
        if other is not None:
            fold_of[other] = fold_of[group]
        fold_of[group] = fold


def _impossible(num_folds: int, num_groups: int) -> str:
    if num_groups < 2:
        return (
            "All videos are of one group, so none can be kept for testing: add videos "
            "of another group, or leave out --group."
        )
    return (
        f"--folds={num_folds}: {num_groups} groups of videos make 2 to {num_groups} "
        "folds; choose a number of folds between."
    )


def describe_folds(
    fold_of: np.ndarray, frames: np.ndarray, classes: Sequence[str]
) -> list[Finding]:
    """Returns the classes that a split cannot train or test."""
    found = []
    for fold in range(int(fold_of.max()) + 1):
        for subset in ("train", "test"):
            chosen = (fold_of == fold) == (subset == "test")
            absent = np.flatnonzero((frames[chosen].sum(axis=0) == 0) & frames.any(0))
            severity = "warning" if subset == "train" else "note"
            for index in map(int, absent):
                found.append(
                    Finding(
                        *(severity, f"class absent from {subset}", f"split {fold + 1}"),
                        f"no {subset} video has the class {classes[index]!r}",
                    )
                )
    return found


def describe_kept(
    names: Sequence[str],
    kept: Sequence[int | None],
    tested: Sequence[Sequence[str]],
) -> list[Finding]:
    """Says what became of the splits that there were before."""
    num_new = sum(fold is None for fold in kept)
    if not tested or not num_new:
        return []
    if num_new == len(names):
        text = "were cut anew, for groups or videos are others than before"
        remedy = "a run that was trained before may have seen videos that test it now"
        return [Finding("warning", "splits", "all videos", text, remedy)]
    text = f"{len(names) - num_new} videos stay where they were, {num_new} are new"
    return [Finding("note", "splits", "splits", text)]


def hint_at_groups(names: Sequence[str]) -> list[Finding]:
    """Returns a hint if names look as if they named persons or days."""
    groups = set(groups_in_names(names))
    if not groups:
        return []
    text = f"all names begin with one of {', '.join(sorted(groups)[:6])}"
    pattern = re.sub(r"\d+", lambda _: r"\d+", re.escape(min(groups)))
    remedy = (
        "if that names the person, the day or the place, keep each on one side of a "
        f"split, or scores look better than they are: --group='({pattern})'"
    )
    return [Finding("warning", "groups in names", "names", text, remedy)]
