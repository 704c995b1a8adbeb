"""Editing: the span changes, nothing else does, whatever the file's rate and channels; unclear edits are refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from openvalle.audio import RATE, Audio, resample, silence
from openvalle.errors import AudioError, TextError, UserError
from openvalle.speech_models import asr
from openvalle.synth.edit import Edit, EditedRecording, EditKind, edit
from openvalle.synth.edit_spans import locate_edits
from openvalle.synth.plan import Script, parse_script
from openvalle.synth.recording import FADE_SECONDS, Clip, Recording, make_prompt, record
from openvalle.synth.synthesizer import Synthesizer

TEXT = "saw, see, saw, see"
REPLACE = Edit(EditKind.REPLACE, "see saw", "oh no")


def step_at(samples: np.ndarray, at: int) -> float:
    """The jump between the samples before and after a border."""
    return abs(float(samples[at]) - float(samples[at - 1]))


def slew_near(samples: np.ndarray, at: int) -> float:
    """The largest step within 10 ms of a border, but not at it."""
    steps = np.abs(np.diff(samples))
    return float(np.concatenate([steps[at - 240 : at - 1], steps[at : at + 240]]).max()) + 1e-3


@pytest.fixture(scope="module")
def recording(synthesizer: Synthesizer, spoken: Audio) -> Recording:
    """The crude speech with its words in time."""
    return record(synthesizer.generator, spoken, TEXT)


@pytest.fixture(scope="module")
def replaced(synthesizer: Synthesizer, spoken: Audio) -> EditedRecording:
    """The crude speech with two words replaced."""
    return edit(synthesizer, spoken, [REPLACE], TEXT)[0]


def assert_rest_stays(before: np.ndarray, after: EditedRecording) -> None:
    """Every sample outside the splices is the recording's own."""
    at = new = 0
    for splice in after.splices:
        np.testing.assert_array_equal(after.clip.frames[new : splice.new_start], before[at : splice.start])
        at, new = splice.end, splice.new_end
    np.testing.assert_array_equal(after.clip.frames[new:], before[at:])


def test_only_the_span_changes(replaced: EditedRecording, spoken: Audio, recording: Recording) -> None:
    assert replaced.text == "saw oh no see"
    assert_rest_stays(spoken.samples[:, None], replaced)
    (splice,) = replaced.splices
    first = recording.owners.index(1)
    start = recording.edges[first] * 320
    assert splice.start == start - round(FADE_SECONDS / 2 * RATE)
    assert 0 < splice.start < splice.end < len(spoken.samples)
    assert not np.array_equal(
        replaced.clip.frames[splice.new_start + 200 : splice.new_start + 600, 0],
        spoken.samples[splice.start + 200 : splice.start + 600],
    )


def test_joins_do_not_click(replaced: EditedRecording) -> None:
    samples = replaced.clip.frames[:, 0]
    (splice,) = replaced.splices
    for border in (splice.new_start, splice.new_end):
        assert step_at(samples, border) <= 2 * slew_near(samples, border)


def test_same_seed_same_edit_and_candidates_differ(
    synthesizer: Synthesizer, spoken: Audio, replaced: EditedRecording
) -> None:
    again = edit(synthesizer, spoken, [REPLACE], TEXT)[0]
    np.testing.assert_array_equal(again.clip.frames, replaced.clip.frames)
    other = edit(synthesizer, spoken, [REPLACE], TEXT, seed=1)[0]
    assert other.clip.frames.shape != replaced.clip.frames.shape or (other.clip.frames != replaced.clip.frames).any()


def test_candidates_come_best_first_and_hold_the_single_one(
    synthesizer: Synthesizer, spoken: Audio, replaced: EditedRecording
) -> None:
    takes = edit(synthesizer, spoken, [REPLACE], TEXT, candidates=2)
    assert any(np.array_equal(take.clip.frames, replaced.clip.frames) for take in takes)
    for take in takes:
        assert take.quality[0].candidates == 2
        assert take.quality[0].agreement is not None
        assert_rest_stays(spoken.samples[:, None], take)


def test_a_stereo_file_of_another_rate_keeps_its_samples(
    synthesizer: Synthesizer, spoken: Audio, tmp_path: Path
) -> None:
    mono = resample(spoken, 44_100).samples
    frames = np.stack([mono, 0.5 * mono], axis=1)
    soundfile.write(tmp_path / "clip.wav", frames, 44_100, subtype="PCM_24")
    before = Clip.read(tmp_path / "clip.wav")
    after = edit(synthesizer, tmp_path / "clip.wav", [REPLACE], TEXT)[0]
    assert_rest_stays(before.frames, after)
    after.clip.save(tmp_path / "new.wav")
    written = Clip.read(tmp_path / "new.wav")
    assert (written.rate, written.subtype) == (44_100, "PCM_24")
    np.testing.assert_array_equal(written.frames[: after.splices[0].new_start], before.frames[: after.splices[0].start])
    span = after.clip.frames[after.splices[0].new_start + 1000 : after.splices[0].new_end - 1000]
    np.testing.assert_allclose(span[:, 1], 0.5 * span[:, 0], atol=1e-5)


def test_inserting_and_deleting_at_once(synthesizer: Synthesizer, spoken: Audio) -> None:
    edits = [Edit(EditKind.INSERT, "saw see saw see", "oh"), Edit(EditKind.DELETE, "saw see saw")]
    both = edit(synthesizer, spoken, edits, TEXT)[0]
    assert both.text == "see oh"
    assert len(both.splices) == 2
    assert_rest_stays(spoken.samples[:, None], both)


