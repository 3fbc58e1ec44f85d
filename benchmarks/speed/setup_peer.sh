#!/bin/sh
# Installs the peer, diffusers' SpectrogramDiffusionPipeline on PyTorch, into
# .venv-peer beside this file; on a machine with a GPU, give TORCH_INDEX_URL for
# another build. Later versions of transformers break its encoders.
set -eu

venv="${1:-$(dirname "$0")/.venv-peer}"
"${PYTHON:-python3}" -m venv "$venv"
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} \
  "torch==${TORCH_VERSION:-2.13.0}"
$pip 'diffusers==0.27.2' 'transformers==4.38.2' 'huggingface_hub==0.23.5' \
  'numpy>=2,<3'
"$venv/bin/python" -c \
  'from diffusers.pipelines.deprecated import spectrogram_diffusion as peer
peer.SpectrogramNotesEncoder'
echo "The peer is ready: $venv/bin/python"
