"""Where forced aligners put the borders of phones, against speech whose borders are known: what was synthesised.

Two sources of known times: espeak-ng tells when it begins each phone (formant synthesis in many languages, GPL-3, only
read here), and the built-in model writes with each frame which phone it speaks (English; it learnt that from
pocketsphinx' alignments, which favours pocketsphinx there). python benchmarks/aligner.py --aligner ctc:FOLDER
"""

from __future__ import annotations

import argparse
import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from command import run
from openvalle.audio import Audio
from openvalle.errors import AudioError, TextError, UserError, import_extra
from openvalle.speech_models.aligner import mark_edges
from openvalle.speech_models.aligners import PhoneAligner, load_aligner
from openvalle.text.ipa import from_ipa
from openvalle.text.nearest import find_ears, to_units
from openvalle.types import ENGLISH, SIL
from report import Report

SENTENCES = {
    "en": (
        "The old bridge was closed for repairs last summer.",
        "She put the letters back into the drawer and left.",
        "Nobody knows how many boats came home that night.",
        "We could hear music from the other side of the river.",
        "A cold wind blew through the empty streets of the town.",
        "Please bring me two cups of coffee and a glass of water.",
    ),
    "de": (
        "Der alte Mann ging langsam über die Brücke.",
        "Wir haben gestern lange auf den Zug gewartet.",
        "Im Winter ist es in den Bergen sehr still.",
        "Sie schrieb einen Brief an ihre Schwester.",
    ),
    "fr": (
        "Le vieux pont était fermé depuis longtemps.",
        "Elle a posé les lettres sur la table du salon.",
        "Nous avons marché le long de la rivière.",
        "Il fait très froid dans les montagnes en hiver.",
    ),
    "es": (
        "El viejo puente estaba cerrado desde el verano.",
        "Ella guardó las cartas en el cajón y se fue.",
        "Nadie sabe cuántos barcos volvieron aquella noche.",
        "En invierno hace mucho frío en las montañas.",
    ),
    "cmn": (
        "今天天气很好我们去公园走一走。",
        "他把书放在桌子上了。",
        "这条河的水非常干净。",
        "明天早上我要坐火车去北京。",
    ),
    "ja": (
        "きょうは とても いい てんきです。",
        "かのじょは てがみを つくえに いれました。",
        "ふゆの やまは しずかです。",
    ),
}
PHONEMES, IPA = 1, 2  # options of espeak_Initialize
SYNCHRONOUS, UTF8, END, WORD_EVENT, PHONEME_EVENT = 2, 1, 0, 1, 7


