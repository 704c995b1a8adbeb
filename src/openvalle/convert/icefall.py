"""k2-fsa/icefall, recipes libritts and wenetspeech4tts: the networks of lifeiteng/vall-e with larger text tables."""

from __future__ import annotations

from dataclasses import replace

from openvalle.convert import lifeiteng
from openvalle.convert.weights import StoredWeights

TEXT_ROWS = 5000


def recognise(weights: StoredWeights) -> bool:
    """Whether these are such weights."""
    name = "ar_text_embedding.word_embeddings.weight"
    return lifeiteng.recognise(weights) and name in weights and weights.tensors[name].shape[:1] == (TEXT_ROWS,)


SOURCE = replace(
    lifeiteng.SOURCE,
    name="icefall",
    repository="https://github.com/k2-fsa/icefall",
    revision="36e0420c7e3e849a25b3d24dbf913c424f3d23c9",
    recognise=recognise,
    published=("yuekai/vall-e_libritts", "yuekai/vall-e_wenetspeech4tts"),
)
