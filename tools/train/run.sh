#!/usr/bin/env bash
# The complete recipe: corpus, tokenizer, training, export, evaluation. Needs `rustc` with the rust-docs component and
# the Python packages of requirements.txt. Resumes an interrupted training. Installs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
work=${1:?usage: run.sh WORK_FOLDER [MODEL_FOLDER]}
model=${2:-$work/model}
"$python" "$here/corpus.py" --out "$work"
"$python" "$here/tokenizer.py" --data "$work"
"$python" "$here/train.py" --data "$work" --out "$work"
"$python" "$here/plot.py" --table "$work/loss.csv" --out "$work/loss.svg"
"$python" "$here/export.py" --checkpoint "$work/checkpoint.pt" --tokenizer "$work/tokenizer.json" --out "$model"
"$python" "$here/evaluate.py" --model "$model" --data "$work"
