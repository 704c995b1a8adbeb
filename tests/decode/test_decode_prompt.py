"""Prompt modes: text first, always; both networks see the same speech; the modes differ in their inputs only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lm_samples import AR_KINDS, ENTRIES, NAR_KINDS, SMALL, ar_engine, decode, nar_engine, shaken, speak, utterance
from openvalle.decode.ar import AROptions
from openvalle.decode.prompt import Accent, continuation, prepare_inputs, zero_shot
from openvalle.decode.sampling import SamplingOptions
from openvalle.engines.torch import TorchAR
from openvalle.errors import ModelError
from openvalle.model.ar import AR
from openvalle.model.config import ARConfig
from openvalle.model.kinds import Alignment

SYSTEMS = ("valle", "vallex", "valler", "valle2")
EVERY = pytest.mark.parametrize("kind", AR_KINDS)
OPTIONS = AROptions(symbol_frames=8, pause_frames=16, most_frames=6.0)
GREEDY = OPTIONS.model_copy(
    update={"sampling": SamplingOptions(temperature=0.0, repetition_aware=False), "path_temperature": 0.0}
)


@EVERY
def test_text_comes_first_and_the_prompt_is_cut_alike_for_both_networks(kind):
    config = ar_engine(kind).config
    row = utterance(5, 27, 0)
    row = dataclasses.replace(row, durations=np.array([6, 5, 6, 4, 6]))
    target = np.array([7, 8, 9])
    prompt = zero_shot(config, row, target, language=1)
    assert np.array_equal(prompt.text, np.concatenate([row.text, target]))
    start = 27 // config.merge % config.group * config.merge  # papers' 9.2: P starts at frame len % G
    kept = row.codes[start : 27 // config.merge * config.merge]
    assert np.array_equal(prompt.codes, kept)
    if config.prompt_codebooks:  # it is a part of its own, of all codebooks
        assert np.array_equal(prompt.ar(config).prompt, kept)
    else:
        assert np.array_equal(prompt.ar(config).codes, kept[:: config.merge, 0])
    model = TorchAR(shaken(AR(config)))
    result = decode(model, [prompt.ar(config)], OPTIONS, [1])[0]
    filled = prompt.nar(config, codebook1=result.codes, alignment=result.alignment)
    assert np.array_equal(filled.prompt, kept)
    assert np.array_equal(filled.codebook1, np.repeat(result.codes, config.merge))
    if config.alignment == Alignment.PHONEME:
        assert len(filled.alignment) == len(kept) + len(filled.codebook1)
        assert filled.alignment[len(kept)] == 5


@EVERY
def test_no_group_is_cut_again(kind):
    """What `prepare_inputs` reads is the whole prompt: the cut happened once, for both networks."""
    model = ar_engine(kind)
    prompt = zero_shot(model.config, utterance(5, 30, 2), np.array([7, 8]), language=1)
    inputs = prepare_inputs(model.config, [prompt.ar(model.config)])
    if model.config.prompt_codebooks:  # it is a part of its own, of all codebooks
        assert np.array_equal(inputs.prompt[0], prompt.codes)
        assert inputs.text[0].tolist() == [7, 8]
    else:
        assert np.array_equal(inputs.groups[0].flatten(), prompt.codes[:: model.config.merge, 0])


@pytest.mark.parametrize("kind", SYSTEMS)
def test_continuation_is_zero_shot_with_the_rest_of_the_transcript(kind):
    """At a symbol's end, with durations known, the two modes are one and the same."""
    config = ar_engine(kind).config
    row = dataclasses.replace(utterance(5, 40, 0), durations=np.array([8, 8, 8, 8, 8]))
    first = dataclasses.replace(row, text=row.text[:2], codes=row.codes[:16], durations=row.durations[:2])
    goes_on = continuation(config, first, row.text[2:], row.language)
    other = zero_shot(config, first, row.text[2:], row.language)
    for field in dataclasses.fields(goes_on):
        a, b = getattr(goes_on, field.name), getattr(other, field.name)
        assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, field.name


def test_a_prompt_that_ends_inside_a_symbol_goes_on_with_it():
    config = ar_engine("valler").config
    row = utterance(5, 40, 0)
    begun = dataclasses.replace(row, text=row.text[:3], codes=row.codes[:20], durations=np.array([8, 8, 4]))
    prompt = continuation(config, begun, row.text[2:], row.language)
    assert np.array_equal(prompt.text, row.text)
    assert prompt.prompt_symbols == 2
    assert prompt.alignment.tolist() == [0] * 8 + [1] * 8 + [2] * 4
    result = decode(ar_engine("valler"), [prompt.ar(config)], OPTIONS, [1])[0]
    assert prompt.nar(config, codebook1=result.codes, alignment=result.alignment).alignment[20] == 2


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("mode", [zero_shot, continuation])
def test_every_system_speaks_in_both_modes(system, mode):
    ar, nar = ar_engine(system), nar_engine(system)
    rows = [utterance(5, 36, 0), utterance(7, 33, 1)]
    prompts = [mode(ar.config, row, np.array([7, 8, 9]), 1) for row in rows]
    spoken = speak(ar, nar, prompts, OPTIONS, [1, 2])
    for prompt, seed, codes in zip(prompts, (1, 2), spoken, strict=True):
        assert codes.shape[1] == 8
        assert len(codes) % ar.config.merge == 0
        assert int(codes.min()) >= 0
        assert int(codes.max()) < ENTRIES
        assert np.array_equal(speak(ar, nar, [prompt], OPTIONS, [seed])[0], codes)
    twice = speak(ar, nar, prompts[:1], OPTIONS, [1, 5])
    assert np.array_equal(twice[0], spoken[0])


