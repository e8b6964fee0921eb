#!/usr/bin/env bash
# The whole gate: formatting, lint, types, tests. Makes its own environment.
#
#   bash scripts/test.sh [pytest's arguments, such as -k metrics or -m slow]
#
# VENV and PYTHON choose the environment: see scripts/environment.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
cd "$root"

install_package test
"$VENV/bin/ruff" format --check .
"$VENV/bin/ruff" check .
"$VENV/bin/pyrefly" check --python-interpreter-path "$VENV/bin/python"
# A module's tests share what they compile, so a module stays with one process.
"$VENV/bin/python" -m pytest --quiet -n 2 --dist loadscope "$@"
