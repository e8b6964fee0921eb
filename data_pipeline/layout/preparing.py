"""Prepares a data set: reads videos and annotations, labels every frame, writes."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from data_pipeline.annotators.segments import Annotation
from data_pipeline.layout import classes as naming
from data_pipeline.layout import folds, media, proposal, texts, writing
from data_pipeline.layout.findings import Finding, by_kind, describe
from data_pipeline.layout.labelling import Rules, label_frames
from data_pipeline.layout.matching import NamedVideo, list_videos, match
from data_pipeline.video_files import VIDEO_LIST
from svtas_jax.errors import InputError

_DEFAULT_FOLDS = 4


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command was told; see its flags."""

    videos: pathlib.Path
    output: pathlib.Path
    rules: Rules = Rules()
    classes: tuple[str, ...] = ()
    renames: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folds: int = 0
    crop: int = 0
    init_from: str = ""
    group: str = ""
    partial: bool = False
    place: str = "copy"  # or "link", or "stay"
    overwrite: bool = False


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A data set before it is written.

    Attributes:
        videos: in order.
        labels: of their frames, int32.
        media: what is known of their files.
        classes: names by index.
        fold_of: (V,) the fold whose test part holds a video.
        groups: of the videos.
        settings: proposed.
        findings: of severity "warning" and "note".
    """

    videos: tuple[NamedVideo, ...]
    labels: tuple[np.ndarray, ...]
    media: Mapping[NamedVideo, media.Media]
    classes: tuple[str, ...]
    fold_of: np.ndarray
    groups: tuple[str, ...]
    settings: tuple[proposal.Setting, ...]
    findings: tuple[Finding, ...]


def prepare(options: Options, annotations: Sequence[Annotation], command: str) -> None:
    """Writes the data set.

    Args:
        options: see `Options`.
        annotations: of the videos.
        command: how it was called, for the report.

    Raises:
        InputError: if videos, annotations or options do not make a data set; nothing is
            written then.
    """
    in_place = writing.is_in_place(options.output, options.videos)
    prepared = label_videos(options, annotations)
    files = texts.all_files(prepared, options.output, command)
    writing.keep_own_config(options.output, files)
    if in_place:
        writing.write_beside(options.output, files, overwrite=options.overwrite)
    else:
        videos = {
            f"Videos/{video.name}{video.path.suffix}": video.path
            for video in prepared.videos
        }
        if options.place == "stay":
            files[VIDEO_LIST] = texts.video_list(prepared.videos)
            videos = {}
        link = options.place == "link"
        writing.write_new(options.output, files, videos, link=link)
    logging.info("%s", texts.summary(prepared, options.output))


def label_videos(options: Options, annotations: Sequence[Annotation]) -> Prepared:
    """Labels every frame of every video, and cuts the set into folds.

    Raises:
        InputError: with all findings of severity "error".
    """
    videos = list_videos(options.videos)
    annotations = naming.rename(annotations, options.renames)
    matches = match(videos, annotations, partial=options.partial)
    chosen = [annotation for _, annotation in matches.pairs]
    rules = options.rules
    classes, found = naming.order_classes(chosen, options.classes, rules.fill)
    findings = [*matches.findings, *found]
    _stop_at_errors(findings)
    if len(matches.pairs) < 2:
        raise InputError(
            f"There is {len(matches.pairs)} labelled video, and one to train on and "
            "one to test on are needed: add videos, or cut it into several."
        )
    files, found = media.examine_all([video for video, _ in matches.pairs])
    findings += [*found, *media.describe_media(files)]
    index_of = {name: index for index, name in enumerate(classes)}
    labels = {}
    for video, annotation in matches.pairs:
        if video in files:
            times = files[video].times_s
            labels[video], found = label_frames(annotation, times, index_of, rules)
            findings += found
    _stop_at_errors(findings)
    return _split(options, labels, files, classes, findings)


def _split(
    options: Options,
    labels: Mapping[NamedVideo, np.ndarray],
    files: Mapping[NamedVideo, media.Media],
    classes: tuple[str, ...],
    findings: list[Finding],
) -> Prepared:
    videos = tuple(labels)
    groups = folds.groups_of([video.name for video in videos], options.group)
    frames = np.stack([np.bincount(v, minlength=len(classes)) for v in labels.values()])
    tested = writing.tested_before(options.output)
    if options.folds and options.folds != len(tested):
        tested = []
    num_folds = options.folds or len(tested) or min(_DEFAULT_FOLDS, len(set(groups)))
    names = [video.name for video in videos]
    kept = folds.kept_folds(names, groups, tested)
    fold_of = folds.make_folds(groups, frames, num_folds, kept=kept)
    findings += folds.describe_kept(names, kept, tested)
    findings += folds.describe_folds(fold_of, frames, classes)
    if not options.group:
        findings += folds.hint_at_groups(names)
    logging.info("Measuring colours")
    background = [
        name for name in classes if naming.is_background(name, options.rules.fill)
    ]
    settings = proposal.propose(
        [
            proposal.Labelled(
                v.name, labels[v], files[v].fps, files[v].height, files[v].width
            )
            for v in videos
        ],
        classes,
        background,
        num_train=int(np.sum(fold_of != 0)),
        colours=media.measure_colours([video.path for video in videos]),
        crop=options.crop,
        init_from=options.init_from,
        group=options.group,
        num_train_groups=min(
            len({g for g, own in zip(groups, fold_of, strict=True) if own != fold})
            for fold in range(num_folds)
        ),
    )
    return Prepared(
        videos=videos,
        labels=tuple(labels.values()),
        media=files,
        classes=classes,
        fold_of=fold_of,
        groups=groups,
        settings=settings,
        findings=tuple(findings),
    )


def _stop_at_errors(findings: Sequence[Finding]) -> None:
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        counts = ", ".join(f"{k} ({len(g)})" for (_, k), g in by_kind(errors).items())
        raise InputError(
            f"Nothing was written, for videos and annotations need a decision "
            f"({counts}):\n{describe(errors)}"
        )
