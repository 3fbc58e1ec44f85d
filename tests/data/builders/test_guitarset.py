import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

tfds = pytest.importorskip("tensorflow_datasets")

from music_spectrogram_diffusion import audio as audio_lib  # noqa: E402
from music_spectrogram_diffusion.data.builders import (  # noqa: E402
  base,
  guitarset,
)

RATE = 44_100
# Time, duration and measured pitch of the notes of each string, low E first.
STRINGS = [
  [(0.5, 0.25, 40.06)],
  [],
  [(0.25, 0.5, 50.51), (0.75, 0.125, 50.49)],
  [],
  [],
  [(0.0, 1.0, 64.0)],
]
NOTES = [
  (0.0, 1.0, 64),
  (0.25, 0.75, 51),
  (0.5, 0.75, 40),
  (0.75, 0.875, 50),
]


def observation(time, duration, value):
  return {
    "time": time,
    "duration": duration,
    "value": value,
    "confidence": None,
  }


def annotation(namespace, source, data):
  return {
    "annotation_metadata": {
      "curator": {"name": "", "email": ""},
      "annotator": {},
      "version": "",
      "corpus": "",
      "annotation_tools": "",
      "annotation_rules": "",
      "validation": "",
      "data_source": source,
    },
    "namespace": namespace,
    "data": data,
    "sandbox": {},
    "time": 0,
    "duration": 1.0,
  }


def write_excerpt(raw: Path, name, strings=STRINGS, *, mic=True, pickup=False):
  """Writes an excerpt of GuitarSet: its JAMS file and its recordings."""
  annotations = []
  for source, notes in enumerate(strings):
    # Contours have columns; the values of notes come in rows.
    contour = {"time": [0.5], "duration": [0.0], "confidence": [None]}
    contour["value"] = [{"voiced": True, "index": 0, "frequency": 82.4}]
    annotations.append(annotation("pitch_contour", str(source), contour))
    rows = [observation(*note) for note in notes]
    annotations.append(annotation("note_midi", str(source), rows))
  beat = {"position": 1, "measure": 1, "num_beats": 4, "beat_units": 4}
  beats = [observation(0.5, 0.0, beat)]
  annotations.append(annotation("beat_position", "", beats))
  chords = [observation(0.0, 1.0, "G:maj")]
  annotations.append(annotation("chord", "", chords))
  jams = {
    "annotations": annotations,
    "file_metadata": {
      "title": name,
      "artist": "",
      "release": "",
      "duration": 1.0,
      "identifiers": {},
      "jams_version": "0.3.1",
    },
    "sandbox": {},
  }
  (raw / "annotation").mkdir(parents=True, exist_ok=True)
  (raw / "annotation" / f"{name}.jams").write_text(json.dumps(jams))
  recordings = [("audio_mono-mic", "mic")] * mic
  recordings += [("audio_mono-pickup_mix", "mix")] * pickup
  for folder, ending in recordings:
    (raw / folder).mkdir(exist_ok=True)
    path = raw / folder / f"{name}_{ending}.wav"
    soundfile.write(path, tone(), RATE, "PCM_16")


def tone():
  """One second of A, 16 bits."""
  samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
  return np.int16(np.rint(samples * 32767))


def prepare(tmp_path, raw, kind=guitarset.GuitarSet):
  builder = kind(data_dir=tmp_path / "out")
  builder.num_workers = 0
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=raw)
  )
  examples = {
    split: {row["id"].decode(): row for row in tfds.as_numpy(dataset)}
    for split, dataset in builder.as_dataset().items()
  }
  report = json.loads((Path(builder.data_dir) / base.REPORT).read_text())
  counts = {row["rule"]: row["count"] for row in report["problems"]}
  return examples, counts


def notes_of(example):
  notes = base.notes_from_example(example)
  assert set(notes.program.tolist()) == {24}
  assert not notes.is_drum.any()
  return list(
    zip(
      notes.onset.tolist(),
      notes.offset.tolist(),
      notes.pitch.tolist(),
      strict=True,
    )
  )


