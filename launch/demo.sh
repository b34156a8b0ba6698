#!/usr/bin/env bash
# The main job on real text, on a fresh machine: environment, corpus, pretraining, fine-tuning over three seeds from the
# pretrained model and from random values, table and reports. Run again, it continues where it stopped.
#   launch/demo.sh [DIR]     everything goes under DIR, runs/demo when not given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
launch/setup.sh
out=${1:-runs/demo}
albert() { .venv/bin/python -m albert_jax "$@"; }

albert prepare --corpus pydocs --out "$out/corpus" --vocab-size 4096 --test 0.1
albert train --config configs/demo.py --workdir "$out/pretrain" --task.data "$out/corpus"
albert evaluate --workdir "$out/pretrain"
albert seeds --config configs/demo_classify.py --workdir "$out/pretrained" --n 3 \
  --name "classify, pretrained" --task.data "$out/corpus" --init "$out/pretrain"
albert seeds --config configs/demo_classify.py --workdir "$out/scratch" --n 3 \
  --name "classify, from scratch" --task.data "$out/corpus" --init "$out/pretrain" --from-scratch
albert compare "$out/pretrain" "$out"/pretrained/seed-* "$out"/scratch/seed-*
echo "reports: $out/pretrain/report/index.html, $out/pretrained/seed-0/report/index.html"
