"""Laws of the papers' protocols: decoded as they say, judged by the words of the sound that is judged, all told."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from openvalle.audio import Audio
from openvalle.cli.main import app
from openvalle.errors import ConfigError, UserError
from openvalle.evaluate.build_list import ListSource, build_list
from openvalle.evaluate.outputs import load_prompt
from openvalle.evaluate.protocols import Decoding, Judges, PromptRule, Protocol, Scored, Selection, protocol, protocols
from openvalle.evaluate.report import Report, compare_rules, explain_difference
from openvalle.evaluate.report_pages import save_report, to_html, to_markdown
from openvalle.evaluate.results import ORIGINAL
from openvalle.evaluate.run import EvaluationOptions, evaluate
from openvalle.evaluate.systems.base import Candidate, Output, peak_memory, reset_peak_memory
from openvalle.evaluate.systems.ours import ModelSystem, build_model_candidate, load_model_codec
from openvalle.evaluate.test_list import CORPUS, TestItem
from openvalle.media import read
from openvalle.speech_models import asr
from openvalle.speech_models.recognizers import Transcript
from openvalle.synth.synthesizer import Synthesizer
from openvalle.types import SIL

NEEDED = ("jiwer", "resemblyzer", "webrtcvad")
needs_judges = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="needs openvalle[eval-offline]"
)
JUDGES = Judges(asr="exact", quality="none")
CONTINUED = [name for name, one in protocols().items() if one.prompt.rule is PromptRule.PREFIX]


class Exact:
    """Hears every word of crude speech, and nothing else: a hiss and a vowel are `see` if they are bright."""

    name, decoding = "exact", "by energy and brightness"

    def transcribe(self, audio: Audio) -> Transcript:
        hop = audio.rate // 100
        frames = audio.samples[: len(audio.samples) // hop * hop].reshape(-1, hop)
        loud = np.concatenate([[False], np.sqrt(np.square(frames).mean(axis=1)) > 0.004, [False]])
        edges = np.flatnonzero(np.diff(loud.astype(int))).reshape(-1, 2)
        words = [self.word(frames[start:end].ravel(), audio.rate) for start, end in edges if end - start > 10]
        return Transcript(" ".join(words))

    @staticmethod
    def word(samples: np.ndarray, rate: int) -> str:
        vowel = samples[len(samples) * 3 // 5 :]
        power = np.square(np.abs(np.fft.rfft(vowel)))
        hertz = np.fft.rfftfreq(len(vowel), 1 / rate)
        return "saw" if power[(hertz > 600) & (hertz < 1300)].sum() > power[hertz < 450].sum() else "see"


@dataclass(frozen=True)
class Perfect:
    """Says what the recording says; of a continuation, the rest of it. A `wrong` sample says half, or another voice."""

    folders: dict[str, Path]
    name: str = "perfect"
    wrong: tuple[str, ...] = ("",)  # by sample: "", "half", "pitch" or "fails"

    def say(self, item: TestItem, prompt: Audio, seed: int) -> Output:
        wanted = item.reference
        if item.scores_prompt:
            wanted = replace(wanted, start=item.prompt.end, text=item.text)
        audio = wanted.load(self.folders)
        match self.wrong[seed // 10_000_019]:
            case "half":
                audio = Audio(audio.samples[: len(audio.samples) // 2], audio.rate)
            case "pitch":
                audio = Audio(audio.samples[::-1].copy(), audio.rate)
            case "fails":
                raise UserError("it lost its voice")
        return Output(audio, seconds=1.0, processor=0.5, ended=True)


def same(system):
    return system


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    known = asr.load_recognizer
    monkeypatch.setattr(
        asr, "load_recognizer", lambda name, device: Exact() if name == "exact" else known(name, device)
    )


def small(name: str, **changes: object) -> Protocol:
    """The protocol, content with a tiny corpus and with judges that are exact on it."""
    return protocol(name).model_copy(update={"utterances": 6, "speakers": 2, "judges": JUDGES, **changes})


def measured(chosen: Protocol, folder: Path, out: Path, system: Perfect, limit: int = 2, **how: object) -> Report:
    tests = build_list(chosen, ListSource(folder, limit=2)).limit(limit)
    found = Candidate(system.name, repr(system), partial(same, system), {"kind": "test"})
    return evaluate(tests, chosen, [found], {CORPUS: folder}, EvaluationOptions(out, quiet=True, **how))  # type: ignore[arg-type]


@needs_judges
@pytest.mark.parametrize(
    "name", [name for name in protocols() if "vctk" not in name and name not in ("preserve", "vallex", "cross-lingual")]
)
def test_what_says_every_word_right_has_no_errors(name, librispeech, corpus, tmp_path, exact):
    folder = corpus if name == "quick" else librispeech
    report = measured(small(name), folder, tmp_path / "out", Perfect({CORPUS: folder}))
    for system in (ORIGINAL, "perfect"):
        for row in report.of(system):
            assert row.heard.split() == row.text.lower().split(), (name, system)
            assert row.metrics["word_errors"] == 0
            assert len(row.text.split()) > 2
    if name in CONTINUED:
        whole = protocol(name).scored is Scored.WHOLE
        assert {len(row.text.split()) for row in report.of("perfect")} == ({8} if whole else {5})
        seconds = [row.metrics["seconds"] for row in report.of("perfect")]
        assert seconds == pytest.approx([row.metrics["seconds"] for row in report.of(ORIGINAL)], abs=0.02)
        for row in report.of("perfect"):  # what is played is what was judged
            assert read(tmp_path / "out" / row.audio).seconds == pytest.approx(row.metrics["seconds"], abs=0.02)


def test_the_protocols_of_papers_decode_as_papers_do():
    assert len(CONTINUED) == 4
    for name, one in protocols().items():
        if one.paper:
            mode = {PromptRule.PREFIX: "continual", PromptRule.FOREIGN: "cross-lingual"}
            expected = Decoding(mode=mode.get(one.prompt.rule, "zero-shot"), attempts=1, detectors=False, as_one=True)
        else:
            expected = Decoding()  # as `say` does
        assert one.decoding == expected, name


def test_the_command_line_changes_how_it_is_decoded_and_knows_its_keys():
    paper = protocol("valle").decoding
    changed = paper.with_settings(["attempts=3", "path_temperature=0.5", "mode=continual"])
    assert (changed.attempts, changed.mode, changed.settings) == (3, "continual", ("path_temperature=0.5",))
    assert paper.with_settings([]) == paper
    for wrong in ("attempts=none", "mode=loud", "attempts"):
        with pytest.raises(ConfigError):
            paper.with_settings([wrong])


@pytest.mark.parametrize("name", ["valle-continual", "valle"])
def test_a_model_speaks_as_the_protocol_says_and_says_so(name, librispeech, tiny_model, caplog):
    item = build_list(small(name), ListSource(librispeech, limit=2)).items[0]
    how = protocol(name).decoding
    found = build_model_candidate(tiny_model, decoding=how)
    system = found.build()
    assert isinstance(system, ModelSystem)
    prompt = load_prompt(item, {CORPUS: librispeech})
    spoken = system.say(item, prompt, 3)
    assert not caplog.records  # a prompt of 3 s is the protocol's, and no news
    synthesizer = Synthesizer.load(tiny_model, device="cpu")
    options = synthesizer.sampling(attempts=1, detectors=False)
    voice = synthesizer.voice(prompt, item.prompt.text, consent="test")
    same_way = synthesizer.say(item.text.lower(), voice, seed=3, options=options, mode=how.mode, as_one=True)
    assert np.array_equal(spoken.audio.samples, same_way.audio.samples)
    assert (same_way.symbols[0] == SIL) == (name == "valle")  # who goes on makes no pause in between
    assert found.facts["prompt mode"] == how.mode
    assert found.facts["options"]["attempts"] == 1
    assert found.facts["options"]["watch"]["loop_frames"] == 0


def test_windows_speak_as_a_stream_does(librispeech, tiny_model):
    item = build_list(small("valle"), ListSource(librispeech, limit=2)).items[0]
    system = build_model_candidate(
        tiny_model, decoding=protocol("valle").decoding.with_settings(["windows=true"])
    ).build()
    assert len(system.say(item, load_prompt(item, {CORPUS: librispeech}), 3).audio.samples) > 0


def test_every_setting_is_part_of_the_answers_identity(tiny_model, tiny_adapter):
    how = Decoding()
    digests = [build_model_candidate(tiny_model, decoding=how.with_settings(given)).digest for given in (
        [], ["attempts=1"], ["detectors=false"], ["as_one=true"], ["mode=continual"], ["windows=true"],
        ["sampling.top_p=0.5"], ["path_temperature=0.5"],
    )]  # fmt: skip
    digests.append(build_model_candidate(tiny_model, threads=2).digest)
    digests.append(build_model_candidate(tiny_model, adapter=tiny_adapter).digest)
    assert len(set(digests)) == len(digests)
    assert build_model_candidate(tiny_model).digest == digests[0]
    with pytest.raises(ConfigError, match="no_such"):
        build_model_candidate(tiny_model, decoding=how.with_settings(["no_such=1"]))


def test_the_codec_of_the_row_is_the_codec_of_the_model(tiny_model):
    assert load_model_codec(tiny_model).spec == Synthesizer.load(tiny_model, device="cpu").generator.spec


@pytest.mark.slow
@needs_judges
def test_the_same_command_speaks_nothing_again_and_another_setting_everything(librispeech, tiny_model, tmp_path, exact):
    common = ("--data", librispeech, "--protocol", "valle-continual", "--partial", "--limit", 2, "--seeds", 0, "-q")
    judges = ("--asr", "exact", "--speaker", "resemblyzer", "--out", tmp_path / "out")
    run("evaluate", tiny_model, *common, *judges)
    facts, _ = (tmp_path / "out" / "audio" / "synthesised").rglob("*.json")
    first = facts.stat().st_mtime_ns
    said = run("evaluate", tiny_model, *common, *judges)
    assert facts.stat().st_mtime_ns == first
    assert "only 2 of 6 items" in said
    run("evaluate", tiny_model, *common, *judges, "--decode", "attempts=2")
    assert facts.stat().st_mtime_ns > first
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert values["record"]["systems"]["synthesised"]["options"]["attempts"] == 2
    page, text = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    for told in (
        "attempts 2 for 1",
        "continual",
        "a whole line at a time",
        "by energy and brightness",
        "path_temperature",
    ):
        assert told in page, told
        assert told in text, told


def run(*words: object, code: int = 0) -> str:
    """Run openvalle; return what it says."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


