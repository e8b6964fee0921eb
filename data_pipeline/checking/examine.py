"""Examines a data set: reads its text, scans its videos, and applies all rules."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import ml_collections

from data_pipeline import annotations, features, video
from data_pipeline.checking import content, dataset, label_rules, video_rules
from data_pipeline.checking.dataset import DataSet, file_size
from data_pipeline.checking.facts import Job, Scan
from data_pipeline.checking.findings import Finding, in_order
from data_pipeline.checking.kinds import Severity
from data_pipeline.checking.scan import Scanner
from data_pipeline.dataset import feature_width
from svtas_jax.errors import InputError

_MOST_BORDERS = 900  # of which the page shows pictures, in all videos together
_BORDERS_A_VIDEO = 40


@dataclasses.dataclass(frozen=True, eq=False)
class Examination:
    """A data set, and all that was found in it.

    Attributes:
        data: its labels, splits and files.
        scans: what decoding each video told, by its name; none of features.
        findings: the worst first.
    """

    data: DataSet
    scans: Mapping[str, Scan]
    findings: tuple[Finding, ...]

    @property
    def has_errors(self) -> bool:
        """Whether anything must be put right before training."""
        return any(f.severity == Severity.ERROR for f in self.findings)

    def also(self, findings: Sequence[Finding]) -> "Examination":
        """Returns the same with more findings."""
        return dataclasses.replace(self, findings=in_order([*self.findings, *findings]))


def examine(
    data_config: ml_collections.ConfigDict, scanner: Scanner, *, ignore: Sequence = ()
) -> Examination:
    """Examines the data set of `config.data`.

    Args:
        data_config: `config.data`.
        scanner: decodes the videos; see `scan.in_threads`.
        ignore: kinds of findings to leave out.

    Raises:
        MissingInputError: if there is no such folder.
    """
    found: list[Finding] = []
    data = dataset.read(data_config, found)
    found += label_rules.check(data)
    jobs = [] if data_config.features else _jobs(data)
    done = {job.name: result for job, result in scanner(jobs)}
    scans = {job.name: done[job.name] for job in jobs}
    for name, result in scans.items():
        if result.info and not result.failure and not data.is_prepared:
            video.remember_times(data.videos[name], result.times)
    found += video_rules.check(data, scans)
    found += content.check(data, scans)
    found += _features(data)
    found += _as_training_reads(data, found)
    found += _unchecked(data)
    kept = [finding for finding in found if finding.kind not in ignore]
    return Examination(data, scans, in_order(kept))


def borders(data: DataSet, name: str) -> list[int]:
    """Returns the first frames of the segments whose borders the page shows: all if
    they are few, else those beside the shortest segments."""
    segments = data.segments.get(name, [])
    limit = max(1, _MOST_BORDERS // max(1, len(data.labels)))
    order = sorted(
        range(1, len(segments)),
        key=lambda i: min(s.end - s.start for s in segments[i - 1 : i + 1]),
    )
    kept = order[: min(limit, _BORDERS_A_VIDEO)]
    return sorted(segments[i].start for i in kept)


def _jobs(data: DataSet) -> list[Job]:
    """Returns what to decode, the largest file first: it takes longest."""
    jobs = []
    for name, path in data.videos.items():
        starts = borders(data, name)
        thumbs = sorted({frame for start in starts for frame in (start - 1, start)})
        record = data.records.get(name)
        if record is not None and record.prepared and record.prepared.frame_stride:
            stride = record.prepared.frame_stride
            thumbs = sorted({frame // stride * stride for frame in thumbs})
        num_frames = len(data.labels.get(name, ()))
        jobs.append(Job(name, str(path), num_frames, tuple(thumbs), record))
    if data.is_prepared:
        return jobs
    return sorted(jobs, key=lambda job: -file_size(pathlib.Path(job.path)))


def _features(data: DataSet) -> Iterator[Finding]:
    if not data.config.features or data.is_prepared:
        return
    for name, path in data.videos.items():
        try:
            features.check_finite(str(path))
        except InputError as error:
            file = data.video_file(name)
            what = str(error).removeprefix(f"{path} ")
            yield Finding("bad_features", file, what, video=name)


def _as_training_reads(data: DataSet, found: Sequence[Finding]) -> list[Finding]:
    """Reads each video that has no error as training does: nothing that training
    refuses may pass."""
    errors = [f for f in found if f.severity == Severity.ERROR]
    if data.is_prepared or any(f.file == "mapping.txt" for f in errors):
        return []
    bad = {finding.video for finding in errors}
    kind = "bad_features" if data.config.features else "refused"
    refused, records = [], []
    for name in data.used:
        if name in bad:
            continue
        try:
            records += annotations.read_videos(data.config, [name])
        except InputError as error:
            file, what = data.video_file(name), str(error)
            refused.append(Finding(kind, file, what, video=name))
    try:
        feature_width(records)
    except InputError as error:
        refused.append(Finding(kind, data.config.features, str(error)))
    return refused


def _unchecked(data: DataSet) -> Iterator[Finding]:
    if data.is_prepared:
        what = "prepared data hold no video files: their headers, time stamps, rotation"
        yield Finding("not_examined", "videos.json", f"{what} and sizes are not known")
    elif data.config.features:
        what = "features are read, no pictures: black, frozen or repeated ones, and "
        what += "videos that are there twice, are not looked for"
        yield Finding("not_examined", data.config.features, what)
