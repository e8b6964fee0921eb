"""I3D and MS-TCN, end to end, on GTEA; 4 splits: --config.data.split=1..4.

    python -m svtas_jax.train --config=configs/gtea_i3d_mstcn.py --workdir=runs/x

Needs data/gtea (docs/data.md). The single-stage baseline of the Transeger
paper, trained on chunks like SETE.
--config.train.selection=test is the paper's protocol.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.model.backbone = "i3d"
    config.model.head = "ms_tcn"
    config.model.num_layers = 10
    config.model.num_stages = 4
    config.train.validation_group = r"(S\d+)"  # the person
    return config