@needs_judges
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--speaker", "unispeech"], "--speaker unispeech:PATH"),
        (["--asr", "whisper:/no/such/model"], "asr whisper:/no/such/model"),
        (["--utmos", "/no/such/file"], "utmos /no/such/file"),
        (["--asr", "deaf", "--speaker", "blind"], "speaker blind"),
    ],
)
def test_a_judge_that_cannot_judge_is_told_before_anything_is_spoken(librispeech, tiny_model, tmp_path, options, told):
    offline = ["--asr", "pocketsphinx", "--speaker", "resemblyzer", *options]
    common = ["--data", librispeech, "--protocol", "valle", "--partial", "--limit", 2, "--out", tmp_path / "out"]
    said = run("evaluate", tiny_model, *common, *offline, code=2).strip().splitlines()[-1]
    assert told in said
    assert "choose others by --asr and --speaker" in said
    assert not (tmp_path / "out").exists()


def test_a_system_that_cannot_be_built_leaves_nothing(librispeech, tmp_path):
    def broken() -> Perfect:
        raise UserError("there is no such system")

    chosen = small("valle", judges=Judges(quality="none"))
    tests = build_list(chosen, ListSource(librispeech, limit=2))
    for jobs in (1, 2):
        with pytest.raises(UserError, match="no such system"):
            options = EvaluationOptions(tmp_path / "out", jobs=jobs, quiet=True)
            evaluate(tests, chosen, [Candidate("x", "1", broken)], {CORPUS: librispeech}, options)
        assert not (tmp_path / "out").exists()


