"""serve --label, as a user runs it."""

import pathlib
import types

import pytest

from svtas_jax import serve
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.runtime import cli
from svtas_jax.serving import server
from svtas_jax.serving.labelling import state
from svtas_jax.serving.labelling.folder import Folder


@pytest.fixture
def given(monkeypatch, tmp_path):
    """The flags of the command."""
    (tmp_path / "Videos").mkdir()
    (tmp_path / "Videos" / "a.mp4").touch()
    flags = types.SimpleNamespace(
        label=str(tmp_path),
        workdir=None,
        checkpoint="best",
        engine="jax",
        source=None,
        host="127.0.0.1",
        port=0,
        token="",
        **dict.fromkeys(cli.SMOOTHING, 0.0),
    )
    monkeypatch.setattr(serve.flags, "FLAGS", flags)
    return flags


def test_the_page_needs_no_run(monkeypatch, given):
    calls = []
    monkeypatch.setattr(
        server, "serve", lambda found, _, **options: calls.append((found, options))
    )
    given.token = "a-long-secret"
    serve.main()
    ((found, options),) = calls
    assert isinstance(found, state.LabelState) and found.proposer is None
    assert found.folder.root == pathlib.Path(given.label)
    assert options == {"host": "127.0.0.1", "token": "a-long-secret"}


def test_a_run_is_loaded_and_refusals_are_one_message(monkeypatch, given):
    asked = []

    def load(*names, **own):
        asked.append((names, own))
        raise InputError("there is no run")

    monkeypatch.setattr(serve.runs, "load", load)
    given.workdir = "runs/x"
    with pytest.raises(InputError, match="there is no run"):
        serve.main()
    assert asked == [(("runs/x", "best"), {"engine": "jax"})]
    given.workdir, given.source = None, ["0"]
    with pytest.raises(InputError, match="leave out --source"):
        serve.main()
    given.source, given.hysteresis = None, 0.2
    with pytest.raises(InputError, match="--hysteresis smooths what .* leave it out"):
        serve.main()
    given.hysteresis, given.host = 0.0, "0.0.0.0"
    with pytest.raises(InputError, match="--token=SECRET is needed"):
        serve.main()
    given.host, given.label = "127.0.0.1", None
    with pytest.raises(MissingInputError, match="or --label=FOLDER"):
        serve.main()


def test_videos_may_be_elsewhere(tmp_path):
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "b.mp4").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "videos.txt").write_text(f"b\t{tmp_path}/card/b.mp4\n")
    (video,) = Folder(tmp_path / "root").videos()
    assert (video.name, video.path) == ("b", tmp_path / "card" / "b.mp4")
