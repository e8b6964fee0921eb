#!/usr/bin/env bash
# Builds the wheel, installs it in an empty environment outside the checkout, and from
# there renders a few videos, trains two steps, evaluates, and streams one of the videos.
#
#   bash scripts/check_wheel.sh
#
# PYTHON chooses the interpreter: see scripts/environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
VENV="$folder/venv"
make_environment
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# From a copy: a build inside the checkout would pick up what an older one left there.
mkdir "$folder/source"
(cd "$root" && cp -r setup.cfg pyproject.toml README.md LICENSE svtas_jax \
  data_pipeline configs "$folder/source")
echo "Building the wheel and installing it into an empty environment ..."
pip wheel --no-deps --wheel-dir "$folder" "$folder/source"
rm -rf "$folder/source"
pip install "$folder"/svtas_jax-*.whl

cd "$folder"
"$VENV/bin/python" - << 'END'
from data_pipeline.demo.render import Settings, render_dataset
render_dataset("data", Settings(people=2, activities=("Coffee",)))
END
run() { "$VENV/bin/python" -m "svtas_jax.$1" "${@:2}"; }
run train --config=demo_sete --workdir=run --config.data.root=data \
  --config.data.dataset=kitchen --config.train.num_epochs=2 \
  --config.train.chunks_per_step=0 --config.train.batch_size=1
run evaluate --workdir=run
run stream --workdir=run --source=data/Videos/S1_Coffee_C1.mp4 > lines.json

"$VENV/bin/python" - << 'END'
import json
import pathlib
import svtas_jax

assert pathlib.Path(svtas_jax.__file__).is_relative_to(pathlib.Path.cwd() / "venv")
lines = [json.loads(line) for line in open("lines.json")]
run = svtas_jax.load("run", "latest")
assert run.meta.step == 2, run.meta.step
result = svtas_jax.load("run").segment("data/Videos/S1_Coffee_C1.mp4")
assert lines[-1]["frames"][1] == result.num_frames
assert pathlib.Path("run/evaluation/report.md").is_file()
print(f"The wheel works: {len(lines)} chunks, {result.num_frames} frames.")
END
