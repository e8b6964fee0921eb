"""METE on GTEA with published values; 4 splits: --config.data.split=1..4.

    python -m svtas_jax.train --config=configs/gtea_mete.py --workdir=runs/x

Needs data/gtea (docs/data.md). The Transeger paper gives no figure for METE alone.
--config.train.selection=test is the paper's protocol.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.model.system = "mete"
    config.model.prompt = "fixed"
    config.model.prompt_len = 40
    config.train.validation_group = r"(S\d+)"  # the person
    return config
