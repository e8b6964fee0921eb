"""Causal Transeger on GTEA; 4 splits: --config.data.split=1..4.

    python -m svtas_jax.train --config=configs/gtea_transeger_live.py --workdir=runs/x

Needs data/gtea (docs/data.md). No score depends on a later frame (docs/systems.md).
--config.train.init_from=WORKDIR starts from a run of configs/gtea_transeger.py.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.model.system = "transeger"
    config.model.causal = True
    config.data.crop = 256
    config.train.smooth_weight = 0.5
    config.train.validation_group = r"(S\d+)"  # the person
    return config
