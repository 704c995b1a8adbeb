"""Laws of an evaluation: whole or interrupted, one process or several, it gives the same; failures are never lost."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from openvalle.audio import RATE, Audio, concatenate, silence
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.build_list import ListSource, build_list, find_list
from openvalle.evaluate.metrics import MetricInput, Needs, References, explain, measure
from openvalle.evaluate.outputs import OutputRequest
from openvalle.evaluate.protocols import Judges, protocol
from openvalle.evaluate.report import explain_difference, load_report
from openvalle.evaluate.report_pages import save_report
from openvalle.evaluate.results import ORIGINAL, RECONSTRUCTED
from openvalle.evaluate.run import EvaluationOptions, evaluate
from openvalle.evaluate.scorers import Judgement, ScoreRequest, Scorers, score_all
from openvalle.evaluate.systems.base import Candidate, Output
from openvalle.evaluate.test_list import CORPUS, TestItem, add_noise
from openvalle.files import sha256

NEEDED = ("jiwer", "resemblyzer", "webrtcvad", "speechmos", "onnxruntime")
pytestmark = pytest.mark.skipif(any(find_spec(name) is None for name in NEEDED), reason="needs openvalle[eval-offline]")
QUICK = protocol("quick")


@dataclass
class Echo:
    """Says the prompt, whatever the text; fails on the items it is told to."""

    fails: tuple[str, ...] = ()
    name: str = "echo"
    digest: str = "1"
    count: list[str] | None = None

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        if self.count is not None:
            self.count.append(item.id)
        if item.id in self.fails:
            raise AudioError("it lost its voice", "rest")
        return Output(prompt, seconds=0.5, processor=0.25, ended=True)


@dataclass
class Broken:
    """Gives a sound that is none."""

    sound: Audio
    name: str = "broken"
    digest: str = "1"

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        return Output(self.sound, 0.1)


@pytest.fixture(scope="module")
def tests(corpus: Path):
    return build_list(QUICK, ListSource(corpus, limit=3))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Judgements that all evaluations here share, since judging takes longest."""
    return tmp_path_factory.mktemp("judged")


@pytest.fixture
def run(tests, corpus, judged, tiny_codec, tmp_path):
    """A function that evaluates systems on the tiny list."""

    def run(*systems, codec=None, out: Path = tmp_path / "out", fresh: bool = False, seeds=(0,), items=tests):
        out.mkdir(exist_ok=True)
        if not (out / "judged").exists():
            (out / "judged").symlink_to(judged)
        found = [Candidate(one.name, one.digest, partial(_same, one), {"kind": "test"}) for one in systems]
        options = EvaluationOptions(out, seeds, quiet=True, fresh=fresh)
        return evaluate(items, QUICK, found, {CORPUS: corpus}, options, codec)

    return run


def _same(system):
    return system


def test_the_original_row_is_the_same_to_the_digit_and_controls_behave(run, tmp_path):
    first, second = run(Echo(), out=tmp_path / "a"), run(Echo(), out=tmp_path / "b")
    assert first.of(ORIGINAL) == second.of(ORIGINAL)
    assert first.summarise(ORIGINAL) == second.summarise(ORIGINAL)
    echo = first.summarise("echo")
    assert echo["sim_o"].value == pytest.approx(1, abs=1e-3)  # it is the prompt, but for 16 bits
    assert echo["pitch_distance"].value == pytest.approx(0, abs=0.05)
    assert echo["rtf"].value == pytest.approx(1.5 / sum(row.metrics["spoken_seconds"] for row in first.of("echo")))
    assert echo["ended"].value == 1
    assert first.record["judges"]["asr"].startswith("pocketsphinx 5")
    assert first.record["judges"]["normalizer"] == "openvalle-en-1"
    assert first.record["list"]["digest"] == second.record["list"]["digest"]


def test_the_codec_adds_a_row_and_the_similarity_to_its_prompts(run, tiny_codec):
    report = run(Echo(), codec=tiny_codec)
    assert report.systems == [ORIGINAL, RECONSTRUCTED, "echo"]
    assert "sim_r" in report.summarise("echo")
    assert "sim_r" not in run(Echo()).summarise("echo")


@pytest.mark.slow
def test_several_processes_give_what_one_gives(tests, corpus, tmp_path):
    found = []
    for jobs in (1, 2):
        options = EvaluationOptions(tmp_path / str(jobs), workers=jobs, jobs=jobs, quiet=True)
        candidate = Candidate("echo", "1", partial(_same, Echo(fails=(tests.items[0].id,))))
        found.append(evaluate(tests, QUICK, [candidate], {CORPUS: corpus}, options))
    assert found[0].results == found[1].results
    assert "2 processes spoke" in found[1].notes[0]


