"""The law of prompts: what a frame of the NAR model reads when users speak is what it read in training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from lm_samples import AR_KINDS, NAR_KINDS, shaken
from openvalle.decode.ar import AROptions
from openvalle.engines.torch import TorchAR, TorchNAR
from openvalle.errors import ModelError
from openvalle.model.ar import AR
from openvalle.model.batch import Batch
from openvalle.model.config import ARConfig, NARConfig
from openvalle.model.nar import NAR, NARInputs
from openvalle.synth.plan import split_sentences
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.text.language import phonemize, to_symbols
from openvalle.types import Utterance

FAMILY = {"valle": "segment", "vallex": "sentence", "valler": "prefix", "valle2": "prefix"}
REST = "and went on."


@dataclass
class Spied:
    """What the NAR model read in one pass: (T,) of the frames that it fills, and of its prompt."""

    text: list[int]
    positions: list[int]
    symbols: list[int]  # of each frame in `text`; empty without alignment
    languages: list[int]
    prompt: np.ndarray  # (P, Q)
    prompt_positions: list[int]
    prompt_symbols: list[int]

    @classmethod
    def of(cls, inputs: NARInputs) -> Spied:
        frames, shown = inputs.frames, int(inputs.frames.prompt_lens[0])
        length, text = int(frames.lens[0]), int(inputs.text_lens[0])
        positions = frames.positions.expand(len(frames.codes), -1)[0, :length].tolist()
        path = [] if frames.alignment is None else frames.alignment[0, :length].tolist()
        languages = inputs.languages.expand(-1, length)[0, :length].tolist()
        prompt = frames.codes[0, :shown].numpy()
        return cls(
            *(inputs.text[0, :text].tolist(), positions[shown:], path[shown:], languages[shown:]),
            *(prompt, positions[:shown], path[:shown]),
        )


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> list[Spied]:
    """What every pass of a NAR model reads, in training and in speaking."""
    seen: list[Spied] = []
    forward = NAR.forward

    def noted(self: NAR, inputs: NARInputs, stages: torch.Tensor) -> torch.Tensor:
        seen.append(Spied.of(inputs))
        return forward(self, inputs, stages)

    monkeypatch.setattr(NAR, "forward", noted)
    return seen


def of_family(synthesizer: Synthesizer, system: str, prompt: str | None = None) -> Synthesizer:
    """Return the tiny synthesizer with networks of a paper's recipe, small; `prompt`: another kind of NAR prompt."""
    table = synthesizer.generator.table
    size = {"symbols": len(table), "codebook_size": 1024}
    stack = {"width": 16, "heads": 2, "depth": 1, "feedforward": 32, "dropout": 0.1}
    reach = {"max_positions": 4096} if system == "valle2" else {}
    ar = ARConfig.parse({**AR_KINDS[system], **size, **reach, "transformer": stack, "marks": table.marks})
    nar = {**NAR_KINDS[system], **size, **reach, "transformer": stack}
    if prompt is not None:
        nar = {key: value for key, value in nar.items() if key not in ("prompt_min", "prompt_max")}
        nar |= {"prompt": prompt, "text": "target"}
    networks = TorchAR(shaken(AR(ar), 0.1)), TorchNAR(shaken(NAR(NARConfig.parse(nar)), 0.1))
    languages = ("zh", "en") if ar.languages else ("en",)
    generator = replace(synthesizer.generator, ar=networks[0], nar=networks[1], languages=languages)
    options = AROptions(symbol_frames=6, pause_frames=8, most_frames=4.0)
    return replace(synthesizer, generator=generator, options=options)


