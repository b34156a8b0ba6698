#!/usr/bin/env bash
# Runs the tests of the Beam pipeline in an environment of its own, .venv-beam: Apache Beam asks for an older protobuf than
# requirements.txt pins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh test # for the choice of Python, and so that .venv exists
made=.venv-beam/made-$(cksum < pyproject.toml | tr ' ' '-')
if [ ! -e "$made" ]; then
  [ -x .venv-beam/bin/python ] || .venv/bin/python -m venv .venv-beam
  .venv-beam/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[beam]" "pytest>=8"
  touch "$made"
fi
exec .venv-beam/bin/python -m pytest -k beam tests/data "$@"
