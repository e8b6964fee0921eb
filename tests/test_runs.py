"""The public interface on a small run: load, segment, stream, push."""

import dataclasses
import json
import types

import numpy as np
import pytest

import svtas_jax
from data_pipeline import annotations, video
from svtas_jax import evaluate, runs
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.evaluation import comparison, measure, scoring, timeline
from svtas_jax.runtime import configs
from svtas_jax.smoothing import Smoothing
from svtas_jax.training import loop

pytestmark = pytest.mark.usefixtures("tiny_commands_of_module")


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory, data_folder):
    """A run of one epoch, and a video of 29 frames."""
    folder = data_folder(tmp_path_factory.mktemp("runs") / "data")
    config = tiny.config("transeger")
    for index, num_frames in enumerate((17, 24, 29)):
        folder.add(f"video {index}", num_frames)
    config.data.update(root=str(folder.root), dataset="tiny")
    config.train.update(num_epochs=1, log_every_steps=1)
    workdir = folder.root.parent / "run"
    loop.train(config, str(workdir))
    return workdir, folder.root / "Videos" / "video 2.avi"


@pytest.fixture(scope="module")
def run(trained):
    return svtas_jax.load(trained[0])


def test_a_run_says_what_it_is(run, trained):
    assert run.class_names == ("take", "open jar", "gießen", "background")
    assert run.fps == 15.0
    assert run.config.model.system == "transeger"
    with pytest.raises(MissingInputError, match="holds no checkpoints"):
        svtas_jax.load(trained[0].parent)


