"""Neural synthesis of multi-instrument music: MIDI in, audio out."""

__version__ = "0.1.0"