def test_what_was_said_is_not_said_again_unless_something_changed(run, tests):
    count: list[str] = []
    run(Echo(count=count))
    assert len(count) == 3
    run(Echo(count=count))
    assert len(count) == 3
    run(Echo(count=count, digest="2"))
    assert len(count) == 6
    run(Echo(count=count, digest="2"), fresh=True)
    assert len(count) == 9
    changed = replace(tests, items=(replace(tests.items[0], text="other words"), *tests.items[1:]))
    run(Echo(count=count, digest="2"), items=changed)
    assert len(count) == 10


def test_an_interrupted_run_goes_on_where_it_was(run, tests):
    count: list[str] = []

    @dataclass
    class Stopped(Echo):
        def say(self, item, prompt, seed):
            if len(count) == 2:
                raise KeyboardInterrupt
            return super().say(item, prompt, seed)

    with pytest.raises(KeyboardInterrupt):
        run(Stopped(count=count))
    report = run(Echo(count=count))
    assert len(count) == 3
    assert [row.item for row in report.of("echo")] == [item.id for item in tests.items]


def test_failures_are_counted_shown_and_never_dropped(run, tests, tmp_path):
    lost = tests.items[1].id
    report = run(Echo(fails=(lost,)))
    rows = report.of("echo")
    assert len(rows) == 3
    failed = next(row for row in rows if row.failed)
    assert failed.item == lost
    assert failed.metrics["word_errors"] == failed.metrics["words"] > 0
    assert "sim_o" not in failed.metrics
    assert any("echo failed on 1 of 3" in warning and "lost its voice" in warning for warning in report.warnings())
    save_report(report, tmp_path / "saved")
    for name in ("report.md", "report.html"):
        assert "lost its voice" in (tmp_path / "saved" / name).read_text()


@pytest.mark.parametrize(
    ("samples", "why"), [(np.zeros(0), "gave no sound"), (np.full(2400, np.nan), "samples that are not numbers")]
)
def test_sound_that_is_none_is_a_failure(run, samples, why):
    report = run(Broken(Audio(samples.astype(np.float32))))
    assert all(row.failed and why in row.error for row in report.of("broken"))


def test_silence_is_an_answer_in_which_nothing_is_heard(run):
    report = run(Broken(silence(1.0)))
    for row in report.of("broken"):
        assert not row.failed
        assert row.heard == ""
        assert "nothing was heard" in row.notes
        assert row.metrics["sim_o"] == 0
        assert "dnsmos" in row.metrics
    assert report.summarise("broken")["wer"].value == 1


def test_several_seeds_are_told_apart(run):
    @dataclass
    class Moody(Echo):
        def say(self, item, prompt, seed):
            spoken = super().say(item, prompt, seed)
            return replace(spoken, audio=concatenate([prompt, silence(0.4 + seed % 2)]))

    report = run(Moody(name="moody"), seeds=(0, 1))
    assert len(report.of("moody")) == 6
    assert report.summarise("moody")["seed_duration"].value > 0.1
    assert set(report.as_dict()["systems"]["moody"]["seeds"]) == {"0", "1"}


def test_a_report_is_written_whole_and_read_again(run, tests, tmp_path, tiny_codec):
    out = tmp_path / "out"
    report = run(Echo(), codec=tiny_codec)
    paths = save_report(report, out)
    assert [path.name for path in paths] == ["rows.jsonl", "report.json", "report.md", "report.html"]
    again = load_report(out)
    assert again.results == report.results
    assert again.summarise("echo") == report.summarise("echo")
    values = json.loads((out / "report.json").read_text())
    assert values["systems"]["echo"]["figures"]["sim_o"]["count"] == 3
    assert values["record"]["systems"]["echo"] == {"digest": "1", "kind": "test"}
    page = (out / "report.html").read_text()
    for row in report.results:
        assert row.audio
        assert (out / row.audio).is_file()
        assert row.audio in page
    assert page.count("<audio") == len(report.results) + len(tests.items)
    with pytest.raises(UserError, match="holds no report"):
        load_report(tmp_path)


def test_markup_in_texts_does_not_reach_the_page(run, tests, tmp_path):
    report = run(Echo())
    rows = tuple(replace(row, text="<script>alert(1)</script>") for row in report.results)
    save_report(replace(report, results=rows), tmp_path / "page")
    assert "<script>" not in (tmp_path / "page" / "report.html").read_text()


def test_published_figures_say_why_they_cannot_be_compared(run):
    report = replace(run(Echo()), protocol=protocol("valle"))
    assert [table.protocol for table in report.find_published()] == ["valle", "valle"]
    assert "ours by pocketsphinx" in explain_difference(report.find_published()[0], report)
    judges = {"asr": "transformers facebook/hubert-large-ls960-ft", "speaker": "unispeech 0123"}
    like = replace(report, record={"judges": judges})
    assert explain_difference(like.find_published()[0], like) == ""


