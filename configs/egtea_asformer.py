"""ASFormer on precomputed features of EGTEA Gaze+; 3 splits: --config.data.split=1..3.

    python -m svtas_jax.train --config=configs/egtea_asformer.py --workdir=runs/x

Needs data/egtea (docs/data.md). Reads data/egtea/features/NAME.npy: published
features (2048, T), or those that svtas_jax.extract writes.
Evaluate as a stream: svtas_jax.evaluate --workdir=runs/x --clip_frames=128.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "egtea"
    config.data.root = "data/egtea"
    config.data.features = "features"
    config.data.clip_frames = 0  # whole videos
    config.data.frame_stride = 1
    config.model.backbone = "features"
    config.model.head = "asformer"
    config.model.num_layers = 10
    config.model.num_stages = 4  # an encoder, three decoders
    config.train.batch_size = 1
    config.train.num_epochs = 120
    config.train.validation_group = r"(O?P\d+)"  # the person
    return config
