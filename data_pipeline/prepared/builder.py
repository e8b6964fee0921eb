"""Writes a data set as ArrayRecord files, in the form of a TFDS data set."""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import tensorflow_datasets as tfds
from absl import logging

from data_pipeline import annotations
from data_pipeline.checks import check_records
from data_pipeline.prepared import index as prepared_index
from data_pipeline.prepared import reader, shards
from data_pipeline.prepared.index import INDEX_FILE
from data_pipeline.prepared.shards import OPTION, Encoding, Shard
from data_pipeline.prepared.workers import Mapper
from svtas_jax.errors import InputError
from svtas_jax.runtime.files import make_folder, writing
from svtas_jax.structs import VideoRecord


class SvtasVideos(tfds.core.ShardBasedBuilder):
    """Writes all videos of a data set in order, as one split of TFDS.

    The files come from `shards.write_shard`, not from TFDS's own loops: those of its
    generator-based builder need TensorFlow as soon as there is more than a gigabyte,
    and those of this base class hold a whole file in memory.

    Args:
        records: the videos, in order.
        encoding: of the records.
        mapper: writes the files; see `workers`.
        **kwargs: of the base class.
    """

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # TFDS would look for lists of downloads beside this file

    def __init__(
        self,
        *,
        records: Sequence[VideoRecord],
        encoding: Encoding,
        mapper: Mapper,
        **kwargs: Any,
    ) -> None:
        self._records, self._encoding, self._mapper = records, encoding, mapper
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Videos of actions; their labels are in {INDEX_FILE}.",
            features=shards.features_of(self._encoding),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager):
        raise NotImplementedError("_download_and_prepare writes the shards.")

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        names = self._get_filename_template(split_name=reader.SPLIT)
        tasks = self._shards(names)
        list(self._mapper(tasks))
        split = tfds.core.SplitInfo(
            name=reader.SPLIT,
            shard_lengths=[task.num_records for task in tasks],
            num_bytes=sum(os.path.getsize(task.path) for task in tasks),
            filename_template=names,
        )
        self.info.set_splits(tfds.core.SplitDict([split]))

    def _shards(self, names: tfds.core.ShardedFileTemplate) -> list[Shard]:
        parts = shards.cut_into_shards(self._records, self._encoding)
        return [
            Shard(
                videos,
                first,
                os.fspath(names.sharded_filepath(shard_index=i, num_shards=len(parts))),
                self._encoding,
            )
            for i, (first, videos) in enumerate(parts)
        ]


def prepare(
    data_config: ml_collections.ConfigDict,
    output: str | os.PathLike,
    *,
    encoding: Encoding,
    mapper: Mapper,
    versions: Mapping[str, str],
    commit: str | None = None,
) -> None:
    """Writes a prepared folder, whole or not at all.

    Args:
        data_config: `config.data`, of videos in a layout of `annotations`.
        output: the folder; it is left alone if it holds the same already.
        encoding: of the records.
        mapper: writes the files.
        versions: of the packages, kept in the index.
        commit: of this program, if it is a checkout; likewise.

    Raises:
        InputError: if a video or label is wrong, or the folder cannot be written.
    """
    output = pathlib.Path(output).absolute()
    _check_source(data_config)
    splits = annotations.all_split_names(data_config)
    records = annotations.read_videos(data_config, _names(splits))
    classes = annotations.class_names(data_config)
    index = prepared_index.Index(
        encoding=encoding.name,
        quality=encoding.quality,
        resize=encoding.resize,
        frame_stride=encoding.frame_stride,
        classes=classes,
        splits=splits,
        videos=shards.index_entries(records, encoding),
        versions=dict(versions),
        commit=commit,
    )
    if _is_done(output, index):
        logging.info("%s is prepared already, with the same settings", output)
        return
    check_records(records, classes)
    _write(output, index, records, encoding, mapper)


def make_encoding(
    data_config: ml_collections.ConfigDict, name: str, quality: int = 95
) -> Encoding:
    """Returns how `config.data` wants its pictures; a video file stays as it is."""
    if name == "video":
        return Encoding(name, quality=0, resize=(0, 0), frame_stride=0)
    return Encoding(
        name,
        quality=quality if name == "jpeg" else 0,
        resize=tuple(data_config.resize),
        frame_stride=data_config.frame_stride,
    )


def _check_source(data_config: ml_collections.ConfigDict) -> None:
    if prepared_index.is_prepared(data_config.root):
        raise InputError(
            f"config.data.root={data_config.root} is prepared already; name the folder "
            "that holds Videos/."
        )
    if data_config.features:
        raise InputError(
            f"config.data.features={data_config.features!r}: videos are prepared, "
            "not features; use --config.data.features="
        )


def _names(splits: dict[int, dict[str, tuple[str, ...]]]) -> list[str]:
    """Returns every video of any split once."""
    return sorted(
        {n for split in splits.values() for part in split.values() for n in part}
    )


def _is_done(output: pathlib.Path, index: prepared_index.Index) -> bool:
    """Says whether the folder holds what is wanted; raises if it holds else."""
    if not prepared_index.is_prepared(output):
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(
                f"{output} holds other files; choose another {OPTION}, or empty it."
            )
        return False
    found = prepared_index.read_index(output)
    for field in dataclasses.fields(index):
        if field.name in ("shards", "versions", "commit"):
            continue
        if getattr(found, field.name) != getattr(index, field.name):
            raise InputError(
                f"{output} was prepared with other data or settings ({field.name} "
                f"differs); choose another {OPTION}, or delete it."
            )
    return True


def _write(
    output: pathlib.Path,
    index: prepared_index.Index,
    records: Sequence[VideoRecord],
    encoding: Encoding,
    mapper: Mapper,
) -> None:
    with _new_folder(output) as folder:
        builder = SvtasVideos(
            records=records, encoding=encoding, mapper=mapper, data_dir=folder
        )
        # TFDS prints where it writes, which is not where the data will be.
        with contextlib.redirect_stdout(io.StringIO()), writing(output, option=OPTION):
            builder.download_and_prepare(download_dir=folder / "downloads")
        written = pathlib.Path(builder.data_dir)
        files = sorted(written.glob("*.array_record*"))
        sizes = {path.name: path.stat().st_size for path in files}
        index = dataclasses.replace(index, shards=sizes)
        prepared_index.write_index(written, index)
        with writing(output, option=OPTION):
            os.replace(written, output)
    logging.info(
        "prepared %d videos, %.1f MB: %s",
        *(len(records), sum(sizes.values()) / 1e6, output),
    )


@contextlib.contextmanager
def _new_folder(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder beside `output`, on the same disk, that is gone afterwards."""
    parent = make_folder(output.parent, option=OPTION)
    for leftover in sorted(parent.glob(f"{output.name}.preparing-*")):
        logging.warning(
            "%s was left by a preparation that was killed, unless it is still going "
            "on; delete it.",
            leftover,
        )
    with writing(output, option=OPTION):
        folder = tempfile.mkdtemp(prefix=f"{output.name}.preparing-", dir=parent)
    try:
        yield pathlib.Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
