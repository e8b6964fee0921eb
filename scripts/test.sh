#!/usr/bin/env bash
# Checks formatting, lint, types and tests, in an environment of its own.
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
# The tests of a module share compiled functions, so one process runs them all.
"$VENV/bin/python" -m pytest --quiet -n 2 --dist loadscope "$@"
# The whole gate also installs the wheel elsewhere and runs it.
if [ $# -eq 0 ]; then
  bash scripts/check_wheel.sh
fi
