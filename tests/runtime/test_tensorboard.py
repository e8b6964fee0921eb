"""Event files are read back with TensorBoard's own reader, without TensorFlow."""

import subprocess
import sys

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from svtas_jax.errors import InputError
from svtas_jax.runtime import tensorboard


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0})
    return events.Reload()


def scalars(folder, name):
    return [(event.step, event.value) for event in read(folder).Scalars(name)]


def test_scalars_of_every_kind_come_back(tmp_path):
    writer = tensorboard.make_writer(tmp_path)
    kinds = 0.5, np.float32(0.5), jnp.float32(0.5), jnp.array([0.5]), 2
    for step, value in enumerate(kinds):
        writer.write_scalars(step, {"train/loss": value})
    writer.close()
    assert scalars(tmp_path, "train/loss") == [
        (0, 0.5),
        (1, 0.5),
        (2, 0.5),
        (3, 0.5),
        (4, 2),
    ]


@pytest.mark.parametrize("scale, dtype", [(1, np.uint8), (1 / 255, np.float32)])
def test_images_come_back_pixel_by_pixel(tmp_path, scale, dtype):
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3))
    writer = tensorboard.make_writer(tmp_path)
    writer.write_images(3, {"one": (image[0] * scale).astype(dtype)})
    writer.write_images(3, {"two": (image * scale).astype(dtype)})
    writer.close()
    events = read(tmp_path)
    for tag, expected in (("one", image[0]), ("two/0", image[0]), ("two/1", image[1])):
        (event,) = events.Images(tag)
        png = np.frombuffer(event.encoded_image_string, np.uint8)
        assert (event.step, event.height, event.width) == (3, 5, 7)
        decoded = cv2.imdecode(png, cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decoded[..., ::-1], expected)


def test_texts_and_histograms_come_back(tmp_path):
    writer = tensorboard.EventWriter(str(tmp_path))  # CLU's log cannot bin NaN
    writer.write_texts(1, {"notes": "**größer**"})
    writer.write_histograms(1, {"weights": np.array([0.0, 1.0, 1.0, np.nan])})
    writer.write_histograms(2, {"empty": np.array([])})
    writer.close()
    events = read(tmp_path)
    assert events.Tensors("notes")[0].tensor_proto.string_val == ["**größer**".encode()]
    plugin = events.SummaryMetadata("notes").plugin_data.plugin_name
    assert plugin == text_metadata.PLUGIN_NAME
    histogram = events.Histograms("weights")[0].histogram_value
    assert (histogram.num, histogram.sum, histogram.max) == (3, 2, 1)
    assert sum(histogram.bucket) == 3


def test_hparams_come_back_as_numbers_and_text(tmp_path):
    writer = tensorboard.make_writer(tmp_path)
    hparams = {"train.rate": 0.5, "flag": True, "name": "sete", "mean": (0.1, 0.2)}
    writer.write_hparams(hparams)
    writer.close()
    content = read(tmp_path).SummaryMetadata("_hparams_/session_start_info")
    data = plugin_data_pb2.HParamsPluginData.FromString(content.plugin_data.content)
    written = data.session_start_info.hparams
    assert written["train.rate"].number_value == 0.5
    assert written["flag"].bool_value is True
    assert written["name"].string_value == "sete"
    assert written["mean"].string_value == "(0.1, 0.2)"


def test_resumed_run_hides_what_the_interrupted_one_wrote_after_its_checkpoint(
    tmp_path,
):
    writer = tensorboard.make_writer(tmp_path)
    for step in range(1, 6):
        writer.write_scalars(step, {"loss": step})
    writer.close()
    writer = tensorboard.make_writer(tmp_path, first_step=4)  # resumed from step 3
    for step in range(4, 8):
        writer.write_scalars(step, {"loss": 10 * step})
    writer.close()
    expected = [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50), (6, 60), (7, 70)]
    assert scalars(tmp_path, "loss") == expected


def test_a_clock_that_was_put_back_changes_no_curve(tmp_path, monkeypatch):
    for first, now in ((0, 3000), (3, 2000), (0, 1000), (2, 1000)):
        monkeypatch.setattr(tensorboard.time, "time", lambda now=now: float(now))
        writer = tensorboard.make_writer(tmp_path, first_step=first)
        for step in range(first, first + 4):
            writer.write_scalars(step, {"loss": 10 * now + step})
        writer.close()
    # The third began anew, the fourth went on after its first two steps.
    assert [step for step, _ in scalars(tmp_path, "loss")] == [0, 1, 2, 3, 4, 5]
    assert {value for _, value in scalars(tmp_path, "loss")} == {
        10000 + step for step in range(6)
    }


def test_a_full_disk_is_an_error_of_the_caller(tmp_path, monkeypatch):
    """Not of a thread that nobody waits for."""
    writer = tensorboard.EventWriter(str(tmp_path))
    writer.close()
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(writer, "_file", RecordWriter(full))
        with pytest.raises(OSError, match="No space left"):
            writer.write_scalars(0, {"loss": 1.0})


def test_scalars_are_logged_too(tmp_path, caplog):
    with caplog.at_level("INFO"):
        writer = tensorboard.make_writer(tmp_path, just_logging=True)
        writer.write_scalars(7, {"loss": 0.25})
        writer.close()
    assert "[7] loss=0.25" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_what_event_files_cannot_hold_is_said_and_stops_nothing(tmp_path, caplog):
    writer = tensorboard.make_writer(tmp_path)
    writer.write_videos(0, {"clip": np.zeros((1, 2, 4, 4, 3), np.uint8)})
    writer.write_audios(0, {"sound": np.zeros((1, 4, 1))}, sample_rate=8)
    writer.write_summaries(0, {"raw": np.zeros(3)})
    writer.write_scalars(0, {"loss": 1.0})
    writer.close()
    assert scalars(tmp_path, "loss") == [(0, 1)]
    assert "Event files hold no videos: ['clip']" in caplog.text


def test_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="taken cannot be written.*--workdir"):
        tensorboard.make_writer(tmp_path / "taken")


FRESH_PROCESS = """
import sys
sys.modules["tensorflow"] = None  # importing it raises ImportError
from svtas_jax.runtime import tensorboard as writers
writer = writers.make_writer(sys.argv[1])
from clu import metric_writers, periodic_actions
assert all(isinstance(w, metric_writers.MetricWriter) for w in writer._writers)
default = metric_writers.create_default_writer(sys.argv[1], asynchronous=False)
default.write_scalars(1, {"default": 1.0})
default.close()
report = periodic_actions.ReportProgress(num_train_steps=2, writer=writer)
with metric_writers.ensure_flushes(writer):
    report(1)
    report(2)
"""


def test_clu_works_in_a_process_where_tensorflow_cannot_be_imported(tmp_path):
    command = [sys.executable, "-c", FRESH_PROCESS, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert scalars(tmp_path, "default") == [(1, 1)]
