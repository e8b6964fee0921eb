"""The benchmark command on a small model."""

import json
import pathlib

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from svtas_jax.config import default_config
from svtas_jax.cost import benchmark
from svtas_jax.errors import InputError


@pytest.fixture(scope="module")
def small(tiny):
    config = tiny.config("transeger")
    config.model.image_stages = 1
    return config


@pytest.fixture(scope="module")
def found(small, tmp_path_factory):
    video = benchmark.render(tmp_path_factory.mktemp("video") / "a b.mp4", small)
    return benchmark.benchmark(small, video, (1, 2))


@pytest.fixture
def _caches_again():
    """The command compiles everything anew; the tests after it shall not."""
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


def test_everything_is_measured(small, found):
    assert list(found.inference) == [1, 2]
    for size, told in found.inference.items():
        assert 0 < told["p50"] <= told["p95"]
        assert told["frames_per_s"] == pytest.approx(1e3 * 4 * size / told["p50"])
    assert found.ahead_ms["p50"] > 0
    assert found.training["frames_per_s"] == pytest.approx(
        1e3 * 4 * 2 / found.training["p50"]
    )
    assert found.pipeline["all"] == pytest.approx(2 * found.pipeline["kept"])
    assert found.from_file_frames_per_s > 0
    assert found.peak_bytes > 1e6
    text = "\n".join(benchmark.describe(found, small))
    for word in ("batch 2", "ahead", "training", "pipeline", "from file", "compiling"):
        assert word in text


@pytest.mark.usefixtures("_caches_again")
def test_the_command_writes_what_it_found(small, found, tmp_path, monkeypatch):
    def measured(config, video, batches):
        assert config == small and batches == (1,)
        assert pathlib.Path(video).stat().st_size > 1000
        return found

    monkeypatch.setattr(benchmark, "benchmark", measured)
    path = tmp_path / "found.json"
    benchmark.run(small, (1,), path=str(path))
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert {"training", "device", "versions", "config"} <= set(saved)
    assert saved["inference"]["2"] == found.inference[2]


def test_features_are_no_videos():
    config = default_config()
    config.data.features = "features"
    config.model.update(backbone="features", head="ms_tcn")
    with pytest.raises(InputError, match="profile"):
        benchmark.run(config, (1,))


@pytest.mark.parametrize("batches", [(), (0, 1)])
def test_an_empty_batch_is_refused(small, batches):
    with pytest.raises(InputError, match="--batches"):
        benchmark.run(small, batches)
