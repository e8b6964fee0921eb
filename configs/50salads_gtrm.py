"""m-GRU and GTRM on features of 50Salads; 5 splits: --config.data.split=1..5.

    python -m svtas_jax.train --config=configs/50salads_gtrm.py --workdir=runs/x

Needs data/50salads (docs/data.md). Reads data/50salads/features/NAME.npy: published
features (2048, T), or those that svtas_jax.extract writes.
Evaluate as a stream: svtas_jax.evaluate --workdir=runs/x --clip_frames=128.
m-GRU alone: --config.model.head=gru.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "50salads"
    config.data.root = "data/50salads"
    config.data.features = "features"
    config.data.clip_frames = 0  # whole videos
    config.data.frame_stride = 2
    config.model.backbone = "features"
    config.model.head = "gtrm"
    config.model.num_layers = 2
    config.train.validation_group = r"rgb-(\d+)"  # the person
    config.eval.background = ()  # published tables count every class
    return config
