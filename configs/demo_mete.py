"""METE on the demo data, which it renders itself: no download.

    python -m svtas_jax.train --config=configs/demo_mete.py --workdir=runs/x

The people of split K are tested on by --config.data.split=K, 1 to 4.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "demo"
    config.data.root = "data/demo"
    config.data.clip_frames = 48
    config.data.frame_stride = 3
    config.data.resize = (32, 43)
    config.data.crop = 32
    config.data.mean = (0.48, 0.47, 0.46)
    config.data.std = (0.21, 0.18, 0.17)
    config.data.augment = "none"  # a mirrored kitchen would be another one to learn
    config.model.system = "mete"
    config.model.image_width = 0.5
    config.model.image_stages = 4  # small pictures learn fast from a short network
    config.model.text_width = 64
    config.model.text_layers = 1
    config.model.text_heads = 4
    config.train.num_epochs = 30
    config.train.learning_rate = 2e-3
    config.train.weight_decay = 0.0
    config.train.lr_milestones = (24,)
    config.train.eval_every_epochs = 5
    return config
