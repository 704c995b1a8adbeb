"""The two networks as data: VALL-E, VALL-E X, VALL-E R and VALL-E 2 are values of `ARConfig` and `NARConfig`.

A combination that means nothing is refused, with the reason, when the configuration is read.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from openvalle.config import Config
from openvalle.model.kinds import (
    Activation,
    Alignment,
    LanguageOn,
    NARText,
    NormKind,
    Positions,
    Prenet,
    PromptKind,
    StageConditioning,
    StageDraw,
    TextAttention,
)


class TransformerConfig(Config):
    """The transformer both networks are made of."""

    width: int = Field(320, gt=0, le=16_384, description="size of the hidden states")
    heads: int = Field(5, gt=0, le=1024, description="attention heads; they share the width")
    depth: int = Field(6, gt=0, le=256, description="layers")
    feedforward: int = Field(1280, gt=0, le=131_072, description="hidden size of the feed-forward part")
    activation: Activation = Field(Activation.GELU, description="between the feed-forward layers")
    norm: NormKind = Field(NormKind.LAYER, description="how hidden states are normalised")
    final_norm: bool = Field(True, description="whether the last layer is followed by a norm")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of embeddings and residual branches in training")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        return self


def _changed(config: Config, *names: str) -> list[str]:
    """Return those of `names` that are not at their default."""
    return [name for name in names if getattr(config, name) != type(config).model_fields[name].default]


class LanguageModelConfig(Config):
    """What both networks share."""

    transformer: TransformerConfig = TransformerConfig()
    symbols: int = Field(..., gt=0, le=65_536, description="size of the text symbol table")
    codebook_size: int = Field(1024, gt=1, le=65_536, description="entries of each codebook")
    positions: Positions = Field(Positions.SINUSOIDAL, description="how order is told")
    max_positions: int | None = Field(None, gt=0, le=1_000_000, description="longest part with learnt positions")
    scale_positions: bool = Field(False, description="a learnt factor on sinusoidal positions, of text and of audio")
    text_bos: bool = Field(False, description="whether a <BOS> stands before the text")
    alignment: Alignment = Field(Alignment.NONE, description="whether frames know their symbol")
    text_prenet: Prenet = Field(Prenet.NONE, description="context for symbol embeddings")
    languages: int = Field(0, ge=0, le=1024, description="number of languages; 0 means no language embedding")
    language_on: LanguageOn = Field(LanguageOn.AUDIO, description="where the language embedding is added")
    language_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of training rows with the null language, so that `none` is defined",
    )
    merge: int = Field(1, ge=1, le=64, description="codebook-1 merging rate: frames that share a code (VALL-E R 3.1)")
    tie_output: bool = Field(True, description="code heads share the embedding table of the same codebook")
    head_bias: bool = Field(False, description="whether code heads have a bias")
    prompt_codebooks: int = Field(
        0,
        ge=0,
        le=64,
        description="codebooks of a prompt that is a part of its own, before <BOS>, with tables of its own and without "
        "its words; 0: it is the beginning of the audio",
    )

    @model_validator(mode="after")
    def _check_shared(self) -> Self:
        learnt = self.positions == Positions.LEARNT
        if learnt and self.max_positions is None:
            raise ValueError("learnt positions need max_positions, the longest text or audio part")
        if not learnt and self.max_positions is not None:
            raise ValueError(f"max_positions means nothing with {self.positions} positions, which have no longest part")
        if self.scale_positions and self.positions != Positions.SINUSOIDAL:
            raise ValueError("scale_positions belongs to sinusoidal positions")
        if self.head_bias and self.tie_output:
            raise ValueError("head_bias needs tie_output false: a shared table has none")
        if self.prompt_codebooks and (self.alignment != Alignment.NONE or self.merge > 1):
            raise ValueError("prompt_codebooks contradicts alignment and merge: a prompt apart has no symbols")
        if self.text_prenet == Prenet.LINEAR:
            raise ValueError("text_prenet linear means nothing: it is for frames")
        if not self.languages and (self.language_dropout or self.language_on != LanguageOn.AUDIO):
            raise ValueError("language_dropout and language_on mean nothing without languages")
        return self


class ARConfig(LanguageModelConfig):
    """Codebook 1, one group of codes after the other."""

    text_attention: TextAttention = Field(TextAttention.BIDIRECTIONAL, description="what a text symbol sees")
    group: int = Field(1, ge=1, le=64, description="codes predicted per step (VALL-E 2)")
    use_bos: bool = Field(
        True,
        description="whether a <BOS> stands between text and audio (X, 2); without it the first code is predicted at "
        "the text's <EOS> (VALL-E)",
    )
    text_eos: bool = Field(True, description="whether the text ends with an <EOS>")
    needs_prompt: bool = Field(
        False, description="whether the first code cannot be predicted from the text alone, as training never did"
    )
    audio_prenet: Prenet = Field(Prenet.NONE, description="layers between the vectors of codes and their positions")
    phoneme_lead: int = Field(
        1,
        ge=0,
        le=1,
        description="0: a frame's input holds its own phoneme (VALL-E R); 1: the next frame's, so that a code is "
        "drawn knowing its phoneme",
    )
    phoneme_weight: float = Field(1.0, gt=0, description="weight of the phoneme loss beside the code loss")
    history_noise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="up to this share of a row's codes are taken from other frames of the same symbol where they are "
        "history, so that the model goes on well after codes that it drew badly. Ours; needs alignment",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each target code spread over all entries")
    marks: tuple[int, ...] = Field((), description="ids of the text symbols that last no time; set by the data's table")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.alignment == Alignment.NONE:
            for name in _changed(self, "phoneme_lead", "phoneme_weight", "history_noise"):
                raise ValueError(f"{name} means nothing without alignment: there is no phoneme stream")
        if not self.use_bos and self.alignment != Alignment.NONE and self.phoneme_lead:
            raise ValueError("use_bos must be true with phoneme_lead 1: <BOS> holds the first frame's phoneme")
        if self.text_attention == TextAttention.CAUSAL and self.text_prenet != Prenet.NONE:
            raise ValueError(f"causal text contradicts text_prenet {self.text_prenet}, which sees the symbols ahead")
        if not (self.use_bos or self.text_eos):
            raise ValueError("use_bos or text_eos must be true: else there is nothing to predict the first code at")
        if self.prompt_codebooks and not self.use_bos:
            raise ValueError("prompt_codebooks needs use_bos: it stands between the prompt and what is spoken")
        if self.transformer.norm == NormKind.ADANORM:
            raise ValueError("norm adanorm goes with separate norms of stages, which the AR model does not have")
        if self.needs_prompt and self.use_bos:
            raise ValueError("needs_prompt means nothing with use_bos, which the first code is predicted at")
        if self.audio_prenet not in (Prenet.NONE, Prenet.LINEAR):
            raise ValueError(f"audio_prenet {self.audio_prenet} sees the frames ahead: use linear or none")
        return self

    @property
    def text_edges(self) -> int:
        """Positions that stand around a text."""
        return int(self.text_bos) + int(self.text_eos)

    @property
    def step_frames(self) -> int:
        """Codec frames of an AR step."""
        return self.merge * self.group


class ResidualConfig(Config):
    """Ours, for small data: a head expects the sum of the code vectors that a pass does not know yet, and codes are
    what the codec's quantiser makes of that sum."""

    weight: float = Field(
        1.0, gt=0, description="weight of the distance between the sum and the one expected, beside the cross-entropy"
    )
    code_weight: float = Field(1.0, ge=0, description="weight of the cross-entropy; 0 trains the expectation alone")
    predicts: bool = Field(True, description="whether codes are taken from it when speaking; else the likeliest ones")
    passes: int | None = Field(
        None,
        ge=1,
        le=64,
        description="passes when speaking, one codebook each but for the last, which takes all that are left; one pass "
        "per codebook by default",
    )
    gain: float = Field(1.0, gt=0, description="factor on what is expected: averages are duller than speech")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.predicts:
            for name in _changed(self, "passes", "gain"):
                raise ValueError(
                    f"{name} means nothing if predicts is false: the likeliest code of each needs its pass"
                )
            if not self.code_weight:
                raise ValueError("code_weight 0 needs predicts: without it no entry is scored")
        return self