def test_generated_speech_is_edited_without_looking_for_its_words(synthesizer: Synthesizer, tiny_voice) -> None:
    speech = synthesizer.say("I like green tea.", tiny_voice)
    found = record(synthesizer.generator, speech)
    np.testing.assert_array_equal(found.codes, speech.codes)
    after = edit(synthesizer, speech, [Edit(EditKind.REPLACE, "green", "the")])[0]
    assert after.text == "I like the tea"
    assert_rest_stays(speech.audio.samples[:, None], after)


def test_deleting_needs_no_model_and_leaves_one_pause(synthesizer: Synthesizer, spoken: Audio) -> None:
    shorter = edit(synthesizer, spoken, [Edit(EditKind.DELETE, "see saw")], TEXT)[0]
    assert shorter.text == "saw see"
    assert shorter.quality == ()
    assert_rest_stays(spoken.samples[:, None], shorter)
    (splice,) = shorter.splices
    assert splice.new_end - splice.new_start <= 2 * round(FADE_SECONDS / 2 * RATE)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([Edit(EditKind.REPLACE, "dog", "cat")], "'dog' is not in the transcript"),
        ([Edit(EditKind.DELETE, "saw")], "'saw' is 2 times in the transcript"),
        ([REPLACE, Edit(EditKind.DELETE, "saw see saw")], "the edits of .* meet"),
        ([REPLACE, Edit(EditKind.INSERT, "see saw", "x")], "the edits of .* meet"),
        ([Edit(EditKind.REPLACE, "see saw", "!?")], "the words to say cannot be read"),
        ([Edit(EditKind.REPLACE, "", "x")], "the words to look for cannot be read"),
        ([Edit(EditKind.REPLACE, "see saw", "[pause:1s] x")], "new words take the recording's voice"),
        ([Edit(EditKind.REPLACE, "see saw", "x [rate:0.9] y")], "new words take the recording's voice"),
    ],
)
def test_unclear_edits_are_refused(recording: Recording, edits: list[Edit], message: str) -> None:
    with pytest.raises(TextError, match=message):
        locate_edits(recording, edits)


def test_new_words_may_come_with_their_phones(recording: Recording) -> None:
    def phones(new: str | Script) -> list[str]:
        span = locate_edits(recording, [Edit(EditKind.REPLACE, "see saw", new)])[0]
        return [" ".join(word.phones) for word in span.words]

    assert phones("[live](/l\u026av/) on") == ["L IH1 V", "AO2 N"]
    assert phones("[Xhosa](=KOH-suh)") == ["K OW1 S AH0"]
    assert phones(parse_script("qat", lexicon={"qat": ("K", "AA1", "T")})) == ["K AA1 T"]


def test_bad_recordings_are_refused(synthesizer: Synthesizer, spoken: Audio, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="nothing of the recording would stay"):
        edit(synthesizer, spoken, [Edit(EditKind.REPLACE, TEXT, "oh")], TEXT)
    with pytest.raises(AudioError, match="is silent"):
        edit(synthesizer, silence(2.0), [REPLACE], TEXT)
    with pytest.raises(AudioError, match="no audio file"):
        edit(synthesizer, tmp_path / "none.wav", [REPLACE], TEXT)
    with pytest.raises(TextError, match="nothing to edit"):
        edit(synthesizer, spoken, [], TEXT)
    with pytest.raises(AudioError, match="more than 120 s"):
        Clip.read(silence(130.0))


def test_a_prompt_is_in_the_model_s_text_unit(synthesizer: Synthesizer, recording: Recording) -> None:
    count = len(recording.symbols)
    excerpt = recording.excerpt(0, count)
    assert excerpt.text == "saw see saw see"
    voice = make_prompt(synthesizer.generator, excerpt, "en")
    assert voice.symbols == recording.symbols
    twice = excerpt.then(excerpt)
    assert twice.text == "saw see saw see saw see saw see"
    assert len(twice.codes) == sum(twice.durations)
    assert all(one != other for one, other in pairwise(twice.symbols))


@pytest.mark.usefixtures("esperanto")
def test_candidates_of_an_edit_are_heard_in_the_recordings_language(many, say_builtin, monkeypatch) -> None:
    pytest.importorskip("pypinyin")
    heard: list[str] = []

    class Whisper(asr.WhisperRecognizer):
        knows_languages = True  # type: ignore[assignment]

        def __init__(self) -> None:
            self.name = "whisper of a test"

        def transcribe(self, audio: Audio, language: str = "en") -> asr.Transcript:
            heard.append(language)
            return asr.Transcript("撒海撒西。")

    clip = say_builtin("撒西，撒西。", "zh")
    change = [Edit(EditKind.REPLACE, "西撒", "海撒")]
    monkeypatch.setattr(asr, "load_recognizer", lambda name: Whisper())
    takes = edit(replace(many, asr="whisper"), clip, change, "撒西，撒西。", candidates=2, language="zh")
    assert heard == ["zh"] * 2 and [take.quality[0].agreement for take in takes] == [1, 1]
    monkeypatch.undo()
    with pytest.raises(UserError, match="candidates cannot be judged: pocketsphinx hears English alone, not 'zh'"):
        edit(replace(many, asr="pocketsphinx"), clip, change, "撒西，撒西。", candidates=2, language="zh")
