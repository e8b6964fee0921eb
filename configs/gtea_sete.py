"""SETE on GTEA with published values; 4 splits: --config.data.split=1..4.

    python -m svtas_jax.train --config=configs/gtea_sete.py --workdir=runs/x

Needs data/gtea (docs/data.md). The Transeger paper (weights from
Kinetics-400, selection on the test split) reports Acc 72.31, F1@0.10 70.29.
--config.train.selection=test is the paper's protocol.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.train.validation_group = r"(S\d+)"  # the person
    return config
