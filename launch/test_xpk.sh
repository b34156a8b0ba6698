#!/usr/bin/env bash
# Compares launch/gke_xpk.sh with the real xpk, dry: no network, no cloud. xpk lives in an environment of its own,
# .venv-xpk, because it asks for other versions than requirements.txt pins. With --update it writes
# tests/launch/golden/xpk_manifest.yaml anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh test # for the choice of Python, and so that .venv exists
if [ ! -e .venv-xpk/made-1.16.0 ]; then
  [ -x .venv-xpk/bin/python ] || .venv/bin/python -m venv .venv-xpk
  .venv-xpk/bin/python -m pip install --quiet --disable-pip-version-check xpk==1.16.0
  touch .venv-xpk/made-1.16.0
fi
export XPK=.venv-xpk/bin/xpk
if [ "${1:-}" = --update ]; then exec .venv/bin/python -m tests.launch.test_xpk; fi
exec .venv/bin/python -m pytest tests/launch/test_xpk.py "$@"
