#!/usr/bin/env bash
# Trains Transeger on rendered demo videos, evaluates it on a person it has not seen, and
# runs it over one video as a stream. No download but the packages; 7 to 10 minutes on
# two cores the first time. Run again, it goes on where it was.
#
#   bash scripts/quickstart.sh [--config.SECTION.FIELD=VALUE ...]
#
# VENV and PYTHON choose the environment: see scripts/environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$root"

config=configs/demo_transeger.py
workdir=runs/demo_transeger
video=data/demo/Videos/S1_Coffee_C1.mp4

say() { printf '\n== %s\n' "$*"; }

install_package
python="$VENV/bin/python"

say "1/3 Training Transeger on demo videos of three people: $workdir"
"$python" -m svtas_jax.train --config="$config" --workdir="$workdir" "$@"

say "2/3 Evaluating on the videos of a fourth person"
"$python" -m svtas_jax.evaluate --config="$config" --workdir="$workdir" "$@"

say "3/3 Streaming $video, one line per chunk"
"$python" -m svtas_jax.stream --workdir="$workdir" --source="$video"

say "Done"
echo "report:       $workdir/evaluation/report.md"
echo "pictures:     $workdir/evaluation/pictures/"
echo "predictions:  $workdir/evaluation/predictions/"
echo "curves:       $VENV/bin/tensorboard --logdir=$workdir"
echo "another file: $VENV/bin/python -m svtas_jax.stream --workdir=$workdir --source=FILE"
