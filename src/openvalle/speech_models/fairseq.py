"""Models of fairseq's checkpoints: the speaker model of the papers (UniSpeech) and UTMOS, over encoders of speech.

UniSpeech's `wavlm_large_finetune.pth` is WavLM-large under an ECAPA-TDNN; the layers are those of Chen et al., "WavLM"
(2022), section V-B, and Desplanques et al., "ECAPA-TDNN" (2020). UTMOS (Saeki et al., 2022) predicts naturalness from 1
to 5: wav2vec 2.0 hears the clip, a recurrent layer and two linear ones judge each 20 ms. Its strong learner's weights
are `utmos22_strong_step7459_v1.pt` of https://github.com/tarepan/SpeechMOS (MIT).

Both files are given by their paths and never downloaded. Names and sizes are those of the released files; everything
is read from their shapes, so smaller files of the same make work. The encoders have fairseq's names; they are read
under transformers' names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openvalle.audio import Audio, to_model_samples
from openvalle.errors import ModelError, import_extra
from openvalle.files import sha256

# In order; the first pattern that matches a name renames it.
RENAMES = [
    (r"mask_emb$", "masked_spec_embed"),
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"post_extract_proj\.", "feature_projection.projection."),
    (r"layer_norm\.", "feature_projection.layer_norm."),
    (r"encoder\.pos_conv\.0\.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"encoder\.pos_conv\.0\.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"(encoder\.layers\.\d+)\.self_attn\.relative_attention_bias\.", r"\1.attention.rel_attn_embed."),
    (r"(encoder\.layers\.\d+)\.self_attn\.grep_linear\.", r"\1.attention.gru_rel_pos_linear."),
    (r"(encoder\.layers\.\d+)\.self_attn\.grep_a$", r"\1.attention.gru_rel_pos_const"),
    (r"(encoder\.layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.layer_norm."),
    (r"(encoder\.layers\.\d+)\.fc1\.", r"\1.feed_forward.intermediate_dense."),
    (r"(encoder\.layers\.\d+)\.fc2\.", r"\1.feed_forward.output_dense."),
]


# What reading a file that is no checkpoint may raise.
BROKEN = (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AssertionError, AttributeError)


def rename(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under `prefix`, by transformers' names."""
    return {_rename(key.removeprefix(prefix)): value for key, value in state.items() if key.startswith(prefix)}


def _rename(name: str) -> str:
    for pattern, replacement in RENAMES:
        changed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return changed
    return name


def read_state(path: str | Path, what: str) -> dict[str, Tensor]:
    """Return the tensors of a PyTorch checkpoint, read without running any code that it may hold.

    `ModelError` if it is missing, or is not made of tensors alone.
    """
    from pickle import UnpicklingError

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no {what} at {path}", "check the path") from None
    except (*BROKEN, UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path} cannot be read as {what} ({reason})", "fetch the file again") from None
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path} is no {what}: it does not hold tensors by name", "fetch the file again")
    return state


