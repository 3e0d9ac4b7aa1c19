#!/usr/bin/env bash
# What a GPU makes of the lab, in one go: experiments/speed/gpu.sh [folder for what is measured] [minutes of training]
# 1. the relation kernels against float64; 2. distillation steps, every backend; 3. minutes of real training.
# Needs torch, triton and transformers alone. Where all of the lab is installed, its own bench grid and a distillation
# on text of installed packages follow. Without a GPU it runs too, smaller, and says so.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "${1:-runs/gpu}") minutes=${2:-10}
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
"$python" "$root/experiments/speed/gpu.py" "$out" "$minutes" 2>&1 | tee "$out/gpu.log"
if "$python" -c "import hydra, pytorch_lightning, datasets" 2>/dev/null; then
	cd "$out"
	lab=("$python" -m minilm_lab)
	"${lab[@]}" bench paths.runs="$out/runs" out="$out/bench"
	# Ended after its minutes with a checkpoint (143), not by its steps.
	code=0
	timeout --signal=TERM "${minutes}m" "${lab[@]}" distill experiment=demo scale.steps=1000000 trainer.log_every=50 \
		paths.runs="$out/runs" logger=none || code=$?
	[ "$code" = 143 ] || [ "$code" = 124 ] || exit "$code"
else
	echo "the lab's own commands were left out: hydra, pytorch_lightning or datasets is not installed" | tee -a "$out/gpu.log"
fi
echo "all of it lies in $out"
