"""A run that was stopped anywhere must end as one that was not."""

import shutil
import signal

import jax
import numpy as np
import pytest
from fault_campaign import curves_of
from stopping import StopAt

from svtas_jax.checkpoints import resume, store
from svtas_jax.errors import InputError
from svtas_jax.runtime import interruption
from svtas_jax.training import loop

pytestmark = pytest.mark.usefixtures("tiny_commands")


@pytest.fixture(params=[pytest.param(0, marks=pytest.mark.slow), 2])
def config(request, folder, tiny):
    config = tiny.config("transeger")
    for index, num_frames in enumerate((40, 17, 33, 24, 29)):
        folder.add(f"train {index}", num_frames, subsets=("train",))
    config.data.root = str(folder.root)
    config.data.dataset = "tiny"
    config.train.update(num_epochs=2, chunks_per_call=1, log_every_steps=3)
    config.train.chunks_per_step = request.param
    config.eval.batch_size = 2
    return config


def run_in_parts(config, workdir, monkeypatch, number):
    """Stops and starts again every `number` looks; returns the state and how often."""
    monkeypatch.setattr(loop, "Interruption", lambda: StopAt(number))
    for count in range(1000):
        try:
            return loop.train(config, str(workdir)), count
        except interruption.Interrupted:
            assert (workdir / resume.INTERRUPTED).is_dir()
    raise AssertionError("never ends")


@pytest.mark.parametrize("number", [9, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_in_parts_is_a_whole_run(config, tmp_path, monkeypatch, number):
    whole, none = run_in_parts(config, tmp_path / "whole", monkeypatch, -1)
    parts, count = run_in_parts(config, tmp_path / "parts", monkeypatch, number)
    assert none == 0 and count >= 2
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    assert curves_of(tmp_path / "parts") == curves_of(tmp_path / "whole")
    assert not (tmp_path / "parts" / resume.INTERRUPTED).exists()


class CrashAt(StopAt):
    """Breaks down instead: nothing is saved at that moment."""

    requested = False

    def check(self):
        if StopAt.requested.fget(self):
            raise Crash


class Crash(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("config", [2], indirect=True)
def test_a_run_that_breaks_down_goes_on_from_between_evaluations(
    config, tmp_path, monkeypatch
):
    config.train.update(num_epochs=3, save_every_steps=2, eval_every_epochs=3)
    whole, _ = run_in_parts(config, tmp_path / "whole", monkeypatch, -1)
    begun = []
    for number in (5, 4, 7, -1):
        monkeypatch.setattr(loop, "Interruption", lambda n=number: CrashAt(n))
        try:
            parts = loop.train(config, str(tmp_path / "parts"))
        except Crash:
            begun.append(resume.newest(str(tmp_path / "parts"))[0][1])
    assert begun == sorted(set(begun)) and len(begun) == 3
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    assert curves_of(tmp_path / "parts") == curves_of(tmp_path / "whole")


def test_sigterm_is_remembered_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with interruption.Interruption() as signals:
        signals.check()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(interruption.Interrupted):
            signals.check()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("config", [0], indirect=True)
def test_a_damaged_checkpoint_is_left_out(config, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(loop, "Interruption", lambda: StopAt(-1))
    config.train.num_epochs = 1
    loop.train(config, str(tmp_path))
    ((_, first),) = resume.newest(str(tmp_path))
    config.train.weight_decay = 0.5
    with pytest.raises(InputError, match="weight_decay.*the run began with"):
        loop.train(config, str(tmp_path))
    config.train.weight_decay = 1e-4
    shutil.copytree(tmp_path / store.FOLDER / str(first), tmp_path / "kept")
    config.train.num_epochs = 2
    whole = loop.train(config, str(tmp_path))
    _, last = resume.newest(str(tmp_path))[0]
    folder = tmp_path / store.FOLDER
    shutil.rmtree(folder / str(first), ignore_errors=True)
    shutil.move(tmp_path / "kept", folder / str(first))
    shutil.rmtree(folder / str(last) / "model")
    (folder / str(last) / "model").mkdir()
    again = loop.train(config, str(tmp_path))
    assert f"{last} is damaged" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    assert (tmp_path / "damaged" / f"{store.FOLDER}-{last}").is_dir()
    assert list((folder / str(last) / "model").iterdir())  # saved again
    steps = [step for _, step in resume.newest(str(tmp_path))]
    for step in steps:
        shutil.rmtree(folder / str(step) / "model")
        (folder / str(step) / "model").mkdir()
    with pytest.raises(InputError, match=f"none of the {len(steps)} checkpoints"):
        loop.train(config, str(tmp_path))
