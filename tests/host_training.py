"""One of several processes that train and evaluate a tiny model as one.

    python tests/host_training.py --root=DATA --workdir=RUN --distributed=HOST:PORT,N,I
        [--set=train.num_epochs=3]

Prints what the run ends with as JSON. A program of its own: a process joins a run
before JAX starts.
"""

import ast
import hashlib
import json

import conftest
import jax
import numpy as np
from absl import flags

from svtas_jax import models, runs
from svtas_jax.runtime import cli, hosts
from svtas_jax.runtime.sharding import local_copy, local_mesh
from svtas_jax.training import loop

BUILD = models.build_model


def tiny(config, class_names):
    """Builds two stages of MobileNet instead of seven."""
    return conftest.with_stages(BUILD(config, class_names), conftest.TINY_STAGES)


def digest(tree) -> str:
    """Returns a fingerprint of all numbers."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()


def main() -> None:
    """Runs the two commands."""
    config, workdir = conftest.tiny_config("sete"), flags.FLAGS.workdir
    config.data.update(root=flags.FLAGS.root, dataset="tiny")
    config.train.update(batch_size=4, num_epochs=1, log_every_steps=2)
    changes = (text.split("=") for text in flags.FLAGS["set"].value)
    config.update_from_flattened_dict({k: ast.literal_eval(v) for k, v in changes})
    models.build_model = tiny
    state = loop.train(config, workdir)
    report = runs.evaluate(workdir, "latest")
    params = jax.tree.leaves(local_copy(state.params, local_mesh(1)))
    told = {
        "step": int(state.step),
        "digest": digest(params),
        "sum": float(sum(np.abs(leaf).sum(dtype=np.float64) for leaf in params)),
        "metrics": report.metrics,
        "videos": report.videos,
    }
    if hosts.is_first():
        print(json.dumps(told))


if __name__ == "__main__":
    cli.define("workdir", "distributed")
    flags.DEFINE_string("root", None, "The data.")
    flags.DEFINE_multi_string("set", [], "section.field=value of the config.")
    cli.run(main)
