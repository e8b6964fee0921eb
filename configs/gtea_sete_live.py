"""Causal SETE on GTEA; 4 splits: --config.data.split=1..4.

    python -m svtas_jax.train --config=configs/gtea_sete_live.py --workdir=runs/x

Needs data/gtea (docs/data.md). No score depends on a later frame (docs/systems.md).
--config.train.init_from=WORKDIR starts from a run of configs/gtea_sete.py.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.model.causal = True
    config.train.validation_group = r"(S\d+)"  # the person
    return config
