"""METE on EGTEA Gaze+ with published values; 3 splits: --config.data.split=1..3.

    python -m svtas_jax.train --config=configs/egtea_mete.py --workdir=runs/x

Needs data/egtea (docs/data.md). The Transeger paper gives no figure for METE alone.
--config.train.selection=test is the paper's protocol.
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
    config.model.system = "mete"
    config.model.prompt = "fixed"
    config.model.prompt_len = 40
    config.train.num_epochs = 10
    config.train.validation_group = r"(O?P\d+)"  # the person
    return config
