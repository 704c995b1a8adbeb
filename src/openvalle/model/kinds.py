"""What the parts of the two networks can be: the choices of `ARConfig` and `NARConfig`, and which paper made them."""

from __future__ import annotations

from enum import StrEnum

TEXT_KERNEL = 5  # symbols that the text prenet sees: two on either side
FRAME_KERNEL = 9  # frames that the frame prenet sees: four on either side, 53 ms
NARROW = 256  # inner width of the prenet of three linear layers


class TextAttention(StrEnum):
    """What a text symbol sees in the AR model. Text never sees audio."""

    BIDIRECTIONAL = "bidirectional"  # the whole text (VALL-E, X, R)
    CAUSAL = "causal"  # earlier symbols only (VALL-E 2)


class Positions(StrEnum):
    """How order is told. Positions restart with each part of the sequence."""

    SINUSOIDAL = "sinusoidal"  # VALL-E, X, R: any length
    LEARNT = "learnt"  # VALL-E 2: up to `max_positions`
    RUNNING = "running"  # sinusoidal, over the whole sequence: nothing restarts
    ROTARY = "rotary"  # queries and keys are turned, over the whole sequence: nothing restarts


class Activation(StrEnum):
    """What the feed-forward part does between its layers."""

    GELU = "gelu"
    RELU = "relu"
    GATED_SILU = "gated-silu"  # half of what goes up lets the other half through


class NormKind(StrEnum):
    """What hidden states are divided by."""

    LAYER = "layer"  # LayerNorm
    RMS = "rms"  # their root mean square; nothing is subtracted or added
    ADANORM = (
        "adanorm"  # LayerNorm, and then 2 (1 - x / 10) x of what it gives, before scale and shift (1911.07013, 4.2)
    )


class Alignment(StrEnum):
    """Whether frames know the symbol they belong to."""

    NONE = "none"
    PHONEME = "phoneme"  # VALL-E R: the aligned symbol is an input of every frame, and an output of the AR model


class Prenet(StrEnum):
    """What happens to embeddings before positions are added."""

    NONE = "none"
    CONV = "conv"  # a convolution with a skip: each symbol or frame knows its neighbours
    STACK = "stack"  # three convolutions and a linear layer, no skip; of text alone, its <BOS> and <EOS> included
    LINEAR = "linear"  # three linear layers, the inner ones narrow; of frames alone


class LanguageOn(StrEnum):
    """Which embeddings the language embedding is added to."""

    AUDIO = "audio"  # VALL-E X 3.3
    AUDIO_AND_TEXT = "audio-and-text"
    TEXT = "text"  # an accent is then the language that the words carry


class StageConditioning(StrEnum):
    """How the NAR model is told which codebook it predicts."""

    ADAPTIVE = "adaptive"  # AdaLN, identity at the start (VALL-E, R)
    SEPARATE = "separate"  # one LayerNorm set per stage (VALL-E X)
    TOKEN = "token"  # a token at the end of the sequence (VALL-E 2)


class NARText(StrEnum):
    """Whose text the NAR model reads when it speaks: what it read in training, which the prompt's kind decides."""

    BOTH = "both"  # prompt and target: the prompt is part of the utterance (R, 2)
    TARGET = "target"  # target only: the prompt comes from elsewhere (VALL-E, X), or there is none


class PromptKind(StrEnum):
    """Where the 8-codebook prompt of a training row comes from."""

    PREFIX = "prefix"  # the beginning of the utterance; frame positions run on (VALL-E 2, R)
    SEGMENT = "segment"  # a piece of the recording, unscored where it overlaps; positions restart (VALL-E)
    SENTENCE = "sentence"  # another sentence of the speaker, given by the data; positions restart (VALL-E X)
    NONE = "none"  # no prompt
    STAGED = "staged"  # none in training; when speaking, frames of which the codebooks before the stage are known


class StageDraw(StrEnum):
    """How often the training stage is drawn."""

    BATCH = "batch"  # one stage for all rows: one head, one norm, the faster choice
    SAMPLE = "sample"  # one stage per row
