#!/bin/sh
# Installs the peer, vocos on PyTorch, into .venv-peer beside this file.
#
# Of what vocos asks for, its network needs only what is listed here: the rest
# (torchaudio, encodec, ...) is for its features and its training.
set -eu

venv="${1:-$(dirname "$0")/.venv-peer}"
"${PYTHON:-python3}" -m venv "$venv"
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip "torch==${TORCH_VERSION:-2.13.0}" 'numpy>=2,<3' 'scipy<1.18'
$pip --no-deps 'vocos==0.1.0'
PYTHONPATH="$(dirname "$0")" "$venv/bin/python" -c 'import peer'
echo "The peer is ready: $venv/bin/python"