def load_part(module: torch.nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Load a module's own tensors, all of them; `ModelError` if one is missing or has another shape."""
    own = {name: state[name] for name in module.state_dict() if name in state}
    missing = [name for name in module.state_dict() if name not in own and not name.endswith("num_batches_tracked")]
    # Masked training needs this vector and listening does not.
    missing = [name for name in missing if name != "masked_spec_embed"]
    if missing:
        raise ModelError(f"{path} lacks {missing[0]} and {len(missing) - 1} more tensors", "it is another model's file")
    try:
        module.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit ({str(error).splitlines()[-1].strip()})", "fetch it again") from None


def read_sizes(encoder: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the sizes of an encoder that its tensors' shapes tell, as transformers calls them."""
    width = len(encoder["encoder.layer_norm.weight"])
    positions = encoder["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    convolutions = [encoder[f"feature_extractor.conv_layers.{index}.conv.weight"] for index in range(7)]
    return {
        "hidden_size": width,
        "num_hidden_layers": 1 + max(int(name.split(".")[2]) for name in encoder if name.startswith("encoder.layers.")),
        "intermediate_size": len(encoder["encoder.layers.0.feed_forward.intermediate_dense.bias"]),
        "conv_dim": tuple(len(weight) for weight in convolutions),
        "conv_kernel": tuple(weight.shape[2] for weight in convolutions),
        "num_conv_pos_embeddings": positions.shape[2],
        "num_conv_pos_embedding_groups": width // positions.shape[1],
    }


WAVLM = "feature_extract.model."
SCALE = 8  # groups of channels in a Res2 block
DILATIONS = {"layer2": 2, "layer3": 3, "layer4": 4}


class UniSpeechEncoder:
    """UniSpeech's released checkpoint, from a path."""

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        state = read_state(path, "UniSpeech speaker model")
        if "feature_weight" not in state or f"{WAVLM}layer_norm.weight" not in state:
            raise ModelError(f"{path} is no speaker model of UniSpeech", "give its wavlm_large_finetune.pth")
        self.name = f"unispeech {sha256(Path(path))[:16]}"
        self._network = SpeakerNetwork(state, path).eval().requires_grad_(False).to(device)
        self._device = device

    def embed(self, audio: Audio) -> np.ndarray:
        """Return the embedding (256,) float32 of unit length."""
        samples = torch.from_numpy(to_model_samples(audio))[None].to(self._device)
        with torch.inference_mode():
            return F.normalize(self._network(samples)[0], dim=0).cpu().numpy()


class SpeakerNetwork(nn.Module):
    """Samples (1, n) at 16 kHz -> embedding (1, D)."""

    def __init__(self, state: Mapping[str, Tensor], path: str | Path) -> None:
        super().__init__()
        transformers = import_extra("transformers", "transformers", "eval")
        encoder = rename(state, WAVLM)
        buckets, heads = encoder["encoder.layers.0.attention.rel_attn_embed.weight"].shape
        is_large = "feature_extractor.conv_layers.1.layer_norm.weight" in encoder
        config = transformers.WavLMConfig(
            **read_sizes(encoder),
            num_attention_heads=heads,
            num_buckets=buckets,
            conv_bias="feature_extractor.conv_layers.0.conv.bias" in encoder,
            feat_extract_norm="layer" if is_large else "group",
            do_stable_layer_norm=is_large,
        )
        self.encoder: Any = transformers.WavLMModel(config)
        load_part(self.encoder, encoder, path)
        self.feature_weight = nn.Parameter(state["feature_weight"].clone())
        self.head = Ecapa(state)
        load_part(self.head, state, path)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the embedding of (1, n) samples."""
        heard = F.layer_norm(samples, samples.shape)  # WavLM-large was trained on samples of unit variance
        found = self.encoder(heard, output_hidden_states=True)
        # Every layer's input and the normalised output; not every version of transformers lists the latter last.
        states = torch.stack([*found.hidden_states[:-1], found.last_hidden_state])  # (layers + 1, 1, T, D)
        weights = torch.softmax(self.feature_weight, dim=0)
        features = (weights[:, None, None, None] * states).sum(dim=0).transpose(1, 2) + 1e-6
        return self.head(F.instance_norm(features))


class Ecapa(nn.Module):
    """ECAPA-TDNN over features (B, D, T) -> (B, E), with the released file's names."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        first = state["layer1.conv.weight"]
        channels, features = first.shape[:2]
        joined, attention = len(state["conv.weight"]), len(state["pooling.linear1.weight"])
        squeeze = len(state["layer2.SE_Connect.linear1.weight"])
        self.layer1 = ConvBlock(features, channels, 5, padding=2)
        self.layer2, self.layer3, self.layer4 = (Res2(channels, squeeze, step) for step in DILATIONS.values())
        self.conv = nn.Conv1d(3 * channels, joined, 1)
        self.pooling = Pooling(joined, attention)
        self.bn = nn.BatchNorm1d(2 * joined)
        self.linear = nn.Linear(2 * joined, len(state["linear.weight"]))

    def forward(self, features: Tensor) -> Tensor:
        """Return the embedding."""
        first = self.layer1(features)
        second = self.layer2(first)
        third = self.layer3(second)
        fourth = self.layer4(third)
        joined = torch.relu(self.conv(torch.cat([second, third, fourth], dim=1)))
        return self.linear(self.bn(self.pooling(joined)))


class ConvBlock(nn.Module):
    """Convolution, ReLU, batch norm."""

    def __init__(self, inner: int, outer: int, kernel: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inner, outer, kernel, padding=padding)
        self.bn = nn.BatchNorm1d(outer)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outer, T)."""
        return self.bn(torch.relu(self.conv(x)))


class Groups(nn.Module):
    """Groups of channels, each convolved together with the result of the group before; the last passes through."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // SCALE
        convolutions = [nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(SCALE - 1)]
        self.convs = nn.ModuleList(convolutions)
        self.bns = nn.ModuleList([nn.BatchNorm1d(width) for _ in range(SCALE - 1)])

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, T)."""
        *parts, last = torch.chunk(x, SCALE, dim=1)
        done: list[Tensor] = []
        for part, conv, norm in zip(parts, self.convs, self.bns, strict=True):
            done.append(norm(torch.relu(conv(part + done[-1] if done else part))))
        return torch.cat([*done, last], dim=1)


class Squeeze(nn.Module):
    """Each channel scaled by what its average over time says."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, inner)
        self.linear2 = nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, T)."""
        return x * torch.sigmoid(self.linear2(torch.relu(self.linear1(x.mean(dim=2)))))[..., None]


class Res2(nn.Module):
    """A residual block of the four parts above."""

    def __init__(self, channels: int, squeeze: int, dilation: int) -> None:
        super().__init__()
        self.Conv1dReluBn1 = ConvBlock(channels, channels)
        self.Res2Conv1dReluBn = Groups(channels, dilation)
        self.Conv1dReluBn2 = ConvBlock(channels, channels)
        self.SE_Connect = Squeeze(channels, squeeze)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels, T)."""
        return x + self.SE_Connect(self.Conv1dReluBn2(self.Res2Conv1dReluBn(self.Conv1dReluBn1(x))))


