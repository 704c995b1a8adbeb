"""UTMOS: predicted naturalness from 1 to 5 (Saeki et al., 2022), from the strong learner's released weights.

The file is `utmos22_strong_step7459_v1.pt` of https://github.com/tarepan/SpeechMOS (MIT); it is given by its path and
never downloaded. wav2vec 2.0 hears the clip, a recurrent layer and two linear ones judge each 20 ms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openvalle.audio import Audio
from openvalle.errors import MissingExtra, ModelError
from openvalle.files import sha256
from openvalle.listen.fairseq import load_part, read_state, renamed
from openvalle.listen.speaker import checked

ENCODER = "wav2vec2."


class UTMOS:
    """The released weights, from a path."""

    def __init__(self, path: str | Path) -> None:
        state = read_state(path, "UTMOS model")
        if "judge_emb" not in state or f"{ENCODER}layer_norm.weight" not in state:
            raise ModelError(f"{path} is no UTMOS model", "give utmos22_strong_step7459_v1.pt of tarepan/SpeechMOS")
        self.name = f"utmos {sha256(Path(path))[:16]}"
        self._network = _Network(state, path).eval().requires_grad_(False)

    def score(self, audio: Audio) -> float:
        """Return the predicted opinion; `AudioError` if the clip is silent."""
        with torch.inference_mode():
            return float(self._network(torch.from_numpy(checked(audio))[None])[0])


class _Network(nn.Module):
    """Samples (1, n) at 16 kHz -> opinion (1,)."""

    def __init__(self, state: dict[str, Tensor], path: str | Path) -> None:
        super().__init__()
        try:
            from transformers import Wav2Vec2Config, Wav2Vec2Model
        except ImportError:
            raise MissingExtra("transformers", "eval") from None
        encoder = renamed(state, ENCODER)
        width = len(encoder["encoder.layer_norm.weight"])
        positions = encoder["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
        config = Wav2Vec2Config(
            hidden_size=width,
            num_hidden_layers=1 + max(int(name.split(".")[2]) for name in encoder if "encoder.layers." in name),
            num_attention_heads=max(1, width // 64),  # base: 12 heads of 64
            intermediate_size=len(encoder["encoder.layers.0.feed_forward.intermediate_dense.bias"]),
            conv_dim=tuple(len(encoder[f"feature_extractor.conv_layers.{i}.conv.weight"]) for i in range(7)),
            num_conv_pos_embeddings=positions.shape[2],
            num_conv_pos_embedding_groups=width // positions.shape[1],
        )
        self.encoder: Any = Wav2Vec2Model(config)
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