@needs_judges
def test_one_of_several_samples_counts(librispeech, tmp_path, exact):
    chosen, folders = small("valle2-prefix"), {CORPUS: librispeech}
    wrong = ("half", "fails", "", "pitch", "")
    found = {}
    for rule in Selection:
        system = Perfect(folders, wrong=wrong)
        found[rule] = measured(chosen, librispeech, tmp_path / "out", system, samples=5, select=rule)
        for row in found[rule].of("perfect"):
            assert row.metrics["word_errors"] == 0
            assert any("sample 3 of 5" in note for note in row.notes)  # the first of those that say all
            assert any("sample 2 failed: it lost its voice" in note for note in row.notes)
            assert row.metrics["wall_seconds"] == 4.0  # of all samples that spoke
            assert "0-sample-2" in row.audio
        for shown in (to_markdown(found[rule]), to_html(found[rule]), json.dumps(found[rule].as_dict())):
            assert f"{rule.value}: " in shown
            assert "min(similarity, 0.7), 1 - WER" in shown
    assert found[Selection.SORTED].record["samples"] == 5
    best, each = (found[rule].summarise("perfect")["sim_o"].value for rule in Selection)
    assert each >= best
    one = measured(chosen, librispeech, tmp_path / "one", Perfect(folders, wrong=("half",)))
    assert one.summarise("perfect")["wer"].value > 0.1
    assert one.record["select"] == "one sample"
    with pytest.raises(UserError, match="go together"):
        measured(chosen, librispeech, tmp_path / "no", Perfect(folders), samples=5)


