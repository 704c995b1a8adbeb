"""The whole way from sound and text to tokens, with stand-ins for what needs real speech."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_prepare_executor import units_of

from openvalle.data.batches import TokenBatches
from openvalle.data.index_files import write_index
from openvalle.data.shards import AudioShards, TokenShards, read_rows
from openvalle.errors import ConfigError, UserError
from openvalle.prepare.executor import run_step
from openvalle.prepare.run import Step, prepare
from openvalle.prepare.sources import CUTS, read_cuts
from openvalle.prepare.tokenize import TokenizeWork
from openvalle.text.symbols import inventory
from openvalle.types import CodecSpec, TokenSpec


class ProjectionCodec:
    """Codes are the nearest of 16 random directions to each frame, codebook by codebook."""

    def __init__(self, digest: str = "projection") -> None:
        self.spec = CodecSpec(name="projection", entries=16, digest=digest)
        rng = torch.Generator().manual_seed(0)
        self.directions = torch.randn(8, 16, 320, generator=rng)

    def encode(self, samples, merge=1):
        frames = samples.unfold(1, 320, 320)  # (B, T, 320)
        first = frames.unfold(1, merge, merge).mean(-1).repeat_interleave(merge, 1)
        codes = [torch.einsum("btn,vn->btv", first if q == 0 else frames, d) for q, d in enumerate(self.directions)]
        return torch.stack([scores.argmax(-1) for scores in codes], -1)


def _corpus(folder: Path, write_sound) -> Path:
    for speaker in ("anna", "ben"):
        for number in range(3):
            path = write_sound(folder / speaker / f"{number}.wav", 1.0 + number / 2)
            path.with_suffix(".txt").write_text("seven days")
    write_sound(folder / "ben" / "silent.wav", np.zeros(16_000, np.float32)).with_suffix(".txt").write_text("no")
    (folder / "ben" / "broken.wav").write_bytes(b"x" * 50)
    (folder / "ben" / "broken.txt").write_text("no")
    return folder


def test_the_first_steps_keep_the_good_and_name_the_bad(tmp_path, write_sound):
    source, out = _corpus(tmp_path / "in", write_sound), tmp_path / "out"
    report = prepare(source, out, last=Step.AUDIO)
    assert report.kept == {"scan": 7, "audio": 6} and report.rejected == 2
    rejected = {(row["id"], row["step"]) for row in read_rows(out / "rejected.jsonl")}
    assert rejected == {("ben/broken", "scan"), ("ben/silent", "audio")}
    assert report.seconds == pytest.approx(sum(row["seconds"] for row in read_rows(out / "audio" / "index.jsonl")))
    assert len(AudioShards.open(out)) == 6
    assert len(list(read_cuts(out / "scan" / CUTS))) == 7


def test_a_corpus_without_a_good_alignment_is_one_clear_error(tmp_path, write_sound):
    source = _corpus(tmp_path / "in", write_sound)
    with pytest.raises(UserError, match="passed the step align"):
        prepare(source, tmp_path / "out", last=Step.ALIGN)
    assert {row["step"] for row in read_rows(tmp_path / "out" / "rejected.jsonl")} == {"scan", "audio", "align"}


def test_jobs_must_be_positive(tmp_path):
    with pytest.raises(ConfigError, match="jobs is 0"):
        prepare(tmp_path, tmp_path / "out", jobs=0)


def _aligned(out: Path) -> list[dict]:
    """Return aligned rows for the cleaned sounds: seven phones sharing the time."""
    phones = ["SIL", "S", "EH1", "V", "AH0", "N", "SIL"]
    rows = []
    for row in read_rows(out / "audio" / "index.jsonl"):
        edges = np.linspace(0, row["seconds"], len(phones) + 1)
        spans = [[phone, edges[i], edges[i + 1], 0] for i, phone in enumerate(phones)]
        rows.append(row | {"spans": spans, "words": ["seven"]})
    return rows


@pytest.fixture
def aligned(tmp_path, write_sound):
    out = tmp_path / "out"
    prepare(_corpus(tmp_path / "in", write_sound), out, last=Step.AUDIO)
    return out, _aligned(out)


def _tokenize(out: Path, rows: list[dict], speeds: tuple[float, ...] = ()):
    codec, table = ProjectionCodec(), inventory()

    def tell() -> None:
        table.vocabulary.save(out / "tokens" / "symbols.json")
        TokenSpec(**codec.spec.model_dump(), merge=2).save(out / "tokens" / "codec.json")

    work = TokenizeWork(out / "audio", codec, table, 2, speeds)
    result = run_step(out / "tokens", units_of(out, rows), lambda: work, speeds, tell=tell)
    write_index(out / "tokens")
    return result


def test_tokens_are_those_of_the_codec_and_durations_fill_them(aligned):
    out, rows = aligned
    _tokenize(out, rows)
    shards, sounds, codec = TokenShards.open(out), AudioShards.open(out), ProjectionCodec()
    assert shards.codec.digest == "projection" and shards.codec.merge == 2
    shards.require(symbols=inventory().digest)
    for index, row in enumerate(shards.index):
        item = shards[index]
        samples = torch.from_numpy(sounds[index].samples)
        frames = len(samples) // 640 * 2
        assert row["id"] == sounds.rows[index]["id"] and item.codes.shape == (frames, 8)
        assert np.array_equal(item.codes, codec.encode(samples[None, : frames * 320], merge=2)[0])
        assert np.array_equal(item.codes[::2, 0], item.codes[1::2, 0])
        assert int(item.durations.sum()) == frames
        assert [inventory().symbols[symbol] for symbol in item.text] == ["SIL", "s", "ˈ", "ɛ", "v", "ə", "n", "SIL"]
        assert not (item.durations % 2).any()
        assert (item.durations > 0).tolist() == [True, True, False, True, True, True, True, True]
    assert len(TokenBatches(shards, 1000).batch(0)) > 1


def test_copies_at_other_speeds_are_shorter_or_longer_and_by_other_speakers(tmp_path, write_sound):
    out = tmp_path / "out"
    prepare(_corpus(tmp_path / "in", write_sound), out, last=Step.AUDIO)
    rows = [row | {"split": "train" if row["speaker"] == "anna" else "dev"} for row in _aligned(out)]
    _tokenize(out, rows, (1.0, 1.25))
    train = TokenShards.open(out, "train")
    assert len(train) == 6 and len(TokenShards.open(out, "dev")) == 3
    assert set(train.speakers) == {"anna", "annax1.25"}
    slow, fast = (train[index] for index, row in enumerate(train.index) if row["id"].startswith("anna/0"))
    assert fast.id == f"{slow.id}x1.25"
    assert len(fast.codes) == pytest.approx(len(slow.codes) / 1.25, abs=2)
    assert fast.text.tolist() == slow.text.tolist()
    assert fast.durations.sum() == len(fast.codes)


def test_the_command_hands_over_the_merging_rate(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from openvalle.cli.main import app
    from openvalle.prepare.run import PrepareReport

    seen = []

    def note(source, out, codec, jobs, **settings):
        seen.append(settings["options"].merge)
        return PrepareReport({"tokens": 1}, 0, 1.0)

    monkeypatch.setattr("openvalle.prepare.run.prepare", note)
    for arguments in ([], ["--merge", "1"]):
        assert CliRunner().invoke(app, ["prepare", str(tmp_path), str(tmp_path / "out"), *arguments]).exit_code == 0
    assert seen == [None, 1]  # without a word, what the text unit wants
