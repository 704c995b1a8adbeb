"""Speech for detectors: the layout and columns of ASVspoof, speakers parted, nothing dropped in silence."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from compare_samples import item, tone
from typer.testing import CliRunner

from openvalle.cli.main import app
from openvalle.errors import UserError
from openvalle.evaluate.results import ORIGINAL, Result, write_results
from openvalle.evaluate.spoofing import Layout, SplitShares, export_spoofing, split_speakers
from openvalle.evaluate.test_list import TestList
from openvalle.media import read, write


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """What an evaluation of two systems on five speakers leaves; one answer failed, one has no sound."""
    folder = tmp_path / "report"
    rows = []
    for number in range(5):
        for system in (ORIGINAL, "ours", "espeak"):
            audio = f"audio/{system}/utt{number}.wav"
            has_failed, is_silent = (number, system) == (0, "espeak"), (number, system) == (1, ORIGINAL)
            if not has_failed and not is_silent:
                write(folder / audio, tone(200 + number))
            status = {"status": "failed", "error": "no"} if has_failed else {}
            kept = "" if has_failed or is_silent else audio
            rows.append(Result(system, f"utt{number}", 0, "Hello.", speaker=f"s{number}", audio=kept, **status))
        rows.append(
            Result("ours", f"noisy{number}", 0, "Hello.", condition="noisy", speaker=f"s{number}", audio="x.wav")
        )
    write_results(folder / "rows.jsonl", rows)
    TestList("quick", 0, "c", (item(),)).write(folder / "items.jsonl")
    record = {"record": {"systems": {"ours": {"model": "builtin"}}}}
    (folder / "report.json").write_text(json.dumps(record))
    return folder


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()]


def test_the_layout_of_2019(report: Path, tmp_path: Path) -> None:
    counts = export_spoofing(report, tmp_path / "out", prefix="mine")
    assert counts == {"bonafide": 4, "spoof": 9, "failed": 1, "without sound": 1}
    protocol = lines(tmp_path / "out/LA/mine_LA_cm_protocols/mine.LA.cm.eval.trl.txt")
    assert len(protocol) == 13
    for speaker, name, dash, attack, key in protocol:
        assert speaker.startswith("OV_")
        assert dash == "-"
        assert (attack == "-") == (key == "bonafide")
        audio = read(tmp_path / f"out/LA/mine_LA_eval/flac/{name}.flac", None)
        assert audio.rate == 16_000
    assert {line[3] for line in protocol} == {"-", "A01", "A02"}
    keys = [line[4] for line in protocol]
    assert keys not in (sorted(keys), sorted(keys, reverse=True)), "names do not tell the label"


def test_the_layout_of_asvspoof5(report: Path, tmp_path: Path) -> None:
    export_spoofing(report, tmp_path / "out", Layout.ASVSPOOF5, SplitShares(0.4, 0.2))
    names = {"train": "openvalle.train.tsv", "dev": "openvalle.dev.track_1.tsv", "eval": "openvalle.eval.track_1.tsv"}
    seen: dict[str, set[str]] = {}
    for part, folder in (("train", "flac_T"), ("dev", "flac_D"), ("eval", "flac_E_eval")):
        protocol = lines(tmp_path / "out/openvalle_protocols" / names[part])
        seen[part] = {line[0] for line in protocol}
        assert {len(line) for line in protocol} == {10}
        assert {line[8] for line in protocol} == {"bonafide", "spoof"}
        assert all((tmp_path / "out" / folder / f"{line[1]}.flac").is_file() for line in protocol)
    assert [len(own) for own in seen.values()] == [2, 1, 2]
    assert len(set.union(*seen.values())) == 5, "no speaker is in two parts"


def test_what_the_protocols_cannot_say_is_beside_them(report: Path, tmp_path: Path) -> None:
    export_spoofing(report, tmp_path / "out", without=("espeak",))
    rows = list(csv.DictReader((tmp_path / "out" / "metadata.csv").open()))
    assert {row["system"] for row in rows} == {ORIGINAL, "ours"}
    assert {row["source_speaker"] for row in rows} == {f"s{number}" for number in range(5)}
    attacks = json.loads((tmp_path / "out" / "attacks.json").read_text())["attacks"]
    assert attacks == {"A01": {"system": "ours", "model": "builtin"}}


def test_parts_are_drawn_by_the_seed() -> None:
    speakers = [str(number) for number in range(20)]
    assert split_speakers(speakers, SplitShares(0.5, 0.25), 1) == split_speakers(speakers, SplitShares(0.5, 0.25), 1)
    assert split_speakers(speakers, SplitShares(0.5, 0.25), 1) != split_speakers(speakers, SplitShares(0.5, 0.25), 2)


def test_bad_wishes_are_refused(report: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no synthesised speech"):
        export_spoofing(report, tmp_path / "out", without=("ours", "espeak"))
    with pytest.raises(UserError, match="cannot read"):
        export_spoofing(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="add up to 1"):
        SplitShares(0.7, 0.7)
    with pytest.raises(UserError, match="there already"):
        export_spoofing(report, report)
    assert not (tmp_path / "out").exists()


def test_the_command(report: Path, tmp_path: Path) -> None:
    options = ["--layout", "5", "--train", "0.4", "--dev", "0.2", "--prefix", "p", "--without", "espeak", "--seed", "3"]
    result = CliRunner().invoke(app, ["spoofing", str(report), str(tmp_path / "out"), *options])
    assert result.exit_code == 0, result.output
    assert "4 bonafide, 5 spoof, 0 failed, 1 without sound" in result.stderr
    assert (tmp_path / "out" / "p_protocols" / "p.train.tsv").is_file()
    for bad, said in ((["--layout", "7"], "no layout"), (["--prefix", "../x"], "cannot begin")):
        result = CliRunner().invoke(app, ["spoofing", str(report), str(tmp_path / "x"), *bad])
        assert (result.exit_code, said in result.stderr) == (2, True)