def trained_on(synthesizer: Synthesizer, voice: Voice, symbols: tuple[str, ...], codes: np.ndarray, path: list[int],
               spy: list[Spied]) -> Spied:  # fmt: skip
    """Return what the NAR model reads in training of the row that was spoken, with the voice where its kind has it."""
    generator = synthesizer.generator
    config = generator.nar.config
    merge, language = generator.ar.config.merge, generator._language("en")
    table = generator.table
    target = codes.astype(np.int64)
    frames = np.bincount(np.array(path, np.int64), minlength=len(symbols)) * merge
    durations = np.array(table.spread(symbols, frames.tolist())) if path else None
    row = Utterance(np.array(table.encode(symbols)), target, durations, language)
    heard = voice.codes.astype(np.int64)
    if config.prompt == "prefix":  # the voice's recording goes on: one utterance, of which it is the beginning
        whole = None if durations is None else np.concatenate([table.spread(voice.symbols, voice.durations), durations])
        text = np.concatenate([table.encode(voice.symbols), row.text])
        row = Utterance(text, np.concatenate([heard, target]), whole, language)
        batch = replace(Batch.of([row], config.merge), prompt_lens=torch.tensor([len(heard)]))
    elif config.prompt == "none":
        batch = Batch.of([row], config.merge)
    else:  # it is another piece of speech, given by the data
        batch = Batch.of([replace(row, speaker_codes=heard)], config.merge)
    generator.nar.network.loss(batch, torch.Generator().manual_seed(0), stage=1)
    return spy[-1]


@pytest.mark.parametrize("system", FAMILY)
@pytest.mark.parametrize("mode", ["zero-shot", "continual"])
def test_a_frame_reads_when_spoken_what_it_read_in_training(
    synthesizer: Synthesizer, tiny_voice: Voice, spy: list[Spied], system: str, mode: str
) -> None:
    check(of_family(synthesizer, system), tiny_voice, spy, mode)


@pytest.mark.parametrize("system", ["valle", "valler"])
def test_so_it_is_without_prompts(synthesizer: Synthesizer, tiny_voice: Voice, spy: list[Spied], system: str) -> None:
    check(of_family(synthesizer, system, "none"), tiny_voice, spy, "zero-shot")


def check(speaker: Synthesizer, voice: Voice, spy: list[Spied], mode: str) -> None:
    """Speak, then train on what was said, and compare what the NAR model read."""
    config = speaker.generator.ar.config
    cut = (
        len(voice.codes) // config.step_frames * config.step_frames
    )  # whole groups, so that nothing is cut from the start
    voice = replace(
        voice, codes=voice.codes[:cut], durations=(*voice.durations[:-1], voice.durations[-1] - len(voice.codes) + cut)
    )
    speech = speaker.say(REST, voice, seed=2, mode=mode)
    said = spy[-1]
    symbols = next(iter(split_sentences(REST))).symbols
    if mode == "continual":
        symbols = symbols[1:]
    elif voice.symbols[-1] == "SIL":  # it makes room for the pause that the text begins with
        frames = len(voice.codes) - voice.durations[-1]
        voice = replace(voice, codes=voice.codes[:frames], symbols=voice.symbols[:-1], durations=voice.durations[:-1])
    path = (
        [] if not speech.durations else np.repeat(np.arange(len(symbols)), speech.durations)[:: config.merge].tolist()
    )
    assert len(speech.codes) > 0
    learnt = trained_on(speaker, voice, symbols, speech.codes, path, spy)
    assert said.text == learnt.text
    assert said.positions == learnt.positions[: len(said.positions)]
    assert len(learnt.positions) >= len(said.positions) > 0
    assert said.symbols == learnt.symbols[: len(said.symbols)]
    assert set(said.languages) == set(learnt.languages)
    shown = len(learnt.prompt)
    if speaker.generator.nar.config.prompt == "segment":  # a piece, from anywhere, of at most half the row
        pieces = np.lib.stride_tricks.sliding_window_view(said.prompt, (shown, 8))[:, 0]
        assert (pieces == learnt.prompt).all((1, 2)).any()
    else:
        np.testing.assert_array_equal(said.prompt, learnt.prompt)
    assert said.prompt_positions[:shown] == learnt.prompt_positions
    assert said.prompt_symbols[:shown] == learnt.prompt_symbols


