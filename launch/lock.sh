#!/usr/bin/env bash
# Writes the two lock files from pyproject.toml: requirements.txt, what the package itself needs, and requirements-dev.txt, that
# and the extras test, docs and dev. A version that is written down stays while it satisfies pyproject.toml:
#   launch/lock.sh                          after a change of pyproject.toml
#   launch/lock.sh --upgrade-package optax  one newer
#   launch/lock.sh --upgrade                all newer
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh dev

lock() { # FILE HEADER WORDS...: one set of versions for Python 3.11 to 3.13, Linux and macOS
  local file=$1 header=$2
  .venv/bin/uv pip compile pyproject.toml --output-file "$file" --universal --python-version 3.11 \
    --no-annotate --no-header --strip-extras --quiet "${@:3}"
  # The upper end of requires-python, which uv repeats on every line, says nothing there.
  local pins
  pins=$(sed -e "s/ ; python_full_version < '3.14'\$//; s/ ; python_full_version < '3.14' and / ; /; s/ and python_full_version < '3.14'\$//" "$file")
  printf '# %s\n# Made by launch/lock.sh; change pyproject.toml and run that.\n%s\n' "$header" "$pins" > "$file"
}

lock requirements.txt "All that the package needs, pinned: what the demo and the tests were run with." "$@"
lock requirements-dev.txt "requirements.txt and the extras test, docs and dev: constraints for what launch/setup.sh adds." \
  --constraint requirements.txt --extra test --extra docs --extra dev "$@"
