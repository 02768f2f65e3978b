#!/usr/bin/env bash
# All that is done where a GPU is at hand, in parts; a part whose result is there is not done again.
#
#   experiments/gpu.sh [FOLDER] [--tiny] [PART ...]
#
# It needs no network and installs nothing: what the machine lacks is read from gpu-site/, a folder
# that `pip install --target gpu-site platformdirs` makes beforehand. The results are
# FOLDER/<part>.json and FOLDER/report.md, and new weights with their cards in FOLDER/weights/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD:$PWD/gpu-site${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
exec "${PYTHON:-python3}" -u experiments/gpu.py "$@"
