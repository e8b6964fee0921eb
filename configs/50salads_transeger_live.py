r"""Causal Transeger on 50Salads; 5 splits: --config.data.split=1..5.

    python -m svtas_jax.train --config=configs/50salads_transeger_live.py \
        --workdir=runs/x

Needs data/50salads (docs/data.md). No score depends on a later frame (docs/systems.md).
--config.train.init_from=WORKDIR starts from a run of configs/50salads_transeger.py.
"""

import ml_collections

from svtas_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the config."""
    config = default_config()
    config.data.dataset = "50salads"
    config.data.root = "data/50salads"
    config.data.clip_frames = 640
    config.data.frame_stride = 20
    config.data.mean = (0.513, 0.511, 0.479)
    config.data.std = (0.236, 0.233, 0.237)
    config.model.system = "transeger"
    config.model.causal = True
    config.data.crop = 256
    config.train.smooth_weight = 0.5
    config.train.validation_group = r"rgb-(\d+)"  # the person
    config.eval.background = ()  # published tables count every class
    return config
