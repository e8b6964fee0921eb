"""Causal Transeger on the demo data, which it renders itself: no download.

    python -m svtas_jax.train --config=configs/demo_transeger_live.py --workdir=runs/x

--config.data.split=K tests on the videos of person K, 1 to 4.
No score depends on a later frame (docs/systems.md).
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "demo"
    config.data.root = "data/demo"
    config.data.clip_frames = 96
    config.data.frame_stride = 3
    config.data.resize = (32, 43)
    config.data.crop = 32
    config.data.mean = (0.48, 0.47, 0.46)
    config.data.std = (0.21, 0.18, 0.17)
    config.data.augment = "none"  # a mirrored kitchen would be one more to learn
    config.model.system = "transeger"
    config.model.causal = True
    config.model.image_width = 0.5
    config.model.image_stages = 4  # a short network learns fast from small pictures
    config.model.norm_momentum = 0.05
    config.model.prompt_len = 40
    config.model.text_width = 32
    config.model.text_layers = 1
    config.model.text_heads = 4
    config.train.num_epochs = 28
    config.train.smooth_weight = 0.5
    config.train.learning_rate = 2e-3
    config.train.weight_decay = 1e-5
    config.train.lr_milestones = (17, 24)
    config.train.lr_decay = 0.2
    config.train.validation_share = 0.1
    config.train.eval_every_epochs = 14  # at the high learning rate, and at the end
    config.eval.batch_size = 7
    return config
