#!/usr/bin/env bash
# Makes the model in the box, albert_jax/small, from nothing: corpus of pinned Debian packages, pretraining, card. Needs a
# Debian-like system (apt-get download; nothing is installed) and hours of a CPU. Run again, it continues where it stopped.
#   launch/box.sh [DIR]     everything goes under DIR, runs/small when not given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
out=${1:-runs/small}
.venv/bin/python -m albert_jax prepare --corpus debian:configs/pretrain_small.tsv --out "$out/corpus" \
  --vocab-size 16000 --validation 0.01 --test 0.01
.venv/bin/python -m albert_jax train --config configs/pretrain_small.py --workdir "$out/pretrain" --task.data "$out/corpus"
.venv/bin/python -m benchmarks.box --workdir "$out/pretrain" --corpus "$out/corpus"
