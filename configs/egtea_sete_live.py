"""Causal SETE on EGTEA Gaze+; 3 splits: --config.data.split=1..3.

    python -m svtas_jax.train --config=configs/egtea_sete_live.py --workdir=runs/x

Needs data/egtea (docs/data.md). No score depends on a later frame (docs/systems.md).
--config.train.init_from=WORKDIR starts from a run of configs/egtea_sete.py.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "egtea"
    config.data.root = "data/egtea"
    config.data.mean = (0.479, 0.307, 0.176)
    config.data.std = (0.264, 0.204, 0.163)
    config.train.num_epochs = 10
    config.train.validation_group = r"(O?P\d+)"  # the person
    config.model.causal = True
    return config
