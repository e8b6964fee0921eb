#!/usr/bin/env bash
# Measures on a GPU, in about 12 minutes; writes figures and a trace to a folder.
#
#     bash scripts/benchmark_gpu.sh [FOLDER]
#
# PYTHON names the interpreter; it must see JAX's CUDA wheels.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-gpu}
python=${PYTHON:-python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$folder"
"$python" -c 'import jax; print(jax.devices())' | tee "$folder/device.txt"
for system in sete transeger; do
    for mode in "" --train; do
        timeout 180 "$python" scripts/measure_accelerator_program.py $mode \
            --config="configs/gtea_$system.py" --dtype=bfloat16 \
            --json="$folder/program_$system$mode.json" 2>&1 |
            tee "$folder/program_$system$mode.txt"
    done
    for dtype in float32 bfloat16; do
        timeout 90 "$python" -m svtas_jax.benchmark --config="configs/gtea_$system.py" \
            --config.model.dtype="$dtype" --batches=1,8,32 \
            --json="$folder/${system}_$dtype.json" 2>&1 | tee "$folder/${system}_$dtype.txt"
    done
done
"$python" scripts/measure_depthwise.py | tee "$folder/depthwise.txt"
timeout 60 "$python" -m svtas_jax.profile --config=configs/gtea_sete.py \
    --trace="$folder/trace" 2>&1 | tee "$folder/profile.txt"
timeout 120 "$python" -m pytest -q -x tests/test_streaming.py 2>&1 | tee "$folder/tests.txt"
