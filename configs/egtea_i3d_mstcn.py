"""I3D and MS-TCN, end to end, on EGTEA Gaze+; 3 splits: --config.data.split=1..3.

    python -m svtas_jax.train --config=configs/egtea_i3d_mstcn.py --workdir=runs/x

Needs data/egtea (docs/data.md). The single-stage baseline of the Transeger
paper, trained on chunks like SETE.
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
    config.model.backbone = "i3d"
    config.model.head = "ms_tcn"
    config.model.num_layers = 10
    config.model.num_stages = 4
    config.train.num_epochs = 10
    config.train.validation_group = r"(O?P\d+)"  # the person
    return config
