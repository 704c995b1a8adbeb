"""`openvalle batch`: each row is what `say` gives; what is done is kept; a bad row is reported and stops no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openvalle.media import read
from openvalle.safety.detector import read_provenance
from openvalle.synth.synthesizer import Synthesizer


@pytest.fixture
def batch(openvalle, tiny_model: Path, voice_path: Path):
    """Runner of `openvalle batch` with the tiny model and voice."""
    return lambda *arguments: openvalle("batch", *arguments, "--model", tiny_model, "--voice", voice_path)


@pytest.fixture
def spoken_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are really spoken, in order."""
    texts: list[str] = []
    real = Synthesizer.say_batch

    def recording(self, lines, *arguments, **named):
        texts.extend("".join(passage.text for passage in line.passages) for line in lines)
        return real(self, lines, *arguments, **named)

    monkeypatch.setattr(Synthesizer, "say_batch", recording)
    return texts


def entries(folder: str = "batch") -> dict[str, dict]:
    lines = (Path(folder) / "report.jsonl").read_text().splitlines()
    return {entry["id"]: entry for entry in map(json.loads, lines)}


def test_every_row_is_what_say_gives(batch, openvalle, tiny_model: Path, voice_path: Path) -> None:
    Path("lines.csv").write_text('id,text,seed\nhello,"Hello, you.",3\n,See saw.,\n', encoding="utf-8-sig")
    run = batch("lines.csv", "--seed", 5)
    assert (run.code, run.out) == (0, "batch/report.jsonl\n")
    assert run.err.startswith("2 spoken (")
    for name, text, seed in (("hello", "Hello, you.", 3), ("00002", "See saw.", 5)):
        openvalle("say", text, "--seed", seed, "-o", "one.wav", "--model", tiny_model, "--voice", voice_path)
        assert Path("one.wav").read_bytes() == Path(f"batch/{name}.wav").read_bytes()
        entry = entries()[name]
        assert (entry["path"], entry["seed"], entry["status"]) == (f"{name}.wav", seed, "spoken")
        assert entry["seconds"] == pytest.approx(read("one.wav").seconds, abs=0.001)
    assert read_provenance("batch/hello.wav").model == "tiny"


def test_jsonl_and_tsv_are_read_and_formats_written(batch) -> None:
    Path("a.jsonl").write_text('{"text": "Saw."}\n\n{"text": "See.", "id": "b", "voice": null}\n')
    assert json.loads(batch("a.jsonl", "-o", "one", "--format", "opus", "--json").out)["spoken"] == 2
    Path("a.tsv").write_text("text\tid\nSaw, see.\tb\n")
    assert batch("a.tsv", "-o", "two", "--format", "flac").code == 0
    assert sorted(path.name for path in Path("one").glob("*.opus")) == ["00001.opus", "b.opus"]
    assert read("two/b.flac").seconds > 0


def test_an_interrupted_batch_goes_on(batch, spoken_texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openvalle.apps.batch.BATCH", 1)
    Path("a.jsonl").write_text("".join(json.dumps({"text": f"See {word}."}) + "\n" for word in ("one", "two", "three")))
    real, calls = Synthesizer.say_batch, []

    def stopping(self, *arguments, **named):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Synthesizer, "say_batch", stopping)
        assert batch("a.jsonl").code == 130
    with Path("batch/report.jsonl").open("a") as report:
        report.write('{"id": "cut o')
    before = Path("batch/00001.wav").stat().st_mtime_ns
    spoken_texts.clear()
    summary = json.loads(batch("a.jsonl", "--json").out)
    assert (summary["spoken"], summary["kept"], spoken_texts) == (1, 2, ["See three."])
    assert Path("batch/00001.wav").stat().st_mtime_ns == before
    whole = batch("a.jsonl", "-o", "whole")
    assert whole.code == 0
    for name in ("00001.wav", "00002.wav", "00003.wav"):
        assert Path("whole", name).read_bytes() == Path("batch", name).read_bytes()


def test_only_what_changed_is_spoken_again(batch, spoken_texts) -> None:
    Path("a.csv").write_text("text\nSaw.\nSee.\n")
    batch("a.csv")
    Path("a.csv").write_text("text\nSaw.\nSea.\n")
    spoken_texts.clear()
    batch("a.csv")
    assert spoken_texts == ["Sea."]
    Path("batch/00001.wav").unlink()
    batch("a.csv")
    assert spoken_texts == ["Sea.", "Saw."]
    spoken_texts.clear()
    batch("a.csv", "--seed", 1)
    batch("a.csv", "--seed", 1, "--temperature", 0.5)
    batch("a.csv", "--seed", 1, "--temperature", 0.5, "--no-resume")
    assert spoken_texts == ["Saw.", "Sea."] * 3
    spoken_texts.clear()
    for option in (("--speed", 1.5), ("--attempts", 1), ("--window", 3), ("--top-p", 0.5), ("--format", "flac")):
        batch("a.csv", *option)
    assert spoken_texts == ["Saw.", "Sea."] * 5


