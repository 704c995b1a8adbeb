"""The benchmarks' own parts; what they measure with is tested in tests/evaluate."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from openvalle.speech_models.mos import DNSMOSScores
from openvalle.speech_models.prosody import Prosody
from openvalle.speech_models.wer import WordErrors


def test_report_is_written_as_json_and_markdown(load, tmp_path, capsys):
    report = load("report").Report("codec", {"seed": 0})
    report.table("dev-clean", ["", "WER %"], [["original", "27.0"]])
    report.targets([("WER points added", 9.0, "<= 8", False)])
    values, text = report.write(tmp_path)
    assert json.loads(values.read_text())["targets"][0]["met"] is False
    assert "| original | 27.0 |" in text.read_text()
    assert "MISSED" in capsys.readouterr().out


def test_no_figure_of_a_wide_table_is_cut(load, capsys):
    cells = [f"{number}.25 [{number}.12, {number}.38]" for number in range(1000, 1020)]
    load("report").Report("codec", {}).table(
        "wide", ["", *(f"a title of judge {cell}" for cell in cells)], [["", *cells]]
    )
    shown = capsys.readouterr().out
    assert all(shown.count(cell) == 2 for cell in cells)
    assert max(map(len, shown.splitlines()[1:])) < 1000


def test_targets_hold_synthesis_against_the_reconstruction(load):
    rows = {
        "original": {},
        "codec-reconstructed": {"wer": {"value": 0.2}, "overall": {"value": 2.5}},
        "synthesised": {"wer": {"value": 0.3}, "overall": {"value": 2.1}, "right_above_wrong": {"value": 0.8}},
    }
    report = load("report").Report("speech", {})
    load("speech").check_targets({"rows": [rows], "ended_properly": 1.0, "real_time_factor": 0.2}, report)
    missed = [item["target"] for item in report.values["targets"] if not item["met"]]
    assert missed == ["share of pairs nearer to the right speaker"]


def test_peers_that_are_missing_are_named_and_the_others_speak(load, monkeypatch):
    peers = load("peers")
    monkeypatch.setenv("PATH", "")
    found, notes = peers.peers(None)
    assert [one.name for one in found] == (["espeak-ng"] if peers.espeak() else [])
    assert any("flite" in note for note in notes)
    assert any("Kokoro" in note for note in notes)


def test_codebook_usage_counts_entries(load):
    codes = torch.stack([torch.arange(8) % 2, torch.arange(8) % 8], dim=1)  # (T, 2)
    shares, perplexities = load("codec").usage([codes[:4], codes[4:]], entries=8)
    assert shares == [0.25, 1.0]
    assert perplexities == pytest.approx([2, 8])


def test_the_codec_is_judged_by_every_recogniser_and_by_its_harmonics(load):
    codec, judged, command = load("codec"), load("judged"), load("command")
    voice = np.array([0.6, 0.8], np.float32)

    def clip(errors: int, harmonicity: float, overall: float | None = 3.0):
        quality = None if overall is None else DNSMOSScores(signal=3.2, background=4.0, overall=overall, p808=3.5)
        prosody = Prosody(1.0, 0.9, 80.0, 2.0, 5.0, 10.0, harmonicity)
        results = {"words": "one", "voice": voice, "quality": quality, "prosody": prosody}
        return judged.JudgedClip(results, {}, WordErrors(errors, words=4))

    sets = [command.JUDGES.model_copy(update={"asr": "whisper:base", "speaker": "campplus"}), command.JUDGES]
    heard = [[clip(1, 8.0), clip(0, float("nan"))], [clip(2, 8.0, None), clip(2, 8.0, None)]]
    figures = codec.summarize(heard, heard, sets)
    assert figures["WER %, whisper:base"].value == pytest.approx(1 / 8)
    assert figures["WER %, pocketsphinx"].value == pytest.approx(4 / 8)
    assert figures["similarity, campplus"].value == figures["similarity, resemblyzer"].value == pytest.approx(1)
    assert figures["harmonics over noise, dB"].value == pytest.approx(8.0), "where nothing is voiced nothing is said"
    assert len(codec.row("original", 2, figures)) == 2 + len(figures)
    report = load("report").Report("codec", {})
    row = {name: {"value": figure.value} for name, figure in figures.items()}
    clearer = row | {"harmonics over noise, dB": {"value": 10.2}}
    values = {"rows": {"original": clearer, "8 codebooks": row}, "entries_used": [0.9]}
    values |= {"encode_times_real_time": 30.0, "decode_times_real_time": 30.0}
    codec.check_targets(values, 8, report)
    missed = [item["target"] for item in report.values["targets"] if not item["met"]]
    assert missed == ["DNSMOS OVRL", "harmonics over noise, dB: lost"]


def test_words_to_replace_occur_once_inside_and_new_ones_not_at_all(load):
    from openvalle.evaluate.corpus import CorpusUtterance

    module = load("edit")
    texts = ["THE HOUSE STANDS BEHIND THE RIVER", "SOME HORSE DRANK WATER THEN", "A A A A"]
    corpus = [
        CorpusUtterance(f"u{n}", Path("data"), "x.wav", text, f"s{n}", "F", seconds=5.0, split="dev-clean")
        for n, text in enumerate(texts)
    ]
    requests = module.make_tasks(corpus, 30, seed=0)
    assert len(requests) == 2, "the third has no word to replace"
    for request in requests:
        words = request.source.text.lower().split()
        assert words[1:-1].count(request.old) == words.count(request.old) == 1
        assert request.new not in words
    assert module.make_tasks(corpus, 30, seed=0) == requests
    assert len(module.make_tasks(corpus, 1, seed=0)) == 1


def test_kokoros_split_has_voices_that_no_training_had(load, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "recipes" / "teacher"))
    held_out = importlib.import_module("speakers").HELD_OUT
    assert set(load("peers").UNHEARD) <= set(held_out)


def test_a_share_of_all_is_not_sure_to_be_all(load):
    share = load("judged").share
    assert share([True] * 50).low == pytest.approx(0.929, abs=1e-3)  # as tables of Wilson's interval have it
    some = share([True] * 5 + [False] * 15)
    assert (some.value, some.count) == (0.25, 20)
    assert (some.low, some.high) == pytest.approx((0.112, 0.469), abs=1e-3)


def test_what_is_no_speech_is_made_alike_again(load):
    made, again = (load("watermark").no_speech(2, seed=3) for _ in range(2))
    assert set(made) == {"pure tones", "chords", "melodies", "noises"}
    for name, sounds in made.items():
        assert len(sounds) == 2
        assert all(np.array_equal(a.samples, b.samples) for a, b in zip(sounds, again[name], strict=True))
