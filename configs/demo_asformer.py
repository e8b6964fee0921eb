"""ASFormer on features of the demo data, the second of two stages.

    python -m svtas_jax.train --config=configs/demo_sete.py --workdir=runs/demo_sete
    python -m svtas_jax.extract --workdir=runs/demo_sete --output=data/demo/features
    python -m svtas_jax.train --config=configs/demo_asformer.py --workdir=runs/x

The first stage is the image branch of a demo SETE.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "demo"
    config.data.root = "data/demo"
    config.data.features = "features"
    config.data.clip_frames = 0  # whole videos
    config.data.frame_stride = 3
    config.model.backbone = "features"
    config.model.head = "asformer"
    config.model.num_layers = 6
    config.model.num_stages = 2
    config.model.features = 32
    config.train.num_epochs = 22
    config.train.learning_rate = 1e-3
    config.train.lr_milestones = (16,)
    config.train.validation_share = 0.1
    config.train.eval_every_epochs = 11
    config.eval.batch_size = 7
    return config
