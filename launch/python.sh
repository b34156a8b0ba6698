#!/usr/bin/env bash
# Prints the path of a Python for launch/setup.sh on a machine whose own is too old or has no venv (TPU VM images bring
# 3.10): uv fetches one. PYTHON=$(launch/python.sh) launch/setup.sh tpu
set -euo pipefail
PATH=$HOME/.local/bin:$PATH
command -v uv > /dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh >&2
uv python install --quiet 3.12
uv python find --managed-python 3.12
