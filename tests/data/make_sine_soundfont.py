"""Writes sine.sf2: every General MIDI program and the drum kit as one sine.

A looped sine that starts at full strength, so that onsets are sharp. Run as
`python tests/data/make_sine_soundfont.py`; its output is committed.
"""

from pathlib import Path
import struct

import numpy as np

PERIOD = 100  # Samples; the sample rate makes them 440 Hz, pitch 69.
RATE = 44_000
LOOP = (10 * PERIOD, 20 * PERIOD)
SAMPLE_ID, INSTRUMENT, SAMPLE_MODES = 53, 41, 54


def chunk(name, data):
  return (
    name.encode()
    + struct.pack("<I", len(data))
    + data
    + b"\0" * (len(data) % 2)
  )


def text(value, size=20):
  return value.encode().ljust(size, b"\0")


def sine_soundfont() -> bytes:
  """The bytes of the soundfont."""
  wave = 16_000 * np.cos(2 * np.pi * np.arange(30 * PERIOD) / PERIOD)
  samples = np.concatenate([wave, np.zeros(46)]).astype("<i2").tobytes()
  presets = [(0, program) for program in range(128)] + [(128, 0)]
  header = b"".join(
    text(f"{bank}-{program}")
    + struct.pack("<HHHIII", program, bank, i, 0, 0, 0)
    for i, (bank, program) in enumerate([*presets, (0, 0)])
  )
  bags = b"".join(struct.pack("<HH", i, 0) for i in range(len(presets) + 1))
  generators = struct.pack("<HH", INSTRUMENT, 0) * len(presets)
  pdta = {
    "phdr": header,
    "pbag": bags,
    "pmod": b"\0" * 10,
    "pgen": generators + b"\0" * 4,
    "inst": text("sine") + struct.pack("<H", 0) + text("EOI") + b"\1\0",
    "ibag": struct.pack("<4H", 0, 0, 2, 0),
    "imod": b"\0" * 10,
    "igen": struct.pack("<6H", SAMPLE_MODES, 1, SAMPLE_ID, 0, 0, 0),
    "shdr": text("sine")
    + struct.pack("<5IBbHH", 0, len(wave), *LOOP, RATE, 69, 0, 0, 1)
    + text("EOS", 46),
  }
  info = chunk("ifil", struct.pack("<HH", 2, 1)) + chunk("isng", b"EMU8000\0")
  parts = {
    "INFO": info + chunk("INAM", b"Sine\0\0"),
    "sdta": chunk("smpl", samples),
    "pdta": b"".join(chunk(name, data) for name, data in pdta.items()),
  }
  lists = (chunk("LIST", name.encode() + d) for name, d in parts.items())
  return chunk("RIFF", b"sfbk" + b"".join(lists))


if __name__ == "__main__":
  Path(__file__).with_name("sine.sf2").write_bytes(sine_soundfont())
