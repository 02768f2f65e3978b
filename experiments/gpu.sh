#!/usr/bin/env bash
# All that is done where a GPU is at hand, within a few minutes; what is done is not done again.
#
#   experiments/gpu.sh pack FOLDER [PART ...]   a small copy of the repository, to take to a machine
#   experiments/gpu.sh [FOLDER] [PART ...]      do the parts (all if none is named)
#     --minutes 12   begin nothing later than this allows, and cut short what takes longer
#     --collect DIR  copy the results there after every row
#     --tiny         a few steps of everything, on whatever device there is
#
# It needs no network and installs nothing: it asks for torch, numpy, accelerate, safetensors,
# jaxtyping and matplotlib, and reads what else the machine lacks from gpu-site/, which `pack`
# fills; the chapters need scikit-learn besides. The results are FOLDER/report.md (one table),
# FOLDER/results.json, FOLDER/log.txt and FOLDER/weights-1.tar, ..., with a card for each model.
# Two calls of under ten minutes, each on a machine of its own, do everything:
#
#   experiments/gpu.sh runs/gpu --minutes 9 --collect "$OUT" speed notebooks
#   experiments/gpu.sh runs/gpu --minutes 9 --collect "$OUT" tests weights
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"
if [ "${1:-}" = pack ]; then
  exec "$python" experiments/gpu_pack.py "${@:2}"
fi
lacking="$("$python" experiments/gpu_pack.py --lacking)"
export PYTHONPATH="$PWD${lacking:+:$lacking}${PYTHONPATH:+:$PYTHONPATH}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" MPLBACKEND=Agg
if [ -z "${GENTEXT_DATA:-}" ] && [ -d gpu-data ]; then
  export GENTEXT_DATA="$PWD/gpu-data"
fi
exec "$python" -u experiments/gpu.py "$@"
