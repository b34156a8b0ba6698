#!/usr/bin/env bash
# Runs the tests on a fresh machine: makes .venv with the test extra, then pytest with the words given here.
#   launch/test.sh                 all but the slow ones
#   launch/test.sh -m slow         the slow ones
#   launch/test.sh tests/optim     one room
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh test
exec .venv/bin/python -m pytest --numprocesses "${TEST_PROCESSES:-2}" "$@"
