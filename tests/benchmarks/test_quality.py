"""Facts about the measures of benchmarks/quality."""

import dataclasses
import importlib
import json
from pathlib import Path
import shutil
import sys
import types

from jax import numpy as jnp
import numpy as np
import pytest
import soundfile

from music_spectrogram_diffusion import audio, inverter, notes
from music_spectrogram_diffusion.inference import synthesizer

_FOLDER = Path(__file__).parents[2] / "benchmarks" / "quality"
_CONFIG = audio.SpectrogramConfig()
_RATE = _CONFIG.sample_rate


def _import(*names):
  """Imports modules of the bench, which import each other by their names."""
  before = sys.modules.copy()
  own = [path.stem for path in _FOLDER.glob("*.py")]
  for name in own:  # Other folders may have modules of these names.
    sys.modules.pop(name, None)
  sys.path.insert(0, str(_FOLDER))
  try:
    return [importlib.import_module(name) for name in names]
  finally:
    sys.path.remove(str(_FOLDER))
    for name in own:
      sys.modules.pop(name, None)
      if name in before:
        sys.modules[name] = before[name]


_NAMES = (
  "drums dynamics families joins material measures one_step renderings report"
  " run scores targets"
)
(
  drums,
  dynamics,
  families,
  joins,
  material,
  measures,
  one_step,
  renderings,
  report,
  run,
  scores,
  targets,
) = _import(*_NAMES.split())


def _bursts(onset, amplitude, duration_s):
  """Noise that starts at each onset and dies away with 30 ms."""
  rng = np.random.default_rng(0)
  samples = np.zeros(round(duration_s * _RATE), np.float32)
  fall = np.exp(-np.arange(round(0.2 * _RATE)) / (0.03 * _RATE))
  for start, level in zip(np.rint(onset * _RATE), amplitude, strict=True):
    burst = level * fall * rng.standard_normal(len(fall))
    end = min(len(samples), int(start) + len(burst))
    samples[int(start) : end] += burst[: end - int(start)]
  return samples