@pytest.mark.parametrize("system", ["valle", "valler", "valle2"])
def test_words_go_on_in_the_same_breath(synthesizer: Synthesizer, tiny_voice: Voice, system: str) -> None:
    """Continual mode (VALL-E 4.3): the whole transcript, no pause between what was heard and what follows."""
    speaker = of_family(synthesizer, system)
    table, last = speaker.generator.table, len(tiny_voice.symbols) - 1
    assert tiny_voice.symbols[last] == "SIL"
    cut = len(tiny_voice.codes) - tiny_voice.durations[last]  # the recording breaks off after its last word
    voice = replace(
        tiny_voice,
        codes=tiny_voice.codes[:cut],
        symbols=tiny_voice.symbols[:last],
        durations=tiny_voice.durations[:last],
    )
    prompts = []
    encode = type(speaker.generator).encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(speaker.generator),
            "encode",
            lambda self, segment: (encoded := encode(self, segment), prompts.append(encoded.prompt))[0],
        )
        speech = speaker.say(REST, voice, mode="continual", options=speaker.sampling(attempts=1, detectors=False))
    rest = to_symbols(phonemize(REST))[0][1:]
    assert prompts[0].text.tolist() == table.encode([*voice.symbols, *rest])
    assert prompts[0].prompt_symbols == len(table.encode(voice.symbols))
    assert len(prompts) == speech.quality.attempts == 1, "a prompt is put together once for each sentence"


def test_a_sound_that_ends_one_word_and_begins_the_next_is_one_symbol(
    synthesizer: Synthesizer, tiny_voice: Voice
) -> None:
    """Training texts have no equal neighbours: "see eels" is one long vowel, and the target goes on with it."""
    last = len(tiny_voice.symbols) - 1
    cut = len(tiny_voice.codes) - tiny_voice.durations[last]
    voice = replace(
        tiny_voice,
        codes=tiny_voice.codes[:cut],
        symbols=tiny_voice.symbols[:last],
        durations=tiny_voice.durations[:last],
    )
    assert voice.symbols[-1] == "IY1"
    speaker = of_family(synthesizer, "valler")
    speech = speaker.say("Eels.", voice, mode="continual")
    assert speech.symbols[0] == "IY1"
    assert sum(speech.durations) == len(speech.codes)


def test_a_text_may_be_spoken_as_one_line_however_long(synthesizer: Synthesizer, tiny_voice: Voice) -> None:
    text = "see saw " * 40
    once = synthesizer.sampling(attempts=1, symbol_frames=2, pause_frames=2, detectors=False)
    assert len(list(synthesizer.sentences(text, tiny_voice, options=once))) > 1
    (whole,) = synthesizer.sentences(text, tiny_voice, options=once, as_one=True)
    assert len(whole.words) == 80


def test_a_voice_of_a_language_that_the_model_lacks_needs_the_cross_lingual_mode(
    synthesizer: Synthesizer, tiny_voice: Voice
) -> None:
    speaker = of_family(synthesizer, "vallex")
    assert speaker.say(REST, replace(tiny_voice, language="zh")).seconds > 0  # it has learnt both
    foreign = replace(tiny_voice, language="ja")
    with pytest.raises(ModelError, match="prompt mode cross-lingual"):
        speaker.say(REST, foreign)
    assert speaker.say(REST, foreign, mode="cross-lingual").seconds > 0


def test_detectors_and_every_option_can_be_set_from_outside(synthesizer: Synthesizer) -> None:
    options = synthesizer.sampling(path_temperature=0.5, top_k=7, settings=("sampling.window=4", "lead_frames=9"))
    assert (options.path_temperature, options.sampling.top_k) == (0.5, 7)
    assert (options.sampling.window, options.lead_frames) == (4, 9)
    off = synthesizer.sampling(attempts=1, detectors=False).watch
    assert (off.ends, off.loop_frames, off.silence_frames, off.runaway_frames) == (False, 0, 0, 0)
