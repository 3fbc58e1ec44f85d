#!/usr/bin/env bash
# Trains gin/aligned_gpu.gin for a while, and leaves the averaged weights.
#
#   docs/train_default.sh OUT SECONDS [--gin.NAME=VALUE ...]
#
# OUT gets, again and again, what a model directory is made of: config.json, and
# model.safetensors in parts of at most 15 MiB, to be joined by `cat`; with what
# was measured of the data, and the metrics. After SECONDS the run is stopped and
# saved, which takes up to a minute more. The same command goes on with the run
# where it was, if RUN is still there; otherwise with the weights that an earlier
# call left, if WEIGHTS names their folder.
#
# Variables: RUN, folder of the run; WEIGHTS; SOUNDFONT, a file, and MIDI, a
# folder of songs; EXPORT_EVERY, seconds from one export to the next; PYTHON.
set -euo pipefail

out=$1 seconds=$2
shift 2
run=${RUN:-run}
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
# Every process that plays has a core; what it multiplies shall not take others.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

main='from music_spectrogram_diffusion.cli.main import main; main()'
spec_diff=("${PYTHON:-python3}" -c "$main")
settings=(
  --gin_file=aligned_gpu.gin
  "--gin.MODEL_DIR='$run'"
  "--gin.NUM_WORKERS=$(($(nproc) > 1 ? $(nproc) - 1 : 1))"
)
if [[ -n ${SOUNDFONT:-} ]]; then
  settings+=("--gin.SOUNDFONT='$SOUNDFONT'")
fi
if [[ -n ${MIDI:-} ]]; then
  settings+=("--gin.MIDI='$MIDI'")
fi

newest() { # Step of the last checkpoint; nothing without one.
  find "$run/checkpoints" -maxdepth 1 -regex '.*/[0-9]+' -printf '%f\n' \
    2>/dev/null | sort -n | tail -n 1 || true
}

if [[ -z $(newest) && -n ${WEIGHTS:-} ]]; then
  mkdir -p "$run.start"
  cp "$WEIGHTS/config.json" "$run.start/"
  cat "$WEIGHTS"/model.safetensors.part* >"$run.start/model.safetensors"
  settings+=(
    "--gin.INITIAL_MODEL='$run.start'"
    "--gin.default_model.preconditioning.given='$WEIGHTS/statistics.json'"
  )
fi

exported=
export_weights() {
  local step
  step=$(newest)
  [[ -n $step && $step != "$exported" ]] || return 0
  rm -rf "$run.weights" "$run.parts"
  mkdir -p "$run.parts" "$out"
  # The GPU is the trainer's; a checkpoint may be replaced while it is read.
  JAX_PLATFORMS=cpu "${spec_diff[@]}" convert run "$run" "$run.weights" \
    --step "$step" >/dev/null || return 0
  split -b 15M -d "$run.weights/model.safetensors" \
    "$run.parts/model.safetensors.part"
  cp "$run.weights/config.json" "$run/statistics.json" "$run.parts/"
  if [[ -e $run/summaries/train.jsonl ]]; then
    tail -n 2000 "$run/summaries/train.jsonl" >"$run.parts/train.jsonl"
  fi
  echo "$step" >"$run.parts/step"
  cp "$run.parts"/* "$out/"
  exported=$step
  echo "step $step: weights in $out"
}

"${spec_diff[@]}" train "${settings[@]}" "$@" &
trainer=$!
trap 'kill -TERM "$trainer" 2>/dev/null || true' INT TERM EXIT
end=$((SECONDS + seconds))
next=$((SECONDS + ${EXPORT_EVERY:-120}))
while kill -0 "$trainer" 2>/dev/null; do
  if ((SECONDS >= end)); then
    kill -TERM "$trainer" 2>/dev/null || true
    break
  fi
  if ((SECONDS >= next)); then
    export_weights
    next=$((SECONDS + ${EXPORT_EVERY:-120}))
  fi
  sleep 1
done
status=0
wait "$trainer" || status=$?
export_weights
# 130 and 143: stopped by a signal, after it was saved.
case $status in 130 | 143) status=0 ;; esac
exit "$status"
