#!/bin/sh
# Installs the transcriber into .venv-transcriber beside this file.
#
# basic-pitch asks for an old TensorFlow; the ONNX model inside its wheel needs
# only what is listed here, in an environment of its own because of NumPy 1.
set -eu

venv="${1:-$(dirname "$0")/.venv-transcriber}"
"${PYTHON:-python3}" -m venv "$venv"
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check"
$pip --no-deps 'basic-pitch==0.4.0'
$pip 'numpy<2' 'setuptools<81' 'librosa==0.10.2.post1' 'resampy<0.4.3' \
  'pretty_midi<0.3' 'mir_eval<0.9' 'scipy<1.18' 'onnxruntime<2' \
  scikit-learn typing-extensions
"$venv/bin/python" "$(dirname "$0")/transcribe.py" </dev/null
echo "The transcriber is ready: $venv/bin/python"