def _sine(duration_s, frequency_hz=440.0):
  time = np.arange(round(duration_s * _RATE)) / _RATE
  return (0.3 * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def test_hits_are_heard_where_they_are_and_nowhere_else():
  onset = np.array([0.0, 0.31, 0.5, 0.62, 1.0, 1.7])
  hits = notes.Notes.from_columns(onset, onset, 38, 100, 0, True)
  score = drums.score(hits, _bursts(onset, [0.3] * 6, 2.0), _CONFIG)
  assert (score.f1, score.asked, score.heard) == (1.0, 6, 6)


def test_hits_that_come_too_late_or_not_at_all_are_not_heard():
  onset = np.array([0.5, 1.0, 1.5])
  hits = notes.Notes.from_columns(onset, onset, 38, 100, 0, True)
  late = _bursts(onset + 0.1, [0.3] * 3, 2.0)
  assert drums.score(hits, late, _CONFIG).f1 == 0
  assert drums.score(hits, 0 * late, _CONFIG) == drums.OnsetScore(0.0, 3, 0)
  half = _bursts(onset[:1], [0.3], 2.0)
  assert drums.score(hits, half, _CONFIG).f1 == pytest.approx(2 / 4)


def test_steady_sound_has_no_onset_neither_at_its_end():
  heard = drums.find_onsets(_sine(2.0), _CONFIG)
  assert (heard < drums.TOLERANCE_S).all()


def test_drums_that_are_struck_together_are_one_onset():
  onset = np.array([0.5, 0.1, 0.51, 0.1, 0.58])
  hits = notes.Notes.from_columns(
    onset, onset, [38, 36, 42, 42, 38], 9, 0, True
  )
  np.testing.assert_allclose(drums.hits(hits), [0.1, 0.5, 0.58])


@pytest.mark.parametrize("contrast", [1.0, 0.5, 0.0])
def test_the_slope_of_a_figure_is_its_contrast(contrast):
  figure = material.figure_notes()["snare"]
  level_db = 40 * np.log10(np.array(material.VELOCITIES) / 127)
  reference, samples = (
    _bursts(figure.onset, 10 ** (share * level_db / 20), 5.0)
    for share in (1.0, contrast)
  )
  result = dynamics.measure_figure(
    figure.onset, figure.velocity, samples, reference, _RATE
  )
  # The bursts' own noise is worth a tenth of the range of velocities.
  assert result.slope == pytest.approx(contrast, abs=0.12)
  if contrast:
    assert result.with_velocity > 0.9 and result.with_soundfont > 0.95


def test_levels_that_do_not_vary_correlate_with_nothing():
  assert dynamics.correlation(np.full(4, -20.0), np.arange(4.0)) == 0
  assert dynamics.correlation(np.arange(4.0), -np.arange(4.0)) == -1


def test_half_the_amplitude_is_six_decibels_less_with_the_same_envelope():
  samples = _bursts(np.array([0.1, 0.8, 1.3]), [0.4, 0.1, 0.2], 2.0)
  level = dynamics.measure_level(samples / 2, samples, _RATE)
  assert level.difference_db == pytest.approx(-6.02, abs=0.01)
  assert level.envelope == pytest.approx(1.0, abs=1e-3)


def _held(gain_db):
  """Measures a decaying tone of 9 s that is played with a changing gain."""
  time = np.arange(10 * _RATE) / _RATE
  tone = np.where(time < 9, np.exp(-time / 3), 0) * np.sin(2764.6 * time)
  played = tone * 10 ** (gain_db(time) / 20)
  return dynamics.measure_held(
    played, tone, _RATE, duration_s=9.0, joins_s=[5.0, 9.6], reach_s=0.2
  )


def test_a_held_note_that_steps_at_a_join_is_told_by_how_much():
  result = _held(lambda time: np.where(time < 5, 0.0, 6.0))
  assert result.step_db == pytest.approx(6.0, abs=0.1)
  assert result.error_db == pytest.approx(6.0 * 4 / 9, abs=0.2)


def test_a_held_note_is_compared_as_far_as_both_reach():
  tone = np.sin(np.arange(9 * _RATE) / 5).astype(np.float32)
  result = dynamics.measure_held(
    tone[: 8 * _RATE], tone, _RATE, duration_s=9.0, joins_s=[9.6], reach_s=0.2
  )
  assert result.error_db == pytest.approx(0.0, abs=0.1)
  assert np.isnan(result.step_db)  # There is no join.


def test_a_held_note_that_is_too_loud_all_along_has_no_step():
  result = _held(lambda time: np.full_like(time, 3.0))
  assert result.step_db == pytest.approx(0.0, abs=0.1)
  assert result.error_db == pytest.approx(3.0, abs=0.1)


def test_joins_of_noise_rank_as_any_other_place():
  noise = np.random.default_rng(1).standard_normal(60 * _RATE)
  ranks = joins.ranks(0.1 * noise.astype(np.float32), joins.Places(20), _CONFIG)
  assert len(ranks) == 149
  # 149 uniform ranks: their mean deviates by 0.024, the share by 0.018.
  assert ranks.mean() == pytest.approx(0.5, abs=0.07)
  assert (ranks > joins.HIGH).mean() == pytest.approx(0.05, abs=0.05)


def test_a_step_at_every_join_of_steady_sound_ranks_highest():
  samples = _sine(20.0)
  segment = 256 * _CONFIG.hop_length
  levels = np.repeat([1.0, 0.7, 1.0, 0.7], segment)[: len(samples)]
  ranks = joins.ranks(
    samples * levels.astype(np.float32), joins.Places(256), _CONFIG
  )
  assert len(ranks) == 3 and (ranks == 1).all()


def test_a_step_anywhere_in_an_overlap_ranks_highest():
  hop, overlap = 240, 16
  samples = _sine(20.0)
  for place in (0, 8, 15):
    edges = (hop * np.arange(1, 4) + place) * _CONFIG.hop_length
    level = np.searchsorted(edges, np.arange(len(samples)), side="right") % 2
    stepped = samples * np.where(level, 0.7, 1.0).astype(np.float32)
    places = joins.Places(hop + overlap, overlap)
    ranks = joins.ranks(stepped, places, _CONFIG)
    assert len(ranks) == 4 and (ranks[:3] == 1).all() and ranks[3] < 1


class _RepeatsItsContext:
  """A model that says that a segment is what it is told of the one before."""

  network = types.SimpleNamespace(segment_frames=4)
  spectrogram = _CONFIG

  def encode(self, parameters, tokens, context, is_known):
    scaled = audio.scale_log_mel(context, _CONFIG, clip=True)
    return jnp.where(is_known[..., None], scaled, 1.0)

  def denoise(self, parameters, noise, time, conditioning):
    return conditioning * time[:, None, None]


@pytest.mark.parametrize("told", [True, False])
def test_one_step_is_told_the_true_segment_before_or_nothing(told):
  levels = np.repeat(np.float32([-8.0, -6.0, -3.0, -1.0]), [4, 4, 4, 3])
  piece = types.SimpleNamespace(
    notes=None, log_mel=np.tile(levels[:, None], (1, 128))
  )
  player = types.SimpleNamespace(
    model=_RepeatsItsContext(),
    parameters={},
    prepare=lambda music, overlap: types.SimpleNamespace(
      tokens=np.zeros((4 if overlap == 0 else 5, 8), np.int32)
    ),
  )
  # Nothing is asked of the first segment; three frames are left over.
  expected = [2, 3] if told else _CONFIG.mel_range[1] - np.array([-6, -3])
  found = one_step.distances(player, piece, told)
  np.testing.assert_allclose(
    found, np.repeat(np.float32(expected)[:, None], 4, axis=1), rtol=1e-5
  )


def test_what_exceeds_the_reference_is_the_mean_of_pairs_with_its_error():
  mean, error = joins.excess(np.array([0.5, 0.9]), np.array([0.5, 0.5]))
  assert mean == pytest.approx(0.2)
  assert error == pytest.approx(0.2)  # Deviation 0.4/sqrt(2), over sqrt(2).


def test_every_class_of_the_models_is_of_one_family():
  classes = notes.Notes.from_columns(
    0, 1, 60, 64, list(notes.SLAKH_CLASSES.values())
  )
  masks = [families.mask(classes, family) for family in families.FAMILIES]
  assert (np.sum(masks, axis=0) == 1).all()
  assert set(families.of_notes(classes)) == set(families.FAMILIES)


def test_a_figure_fits_into_a_segment_and_its_velocities_have_no_trend():
  figures = material.figure_notes()
  assert len(figures) > len(notes.SLAKH_CLASSES)
  longest_s = max(figure.duration_s for figure in figures.values())
  assert (longest_s + synthesizer.TAIL_S) * _CONFIG.frame_rate <= 256
  order = np.arange(len(material.VELOCITIES))
  assert abs(np.corrcoef(order, material.VELOCITIES)[0, 1]) < 0.2


class _FakeRenderer:
  """Silence of the length that is asked for."""

  def render(self, piece, duration_s):
    return np.zeros(round(duration_s * _RATE), np.float32)


def _piece(name, *parts):
  """Parts of (program or None for drums, number of notes)."""
  rows = [
    notes.Notes.from_columns(
      np.arange(number) / 10,
      np.arange(number) / 10 + 0.1,
      60,
      64,
      program or 0,
      program is None,
    )
    for program, number in parts
  ]
  return renderings.play_soundfont(
    name, notes.Notes.concatenate(rows), _FakeRenderer(), _CONFIG
  )


def test_solos_hold_their_family_alone_and_drums_their_drums():
  pieces = [_piece("a", (40, 40), (33, 12), (None, 20)), _piece("b", (41, 30))]
  made = material.make_material(pieces, _FakeRenderer(), _CONFIG, num_figures=2)
  assert set(made.solos) == {"strings", "bass"}
  assert [x.name for x in made.solos["strings"]] == ["a-strings", "b"]
  assert set(made.solos["bass"][0].notes.program) == {33}
  assert [x.name for x in made.drums] == ["a-drums"]
  assert made.drums[0].notes.is_drum.all() and len(made.drums[0].notes) == 20
  assert len(made.figures) == len(made.held) == 2
  assert len(made.played) == 2 + 2 + 1 + 2 + 2
  assert "a-drums" not in made.transcribed


def test_counts_of_solos_add_up_to_an_f1():
  solo = _piece("a", (0, 10))
  heard = [solo.notes[:8], solo.notes[:0]]
  counts = scores.count([solo, solo], heard)
  assert counts == scores.Counts(20, 8, 8, 8)
  assert counts.onset_f1 == pytest.approx(16 / 28)


def test_where_octaves_are_folded_overtones_count_as_the_note_and_once():
  solo = _piece("a", (33, 10))
  above = dataclasses.replace(solo.notes, pitch=solo.notes.pitch + 12)
  heard = notes.Notes.concatenate([above, solo.notes[:4]])
  assert scores.count([solo], [above]).found == 0
  counts = scores.count([solo], [heard], folded=True)
  assert counts == scores.Counts(10, 10, 10, 10)


def test_a_transcription_is_kept_for_the_audio_and_not_for_its_file(tmp_path):
  samples = _sine(0.1)
  for name in ("a.wav", "b.aiff"):
    soundfile.write(tmp_path / name, samples, _RATE, subtype="FLOAT")
  scores.write_audio(tmp_path / "c.wav", 0.5 * samples, _CONFIG)
  a, b, c = (scores.audio_hash(path) for path in sorted(tmp_path.iterdir()))
  assert a == b != c


def test_chosen_pieces_are_spread_over_all():
  assert material.choose("abcdefg", 3) == ["a", "d", "g"]
  assert material.choose("ab", None) == ["a", "b"]


def test_inverters_are_told_apart_by_settings_and_weights():
  def fingerprint(iterations=8, **changed):
    config = dataclasses.replace(_CONFIG, **changed)
    return renderings.fingerprint(inverter.GriffinLim(config, iterations))

  assert fingerprint() == fingerprint()
  assert len({fingerprint(), fingerprint(9), fingerprint(n_mels=64)}) == 3


def test_the_fingerprint_is_of_all_inverters_that_one_is_made_of():
  def of(*iterations):
    made = (inverter.GriffinLim(_CONFIG, number) for number in iterations)
    return renderings.fingerprint(inverter.NoteGuidedInverter(*made))

  assert of(2, 3) == of(2, 3)
  assert len({of(2, 3), of(2, 4), of(3, 2), of(2)}) == 4


def test_settings_are_told_apart_by_commas_outside_of_parentheses():
  text = "steps=10,sampler=dpm,guidance_interval=(0,0.5)"
  assert renderings.parse_settings(text) == {
    "steps": 10,
    "sampler": "dpm",
    "guidance_interval": (0, 0.5),
  }


def test_commas_within_brackets_of_any_kind_part_nothing():
  assert renderings.parse_settings("guidance_interval=[0,0.5],steps=3") == {
    "guidance_interval": [0, 0.5],
    "steps": 3,
  }


def _measures(f1, correlation=0.9, ranks=(0.5, 0.6, 0.4), heard=100):
  score = scores.Score(
    f1, f1 / 2, 0.1, 0.2, {"piano": 40}, {"piano": 20}, {"piano": 80}
  )
  return measures.Measures(
    pieces={"a": score},
    solos={"piano": scores.Counts(100, heard, round(100 * f1), 10)},
    drums={"a": drums.OnsetScore(f1, 50, 50)},
    dynamics={
      "Violin": dynamics.Dynamics([-9.0] * 7, correlation, 0.9, 1.0, 0.0)
    },
    held={"Violin": dynamics.Held(2.0, 1.0)},
    levels={"a": dynamics.Level(0.5, 0.9)},
    joins=list(ranks),
    soundfont_joins=[0.5, 0.6, 0.4],
    fad=0.3,
  )


def _row(name, is_model, **measured):
  return measures.Row(name, "ground truth", is_model, _measures(**measured))


def test_a_model_as_good_as_ground_truth_reaches_every_target():
  truth = _row("ground truth", False, f1=0.5)
  model = _row("model", True, f1=0.5)
  results = targets.check(model, truth)
  assert len(results) == 6 and all(target.reached for target in results)


def test_a_bad_model_misses_every_target_and_the_table_says_so():
  rows = [
    _row("soundfont", False, f1=0.6),
    _row("ground truth", False, f1=0.5),
    _row("model", True, f1=0.3, correlation=0.4, ranks=(0.99, 0.98, 0.96)),
  ]
  results = targets.check(rows[2], rows[1])
  assert [target.reached for target in results] == [False] * 6
  text = report.table(rows, _CONFIG)
  assert text.count("**missed**") == 6
  assert "| **model** | 0.300 | 0.60 |" in text
  assert "| piano | 80 | 0.50 / 0.25 |" in text


def test_what_could_not_be_measured_is_null_in_the_scores(tmp_path):
  path = tmp_path / "scores.json"
  report.write_json(path, [], {"held": [float("nan"), 1.5], "pieces": None})
  about = json.loads(path.read_text(), parse_constant=pytest.fail)["about"]
  assert about == {"held": [None, 1.5], "pieces": None}


def test_a_family_is_judged_with_enough_notes_that_can_be_heard():
  truth = _measures(f1=0.5)
  few = dataclasses.replace(truth.solos["piano"], asked=families.MIN_NOTES - 1)
  deaf = dataclasses.replace(truth.solos["piano"], found=1)
  truth = dataclasses.replace(
    truth, solos=truth.solos | {"harp": few, "timpani": deaf}
  )
  assert targets.judged_families(truth) == ["piano"]


class _FakeSynthesizer:
  """Plays noise of the right length, in segments."""

  spectrogram_config = _CONFIG
  defaults = types.MappingProxyType({"overlap": 0, "loudness": 0.1})
  inverter = inverter.GriffinLim(_CONFIG, num_iterations=1)
  model = types.SimpleNamespace(
    network=types.SimpleNamespace(segment_frames=50)
  )

  def check_settings(self, loudness=0.1):
    if loudness > 1:
      raise ValueError(f"Expected a loudness up to 1, got {loudness}.")

  def stream(self, piece, loudness=0.1):
    rng = np.random.default_rng(0)
    hop = _CONFIG.hop_length
    num_frames = int((piece.duration_s + 1.1) * _CONFIG.frame_rate)
    samples = loudness * rng.standard_normal(num_frames * hop)
    samples = samples.astype(np.float32)
    log_mel = audio.log_mel(samples, _CONFIG)
    for start in range(0, num_frames, 50):
      yield synthesizer.Segment(
        0,
        1,
        samples[hop * start : hop * (start + 50)],
        log_mel[start : start + 50],
      )


@pytest.mark.filterwarnings("ignore:.*embeddings of 128 dimensions")
def test_a_run_lays_out_every_model_and_setting_beside_the_references(
  tmp_path, monkeypatch, capsys
):
  def transcribe(paths, **_):
    return [notes.Notes.from_columns([], [], [], []) for _ in paths]

  class Renderer:
    def __init__(self, *_):
      pass

    def render(self, piece, duration_s):
      onset = piece.onset[piece.onset < duration_s - 0.1]
      return _bursts(onset, [0.1] * len(onset), duration_s)

  pieces = tmp_path / "pieces"
  pieces.mkdir()
  shutil.copy(_FOLDER / "pieces" / "freedoom-the-da.mid", pieces)
  monkeypatch.setattr(scores, "transcribe", transcribe)
  monkeypatch.setattr(run.soundfont, "find_soundfont", lambda: "a.sf2")
  monkeypatch.setattr(run.soundfont, "SoundfontRenderer", Renderer)
  monkeypatch.setattr(
    run.inference.Synthesizer,
    "from_pretrained",
    lambda path: _FakeSynthesizer(),
  )
  monkeypatch.setattr(
    sys,
    "argv",
    ["run.py", "", "loudness=0.2", "--model", "default", "--model", "old=x"]
    + ["--folder", str(pieces), "--seconds", "3", "--pieces", "1"]
    + ["--output", str(tmp_path)],
  )
  run.main()
  table = (tmp_path / "table.md").read_text()
  assert capsys.readouterr().out == table + "\n"
  result = json.loads((tmp_path / "scores.json").read_text())
  assert [(row["name"], row["truth"]) for row in result["rows"]] == [
    ("soundfont", "ground truth"),
    ("ground truth", "ground truth"),
    ("default", "ground truth"),
    ("default loudness=0.2", "ground truth"),
    ("old", "ground truth"),
    ("old loudness=0.2", "ground truth"),
  ]
  # Three seconds in segments of one: two joins.
  assert {len(row["measures"]["joins"]) for row in result["rows"]} == {2}
  loud, soft = (
    np.mean([x["difference_db"] for x in row["measures"]["levels"].values()])
    for row in (result["rows"][3], result["rows"][2])
  )
  assert loud - soft == pytest.approx(6.02, abs=0.01)
  assert table.count("| targets: ") == 4
  names = {path.name for path in (tmp_path / "pictures").glob("*.png")}
  assert names == {"freedoom-the-da.png", "dynamics.png", "joins.png"}


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("loud=0.2", "Expected settings out of overlap, loudness; got loud in"),
    ("loudness=2", "loudness=2: Expected a loudness up to 1, got 2."),
  ],
)
def test_settings_that_no_model_has_are_told_before_it_plays(text, message):
  arguments = types.SimpleNamespace(settings=[text], output=Path())
  with pytest.raises(SystemExit, match=message):
    run._players(arguments, {"default": _FakeSynthesizer()})
