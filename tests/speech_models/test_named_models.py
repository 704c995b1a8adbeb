"""Judges by name, and the papers' checkpoints with tiny random weights in the layout of the released files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from openvalle.audio import Audio, silence
from openvalle.errors import AudioError, ModelError, UserError
from openvalle.speech_models.asr import load_recognizer
from openvalle.speech_models.fairseq import RENAMES
from openvalle.speech_models.recognizers import PocketsphinxRecognizer
from openvalle.speech_models.speaker import ResemblyzerEncoder, load_encoder

pytest.importorskip("transformers", reason="needs openvalle[eval]")
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def released_names(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors of a transformers model by the names of fairseq, which the released files use."""
    swaps = {
        "feature_projection.projection.": "post_extract_proj.",
        "feature_projection.layer_norm.": "layer_norm.",
        "masked_spec_embed": "mask_emb",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original0": "encoder.pos_conv.0.weight_g",
        "encoder.pos_conv_embed.conv.parametrizations.weight.original1": "encoder.pos_conv.0.weight_v",
        "encoder.pos_conv_embed.conv.": "encoder.pos_conv.0.",
        ".attention.rel_attn_embed.": ".self_attn.relative_attention_bias.",
        ".attention.gru_rel_pos_linear.": ".self_attn.grep_linear.",
        ".attention.gru_rel_pos_const": ".self_attn.grep_a",
        ".attention.": ".self_attn.",
        ".feed_forward.intermediate_dense.": ".fc1.",
        ".feed_forward.output_dense.": ".fc2.",
    }
    named = {}
    for name, value in state.items():
        is_convolution = name.startswith("feature_extractor.")
        group = "2.1" if "conv_layers.1.layer_norm.weight" in " ".join(state) else "2"
        for ours, theirs in swaps.items():
            name = name.replace(ours, theirs)
        if is_convolution:
            name = name.replace(".conv.", ".0.").replace(".layer_norm.", f".{group}.")
        elif name.startswith("encoder.layers."):
            parts = name.split(".")
            parts[3] = "self_attn_layer_norm" if parts[3] == "layer_norm" else parts[3]
            name = ".".join(parts)
        named[prefix + name] = value
    return named


@pytest.fixture(scope="module")
def unispeech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny file in the layout of wavlm_large_finetune.pth."""
    from transformers import WavLMConfig, WavLMModel

    from openvalle.speech_models.fairseq import Ecapa

    torch.manual_seed(0)
    config = WavLMConfig(**TINY, num_buckets=32, do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=False)
    state = released_names(WavLMModel(config).state_dict(), "feature_extract.model.")
    shapes = {
        "layer1.conv.weight": torch.zeros(32, 16, 5),
        "conv.weight": torch.zeros(48, 96, 1),
        "pooling.linear1.weight": torch.zeros(8, 48, 1),
        "layer2.SE_Connect.linear1.weight": torch.zeros(8, 32),
        "linear.weight": torch.zeros(12, 96),
    }
    state |= Ecapa(shapes).state_dict() | {"feature_weight": torch.randn(3), "loss_calculator.weight": torch.zeros(3)}
    path = tmp_path_factory.mktemp("unispeech") / "wavlm_large_finetune.pth"
    torch.save({"model": state}, path)
    return path


@pytest.fixture(scope="module")
def utmos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny file in the layout of utmos22_strong_step7459_v1.pt."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(1)
    encoder = Wav2Vec2Model(Wav2Vec2Config(**{**TINY, "num_attention_heads": 1}))
    lstm = torch.nn.LSTM(16 + 4 + 4, 6, batch_first=True, bidirectional=True)
    projection = torch.nn.Sequential(torch.nn.Linear(12, 10), torch.nn.ReLU(), torch.nn.Linear(10, 1))
    state = released_names(encoder.state_dict(), "wav2vec2.")
    state |= {f"blstm.{name}": value for name, value in lstm.state_dict().items()}
    state |= {f"projection.{name}": value for name, value in projection.state_dict().items()}
    state |= {"domain_emb": torch.randn(1, 4), "judge_emb": torch.randn(1, 4)}
    path = tmp_path_factory.mktemp("utmos") / "utmos22_strong.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny HuBERT with a CTC head over letters, in the layout of facebook/hubert-large-ls960-ft."""
    from transformers import HubertConfig, HubertForCTC, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

    folder = tmp_path_factory.mktemp("hubert")
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVKXJQZ'"]
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    torch.manual_seed(2)
    config = HubertConfig(**TINY, vocab_size=len(letters), do_stable_layer_norm=True, feat_extract_norm="layer")
    HubertForCTC(config).save_pretrained(folder)
    return folder