class Event(ctypes.Structure):
    """espeak_EVENT."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


@dataclass(frozen=True)
class KnownSpeech:
    """A clip, its words as an aligner is given them, and when each phone begins and ends, in seconds."""

    audio: Audio
    language: str
    words: tuple[tuple[str, tuple[str, ...]], ...]
    times: tuple[tuple[float, float], ...]


def speak_espeak() -> Iterator[KnownSpeech]:
    """Yield every sentence as espeak-ng says it."""
    loader = import_extra("espeakng_loader", "espeak-ng (espeakng-loader)", "espeak")
    espeak = ctypes.CDLL(loader.get_library_path())
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 200, loader.get_data_path().encode(), PHONEMES | IPA)
    sound = bytearray()
    heard: list[tuple[int, float, bytes]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Event))
    def keep(samples: int, count: int, events: ctypes.Array[Event]) -> int:
        if samples and count:
            sound.extend(ctypes.string_at(samples, 2 * count))
        for event in events:
            if event.type == 0:
                break
            heard.append((event.type, event.milliseconds / 1000, bytes(event.name)))
        return 0

    espeak.espeak_SetSynthCallback(keep)
    for language, sentences in SENTENCES.items():
        espeak.espeak_SetVoiceByName({"en": b"en-us"}.get(language, language.encode()))
        for sentence in sentences:
            sound.clear()
            heard.clear()
            text = sentence.encode()
            espeak.espeak_Synth(text, len(text) + 1, 0, 1, END, UTF8, None, None)
            samples = np.frombuffer(bytes(sound), np.int16).astype(np.float32) / 32768
            if found := read_events(heard, Audio(samples, rate), language):
                yield found


def read_events(heard: Sequence[tuple[int, float, bytes]], audio: Audio, language: str) -> KnownSpeech | None:
    """Return a clip with the phones that espeak-ng told of; None for fewer than two."""
    words: list[list[str]] = [[]]
    spans: list[tuple[str, float, int]] = []  # unit or silence, start, word
    for kind, start, name in heard:
        if kind == WORD_EVENT:
            words.append([])
        elif kind == PHONEME_EVENT:
            units = to_units(from_ipa(name.split(b"\0")[0].decode("utf-8", "ignore")))
            spans += [(unit, start, len(words) - 1) for unit in units[:1]] or [(SIL, start, -1)]
    return assemble(spans, audio, language)


def assemble(spans: Sequence[tuple[str, float, int]], audio: Audio, language: str) -> KnownSpeech | None:
    """Return a clip whose spans (unit, start, word) tile it, equal neighbours made one."""
    joined = [next(own) for _, own in groupby(spans, key=lambda span: span[0])]
    ends = [span[1] for span in joined[1:]] + [audio.seconds]
    spoken = [(span, end) for span, end in zip(joined, ends, strict=True) if span[0] != SIL]
    if len(spoken) < 2:
        return None
    words = [
        (str(word), tuple(span[0] for span, _ in own)) for word, own in groupby(spoken, key=lambda item: item[0][2])
    ]
    return KnownSpeech(audio, language, tuple(words), tuple((span[1], end) for span, end in spoken))


def speak_model(voices: Sequence[str]) -> Iterator[KnownSpeech]:
    """Yield the English sentences in the words of the built-in model."""
    from openvalle import Synthesizer

    synthesizer = Synthesizer.load()
    for voice in voices:
        for seed, sentence in enumerate(SENTENCES[ENGLISH]):
            speech = synthesizer.say(sentence, voice=voice, seed=seed)
            ends = [word.end for word in speech.words]
            place = [int(np.searchsorted(ends, (phone.start + phone.end) / 2)) for phone in speech.phones]
            spans = [
                (phone.text, phone.start, -1 if phone.text == SIL else word)
                for phone, word in zip(speech.phones, place, strict=True)
            ]
            if found := assemble(spans, speech.audio, ENGLISH):
                yield found


def find_errors(aligner: PhoneAligner, known: KnownSpeech) -> np.ndarray | None:
    """Return how much later than it does each phone seems to begin, in seconds, (phones,); None if none was found."""
    is_english = known.language == ENGLISH and not any(" " in unit for _, units in known.words for unit in units)
    ears = find_ears(ENGLISH if is_english else "", aligner.symbols)
    try:
        found = aligner.align_scored(known.audio, known.words, ears)
    except (AudioError, TextError):
        return None
    begins = [span.start for span in mark_edges(found.spans, known.audio) if span.symbol != SIL]
    return np.subtract(begins, [start for start, _ in known.times]) if len(begins) == len(known.times) else None


def measure(aligners: dict[str, PhoneAligner], clips: Sequence[KnownSpeech], report: Report, title: str) -> None:
    """Add a row for each language and aligner."""
    rows: list[list[str]] = []
    values: list[dict[str, str | float]] = []
    for language, own in groupby(clips, key=lambda clip: clip.language):
        group = list(own)
        for name, aligner in aligners.items():
            found = [find_errors(aligner, clip) for clip in group]
            kept = [errors for errors in found if errors is not None]
            lost = len(found) - len(kept)
            errors = 1000 * np.concatenate([*kept, np.empty(0)])
            off = np.abs(errors)
            half, most = np.quantile(off, [0.5, 0.9]) if len(off) else (np.nan, np.nan)
            near, bias = (100 * np.mean(off <= 25), np.median(errors)) if len(off) else (np.nan, np.nan)
            figures = (len(off), lost, half, most, near, bias)
            rows.append([f"{language}, {name}", *(f"{figure:.0f}" for figure in figures)])
            names = ("borders", "clips lost", "median ms", "90 % ms", "within 25 ms %", "later by ms")
            values.append({"language": language, "aligner": name} | dict(zip(names, map(float, figures), strict=True)))
    report.table(title, ["", "borders", "clips lost", "median ms", "90 % ms", "within 25 ms %", "later by ms"], rows)
    report.values[title] = values


def main() -> None:
    """Measure pocketsphinx, the built-in network and the aligners that are given; write tables."""
    options = argparse.ArgumentParser(description=main.__doc__)
    options.add_argument("--aligner", action="append", default=[], help="ctc:FOLDER, as often as wanted")
    options.add_argument("--voices", nargs="*", default=["ella", "victor"], help="built-in voices that speak")
    options.add_argument("--out", type=Path, default=Path("out/benchmark-aligner"))
    given = options.parse_args()
    aligners = {name: load_aligner(name) for name in ("pocketsphinx", "ctc", *given.aligner)}
    report = Report("aligner", {"aligners": list(aligners), "voices": given.voices})
    try:
        measure(aligners, list(speak_espeak()), report, "espeak-ng")
    except UserError as error:
        print(f"without espeak-ng: {error}")
    measure(aligners, list(speak_model(given.voices)), report, "the built-in model")
    print(*report.write(given.out), sep="\n")


if __name__ == "__main__":
    run(main)
