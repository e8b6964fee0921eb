"""MS-TCN on precomputed features of Breakfast; 4 splits: --config.data.split=1..4.

    python -m svtas_jax.train --config=configs/breakfast_mstcn.py --workdir=runs/x

Needs data/breakfast (docs/data.md). Reads data/breakfast/features/NAME.npy: published
features (2048, T), or those that svtas_jax.extract writes.
Evaluate as a stream: svtas_jax.evaluate --workdir=runs/x --clip_frames=128.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "breakfast"
    config.data.root = "data/breakfast"
    config.data.layout = "breakfast"
    config.data.features = "features"
    config.data.clip_frames = 0  # whole videos
    config.data.frame_stride = 1
    config.model.backbone = "features"
    config.model.head = "ms_tcn"
    config.model.num_layers = 10
    config.model.num_stages = 4
    config.train.validation_group = r"(P\d+)"  # the person
    config.eval.background = ()  # published tables count every class
    return config
