#!/usr/bin/env bash
# Runs the comparisons with torch and transformers in an environment of their own, .venv-torch: they are large, and nothing
# else needs them. Where pip would fetch torch with CUDA, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu spares it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh test # for the choice of Python, and so that .venv exists
made=.venv-torch/made-$(cat requirements.txt pyproject.toml | cksum | tr ' ' '-')
if [ ! -e "$made" ]; then
  [ -x .venv-torch/bin/python ] || .venv/bin/python -m venv .venv-torch
  .venv-torch/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[torch]" "pytest>=8"
  touch "$made"
fi
exec .venv-torch/bin/python -m pytest -m torch tests/interop "$@"
