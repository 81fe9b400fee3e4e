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

# Debian keeps the pip for new environments in a package of its own, python3-venv: where that is
# not installed, PyPI's own pip installs itself.
add_pip() {
  "$venv/bin/python" - <<'EOF'
import hashlib, os, runpy, sys, tempfile, urllib.request
name = 'pip-24.0-py3-none-any.whl'
folder = 'https://files.pythonhosted.org/packages/8a/6a/19e9fe04fca059ccf770861c7d5721ab4c2aebc539889e97c7977528a53b/'
wheel = urllib.request.urlopen(folder + name, timeout=60).read()
digest = 'ba0d021a166865d2265246961bec0152ff124de910c5cc39f1156ce3fa7c69dc'
assert hashlib.sha256(wheel).hexdigest() == digest
path = os.path.join(tempfile.mkdtemp(), name)
with open(path, 'wb') as f:
  f.write(wheel)
sys.path.insert(0, path)
sys.argv = ['pip', 'install', '--quiet', '--no-index', path]
runpy.run_module('pip', run_name='__main__', alter_sys=True)
EOF
}

make_venv() {
  local python
  python=$(find_python)
  if [ -n "$python" ]; then
    "$python" -m venv "$venv" >/dev/null 2>&1 && return
    rm -rf "$venv"
    "$python" -m venv --without-pip "$venv" >/dev/null 2>&1 && add_pip >/dev/null 2>&1 && return
    rm -rf "$venv"
  fi
  if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --seed --python 3.11 "$venv" && return
    rm -rf "$venv"
  fi
  if [ -n "$python" ]; then
    echo "$0: $python cannot make a virtual environment with pip in it; 'apt install python3-venv' lets it" >&2
  else
    echo "$0: needs Python 3.9, 3.10 or 3.11; 'apt install python3.11 python3.11-venv', or install uv (https://docs.astral.sh/uv), which fetches one" >&2
  fi
  exit 1
}

[ -x "$venv/bin/python" ] || make_venv
source "$venv/bin/activate"
# Again only where what it installs has changed, or is in another folder.
stamp="$venv/installed-$( (pwd; cat requirements.txt constraints.txt setup.py) | cksum | cut -d ' ' -f 1)"
if [ ! -f "$stamp" ]; then
  echo "installing into $venv, a few minutes the first time" >&2
  # The constraints spare pip a long search for versions that go together.
  pip install --quiet --disable-pip-version-check --editable . --constraint constraints.txt
  rm -f "$venv"/installed-*
  touch "$stamp"
fi
