#!/usr/bin/env bash
# Trains Transeger on rendered demo videos, evaluates it on a person it has not seen, runs
# it over one video as a stream, and shows that on a page if there is a browser. Downloads
# only packages; takes 3 to 7 minutes on two cores the first time. Run again, it
# continues where it stopped.
#
#   bash scripts/quickstart.sh [--config.SECTION.FIELD=VALUE ...]
#
# VENV and PYTHON choose the environment: see scripts/environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$root"

config=configs/demo_transeger_plus.py
workdir=runs/demo_transeger
video=data/demo/Videos/S1_Coffee_C1.mp4

address=http://127.0.0.1:8000

say() { printf '\n== %s\n' "$*"; }

has_browser() {
  [ -t 1 ] || return 1
  [ "$(uname)" = Darwin ] || [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || return 1
  "$python" -c 'import webbrowser; webbrowser.get()' 2> /dev/null
}

open_when_ready() {
  until "$python" -c "import urllib.request as r; r.urlopen('$address')" 2> /dev/null; do
    sleep 1
  done
  "$python" -m webbrowser "$address" > /dev/null
}

install_package serve
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
echo "another file: $python -m svtas_jax.stream --workdir=$workdir --source=FILE"
page=("$python" -m svtas_jax.serve --workdir="$workdir" --source="$video")
if ! has_browser; then
  echo "live page:    ${page[*]}"
  echo "              then open $address"
  exit
fi

say "The live page: $address (Ctrl-C ends it)"
open_when_ready &
trap 'kill %1 2> /dev/null || true' EXIT
"${page[@]}"
