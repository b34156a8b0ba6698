#!/usr/bin/env bash
# Runs the tests on a fresh machine: makes .venv with the test extra, then pytest with the words given here.
#   launch/test.sh                        all but the slow ones
#   launch/test.sh --quick                under a minute: what compiles nothing large and starts no process (tests/quick.py)
#   launch/test.sh --quick tests/optim    the same of one room
#   launch/test.sh -m slow                the slow ones
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh test
# worksteal keeps the tests of a file together, so that a fixture of a file is made by one worker; the default hands them out by
# turns, and each worker makes every fixture.
exec .venv/bin/python -m pytest --numprocesses "${TEST_PROCESSES:-2}" --dist worksteal "$@"