def test_rows_may_have_markup_and_a_lexicon(batch) -> None:
    Path("a.csv").write_text('text\nSaw.\n"[pause:0.5s] Saw."\n[pause:soon] Saw.\nSaw. [voice:nobody] See.\n')
    run = batch("a.csv")
    assert (run.code, [entry["status"] for entry in entries().values()].count("failed")) == (2, 2)
    assert "pause" in entries()["00003"]["error"]
    plain, paused = (read(f"batch/0000{number}.wav").seconds for number in (1, 2))
    assert paused == pytest.approx(plain + 0.5, abs=0.01)
    assert "nobody" in entries()["00004"]["error"]
    assert batch("a.csv", "-o", "literal", "--markup", "none").code == 0
    assert read("literal/00002.wav").seconds != paused
    Path("words.tsv").write_text("saw\tS IY1 S IY1 S IY1\n")
    batch("a.csv", "-o", "lexicon", "--lexicon", "words.tsv")
    assert Path("lexicon/00001.wav").read_bytes() != Path("batch/00001.wav").read_bytes()
    assert "no.tsv" in batch("a.csv", "--lexicon", "no.tsv").err


def test_rows_may_have_a_format(batch, spoken_texts) -> None:
    Path("a.csv").write_text("text\n[Saw](http://a.b)\n<h1>See</h1>\n")
    for chosen in ("auto", "plain", "markdown", "html"):
        assert batch("a.csv", "-o", chosen, "--text-format", chosen).code == 0
        assert batch("a.csv", "-o", chosen, "--text-format", chosen).err.endswith("2 kept, 0 failed\n")
    seconds = {name: read(f"{name}/00001.wav").seconds for name in ("auto", "plain", "markdown")}
    assert seconds["auto"] == seconds["markdown"] < seconds["plain"], "the address is said, too"
    assert read("html/00002.wav").seconds < read("plain/00002.wav").seconds
    assert "use one of: auto, plain, markdown, html" in batch("a.csv", "--text-format", "rtf").err


def test_a_bad_row_stops_no_other_and_is_tried_again(batch, voice_path: Path) -> None:
    Path("a.csv").write_text("id,text,voice\na,Saw.,\nb,See.,nobody\nc,...,\n")
    run = batch("a.csv")
    assert run.code == 2
    assert run.err.splitlines()[-1].startswith("error: 2 of 3 rows could not be spoken; batch/report.jsonl says why")
    assert {name: entry["status"] for name, entry in entries().items()} == {"a": "spoken", "b": "failed", "c": "failed"}
    assert "no voice called 'nobody'" in entries()["b"]["error"]
    Path("nobody.safetensors").write_bytes(voice_path.read_bytes())
    Path("a.csv").write_text("id,text,voice\na,Saw.,\nb,See.,nobody.safetensors\n")
    assert batch("a.csv", "--quiet").err == ""
    assert {entry["status"] for entry in entries().values()} == {"spoken"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,speaker\nHello,me\n", "line 2: unknown column 'speaker'; use text, id, voice"),
        ("a.csv", "id\n1\n", "line 2: text: Field required"),
        ("a.csv", "text,seed\nHello,often\n", "line 2: seed: Input should be a valid integer"),
        ("a.csv", "text,seed\nHello,-1\n", "line 2: seed: Input should be greater than or equal to 0"),
        ("a.csv", "text,id\nHello,../up\n", "line 2: id: Value error, use up to 100 letters"),
        ("a.csv", "text,id\nHello,a\nSee,A\n", "two rows have the id 'a'"),
        ("a.csv", "text\nHello,you\n", "a cell without a header"),
        ("a.csv", "text\n", "holds no rows"),
        ("a.csv", "", "holds no rows"),
        ("a.csv", b"text\n\xff\n", "is not UTF-8"),
        ("a.jsonl", '{"text": "Hello."}\n{"text"\n', "line 2 is not JSON"),
        ("a.jsonl", '["Hello."]\n', "line 1 is not an object"),
        ("a.jsonl", '{"text": 5}\n', "line 1: text: Input should be a valid string"),
        ("a.txt", "Hello.", "cannot read a.txt as a table; end its name in .csv"),
    ],
)
def test_a_bad_table_is_one_clear_line_and_nothing_is_spoken(batch, name, content, message) -> None:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    run = batch(name)
    assert (run.code, run.out, run.err.count("\n")) == (2, "", 1)
    assert message in run.err
    assert not Path("batch").exists()


def test_bad_arguments_are_one_clear_line(batch) -> None:
    assert "cannot read no.csv: No such file" in batch("no.csv").err
    Path("a.csv").write_text("text\nHello.\n")
    assert "unknown format 'doc'" in batch("a.csv", "--format", "doc").err
    assert "a.csv is a file" in batch("a.csv", "-o", "a.csv").err
