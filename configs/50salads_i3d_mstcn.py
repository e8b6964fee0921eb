"""I3D and MS-TCN, end to end, on 50Salads; 5 splits: --config.data.split=1..5.

    python -m svtas_jax.train --config=configs/50salads_i3d_mstcn.py --workdir=runs/x

Needs data/50salads (docs/data.md). The single-stage baseline of the Transeger
paper, trained on chunks like SETE.
--config.train.selection=test is the paper's protocol.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "50salads"
    config.data.root = "data/50salads"
    config.data.mean = (0.513, 0.511, 0.479)
    config.data.std = (0.236, 0.233, 0.237)
    config.data.clip_frames = 640
    config.data.frame_stride = 20
    config.model.backbone = "i3d"
    config.model.head = "ms_tcn"
    config.model.num_layers = 10
    config.model.num_stages = 4
    config.train.validation_group = r"rgb-(\d+)"  # the person
    config.eval.background = ()  # published tables count every class
    return config
