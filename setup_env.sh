# Sourced by the run_*.sh scripts: a virtual environment in .venv with the project installed in it.
# BRAC_VENV names another folder for it.
venv=${BRAC_VENV:-.venv}

# Python 3.9, 3.10 or 3.11: TensorFlow 2.15 has no build for a newer one.
find_python() {
  local candidate
  for candidate in python3.11 python3.10 python3.9 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' \
      >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
}

make_venv() {
  local python
  python=$(find_python)
  if [ -n "$python" ]; then
    # Where Debian's python3-venv is not installed, virtualenv does the same.
    "$python" -m venv "$venv" >/dev/null 2>&1 && return
    rm -rf "$venv"
    "$python" -m virtualenv --quiet "$venv" 2>/dev/null && return
    rm -rf "$venv"
  fi
  if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --seed --python 3.11 "$venv" && return
    rm -rf "$venv"
  fi
  if [ -n "$python" ]; then
    echo "$0: $python cannot make a virtual environment; 'apt install python3-venv' lets it" >&2
  else
    echo "$0: needs Python 3.9, 3.10 or 3.11; 'apt install python3.11 python3.11-venv', or install uv (https://docs.astral.sh/uv), which fetches one" >&2
  fi
  exit 1
}

[ -x "$venv/bin/python" ] || make_venv
source "$venv/bin/activate"
# Again only where what it installs has changed.
stamp="$venv/installed-$(cat requirements.txt constraints.txt setup.py | cksum | cut -d ' ' -f 1)"
if [ ! -f "$stamp" ]; then
  echo "installing into $venv, a few minutes the first time" >&2
  # The constraints spare pip a long search for versions that go together.
  pip install --quiet --disable-pip-version-check --editable . --constraint constraints.txt
  touch "$stamp"
fi
