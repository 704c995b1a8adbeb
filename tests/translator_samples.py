"""A small translator that was trained by a test, in the files and the engine of a real one: it knows its sentences."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

WIDTH, HEADS, POSITIONS = 64, 4, 512
RATE, ENOUGH = 0.01, 0.005  # of learning; a loss at which every piece is likely
DRAWN_RATE, WARM_STEPS, NEARLY = 0.003, 100, 0.2  # with drawn pairs: of learning, steps up to it; a loss that will do
END, UNKNOWN, BEGIN = "</s>", "<unk>", "<s>"


def make_translator(
    folder: Path, pairs: Sequence[tuple[str, str]], width: int = WIDTH, steps: int = 400, batch: int = 0
) -> Path:
    """Train a Transformer until it says the second of each pair for the first, and write it as CTranslate2 reads it.

    `batch`: pairs that a step sees, drawn anew for each; 0: all.
    """
    import sentencepiece

    folder.mkdir(parents=True)
    cutters = []
    for name, texts in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
        written = io.BytesIO()
        how = {"model_type": "char", "vocab_size": 8000, "hard_vocab_limit": False, "character_coverage": 1.0}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=written, minloglevel=2, **how
        )
        (folder / f"{name}.spm").write_bytes(written.getvalue())
        cutters.append(sentencepiece.SentencePieceProcessor(model_proto=written.getvalue()))
    vocabularies = [[cutter.id_to_piece(at) for at in range(cutter.get_piece_size())] for cutter in cutters]
    network = Network(len(vocabularies[0]), len(vocabularies[1]), width)
    learn(
        network, [tuple(c.encode(text) for c, text in zip(cutters, pair, strict=True)) for pair in pairs], steps, batch
    )
    save(network, vocabularies, folder)
    return folder


class Network(nn.Module):
    """One layer of a post-norm Transformer on either side, as Marian has them."""

    def __init__(self, source: int, target: int, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.source, self.target = nn.Embedding(source, width), nn.Embedding(target, width)
        layer = {"nhead": HEADS, "dim_feedforward": 2 * width, "dropout": 0.0, "batch_first": True}
        self.encoder = nn.TransformerEncoderLayer(width, **layer)
        self.decoder = nn.TransformerDecoderLayer(width, **layer)
        self.projection = nn.Linear(width, target)
        steps = torch.arange(POSITIONS)[:, None] * torch.exp(-math.log(1e4) * torch.arange(0, width, 2) / width)
        self.positions = torch.cat([steps.sin(), steps.cos()], dim=1)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return logits (B, T, V) of what follows each of `target` (B, T); 0 is no piece in either."""
        heard = self.encoder(self.source(source) + self.positions[: source.shape[1]], src_key_padding_mask=source == 0)
        ahead = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        said = self.target(target) + self.positions[: target.shape[1]]
        return self.projection(self.decoder(said, heard, tgt_mask=ahead, memory_key_padding_mask=source == 0))


def learn(network: Network, pairs: Sequence[tuple[list[int], list[int]]], steps: int, batch: int = 0) -> None:
    """Train until every piece is the likeliest by far. Pieces 1 and 2 begin and end a text."""
    rng = np.random.default_rng(0)
    shown, rate = pad(pairs), RATE
    # Adam in a few lines: torch's own imports its compiler, which takes longer than the training
    own = list(network.parameters())
    means, squares = ([torch.zeros_like(each) for each in own] for _ in range(2))
    known = 1.0
    for step in range(1, steps + 1):
        if batch:
            shown = pad([pairs[at] for at in rng.integers(len(pairs), size=batch)])
            rate = DRAWN_RATE * min(1.0, step / WARM_STEPS, 1.05 - step / steps)
        source, given, wanted = shown
        loss = nn.functional.cross_entropy(network(source, given).flatten(0, 1), wanted.flatten(), ignore_index=0)
        known += (loss.item() - known) * (0.02 if batch else 1.0)
        if known < ENOUGH:
            return
        with torch.no_grad():
            for weight, slope, mean, square in zip(own, torch.autograd.grad(loss, own), means, squares, strict=True):
                mean.lerp_(slope, 0.1)
                square.lerp_(slope.square(), 0.01)
                scale = (square / (1 - 0.99**step)).sqrt() + 1e-8
                weight -= rate * mean / (1 - 0.9**step) / scale
    if not batch or known > NEARLY:
        raise AssertionError(f"not learnt: {known:.3f}")


def pad(pairs: Sequence[tuple[list[int], list[int]]]) -> list[torch.Tensor]:
    """Return what is heard, what was said before each piece, and the piece, each (B, T)."""
    rows = ([(*one, 2) for one, _ in pairs], [(1, *other) for _, other in pairs], [(*other, 2) for _, other in pairs])
    return [nn.utils.rnn.pad_sequence([torch.tensor(row) for row in own], batch_first=True) for own in rows]


def save(network: Network, vocabularies: Sequence[list[str]], folder: Path) -> None:
    """Write the network with the converter's own specification."""
    from ctranslate2.specs import TransformerSpec

    spec = TransformerSpec.from_config(num_layers=1, num_heads=HEADS, pre_norm=False)
    own = {name: value.detach().numpy() for name, value in network.state_dict().items()}

    def fill(part: object, name: str, rows: slice = slice(None)) -> None:
        joint = name.endswith("in_proj_")
        part.weight = own[f"{name}weight" if joint else f"{name}.weight"][rows].copy()
        if joint or f"{name}.bias" in own:
            part.bias = own[f"{name}bias" if joint else f"{name}.bias"][rows].copy()

    def norm(part: object, name: str) -> None:
        part.gamma, part.beta = own[f"{name}.weight"], own[f"{name}.bias"]

    width = network.source.embedding_dim
    for side, embedding, name in (
        (spec.encoder, spec.encoder.embeddings[0], "source"),
        (spec.decoder, spec.decoder.embeddings, "target"),
    ):
        side.scale_embeddings = False
        side.position_encodings.encodings = network.positions.numpy()
        fill(embedding, name)
    fill(spec.decoder.projection, "projection")
    for layer, side, first, last in (
        (spec.encoder.layer[0], "encoder", 1, 2),
        (spec.decoder.layer[0], "decoder", 1, 3),
    ):
        fill(layer.self_attention.linear[0], f"{side}.self_attn.in_proj_")
        fill(layer.self_attention.linear[1], f"{side}.self_attn.out_proj")
        norm(layer.self_attention.layer_norm, f"{side}.norm{first}")
        fill(layer.ffn.linear_0, f"{side}.linear1")
        fill(layer.ffn.linear_1, f"{side}.linear2")
        norm(layer.ffn.layer_norm, f"{side}.norm{last}")
    cross = spec.decoder.layer[0].attention
    fill(cross.linear[0], "decoder.multihead_attn.in_proj_", slice(width))
    fill(cross.linear[1], "decoder.multihead_attn.in_proj_", slice(width, None))
    fill(cross.linear[2], "decoder.multihead_attn.out_proj")
    norm(cross.layer_norm, "decoder.norm2")
    for vocabulary, register in zip(
        vocabularies, (spec.register_source_vocabulary, spec.register_target_vocabulary), strict=True
    ):
        register(vocabulary)
    spec.config.decoder_start_token, spec.config.eos_token, spec.config.unk_token = BEGIN, END, UNKNOWN
    spec.validate()
    spec.optimize(quantization="float32")
    spec.save(str(folder))
