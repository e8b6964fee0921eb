"""I3D and MS-TCN, end to end, on Breakfast; 4 splits: --config.data.split=1..4.

    python -m svtas_jax.train --config=configs/breakfast_i3d_mstcn.py --workdir=runs/x

Needs data/breakfast (docs/data.md). The single-stage baseline of the Transeger
paper, trained on chunks like SETE.
--config.train.selection=test is the paper's protocol.
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
    config.model.backbone = "i3d"
    config.model.head = "ms_tcn"
    config.model.num_layers = 10
    config.model.num_stages = 4
    config.train.validation_group = r"(P\d+)"  # the person
    config.eval.background = ()  # published tables count every class
    return config
