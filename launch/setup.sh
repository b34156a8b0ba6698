#!/usr/bin/env bash
# Makes .venv beside this repository from requirements.txt; with an argument such as "test" or "gpu,gcs" also those extras of
# pyproject.toml, in the versions of requirements-dev.txt where it has them.
# Done once, it is done: a second call returns at once unless one of these three files changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra=${1:-}
made=.venv/made-${extra:-plain}-$(cat requirements.txt requirements-dev.txt pyproject.toml | cksum | tr ' ' '-')
[ -e "$made" ] && exit 0

python=${PYTHON:-}
if [ -z "$python" ]; then
  for name in python3 python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      python=$name
      break
    fi
  done
fi
[ -n "$python" ] || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or set PYTHON=/path/to/python" >&2; exit 2; }

echo "making .venv with $("$python" --version)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
if [ -n "$extra" ]; then
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements-dev.txt --editable ".[$extra]"
fi
touch "$made"
