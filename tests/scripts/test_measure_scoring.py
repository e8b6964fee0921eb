import measure_scoring as script
import numpy as np

from svtas_jax.evaluation.score_files import score_files
from svtas_jax.runtime import configs


def test_the_data_it_writes_can_be_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(script, "NUM_VIDEOS", 2)
    monkeypatch.setattr(script, "MEAN_FRAMES", 200)
    script.write_data(tmp_path)
    names = {}
    exec(configs.find(tmp_path / "config.py").read_text(), names)
    config = names["get_config"]()
    ratios = [
        score_files(tmp_path / kind, config).metrics["segment_ratio"]
        for kind in script.KINDS
    ]
    assert 1 <= ratios[0] < ratios[1]


def test_a_quarter_of_the_stretches_is_wrong():
    truth = np.zeros(40_000, int)
    found = script.with_mistakes(np.random.default_rng(0), truth, 4, 48)
    assert 0.2 < np.mean(found != truth) < 0.3
