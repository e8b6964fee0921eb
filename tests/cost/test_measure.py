"""The profile command on a small model: figures for people and for programs."""

import json
import types

import pytest

from data_pipeline.known import class_names_of
from svtas_jax import profile
from svtas_jax.config import default_config
from svtas_jax.cost import measure, table
from svtas_jax.errors import InputError, MissingInputError
from svtas_jax.evaluation import report

KEYS = "params macs_per_chunk macs_per_frame frames_per_s latency_ms device dtype"


def test_a_profile_says_all_and_adds_up(tiny, tmp_path):
    config = tiny.config("transeger")
    config.model.image_stages = 1
    config.data.root = str(tmp_path / "absent")  # needs no data
    trace = tmp_path / "trace"
    cost = measure.profile(config, batches=(1, 2), trace=str(trace))
    assert list(trace.glob("plugins/profile/*/*.xplane.pb"))
    assert 0 < cost.latency_ahead_ms["p50"] <= cost.latency_ahead_ms["p95"]
    assert cost.params == sum(cost.params_by_module.values())
    assert cost.macs_per_chunk > cost.products_per_chunk > 0
    assert cost.macs_per_frame == cost.macs_per_chunk / 4
    assert 0 < cost.latency_ms["p50"] <= cost.latency_ms["p95"]
    assert set(cost.branch_ms) == {"image", "text", "rest"}
    assert cost.bytes_per_chunk > 4 * cost.params
    assert cost.best_batch["frames_per_s"] >= cost.frames_per_s
    text = "\n".join(table.describe(cost, config))
    assert f"{cost.params:,}" in text and "frames/s" in text
    assert "if the text branch has already run" in text

    report.write_figures(table.facts(cost, config), str(tmp_path / "a.json"))
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert set(KEYS.split()) <= set(saved)
    assert saved["macs_per_chunk"] == cost.macs_per_chunk


def test_a_model_of_whole_videos_has_a_cost(tmp_path, monkeypatch):
    config = default_config()
    config.data.update(features="features", clip_frames=0, frame_stride=4)
    config.model.update(backbone="features", head="ms_tcn", num_layers=2)
    monkeypatch.setattr(profile, "BATCHES", (1,))
    given = types.SimpleNamespace(
        config=config, table=False, trace=None, json=str(tmp_path / "a.json")
    )
    monkeypatch.setattr(profile.flags, "FLAGS", given)
    profile.main()
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    layers = 2 * (3 * 64 * 64 + 64 * 64)
    assert saved["products_per_chunk"] == 256 * (2048 * 64 + layers + 64 * 11)


@pytest.mark.parametrize(
    "dataset, number",
    [("gtea", 11), ("50salads", 19), ("egtea", 20), ("breakfast", 48), ("demo", 11)],
)
def test_public_sets_are_known(dataset, number, tmp_path):
    data = default_config().data
    data.update(dataset=dataset, root=str(tmp_path / "absent"))
    assert len(set(class_names_of(data))) == number


def test_a_mapping_of_other_classes_is_refused(folder):
    folder.config.dataset = "mine"
    assert class_names_of(folder.config)[0] == "take"
    folder.config.dataset = "gtea"
    with pytest.raises(InputError, match="does not name the classes of 'gtea'"):
        class_names_of(folder.config)
    folder.config.update(dataset="mine", root="/absent")
    with pytest.raises(MissingInputError, match="the classes of 'mine' are not known"):
        class_names_of(folder.config)
