"""Translation end to end: a teacher's clips, a recogniser that hears, a translator that knows its pairs, and the model.

Run: make bench-translate ARGS="--pairs FILE --teacher FOLDER". Lines of --pairs are a language, a tab, an English
sentence, a tab and its translation. The translator is made here, in the form of a real one: a small network that learnt
50 of them by heart, however they are misheard (`misheard`), so that what is measured is all but its knowledge. FOLDER
holds the teacher's speech of the first sentences (--sentences writes which; teacher.py --native has them said by voices
of their language). Whatever is misheard, translated wrongly for it, or spoken unclearly counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from command import run
from language_items import Teacher
from misheard import mishear
from openvalle import Synthesizer
from openvalle.apps.translate import translate
from openvalle.errors import UserError
from openvalle.pipes import read_text
from openvalle.speech_models.asr import load_recognizer, transcribe_in
from openvalle.speech_models.wer import NORMALIZER, word_errors
from openvalle.synth.normalizers import choose_normalizer, find_normalizer
from openvalle.text.sentences import join_words
from openvalle.text.translator import Place, Translators
from report import Report

VARIANTS, BATCH = 300, 32  # of each sentence that the translator learns from; and as many it sees at a time
NATIVE = "af_bella,am_michael,bf_emma,zf_xiaoyi,zm_yunxia,jf_gongitsune"  # each spoke its own language (--native)
LEAST = {"en": 34, "zh": 12, "ja": 15}  # letters and signs of a sentence: about three seconds


@dataclass(frozen=True)
class Direction:
    """Sentences of one language with their translations; the first `clips` of them are spoken."""

    source: str
    target: str
    pairs: tuple[tuple[str, str], ...]


def read_directions(path: Path, known: int) -> list[Direction]:
    """Return both directions of each language, with its first `known` pairs that are long enough."""
    rows = [line.split("\t") for line in read_text(path, most=None).splitlines()]
    found = []
    for language in sorted({row[0] for row in rows if len(row) == 3}):
        own = [(row[1], row[2]) for row in rows if len(row) == 3 and row[0] == language]
        pairs = [pair for pair in own if is_long(pair[0], "en") and is_long(pair[1], language)][:known]
        found.append(Direction("en", language, tuple(pairs)))
        found.append(Direction(language, "en", tuple((other, english) for english, other in pairs)))
    if not found:
        raise UserError(f"{path} holds no pairs", "write lines of language, tab, English, tab, translation")
    return found


def is_long(text: str, language: str) -> bool:
    """Whether a sentence lasts long enough to be a prompt."""
    return sum(letter.isalnum() or letter == " " for letter in text) >= LEAST.get(language, LEAST["en"])


def write_sentences(path: Path, directions: list[Direction], clips: int) -> None:
    """Write what the teacher is to say."""
    lines = dict.fromkeys(f"{each.source}\t{text}" for each in directions for text, _ in each.pairs[:clips])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_translators(folder: Path, directions: list[Direction], width: int, steps: int) -> Translators:
    """Return translators that know the pairs by heart; what was made before is kept."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from translator_samples import make_translator

    places = []
    for each in directions:
        own = folder / f"{each.source}-{each.target}"
        if not own.is_dir():
            heard = mishear([text for text, _ in each.pairs], each.source, VARIANTS)
            pairs = [(one, said) for own_heard, (_, said) in zip(heard, each.pairs, strict=True) for one in own_heard]
            make_translator(own, pairs, width, steps, BATCH)
        places.append(Place.find(str(own)))
    return Translators(tuple(places))


def measure(options: argparse.Namespace, directions: list[Direction]) -> Iterator[list[str]]:
    """Yield a row for each direction: errors of what is heard of the translation, and how far --fit was off in time."""
    translators = make_translators(options.out / "translators", directions, options.width, options.steps)
    teacher = Teacher.read(options.teacher, options.voices.split(","))
    recognizer, synthesizer = load_recognizer(options.asr), Synthesizer.load(options.model, asr=options.asr)
    for each in directions:
        normalize = find_normalizer(choose_normalizer(NORMALIZER, each.target))
        errors, words, off, right = [], [], [], 0
        for number, (text, wanted) in enumerate(each.pairs[: options.clips]):
            clip = next((one for (_, _, said), one in sorted(teacher.by_text.items()) if said == text), None)
            if clip is None:
                raise UserError(f"{options.teacher} holds no clip of {text!r}", "let the teacher say --sentences")
            try:
                made = translate(
                    synthesizer,
                    options.teacher / clip.audio,
                    each.target,
                    translators,
                    language=each.source,
                    is_fitted=True,
                    consent="synthetic",
                    seed=number,
                )
            except UserError as error:  # heard so wrongly that it cannot be a prompt: no word of it was translated
                print(each.source, each.target, text, "|", error, file=sys.stderr)
                errors.append(count := word_errors(wanted, "", normalize).words)
                words.append(count)
                continue
            spoken = made.speech
            heard = transcribe_in(recognizer, spoken.audio, each.target).text
            found = word_errors(wanted, heard, normalize)
            errors.append(found.errors)
            words.append(found.words)
            was = sum(segment.source.end - segment.source.start for segment in made.segments)
            off.append(abs(sum(segment.end - segment.start for segment in made.segments) / was - 1))
            right += not word_errors(wanted, join_words(segment.text for segment in made.segments), normalize).errors
            spoken.save(options.out / f"{each.source}-{each.target}-{number}.wav")
            known = [join_words(part) for part in zip(*((s.source.text, s.text) for s in made.segments), strict=True)]
            print(each.source, each.target, text, *known, wanted, heard, sep=" | ", file=sys.stderr)
        rate = 100 * sum(errors) / max(1, sum(words))
        yield [
            f"{each.source} to {each.target}",
            str(len(words)),
            f"{rate:.1f}",
            str(right),
            f"{100 * max(off, default=0):.1f}",
        ]


def main() -> None:
    """Measure every direction and write the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pairs", type=Path, required=True, help="lines of language, tab, English, tab, translation")
    options.add_argument(
        "--teacher", type=Path, required=True, help="what recipes/teacher/teacher.py said of --sentences"
    )
    options.add_argument("--sentences", type=Path, help="only write what the teacher is to say into this file")
    options.add_argument("--voices", default=NATIVE)
    options.add_argument("--model", default="builtin")
    options.add_argument("--asr", default="whisper:base")
    options.add_argument("--known", type=int, default=50, help="pairs that the translator knows (default: %(default)s)")
    options.add_argument("--clips", type=int, default=5, help="of each direction (default: %(default)s)")
    options.add_argument("--width", type=int, default=96)
    options.add_argument("--steps", type=int, default=4000, help="of the translator's training, at most")
    options.add_argument("--out", type=Path, default=Path("out/bench-translate"))
    given = options.parse_args()
    directions = read_directions(given.pairs, given.known)
    if given.sentences:
        write_sentences(given.sentences, directions, given.clips)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    report = Report("translate", {"model": given.model, "asr": given.asr, "known": given.known, "clips": given.clips})
    columns = ["", "clips", "errors %", "translated right", "time, --fit, at most % off"]
    report.table("Speech to speech, heard again", columns, list(measure(given, directions)))
    report.write(given.out)


if __name__ == "__main__":
    run(main)