def test_prepared_excerpts_have_the_notes_of_all_strings(tmp_path):
  raw = tmp_path / "raw"
  write_excerpt(raw, "00_BN1-129-Eb_comp")
  write_excerpt(raw, "03_Jazz2-187-F#_solo")
  write_excerpt(raw, "05_SS3-84-Bb_comp")
  write_excerpt(raw, "04_Jazz1-200-B_comp")  # Known to be annotated late.
  write_excerpt(raw, "00_Rock1-130-A_solo", mic=False)
  write_excerpt(raw, "00_Rock2-142-D_solo", [[]] * 6)
  write_excerpt(raw, "00_Funk9-1_comp")
  (raw / "annotation/00_Funk1-114-Ab_comp.jams").write_text('{"annota')
  wav = raw / "audio_mono-mic/00_BN1-129-Eb_comp_mic.wav"
  (raw / "audio_mono-mic/00_Funk1-114-Ab_comp_mic.wav").symlink_to(wav)
  (raw / "audio_mono-mic/00_Funk2-119-G_comp_mic.wav").symlink_to(wav)
  examples, counts = prepare(tmp_path, raw)
  train, validation = examples["train"], examples["validation"]
  assert sorted(train) == ["00_BN1-129-Eb_comp_mic", "03_Jazz2-187-F#_solo_mic"]
  assert sorted(validation) == ["05_SS3-84-Bb_comp_mic"]
  for example in (*train.values(), *validation.values()):
    assert notes_of(example) == NOTES
  expected = audio_lib.resample(
    np.float32(tone() / 32768), RATE, base.SAMPLE_RATE
  )
  audio = base.audio_from_example(train["00_BN1-129-Eb_comp_mic"])
  np.testing.assert_allclose(audio, expected, atol=1 / 32767)
  assert counts == {
    "late_annotation": 1,
    "missing_file": 1,
    "no_notes": 1,
    "no_split": 1,
    "unreadable_notes": 1,
    "no_annotation": 1,
    "missing_song": 358 - 6,
    "resampled": 3,
  }


def test_the_pickup_gives_a_second_example_of_each_excerpt(tmp_path):
  raw = tmp_path / "raw"
  write_excerpt(raw, "00_BN1-129-Eb_comp", pickup=True)
  examples, _ = prepare(tmp_path, raw, guitarset.GuitarSetPickup)
  expected = ["00_BN1-129-Eb_comp_mic", "00_BN1-129-Eb_comp_mix"]
  assert sorted(examples["train"]) == expected


def test_two_of_three_progressions_train_and_as_many_as_in_mt3(tmp_path):
  # All 360 names: 6 players, 5 styles, 3 progressions, 2 tempi, 2 versions.
  # Tempi and keys are made up, but for the two excerpts that are left out.
  for folder in ("annotation", "audio_mono-mic", "audio_mono-pickup_mix"):
    (tmp_path / folder).mkdir()
  (tmp_path / "audio_mono-mic" / "readme").touch()
  (tmp_path / "audio_mono-pickup_mix" / "readme").touch()
  tempi = {"BN3": ("154-E", "90-A"), "Jazz1": ("200-B", "90-A")}
  for player in range(6):
    for style in ("BN", "Funk", "Jazz", "Rock", "SS"):
      for progression in (1, 2, 3):
        lead = f"{style}{progression}"
        for tempo in tempi.get(lead, ("120-C", "90-A")):
          for version in ("comp", "solo"):
            name = f"{player:02d}_{lead}-{tempo}_{version}.jams"
            (tmp_path / "annotation" / name).touch()
  builder = guitarset.GuitarSetPickup(data_dir=tmp_path / "out")
  songs = builder.find_songs(tmp_path, base.Problems())
  splits = [song.split for song in songs]
  # Gardner et al. 2022, B.4.
  assert splits.count("train") == 478
  assert splits.count("validation") == 238
  assert builder.NUM_SONGS == 478 + 238


def test_rows_that_are_no_notes_are_dropped_and_counted(tmp_path):
  strings = [[(0.5, -0.25, 40.0), (0.5, 0.0, 45.0), (0.5, 0.25, None)]]
  write_excerpt(tmp_path, "a", strings)
  problems = base.Problems()
  path = tmp_path / "annotation" / "a.jams"
  notes = guitarset.read_jams(path, problems, "a")
  assert notes.pitch.tolist() == [45]
  np.testing.assert_allclose(notes.offset, 0.51)
  assert problems.count(base.rules.INVALID_NOTE) == 2
  assert problems.count(base.rules.EMPTY_NOTE) == 1


def test_annotations_in_columns_are_read_too(tmp_path):
  data = {"time": [0.5], "duration": [0.25], "value": [40.2]}
  path = tmp_path / "a.jams"
  path.write_text(
    json.dumps({"annotations": [annotation("note_midi", "0", data)]})
  )
  notes = guitarset.read_jams(path, base.Problems(), "a")
  assert (notes.onset[0], notes.offset[0], notes.pitch[0]) == (0.5, 0.75, 40)


@pytest.mark.parametrize(
  "text", ["", "[]", "{}", '{"annotations": [{}]}', '{"annotations": []}']
)
def test_what_is_no_annotation_of_notes_is_named(tmp_path, text):
  path = tmp_path / "a.jams"
  path.write_text(text)
  with pytest.raises(base.SongError, match=r"a\.jams is no JAMS file"):
    guitarset.read_jams(path, base.Problems(), "a")


def test_a_wrong_directory_says_what_was_looked_for(tmp_path):
  (tmp_path / "raw" / "other").mkdir(parents=True)
  with pytest.raises(ValueError, match=r"found no annotation/\*\.jams and"):
    prepare(tmp_path, tmp_path / "raw")
