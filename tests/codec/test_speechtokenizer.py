"""SpeechTokenizer: the numbers of its own code, streamed or whole, from plain tensors only."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoint_layouts import RECORDED
from openvalle.codec.load import find_again, find_kept_codec, keep_codec, load_codec
from openvalle.codec.speechtokenizer import SpeechTokenizerCodec
from openvalle.errors import ModelError
from speechtokenizer_samples import CONFIG, save_speechtokenizer, speechtokenizer_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_speechtokenizer(tmp_path_factory.mktemp("speechtokenizer") / "own")


@pytest.fixture(scope="module")
def codec(folder: Path) -> SpeechTokenizerCodec:
    return SpeechTokenizerCodec.load(folder)


def test_codes_and_sound_are_those_of_its_own_code(codec):
    record = np.load(RECORDED / "speechtokenizer.npz")
    codes = codec.encode(torch.from_numpy(record["samples"])[None])
    assert np.array_equal(codes[0].numpy(), record["codes"])
    assert np.allclose(codec.decode(codes)[0].numpy(), record["decoded"], atol=1e-5)
    assert np.allclose(codec.decode(codes[:, :2])[0].numpy(), record["short"], atol=1e-5)
    assert (codec.spec.rate, codec.spec.frame_rate, codec.spec.codebooks, codec.spec.entries) == (16_000, 50, 8, 32)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 23])
@pytest.mark.parametrize("block", [1, 3, 50])
def test_a_stream_is_the_whole(codec, frames, block):
    codes = torch.randint(32, (2, frames, 8), generator=torch.Generator().manual_seed(frames))
    stream = codec.stream()
    blocks = [stream.push(codes[:, start : start + block]) for start in range(0, frames, block)]
    joined = torch.cat([*blocks, stream.flush()], dim=1)
    assert torch.allclose(joined, codec.decode(codes), atol=1e-5)
    assert joined.shape == (2, 320 * frames)


def test_nothing_is_no_sound(codec):
    assert codec.stream().flush().shape == (1, 0)
    assert codec.decode(torch.zeros(1, 0, 8, dtype=torch.long)).shape == (1, 0)


def test_rows_and_lengths_do_not_change_each_other(codec):
    samples = 0.3 * torch.randn(2, 4 * 320, generator=torch.Generator().manual_seed(1))
    both = codec.encode(samples)
    assert both[1:].equal(codec.encode(samples[1:]))
    assert codec.encode(samples[:, :641]).shape == (2, 3, 8)
    assert codec.encode(samples[:, :1]).shape == (2, 1, 8)
    merged = codec.encode(samples, merge=2)[..., 0]
    assert merged[:, 0].equal(merged[:, 1])


def test_it_is_found_by_name_and_travels_with_a_model(folder, codec, tmp_path):
    for name in (folder, f"speechtokenizer:{folder}"):
        assert load_codec(name).spec == codec.spec
        kept = keep_codec(str(name), tmp_path / "kept")
        assert kept == "speechtokenizer"
        assert load_codec(find_kept_codec(kept, tmp_path / "kept")).spec == codec.spec
    os.chdir(folder.parent)
    assert find_again(f"speechtokenizer:{folder.name}") == f"speechtokenizer:{folder}"
    assert find_kept_codec("speechtokenizer", tmp_path / "none") == "speechtokenizer"


def test_bad_folders_get_one_line(tmp_path):
    def write(values=None, weights=None):
        (tmp_path / "config.json").write_text(json.dumps(CONFIG | (values or {})), encoding="utf-8")
        torch.save(speechtokenizer_weights() if weights is None else weights, tmp_path / "SpeechTokenizer.pt")

    def refuse(message):
        with pytest.raises(ModelError, match=message) as caught:
            load_codec(f"speechtokenizer:{tmp_path}")
        assert "\n" not in str(caught.value)

    write({"activation": "Snake"})
    refuse("activation")
    write({"n_filters": 8})
    refuse("do not fit its settings")
    write(weights={name: value for name, value in speechtokenizer_weights().items() if "embed" not in name})
    refuse("no codebooks")
    write(weights={"weights": os.system})
    refuse("cannot be read")
    write()
    data = (tmp_path / "SpeechTokenizer.pt").read_bytes()
    (tmp_path / "SpeechTokenizer.pt").write_bytes(data[: len(data) // 2])
    refuse("cannot be read")
    (tmp_path / "SpeechTokenizer.pt").unlink()
    refuse("it needs config.json and SpeechTokenizer.pt")
    with pytest.raises(ModelError, match="there is no folder"):
        load_codec("speechtokenizer:nowhere")