def test_segments_tile_the_video(run, trained):
    result = run.segment(trained[1])
    assert result.num_frames == 29
    assert result.scores.shape == (29, 4)
    np.testing.assert_allclose(result.scores.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(result.labels, result.scores.argmax(axis=1))
    segments = result.segments
    assert segments[0].start_frame == 0 and segments[-1].end_frame == 29
    assert segments[-1].end_s == pytest.approx(29 / 15)
    for before, after in zip(segments[:-1], segments[1:], strict=True):
        assert before.end_frame == after.start_frame and before.end_s == after.start_s
        assert before.label != after.label
    names = [run.class_names[label] for label in result.labels]
    assert result.label_names == names
    assert result._repr_png_().startswith(b"\x89PNG")
    assert repr(result).startswith("VideoResult(29 frames from 0.0 s to 1.9 s, ")


def test_a_segmented_video_has_the_labels_of_its_evaluation(run, trained):
    run.evaluate()
    path = trained[0] / "evaluation" / "predictions" / "video 2.txt"
    said = path.read_text(encoding="utf-8").splitlines()
    assert said == run.segment(trained[1]).label_names
    saved = json.loads((trained[0] / "evaluation/report.json").read_text("utf-8"))
    assert "online" not in saved


def test_an_evaluation_with_the_true_labels_says_that_it_is_no_result(
    run, trained, monkeypatch
):
    made, make = [], scoring.make_told_segmenter
    monkeypatch.setattr(
        scoring, "make_told_segmenter", lambda *given: made.append(1) or make(*given)
    )
    run.evaluate()
    assert not made
    run.evaluate(true_labels=True)
    assert made
    folder = trained[0] / "evaluation_true_labels"
    text = (folder / "report.md").read_text("utf-8")
    assert text.startswith("# Evaluation with true labels fed\n\n**Not a result:")
    assert "with true labels fed" in (folder / "report.html").read_text("utf-8")
    saved = json.loads((folder / "report.json").read_text("utf-8"))
    assert saved["run"]["true_labels_fed"] is True
    usual = json.loads((trained[0] / "evaluation/report.json").read_text("utf-8"))
    assert "true_labels_fed" not in usual["run"]


def test_smoothed_labels_are_measured_and_said(run, trained, monkeypatch):
    def make_scorer(model, config, **_):
        def score(variables, records):
            for record in records:
                # Every second step, of 2 frames each, is of another class, narrowly.
                logits = np.zeros((record.num_frames, 4), np.float32)
                logits[:, 1] = 1.0
                logits[np.arange(record.num_frames) % 4 >= 2, 2] = 1.1
                yield scoring.VideoScores(record, logits)

        return score

    monkeypatch.setattr(measure, "make_scorer", make_scorer)
    usual = run.evaluate()
    held = run.evaluate(smoothing=Smoothing(hysteresis=0.2), online=True)
    folder = trained[0] / "evaluation_hysteresis_0.2"
    said = (folder / "predictions" / "video 2.txt").read_text("utf-8").splitlines()
    assert said == ["open jar"] * 29
    assert held.metrics["segment_ratio"] < usual.metrics["segment_ratio"]
    assert held.online["metrics"]["acc"] == held.metrics["acc"]
    text = (folder / "report.md").read_text("utf-8")
    assert text.startswith(
        "# Evaluation with smoothed labels\n\n**Labels are held back"
    )
    assert "does with --hysteresis=0.2: the" in text
    assert "with smoothed labels" in (folder / "report.html").read_text("utf-8")
    saved = json.loads((folder / "report.json").read_text("utf-8"))
    assert saved["run"]["smoothing"] == {"hysteresis": 0.2}
    assert "smoothing" not in usual.run
    (note,) = comparison.compare([str(trained[0]), str(folder)]).notes
    assert note.startswith("Labels are as the model says in")
    assert "but smoothed by --hysteresis=0.2 in" in note


def test_a_model_without_prompts_is_told_no_labels(run, monkeypatch):
    config = run.config.copy_and_resolve_references()
    config.model.prompt = "none"
    meta = dataclasses.replace(run.meta, config=config.to_dict())
    monkeypatch.setattr(runs, "_read_meta", lambda *_: meta)
    with pytest.raises(InputError, match="prompt='none'; leave --true_labels out"):
        run.evaluate(true_labels=True)


def test_online_metrics_count_the_wait_in_a_chunk(run, trained):
    report = run.evaluate(online=True)
    found = report.online["metrics"]
    # 17, 24 and 29 frames in chunks of 8, of which the last ones hold 1, 8 and 5.
    waits = 8 * sum(range(8)) + 0 + sum(range(5))
    assert found["emission_delay_s"] == pytest.approx(waits / (17 + 24 + 29) / 15)
    assert found["acc"] == report.metrics["acc"]
    assert found["edit"] == report.metrics["edit"]
    folder = trained[0] / "evaluation"
    saved = json.loads((folder / "report.json").read_text("utf-8"))["online"]
    assert saved["answers"] == "every 8 frames"
    assert saved["metrics"]["frame_map"] == found["frame_map"]
    text = (folder / "report.md").read_text("utf-8")
    assert "| Metric | Answers every 8 frames |" in text


def test_online_metrics_need_the_frame_rate(run, monkeypatch):
    def without_rate(data, subset):
        return [
            dataclasses.replace(record, fps=0.0) for record in read_split(data, subset)
        ]

    read_split = annotations.read_split
    monkeypatch.setattr(annotations, "read_split", without_rate)
    with pytest.raises(InputError, match="the frame rate of .* is unknown"):
        run.evaluate(online=True)
    with pytest.raises(InputError, match="--min_duration=1 is in seconds, but"):
        run.evaluate(smoothing=Smoothing(min_duration_s=1.0))
    assert run.evaluate(smoothing=Smoothing(hysteresis=0.2)).metrics


def test_the_command_passes_its_flags_on(monkeypatch):
    given = types.SimpleNamespace(workdir="w", checkpoint="best", config=None)
    given.predictions, given.metrics = None, "ms-tcn"
    given.true_labels = False
    given.min_duration, given.min_confidence, given.hysteresis = 0.0, 0.0, 0.2
    calls = []
    monkeypatch.setattr(evaluate.flags, "FLAGS", given)
    monkeypatch.setattr(evaluate, "_refuse", lambda *_: None)  # reads real flags
    monkeypatch.setattr(evaluate.cli, "integers", lambda name: (8, 16))
    monkeypatch.setattr(
        evaluate.runs, "evaluate", lambda *_, **options: calls.append(options)
    )
    for given.online in (False, True):
        evaluate.main()
    assert [(c["clip_frames"], c["online"]) for c in calls] == [
        *((8, False), (16, False)),
        *((8, True), (16, True)),
    ]
    assert {c["preset"] for c in calls} == {"ms-tcn"}
    assert {c["smoothing"] for c in calls} == {Smoothing(hysteresis=0.2)}


@pytest.mark.parametrize("sizes", [(29,), (1,) * 29, (3, 5, 7, 8, 6), (8, 8, 8, 5)])
def test_pushed_frames_are_answered_as_those_of_the_file(run, trained, sizes):
    frames = video.read_frames(trained[1], range(29))
    expected = run.segment(trained[1])
    with run.open_stream(fps=15) as session:
        found, start = [], 0
        for size in sizes:
            found += session.push(frames[start : start + size])
            start += size
            assert len(found) == (start + 1) // 8 * 4  # as soon as a chunk is complete
        found += session.close()
    assert [step.frame for step in found] == list(range(0, 29, 2))
    assert [step.chunk for step in found] == [n // 4 for n in range(15)]
    for step in found:
        assert step.label == expected.label_names[step.frame]
        np.testing.assert_allclose(step.scores, expected.scores[step.frame], atol=1e-6)
        assert step.time_s == pytest.approx(expected.time_of(step.frame), abs=1e-6)
        assert step.confidence == step.scores.max()
        json.dumps(step.to_json())


def test_chunks_of_a_stream_are_parts_of_its_segmentation(run, trained):
    chunks, whole = list(run.stream(trained[1])), run.segment(trained[1])
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3]
    assert [chunk.start_frame for chunk in chunks] == [0, 8, 16, 24]
    assert [chunk.num_frames for chunk in chunks] == [8, 8, 8, 5]
    labels = np.concatenate([chunk.labels for chunk in chunks])
    np.testing.assert_array_equal(labels, whole.labels)
    for chunk in chunks:
        times = whole.time_of(chunk.step_frames)
        np.testing.assert_allclose(chunk.times_s, times, atol=1e-9)
        json.dumps(chunk.to_json())


def test_a_stream_takes_the_times_that_it_is_given(run):
    frames = np.zeros((9, 10, 12, 3), np.uint8)
    times = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8]) / 7
    with run.open_stream(fps=15) as session:
        found = session.push(frames, times) + session.close()
    # One step is 2 / 15 s: a frame at 1 / 7 s is the nearest to each.
    np.testing.assert_allclose([step.time_s for step in found], times)