def test_names_choose_the_judges():
    assert isinstance(load_recognizer("pocketsphinx"), PocketsphinxRecognizer)
    assert isinstance(load_encoder("resemblyzer"), ResemblyzerEncoder)
    with pytest.raises(UserError, match=r"no recogniser 'sphinx'; use whisper\[:MODEL\], pocketsphinx, hubert-large"):
        load_recognizer("sphinx")
    with pytest.raises(UserError, match="no recogniser 'transformers'"):
        load_recognizer("transformers")
    with pytest.raises(UserError, match="no speaker model 'x-vector'"):
        load_encoder("x-vector")
    with pytest.raises(UserError, match="give --speaker unispeech:PATH"):
        load_encoder("unispeech")


def test_any_transformers_recogniser_writes_letters(ctc, clip):
    recognizer = load_recognizer(f"transformers:{ctc}")
    heard = recognizer.transcribe(clip).text
    for special in ("<s>", "</s>", "<unk>"):  # weights that were never trained write these too
        heard = heard.replace(special, "")
    assert set(heard) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")
    heard = recognizer.transcribe(clip).text
    assert recognizer.transcribe(clip).text == heard
    assert str(ctc) in recognizer.name
    with pytest.raises(AudioError, match="silent"):
        recognizer.transcribe(silence(1.0))
    with pytest.raises(ModelError, match="cannot load the recognition model"):
        load_recognizer(f"transformers:{ctc / 'nowhere'}")


def test_the_papers_speaker_model_is_read_from_its_file(unispeech, clip):
    encoder = load_encoder(f"unispeech:{unispeech}")
    embedding = encoder.embed(clip)
    assert embedding.shape == (12,)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
    louder = Audio(clip.samples * np.float32(3), clip.rate)
    assert encoder.embed(louder) == pytest.approx(embedding, abs=1e-4)  # samples are brought to unit variance
    assert encoder.name.startswith("unispeech ")


def test_the_features_of_the_speaker_model_are_the_weighted_hidden_states(unispeech, clip):
    from openvalle.speech_models.fairseq import SpeakerNetwork, read_state

    state = read_state(unispeech, "model")
    state["feature_weight"] = torch.tensor([0.0, 0.0, 80.0])  # all weight on the last state
    network = SpeakerNetwork(state, unispeech).eval()
    samples = torch.nn.functional.layer_norm(torch.randn(1, 8000), (1, 8000))
    with torch.inference_mode():
        last = network.encoder(samples).last_hidden_state.transpose(1, 2) + 1e-6
        expected = network.head(torch.nn.functional.instance_norm(last))
        assert torch.allclose(network(samples), expected, atol=1e-4)


def test_utmos_is_read_from_its_file(utmos, clip):
    from openvalle.speech_models.fairseq import UTMOS

    judge = UTMOS(utmos)
    assert judge.score(clip) == judge.score(clip)
    assert np.isfinite(judge.score(clip))
    with pytest.raises(AudioError, match="silent"):
        judge.score(silence(1.0))


def test_wrong_files_are_named(unispeech, utmos, tmp_path):
    from openvalle.speech_models.fairseq import UTMOS, UniSpeechEncoder

    with pytest.raises(ModelError, match="there is no UniSpeech speaker model at"):
        UniSpeechEncoder(tmp_path / "nothing.pth")
    with pytest.raises(ModelError, match="is no speaker model of UniSpeech"):
        UniSpeechEncoder(utmos)
    with pytest.raises(ModelError, match="is no UTMOS model"):
        UTMOS(unispeech)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read as UTMOS model"):
        UTMOS(tmp_path / "text.pth")
    state = torch.load(unispeech, weights_only=True)["model"]
    del state["feature_extract.model.encoder.layers.1.fc1.weight"]
    torch.save({"model": state}, tmp_path / "part.pth")
    with pytest.raises(ModelError, match=r"lacks encoder\.layers\.1\.feed_forward\.intermediate_dense\.weight"):
        UniSpeechEncoder(tmp_path / "part.pth")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    from openvalle.speech_models.fairseq import UTMOS

    torch.save({"model": Path("x")}, tmp_path / "code.pt")
    with pytest.raises(ModelError, match="cannot be read"):
        UTMOS(tmp_path / "code.pt")


def test_every_rename_is_used_by_one_of_the_layouts(unispeech):
    import re

    names = [name.removeprefix("feature_extract.model.") for name in torch.load(unispeech)["model"]]
    for pattern, _ in RENAMES:
        assert any(re.match(pattern, name) for name in names), pattern
