"""ASFormer on features of Breakfast, two stages; 4 splits: --config.data.split=1..4.

    python -m svtas_jax.train --config=configs/breakfast_asformer.py --workdir=runs/x

Needs data/breakfast (docs/data.md). Reads data/breakfast/features/NAME.npy: those of
the field (2048, T), or what svtas_jax.extract writes.
How it does on a stream tells svtas_jax.evaluate --workdir=runs/x --clip_frames=128.
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
    config.model.head = "asformer"
    config.model.num_layers = 10
    config.model.num_stages = 4  # an encoder, three decoders
    config.train.batch_size = 1
    config.train.num_epochs = 120
    config.eval.background = ()  # the field's tables count every class
    return config
