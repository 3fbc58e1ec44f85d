"""Packaging of music_spectrogram_diffusion: pip install ."""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
_INIT = (_ROOT / "music_spectrogram_diffusion" / "__init__.py").read_text()

setuptools.setup(
  name="music-spectrogram-diffusion",
  version=re.search(r'__version__ = "(.+)"', _INIT).group(1),
  description="Neural synthesis of multi-instrument music: MIDI in, audio out.",
  long_description=(_ROOT / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  license_files=["LICENSE"],
  # The folders `tasks` and `gin` stand beside the package and install in it.
  packages=[
    *setuptools.find_packages(include=["music_spectrogram_diffusion*"]),
    "music_spectrogram_diffusion.gin",
    "music_spectrogram_diffusion.tasks",
  ],
  package_dir={
    "music_spectrogram_diffusion.gin": "gin",
    "music_spectrogram_diffusion.tasks": "tasks",
  },
  package_data={
    "music_spectrogram_diffusion": [
      "checkpoints/registry.json",
      "pretrained/**",
    ],
    "music_spectrogram_diffusion.gin": ["**/*.gin", "README.md"],
    "music_spectrogram_diffusion.tasks": ["README.md"],
  },
  python_requires=">=3.11,<3.14",
  install_requires=[
    "flax>=0.12.6",
    "gin-config>=0.5",
    "jax>=0.10,<0.12",
    "jaxtyping>=0.3",
    "matplotlib>=3.9",
    "mido>=1.3,<2",
    "numpy>=2.0,<3",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.11.30",
    "rich>=13.7",
    "safetensors>=0.5",
    "soundfile>=0.13",
    "soxr>=1.0",
    "typer>=0.20",
  ],
  extras_require={
    "data": [
      "apache-beam>=2.70",
      "google-crc32c>=1.5",  # Beam writes no TFRecords without it.
      "note-seq>=0.0.5",
      "pyyaml>=6",
      # Later ones want a protobuf that apache-beam does not.
      "sentencepiece>=0.2,<0.2.3",
      "seqio>=0.0.19",
      "tensorflow>=2.20",
      "tensorflow-datasets>=4.9.9",
    ],
    # clu writes TensorBoard's files by these two.
    "train": ["clu>=0.0.12", "tensorboard>=2.20", "tensorflow>=2.20"],
    "web": ["gradio"],
    "eval": [
      "mir_eval>=0.8",
      "onnxruntime>=1.20",
      "scipy>=1.14",
      "tensorflow>=2.20",
    ],
    "convert": ["huggingface_hub", "onnxruntime", "tensorstore"],
    "test": [
      "beartype>=0.22.2",
      "hypothesis>=6.100",
      "onnx>=1.17",
      "onnxruntime>=1.20",
      "pytest>=8",
      "pytest-xdist>=3.6",
      "ruff>=0.15",
      "scipy>=1.14",
    ],
    # Apart from `test`, because torch is as large as everything else together.
    "parity": ["diffusers", "torch"],
  },
  entry_points={
    "console_scripts": ["spec-diff=music_spectrogram_diffusion.cli.main:main"]
  },
)