def test_every_nar_kind_speaks_with_an_ar_model_it_fits():
    partners = {
        "builtin": "builtin",
        "aligned sentence": "causal alignment",
        "separate languages": "vallex",
        "rests in passes": "valle",
        "staged": "words' languages",
    }
    for kind in NAR_KINDS:
        ar = ar_engine(partners.get(kind, kind))
        prompt = zero_shot(ar.config, utterance(5, 36, 0), np.array([7, 8, 9]), 1)
        assert speak(ar, nar_engine(kind), [prompt], OPTIONS, [1])[0].shape[1] == 8


def test_accents_are_language_ids_of_generated_frames():
    """VALL-E X 3.3: native = the target's id, foreign = the prompt's, none = the null id; words keep theirs."""
    model = ar_engine("vallex")
    row = dataclasses.replace(utterance(5, 30, 0), language=2)
    prompt = zero_shot(model.config, row, np.array([7, 8, 9]), language=1).ar(model.config)
    assert [prompt.language_spoken(accent) for accent in Accent] == [1, 2, 0]
    inputs = [prepare_inputs(model.config, [prompt], [accent]) for accent in Accent]
    assert all(np.unique(each.languages).tolist() == [2] for each in inputs)  # the prompt's frames and <BOS>
    assert all(each.text_languages[0].tolist() == [2] * 5 + [1] * 3 for each in inputs)
    said = {}
    for accent in Accent:
        options = GREEDY.model_copy(update={"accent": accent, "least_frames": 6.0})
        said[accent] = decode(model, [prompt], options, [0])[0].codes.tolist()
    assert len({tuple(codes) for codes in said.values()}) == 3
    foreign = dataclasses.replace(prompt, language=2)
    native = GREEDY.model_copy(update={"least_frames": 6.0})
    assert decode(model, [foreign], native, [0])[0].codes.tolist() == said[Accent.FOREIGN]


def test_a_voice_without_a_prompt_has_the_accent_from_the_first_frame():
    model = ar_engine("vallex")
    prompt = zero_shot(model.config, None, np.array([7, 8, 9]), language=1).ar(model.config)
    assert prepare_inputs(model.config, [prompt], [Accent.NATIVE]).languages.tolist() == [[1]]
    assert prepare_inputs(model.config, [prompt], [Accent.NONE]).languages.tolist() == [[0]]


def test_a_model_without_languages_has_no_choice_of_accent():
    model = ar_engine("valle")
    prompt = zero_shot(model.config, None, np.array([7, 8, 9])).ar(model.config)
    options = OPTIONS.model_copy(update={"accent": Accent.FOREIGN})
    with pytest.raises(ModelError, match="knows no languages"):
        decode(model, [prompt], options, [0])


def test_recordings_that_cannot_be_used_are_refused():
    config = ARConfig.parse({**SMALL, "merge": 2, "group": 4})
    with pytest.raises(ModelError, match="shorter than one step"):
        zero_shot(config, utterance(2, 7, 0), np.array([1]))
    with pytest.raises(ModelError, match="no text to speak"):
        decode(
            ar_engine("valler"),
            [
                continuation(ar_engine("valler").config, utterance(4, 20, 0), np.array([], int)).ar(
                    ar_engine("valler").config
                )
            ],
            OPTIONS,
            [0],
        )


def test_a_model_that_never_learnt_to_begin_asks_for_a_recording():
    config = ARConfig.parse({**SMALL, "use_bos": False, "needs_prompt": True})
    with pytest.raises(ModelError, match="cannot begin without a recording; give a voice"):
        zero_shot(config, None, np.array([7, 8, 9])).ar(config).check(config)
    zero_shot(config, utterance(5, 36, 0), np.array([7, 8, 9])).ar(config).check(config)


def test_where_words_tell_the_language_the_accent_is_theirs():
    """A model with its languages on the text speaks with the accent of those that the target's words carry."""
    model = ar_engine("words' languages")
    row = dataclasses.replace(utterance(5, 30, 0), language=2)
    given = zero_shot(model.config, row, np.array([7, 8, 9]), 1).ar(model.config)
    for accent, expected in ((Accent.NATIVE, 1), (Accent.FOREIGN, 2), (Accent.NONE, 0)):
        languages = prepare_inputs(model.config, [given], [accent]).text_languages[0]
        assert languages.tolist() == [2] * 5 + [expected] * 3
