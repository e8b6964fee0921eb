"""SETE on Breakfast; 4 splits: --config.data.split=1..4.

    python -m svtas_jax.train --config=configs/breakfast_sete.py --workdir=runs/x

Needs data/breakfast (docs/data.md). The Transeger paper has no figures for it.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "breakfast"
    config.data.root = "data/breakfast"
    config.data.layout = "breakfast"
    config.data.mean = (0.5, 0.5, 0.5)  # not published: compute your own
    config.data.std = (0.25, 0.25, 0.25)
    config.train.validation_group = r"(P\d+)"  # the person
    config.eval.background = ()  # published tables count every class
    return config