class NARConfig(LanguageModelConfig):
    """Codebooks 2..Q, each in one pass over all frames."""

    codebooks: int = Field(8, ge=2, le=64, description="codebooks of the codec")
    conditioning: StageConditioning = Field(StageConditioning.ADAPTIVE, description="how the stage is told")
    stage_width: int | None = Field(
        None,
        gt=0,
        le=16_384,
        description="size of the stage embedding that AdaLN projects; the model's width by default",
    )
    stage_draw: StageDraw = Field(StageDraw.BATCH, description="one training stage per batch or per row")
    stage_weights: tuple[float, ...] | None = Field(
        None, description="how often each stage is trained, from codebook 2 on; equally by default"
    )
    text: NARText = Field(NARText.BOTH, description="whose text is read when speaking")
    text_eos: bool = Field(False, description="whether the text ends with an <EOS>; with a stage token it always does")
    prompt: PromptKind = Field(PromptKind.PREFIX, description="where the training prompt comes from")
    restart_positions: bool = Field(
        True, description="whether the positions of the target begin again at 0 after a prompt from elsewhere"
    )
    prompt_min: int = Field(225, ge=1, description="shortest prompt drawn, in frames, before the cap of T/2")
    prompt_max: int = Field(2250, ge=1, description="longest prompt drawn, in frames, before the cap of T/2")
    frame_prenet: Prenet = Field(Prenet.NONE, description="context for the vectors of frames")
    latent: int | None = Field(
        None,
        gt=0,
        le=16_384,
        description="dimensions of fixed code vectors, the codec's own, that one layer projects to the width; learnt "
        "vectors of the model's width by default",
    )
    codebook1_noise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="up to this share of a row's codes of codebook 1, merged, is taken from other frames of the same "
        "symbol, so that the model corrects what the AR model gets wrong. Ours; needs alignment",
    )
    prompt_none: float = Field(0.0, ge=0, lt=1, description="share of training batches without any prompt")
    residual: ResidualConfig | None = Field(None, description="a head that expects what the codec has yet to add; ours")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stage_width is not None and self.conditioning != StageConditioning.ADAPTIVE:
            raise ValueError("stage_width belongs to adaptive conditioning")
        if self.stage_weights is not None:
            if len(self.stage_weights) != self.stages:
                raise ValueError(f"stage_weights needs {self.stages} numbers, one per pass, from codebook 2 on")
            if min(self.stage_weights) < 0 or sum(self.stage_weights) <= 0:
                raise ValueError("stage_weights must not be negative, and one must be positive")
        if self.prompt_codebooks not in (0, self.codebooks):
            raise ValueError(f"prompt_codebooks should be 0 or all {self.codebooks} codebooks")
        if self.prompt_codebooks and (self.prompt not in (PromptKind.SEGMENT, PromptKind.SENTENCE) or self.languages):
            raise ValueError(
                "prompt_codebooks goes with prompts from elsewhere: prompt segment or sentence, no languages"
            )
        if self.transformer.norm == NormKind.ADANORM and self.conditioning != StageConditioning.SEPARATE:
            raise ValueError("norm adanorm goes with conditioning separate")
        if self.transformer.norm == NormKind.RMS and self.conditioning == StageConditioning.SEPARATE:
            raise ValueError("norm rms goes with conditioning adaptive or token: separate norms are LayerNorms")
        if self.prompt_min > self.prompt_max:
            raise ValueError(f"prompt_min {self.prompt_min} exceeds prompt_max {self.prompt_max}")
        if self.stages >= self.codebooks:
            raise ValueError(f"there are {self.codebooks - 1} codebooks to fill: passes cannot be {self.stages}")
        if self.codebook1_noise and self.alignment == Alignment.NONE:
            raise ValueError("codebook1_noise needs alignment: else nobody knows which frames share a symbol")
        self._check_prompt()
        if self.alignment == Alignment.NONE and self.merge > 1:
            raise ValueError("merge means nothing to the NAR model without alignment: its codes come merged")
        return self

    def _check_prompt(self) -> None:
        if self.frame_prenet == Prenet.STACK:
            raise ValueError("frame_prenet stack means nothing: it is for text")
        if not self.restart_positions and self.prompt not in (PromptKind.SEGMENT, PromptKind.SENTENCE):
            raise ValueError(f"restart_positions means nothing with prompt {self.prompt}: positions never restart")
        if self.prompt in (PromptKind.NONE, PromptKind.SENTENCE, PromptKind.STAGED):
            for name in _changed(self, "prompt_min", "prompt_max"):
                raise ValueError(f"{name} means nothing with prompt {self.prompt}: no prompt is cut")
        if self.prompt in (PromptKind.NONE, PromptKind.STAGED) and self.prompt_none:
            raise ValueError("prompt_none means nothing when there is never a prompt")
        holds_words = self.prompt in (PromptKind.PREFIX, PromptKind.STAGED)
        if holds_words and self.text == NARText.TARGET:
            raise ValueError(
                f"with prompt {self.prompt} the training text holds the prompt's words: text must be `both`"
            )
        if not holds_words and self.text == NARText.BOTH:
            raise ValueError(
                f"with prompt {self.prompt} training never shows the prompt's words: text must be `target`"
            )

    @property
    def stages(self) -> int:
        """Passes when speaking, and stages in training."""
        passes = None if self.residual is None else self.residual.passes
        return passes or self.codebooks - 1

    @property
    def text_edges(self) -> int:
        """Positions that stand around a text."""
        return int(self.text_bos) + int(self.text_eos or self.conditioning == StageConditioning.TOKEN)

    @property
    def step_frames(self) -> int:
        """Codec frames of an AR step, which share one aligned symbol; 1 without alignment."""
        return self.merge if self.alignment == Alignment.PHONEME else 1


def check_pair(ar: ARConfig, nar: NARConfig) -> None:
    """Raise `ValueError` with the reason unless the two networks can speak together."""
    for name in ("symbols", "codebook_size"):
        own, other = getattr(ar, name), getattr(nar, name)
        if own != other:
            raise ValueError(f"{name} is {own} in the AR model and {other} in the NAR model: both read the same tokens")
    if nar.alignment == Alignment.NONE:
        return
    if ar.alignment == Alignment.NONE:
        raise ValueError("a NAR model with alignment needs each frame's symbol, which only an AR model with it tells")
    if ar.merge != nar.merge:
        raise ValueError(
            f"merge is {ar.merge} in the AR model and {nar.merge} in the NAR model: alignments would not fit"
        )