class Pooling(nn.Module):
    """Mean and deviation over time, weighted by attention per channel: (B, D, T) -> (B, 2 D)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.linear1 = nn.Conv1d(channels, inner, 1)
        self.linear2 = nn.Conv1d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the statistics."""
        weights = torch.softmax(self.linear2(torch.tanh(self.linear1(x))), dim=2)
        mean = (weights * x).sum(dim=2)
        variance = (weights * x**2).sum(dim=2) - mean**2
        return torch.cat([mean, variance.clamp(min=1e-9).sqrt()], dim=1)


WAV2VEC = "wav2vec2."


class UTMOS:
    """UTMOS with the released weights, from a path."""

    def __init__(self, path: str | Path) -> None:
        state = read_state(path, "UTMOS model")
        if "judge_emb" not in state or f"{WAV2VEC}layer_norm.weight" not in state:
            raise ModelError(f"{path} is no UTMOS model", "give utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS")
        self.name = f"utmos {sha256(Path(path))[:16]}"
        self._network = OpinionNetwork(state, path).eval().requires_grad_(False)

    def score(self, audio: Audio) -> float:
        """Return the predicted opinion; `AudioError` if the clip is silent."""
        with torch.inference_mode():
            return float(self._network(torch.from_numpy(to_model_samples(audio))[None])[0])


class OpinionNetwork(nn.Module):
    """Samples (1, n) at 16 kHz -> opinion (1,)."""

    def __init__(self, state: dict[str, Tensor], path: str | Path) -> None:
        super().__init__()
        transformers = import_extra("transformers", "transformers", "eval")
        encoder = rename(state, WAV2VEC)
        sizes = read_sizes(encoder)
        heads = max(1, sizes["hidden_size"] // 64)  # base: 12 heads of 64
        config = transformers.Wav2Vec2Config(**sizes, num_attention_heads=heads)
        self.encoder: Any = transformers.Wav2Vec2Model(config)
        load_part(self.encoder, encoder, path)
        self.domain_emb = nn.Parameter(state["domain_emb"].clone())  # (1, 128)
        self.judge_emb = nn.Parameter(state["judge_emb"].clone())
        inner = state["blstm.weight_hh_l0"].shape[1]
        self.head = nn.ModuleDict(
            {
                "blstm": nn.LSTM(state["blstm.weight_ih_l0"].shape[1], inner, batch_first=True, bidirectional=True),
                "projection": nn.Sequential(
                    nn.Linear(2 * inner, len(state["projection.0.bias"])),
                    nn.ReLU(),
                    nn.Linear(len(state["projection.0.bias"]), 1),
                ),
            }
        )
        load_part(self.head, state, path)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the opinion of (1, n) samples."""
        heard = self.encoder(samples).last_hidden_state  # (1, T, D)
        ids = [emb[:, None].expand(-1, heard.shape[1], -1) for emb in (self.domain_emb, self.judge_emb)]
        judged, _ = self.head["blstm"](torch.cat([heard, *ids], dim=2))
        return self.head["projection"](judged).mean(dim=1)[:, 0] * 2 + 3  # trained on opinions scaled to [-1, 1]
