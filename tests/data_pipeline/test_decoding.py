"""Opening a container, with every PyAV that setup.cfg allows."""

import pathlib

import av
import pytest

from data_pipeline import video
from data_pipeline.decoding import open_container

CASE = pathlib.Path(__file__).parent / "cases" / "half.mp4"
OPEN = av.open


def _open_of_18(
    file, mode, *, options=None, timeout=None, metadata_errors="strict"
) -> av.container.InputContainer:
    assert metadata_errors == "replace"
    return OPEN(file, mode, options=options, timeout=timeout)


def _open_of_19(file, mode, *, options=None, timeout=None):
    return OPEN(file, mode, options=options, timeout=timeout)


@pytest.mark.parametrize(
    ("version", "open_file"), [("18.1.0", _open_of_18), ("19.0.2", _open_of_19)]
)
def test_pyav_gets_the_arguments_that_its_version_knows(
    monkeypatch, version, open_file
):
    monkeypatch.setattr(av, "__version__", version)
    monkeypatch.setattr(av, "open", open_file)
    with open_container(f"file:{CASE}") as container:
        assert container.streams.video[0].frames == 45


@pytest.mark.parametrize("ending", ["mp4", "avi"])
def test_a_tag_that_is_not_utf_8_leaves_a_film_readable(tmp_path, films, ending):
    path = films.garble_tag(films.write(tmp_path / f"a.{ending}", range(12)))
    with open_container(f"file:{path}") as container:
        assert "Lavf" not in str(container.metadata)
        assert "La" in str(container.metadata)
    assert video.probe_video(path).num_frames == video.count_frames(path) == 12