@pytest.mark.parametrize("times", [[0, 2, 1], [0, 1, np.nan], [0, 1], [-1, -2, 0]])
def test_times_that_run_back_or_are_missing_are_refused(run, times):
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    with run.open_stream(fps=15) as session, pytest.raises(InputError, match="times"):
        session.push(frames, times)
    with run.open_stream(fps=15) as session:
        session.push(frames, [0, 1, 1])
        with pytest.raises(InputError, match="has come to 1 s"):
            session.push(frames, [0.5, 2, 3])


@pytest.mark.parametrize("fps", [-3, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(run, fps):
    with pytest.raises(InputError, match="must be at least 0"):
        run.open_stream(fps=fps)


@pytest.mark.parametrize(
    "frames, message",
    [
        (np.zeros((2, 8, 8, 4), np.uint8), "uint8 RGB"),
        (np.zeros((8, 8), np.uint8), "uint8 RGB"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
    ],
)
def test_other_frames_are_refused(run, frames, message):
    with run.open_stream(fps=15) as session, pytest.raises(InputError, match=message):
        session.push(frames)


def test_a_closed_stream_takes_no_frames(run):
    session = run.open_stream(fps=15)
    assert session.push(np.zeros((8, 8, 3), np.uint8)) == []
    assert [step.frame for step in session.close()] == [0]
    assert session.close() == []
    with pytest.raises(InputError, match="closed"):
        session.push(np.zeros((8, 8, 3), np.uint8))


def test_a_session_has_the_sources_that_it_was_opened_with(run):
    frame = np.zeros((8, 8, 3), np.uint8)
    with run.open_stream(num_sources=2) as session:
        session.push(frame, source=1)
        with pytest.raises(InputError, match="none of this session's 2"):
            session.push(frame, source=2)
    with pytest.raises(InputError, match="num_sources=0"):
        run.open_stream(num_sources=0)


def test_a_picture_shows_time_and_not_frames():
    labels = np.array([0] * 30 + [1] * 10)
    scores = np.eye(2, dtype=np.float32)[labels]
    frames = np.arange(0, 41, 2)
    times = np.array([*np.arange(0, 30, 2) / 30, *(1 + np.arange(0, 11, 2) / 5)])
    result = svtas_jax.VideoResult(("a", "b"), labels, scores, times, frames)
    starts_s = result.time_of(np.arange(40))
    shown = labels[timeline.frames_at_even_times(starts_s, times[-1])]
    assert abs(np.mean(shown == 0) - 1 / 3) < 0.05  # 1 s of 3 s
    assert result.draw().ndim == 3


def test_a_config_is_found_by_name_and_by_path(tmp_path, monkeypatch):
    by_name = svtas_jax.get_config("gtea_sete")
    monkeypatch.chdir(tmp_path)
    assert svtas_jax.get_config("configs/gtea_sete.py").to_dict() == by_name.to_dict()
    own = tmp_path / "gtea_sete.py"
    own.write_text(
        "import svtas_jax\n\n\ndef get_config():\n"
        "    config = svtas_jax.default_config()\n"
        "    config.seed = 7\n    return config\n"
    )
    assert svtas_jax.get_config(own).seed == 7
    assert svtas_jax.get_config("gtea_sete.py").seed == 7  # a file here comes first
    assert "demo_sete" in configs.names() and len(configs.names()) >= 35
    with pytest.raises(MissingInputError, match="gtea_sete or|or gtea_sete"):
        svtas_jax.get_config("gtea_seet")
    note = tmp_path / "note.txt"
    note.write_text("no config")
    with pytest.raises(InputError, match="note.txt is no config"):
        svtas_jax.get_config(note)
