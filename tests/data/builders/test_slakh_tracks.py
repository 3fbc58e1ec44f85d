import numpy as np
import pytest
import soundfile

pytest.importorskip("yaml")

from music_spectrogram_diffusion.data.builders import (  # noqa: E402
  loading,
  slakh_tracks,
)
from music_spectrogram_diffusion.data.builders import (  # noqa: E402
  problems as rules,
)

BAND = [128, 0, 30, 33]  # Drums, piano, guitar, bass.


def make_folders(root, tracks):
  """Folders with nothing but a UUID in their metadata."""
  for name, uuid in tracks.items():
    (root / name).mkdir(parents=True)
    (root / name / "metadata.yaml").write_text(f"UUID: {uuid}\nstems: {{}}\n")


def find(root, with_duplicates=False):
  problems = rules.Problems()
  tracks = slakh_tracks.find_tracks(
    root, problems, with_duplicates=with_duplicates
  )
  return {track.track_id: track.split for track in tracks}, problems


def read(folder, split="train"):
  """The stems of a track, and the problems, by rule."""
  problems = rules.Problems()
  track = slakh_tracks.Track(folder, 1, split)
  stems = slakh_tracks.read_stems(track, problems)
  return {stem.name: stem for stem in stems}, problems


def test_redux_has_the_tracks_of_its_folders_and_none_omitted(tmp_path):
  root = tmp_path / "slakh2100_flac_redux"
  make_folders(
    root,
    {
      "train/Track00002": "a",
      "validation/Track01501": "b",
      "test/Track01876": "c",
      "omitted/Track00049": "d",
    },
  )
  expected = {
    "Track00002": "train",
    "Track01501": "validation",
    "Track01876": "test",
  }
  assert find(root)[0] == expected
  assert find(tmp_path)[0] == expected


def test_orig_takes_omitted_tracks_into_the_splits_of_their_numbers(tmp_path):
  make_folders(
    tmp_path,
    {
      "train/Track00002": "a",
      "omitted/Track01500": "a",
      "omitted/Track01875": "a",
      "omitted/Track02100": "a",
    },
  )
  assert find(tmp_path, with_duplicates=True)[0] == {
    "Track00002": "train",
    "Track01500": "train",
    "Track01875": "validation",
    "Track02100": "test",
  }


def test_of_tracks_with_one_song_redux_keeps_the_first(tmp_path):
  # As published at first: all folders, songs in several splits.
  make_folders(
    tmp_path,
    {
      "train/Track00046": "a",
      "train/Track00049": "a",
      "validation/Track01600": "b",
      "test/Track01900": "a",
      "test/Track01901": "b",
    },
  )
  tracks, problems = find(tmp_path)
  assert tracks == {"Track00046": "train", "Track01600": "validation"}
  assert problems.count(slakh_tracks.SAME_SONG) == 3


def test_tracks_without_folders_of_splits_are_split_by_number(tmp_path):
  make_folders(tmp_path, {"Track00001": "a", "Track01501": "b"})
  assert find(tmp_path)[0] == {
    "Track00001": "train",
    "Track01501": "validation",
  }


def test_a_track_that_is_there_twice_counts_once(tmp_path):
  make_folders(tmp_path, {"train/Track00007": "a", "test/Track00007": "b"})
  tracks, problems = find(tmp_path)
  assert tracks == {"Track00007": "train"}
  assert problems.count(rules.DUPLICATE_ID) == 1


def test_a_folder_without_tracks_says_what_was_looked_for(tmp_path):
  (tmp_path / "train").mkdir()
  with pytest.raises(ValueError, match=r"train/Track00001.*found none"):
    find(tmp_path)
  with pytest.raises(ValueError, match="found no .*nowhere"):
    find(tmp_path / "nowhere")


@pytest.mark.parametrize(
  ("program", "expected"),
  [(0, 0), (1, 0), (30, 29), (39, 33), (52, 52), (95, 88)]
  # Where Slakh's own list of classes differs from the next one below.
  + [(2, 4), (6, 0), (31, 26), (44, 48), (45, 48), (59, 56)]
  # Effects, ethnic and percussive instruments are of no class.
  + [(96, None), (127, None), (-1, None), (None, None), ("30", None)],
)
def test_programs_become_the_first_of_their_slakh_class(program, expected):
  assert slakh_tracks.class_program(program) == expected


def test_stems_have_the_instruments_of_the_metadata(tmp_path, slakh_files):
  notes = {"S02": [(0.125, 0.5, 64), (0.5, 1.0, 67)]}
  slakh_files.write_track(tmp_path / "Track00001", [*BAND, 103], notes)
  stems, problems = read(tmp_path / "Track00001")
  assert list(stems) == ["S00", "S01", "S02", "S03"]
  assert [stem.is_drum for stem in stems.values()] == [
    True,
    False,
    False,
    False,
  ]
  assert [stem.midi_program for stem in stems.values()] == [0, 0, 30, 33]
  guitar = stems["S02"].notes
  np.testing.assert_allclose(guitar.onset, [0.125, 0.5])
  np.testing.assert_allclose(guitar.offset, [0.5, 1.0])
  assert guitar.pitch.tolist() == [64, 67]
  assert guitar.velocity.tolist() == [90, 90]
  assert guitar.program.tolist() == [29, 29]  # Distorted Electric Guitar.
  assert problems.lines() == []  # What is not rendered is no fault.


