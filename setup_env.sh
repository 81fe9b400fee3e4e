# Sourced by the run*.sh scripts: a virtual environment in .venv with the project installed in it.
# BRAC_VENV names another folder for it, BRAC_PYTHON the Python to make it with; `extras` are those of
# pyproject.toml to install, as "[dev]".
venv=${BRAC_VENV:-.venv}
extras=${extras:-}
supported='3.10, 3.11, 3.12 or 3.13'
is_supported='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'
version='import sys; print("%d.%d" % sys.version_info[:2])'

# The Pythons on the PATH that the project runs on, the machine's own first.
find_pythons() {
  local name
  if [ -n "${BRAC_PYTHON:-}" ]; then
    set -- "$BRAC_PYTHON"
  else
    set -- python3 python3.13 python3.12 python3.11 python3.10 python
  fi
  for name; do
    if "$name" -c "$is_supported" >/dev/null 2>&1; then echo "$name"; fi
  done
}

# Makes the environment with a Python that is there, or with one that uv finds or fetches.
try_venv() {
  local python
  while IFS= read -r python; do
    "$python" -m venv "$venv" </dev/null >/dev/null 2>&1 && return
    rm -rf "$venv"
  done < <(find_pythons)
  if command -v uv >/dev/null 2>&1; then
    uv venv --quiet --seed --python '>=3.10,<3.14' "$venv" && return
    rm -rf "$venv"
  fi
  return 1
}

make_venv() {
  local python other package=python3-venv
  if [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
    echo "$0: $venv is there, and is no virtual environment" >&2
    exit 1
  fi
  if [ -f "$venv/bin/activate" ]; then  # whole but for pip, as uv makes them
    "$venv/bin/python" -m ensurepip --default-pip >/dev/null 2>&1 && [ -x "$venv/bin/pip" ] && return
    echo "$0: $venv has no pip, and its Python cannot put one there; remove it, and it is made anew" >&2
    exit 1
  fi
  try_venv && return
  python=$(find_pythons)
  python=${python%%$'\n'*}
  other=$("${BRAC_PYTHON:-python3}" -c "$version" 2>/dev/null) || other=
  if [ -n "$python" ]; then
    # Debian keeps the pip for new environments in a package of its own.
    package=python$("$python" -c "$version")-venv
  elif [ -n "$other" ]; then
    echo "$0: needs Python $supported, and here is $other; install one of them, or uv, which fetches one" >&2
    exit 1
  fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing $package, which makes virtual environments" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes "$package"; } \
      >/dev/null 2>&1 && try_venv && return
  fi
  if [ -n "$python" ]; then
    echo "$0: $python cannot make a virtual environment with pip in it; 'apt-get install $package', as root, lets it" >&2
  else
    echo "$0: needs Python $supported, and here is none; 'apt-get install $package', as root, or install uv, which fetches one" >&2
  fi
  exit 1
}

if [ ! -f "$venv/bin/activate" ] || [ ! -x "$venv/bin/pip" ]; then make_venv; fi
if ! "$venv/bin/python" -c "$is_supported" >/dev/null 2>&1; then
  echo "$0: $venv is not of Python $supported; remove it, and it is made anew" >&2
  exit 1
fi
source "$venv/bin/activate"
if [ ! "${VIRTUAL_ENV:-$venv}" -ef "$venv" ]; then  # moved or copied: its programs are those of there
  echo "$0: $venv was made at $VIRTUAL_ENV; remove it, and it is made anew" >&2
  exit 1
fi
# Again only where what it installs has changed, or is in another folder.
checksum=$( (pwd; cat pyproject.toml constraints.txt) | cksum | cut -d ' ' -f 1)
stamp="$venv/installed$extras-$checksum"
if [ ! -f "$stamp" ]; then
  # First of all what was installed before is no more: pip may be stopped halfway.
  for old in "$venv"/installed*; do
    if [ "${old%-"$checksum"}" = "$old" ]; then rm -f "$old"; fi
  done
  echo "installing into $venv, a few minutes the first time" >&2
  # The constraints spare pip a long search for versions that go together. Compiling all that is
  # installed is most of a minute, and is to be: what is compiled at its first import warns of the
  # syntax in TF-Agents and others, and under PYTHONDONTWRITEBYTECODE each process compiles it anew.
  if ! pip install --quiet --disable-pip-version-check --editable ".$extras" \
    --constraint constraints.txt --only-binary mujoco; then
    echo "$0: pip could not install what the project needs; above it says what. Of mujoco it has to be" \
      "the release that pyproject.toml names: where that has no wheel for $("$venv/bin/python" --version)" \
      "on this machine, another Python of $supported may have one (BRAC_PYTHON=python3.12)" >&2
    exit 1
  fi
  touch "$stamp"
fi