def test_lists_are_drawn_once_for_the_same_request(corpus, tmp_path, monkeypatch):
    path = tmp_path / "items.jsonl"
    first = find_list(QUICK, ListSource(corpus, limit=2), path)
    assert not path.exists()  # who draws a list has not begun yet
    first.write(path)
    monkeypatch.setattr("openvalle.evaluate.build_list.build_list", None)  # would fail if it were drawn again
    assert find_list(QUICK, ListSource(corpus, limit=2), path) == first
    with pytest.raises(TypeError):
        find_list(QUICK, ListSource(corpus, limit=3), path)


def test_judgements_are_kept_and_depend_on_the_judges(spoken, tmp_path, monkeypatch):
    judges, clips = QUICK.judges, [ScoreRequest(spoken), ScoreRequest(silence(1.0))]
    heard, nothing = score_all(clips, judges, tmp_path, quiet=True)
    monkeypatch.setattr("openvalle.evaluate.scorers.Scorers", None)  # no judge is needed: all are on disk
    again, _ = score_all(clips, judges, tmp_path, quiet=True)
    assert again["words"] == heard["words"]
    assert heard.likeness(again) == pytest.approx(1, abs=1e-5)
    assert heard.likeness(nothing) == 0
    other = judges.model_copy(update={"asr": "hubert-large"})
    plain = judges.model_copy(update={"normalizer": "plain-1"})
    assert clips[0].key(judges) == clips[0].key(plain) != clips[0].key(other)


DAMAGED = (
    "[" * 100_000,
    '{"a":' * 60 + "1" + "}" * 60,
    f'{{"a": {"7" * 5_000}}}',
    "NaN",
    "",
    "[]",
    '{"heard": 5}',
    "\xff",
)


def test_what_was_judged_and_then_damaged_is_judged_again(spoken, tmp_path):
    clips = [
        ScoreRequest(Audio(spoken.samples[: 24_000 + 1_000 * n], RATE), wants=("prosody", "acoustics"))
        for n in range(len(DAMAGED) + 1)
    ]
    score_all(clips, QUICK.judges, tmp_path, quiet=True)
    paths = [tmp_path / f"{clip.key(QUICK.judges)}.json" for clip in clips]
    whole = [path.read_text() for path in paths]
    for path, damage in zip(paths, DAMAGED, strict=False):
        path.write_bytes(damage.encode("latin-1"))
    before = paths[-1].stat().st_mtime_ns
    again = score_all(clips, QUICK.judges, tmp_path, quiet=True)
    assert all(found["prosody"] and found["acoustics"] for found in again)
    assert [path.read_text() for path in paths] == whole
    assert paths[-1].stat().st_mtime_ns == before, "what is whole is not judged again"


@pytest.mark.parametrize("damage", [*DAMAGED, "of another kind"])
def test_an_answer_whose_record_is_damaged_is_asked_for_again(damage, tests, tmp_path):
    request = OutputRequest(tests.items[0], 0, tmp_path / "a.wav")
    request.path.write_bytes(b"sound")
    facts = {"key": request.key("digest"), "digest": sha256(request.path)}
    told = {"seconds": 1.0, "processor": float("nan"), "ended": True, "flags": [], "memory": 0}
    request.beside.write_text(json.dumps(facts | told))
    assert request.is_done("digest")
    request.beside.write_bytes(json.dumps(facts).encode() if damage == "of another kind" else damage.encode("latin-1"))
    assert not request.is_done("digest")


def test_two_voices_are_told_apart_and_noise_lowers_the_quality(tmp_path, speak):
    low, again, high = speak(110.0), speak(113.0), speak(230.0)
    clips = [ScoreRequest(audio) for audio in (low, again, high, add_noise(low, 20), add_noise(low, 5))]
    one, same, other, noisy, noisier = score_all(clips, QUICK.judges, tmp_path, quiet=True)
    assert one.likeness(same) > one.likeness(other) + 0.1
    assert one["quality"].overall > noisy["quality"].overall > noisier["quality"].overall


def test_what_differs_between_seeds_needs_two_of_them(tests, tmp_path, spoken):
    found = score_all([ScoreRequest(spoken)], QUICK.judges, tmp_path, quiet=True)[0]
    given = MetricInput(tests.items[0], found, References(found), "openvalle-en-1")
    for seeds, expected in (((found,), None), ((found, Judgement()), None), ((found, found), 0)):
        assert measure(replace(given, seeds=seeds), Needs.SEEDS)["seed_duration"] == expected


def test_an_unknown_judge_is_named():
    with pytest.raises(UserError, match="no quality model 'pesq'"):
        Scorers(Judges(quality="pesq"))


def test_what_is_silent_has_no_pitch_distance_rather_than_a_wrong_one(tests, spoken, tmp_path):
    heard, nothing = score_all([ScoreRequest(spoken), ScoreRequest(silence(1.0))], QUICK.judges, tmp_path, quiet=True)
    given = MetricInput(tests.items[0], nothing, References(heard, None, heard, heard), "openvalle-en-1")
    values = measure(given, Needs.SOUND)
    assert values["pitch_distance"] is None
    assert values["contour_distance"] is None
    assert "nothing was heard" in explain(nothing)