@needs_judges
def test_metric_wise_takes_each_measure_where_it_is_best(librispeech, tmp_path, exact):
    chosen, folders = small("valle2"), {CORPUS: librispeech}
    alone = {
        kind: measured(chosen, librispeech, tmp_path / kind, Perfect(folders, wrong=(kind,)), 1)
        .of("perfect")[0]
        .metrics
        for kind in ("half", "pitch")
    }
    how = {"samples": 2, "select": Selection.METRIC_WISE}
    both = measured(chosen, librispeech, tmp_path / "both", Perfect(folders, wrong=("half", "pitch")), 1, **how)
    metrics = both.of("perfect")[0].metrics
    assert metrics["sim_o"] == max(own["sim_o"] for own in alone.values())
    assert metrics["word_errors"] == min(own["word_errors"] for own in alone.values())


@needs_judges
def test_reports_on_other_lists_or_by_other_judges_are_not_compared(librispeech, tmp_path, exact):
    chosen, system = small("valle"), Perfect({CORPUS: librispeech})
    one = measured(chosen, librispeech, tmp_path / "one", system)
    assert compare_rules(one, one) == []
    fewer = measured(chosen, librispeech, tmp_path / "fewer", system, limit=1)
    save_report(fewer, tmp_path / "fewer")
    save_report(one, tmp_path / "one")
    said = run("report", tmp_path / "one", tmp_path / "fewer", "--system", "perfect", code=2)
    assert "cannot be compared (test list:" in said
    judges = one.record["judges"] | {"asr decoding": "beam 5", "normalizer": "plain-1"}
    other = replace(one, record=one.record | {"judges": judges})
    assert [what.partition(":")[0] for what in compare_rules(one, other)] == ["asr decoding", "normalizer"]


@needs_judges
def test_published_rows_say_what_was_done_otherwise(librispeech, tmp_path, exact):
    chosen = small("valle2", decoding=protocol("valle2").decoding.with_settings(["attempts=3"]))
    report = measured(chosen, librispeech, tmp_path / "out", Perfect({CORPUS: librispeech}))
    tables = {table.id: explain_difference(table, report) for table in report.find_published()}
    assert "attempts 3 for 1" in tables["valle2-librispeech"]
    assert "only 2 of 6 items" in tables["valle2-librispeech"]
    assert "best of 5" not in tables["valle2-librispeech"]
    assert "theirs is the best of 5, ours one sample" in tables["valle2-librispeech-five"]


def test_the_peak_of_memory_is_of_what_speaks():
    held = np.ones(20_000_000)
    high = peak_memory()
    del held
    reset_peak_memory()
    if peak_memory() == high:
        pytest.skip("this system cannot forget it")
    assert peak_memory() < high - 100e6


def test_samples_have_seeds_of_their_own(librispeech):
    items = build_list(small("valle"), ListSource(librispeech)).items
    seeds = {item.seed(run, sample) for item in items for run in range(3) for sample in range(5)}
    assert len(seeds) == len(items) * 15
