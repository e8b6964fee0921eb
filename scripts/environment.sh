# Sourced by the other scripts: makes the virtual environment and installs the package.
#
#   VENV    folder of the environment (default: .venv in the repository)
#   PYTHON  the interpreter that makes it (default: python3, python3.12 or python3.11)

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$root/.venv}"
case "$VENV" in /*) ;; *) VENV="$PWD/$VENV" ;; esac

# install_package [EXTRA]: installs the repository, editable, with the named extra.
# Does nothing if it is installed and the requirements have not changed.
install_package() {
  local extra="${1:-}"
  local stamp="$VENV/installed${extra:+-$extra}.txt"
  make_environment
  if cat "$root/setup.cfg" "$root/pyproject.toml" | cmp --silent - "$stamp"; then
    return
  fi
  echo "Installing svtas_jax${extra:+[$extra]} into $VENV (about a minute) ..."
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable "$root${extra:+[$extra]}"
  cat "$root/setup.cfg" "$root/pyproject.toml" > "$stamp"
}

does() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2> /dev/null
}

# Prints the first Python on the PATH that does, or else python3.
first_that_does() {
  local python
  for python in python3 python3.12 python3.11; do
    if does "$python"; then
      break
    fi
    python=python3
  done
  echo "$python"
}

make_environment() {
  local python
  if [ -x "$VENV/bin/python" ]; then
    return
  fi
  python="${PYTHON:-$(first_that_does)}"
  if ! command -v "$python" > /dev/null; then
    echo "error: $python is not installed; install Python 3.11 or 3.12, or name one:" \
      "PYTHON=/path/to/python3.12 bash $0" >&2
    exit 1
  fi
  if ! does "$python"; then
    echo "error: $python is $("$python" --version), and svtas_jax needs 3.11 or 3.12" \
      "(its tokenizer is built for no newer one); install one of these, or name it:" \
      "PYTHON=/path/to/python3.12 bash $0" >&2
    exit 1
  fi
  if ! "$python" -m venv "$VENV"; then
    rm -rf "$VENV"
    echo "error: $python could not make a virtual environment in $VENV; see above" \
      "(on Debian and Ubuntu: apt install python3-venv)." >&2
    exit 1
  fi
}