def test_stems_that_cannot_be_used_are_left_out_by_their_rule(
  tmp_path, slakh_files
):
  folder = tmp_path / "Track00001"
  slakh_files.write_track(
    folder,
    [*BAND, 52, 24, 0, 6],
    {"S05": []},
    skip=["stems/S01.flac", "MIDI/S02.mid"],
  )
  (folder / "MIDI" / "S04.mid").write_bytes(b"no MIDI")
  metadata = (folder / "metadata.yaml").read_text()
  metadata = metadata.replace("program_num: 6", "program_num: 110")
  metadata = metadata.replace("stems:\n", "stems:\n  S99: broken\n")
  (folder / "metadata.yaml").write_text(metadata)
  stems, problems = read(folder)
  assert list(stems) == ["S00", "S03", "S06"]
  assert problems.count(slakh_tracks.STEM_MISSING) == 2
  assert problems.count(slakh_tracks.STEM_NOTES) == 2
  assert problems.count(slakh_tracks.STEM_UNKNOWN) == 1
  assert problems.count(slakh_tracks.STEM_BROKEN) == 1


@pytest.mark.parametrize("text", ["", "stems", "a: [", "stems: 3", "UUID: 1"])
def test_a_track_with_broken_metadata_is_dropped(tmp_path, text):
  (tmp_path / "metadata.yaml").write_text(text)
  with pytest.raises(rules.SongError, match="no readable mapping"):
    read(tmp_path)


def test_pitch_bends_are_ignored(tmp_path, slakh_files):
  folder = tmp_path / "Track00001"
  slakh_files.write_track(folder, BAND)
  before = read(folder)[0]["S02"].notes
  slakh_files.write_stem_midi(
    folder / "MIDI/S02.mid", 30, [(0.25, 0.75, 42)], [(0.3, 4000), (0.4, 0)]
  )
  stems, problems = read(folder)
  assert stems["S02"].notes.pitch.tolist() == before.pitch.tolist() == [42]
  assert problems.count(rules.PITCH_BENDS) == 1


def test_shorter_stems_end_with_silence(tmp_path, slakh_files):
  folder = tmp_path / "Track00001"
  slakh_files.write_track(folder, BAND)
  short = slakh_files.stem_tone(1, 0.8)
  soundfile.write(folder / "stems/S01.flac", short, slakh_files.rate)
  track = slakh_tracks.Track(folder, 1, "train")
  problems = rules.Problems()
  stems = slakh_tracks.read_stems(track, problems)
  loaded = slakh_tracks.load_samples(stems, track, problems)
  lengths = {len(samples) for _, samples in loaded.values()}
  assert lengths == {loading.SAMPLE_RATE}
  end = loaded["S01"][1][round(0.8 * loading.SAMPLE_RATE) :]
  assert len(end) and not end.any()
  assert problems.count(slakh_tracks.STEM_LENGTH) == 1


def test_stems_with_broken_audio_are_left_out(tmp_path, slakh_files):
  folder = tmp_path / "Track00001"
  slakh_files.write_track(folder, [*BAND, 52])
  (folder / "stems/S00.flac").write_bytes(b"")
  silence = np.zeros(slakh_files.rate, np.int16)
  soundfile.write(folder / "stems/S01.flac", silence, slakh_files.rate)
  early = slakh_files.stem_tone(2, 0.2)  # Its note begins at 0.25 s.
  soundfile.write(folder / "stems/S02.flac", early, slakh_files.rate)
  whole = (folder / "stems/S03.flac").read_bytes()
  (folder / "stems/S03.flac").write_bytes(whole[: len(whole) // 2])
  track = slakh_tracks.Track(folder, 1, "train")
  problems = rules.Problems()
  stems = slakh_tracks.read_stems(track, problems)
  loaded = slakh_tracks.load_samples(stems, track, problems)
  assert list(loaded) == ["S04"]
  assert problems.count(slakh_tracks.STEM_AUDIO) == 4


def test_what_befalls_many_stems_is_counted_as_one_song(tmp_path):
  problems = rules.Problems()
  with slakh_tracks.counted_once(problems, "Track00001") as found:
    found.add(rules.RESAMPLED, "Track00001/S00")
    found.add(rules.RESAMPLED, "Track00001/S01")
    found.add(slakh_tracks.STEM_AUDIO, "Track00001/S00")
    found.add(slakh_tracks.STEM_AUDIO, "Track00001/S01")
  assert problems.count(rules.RESAMPLED) == 1
  assert problems.count(slakh_tracks.STEM_AUDIO) == 2
