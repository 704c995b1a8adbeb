"""What the benchmark of languages lets a model say: sentences in voices of the teacher and of real readers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openvalle.config import BadLine, json_lines
from openvalle.errors import UserError
from openvalle.evaluate.corpus import CorpusUtterance, read_corpus
from openvalle.evaluate.test_list import CORPUS, CorpusExcerpt, TestItem
from openvalle.pipes import read_text

VOICES, READERS = "voices of the teacher", "real readers"
OWN = Path(__file__).parents[1] / "recipes" / "teacher" / "sentences.tsv"
REPORT_VOICES = "af_bella,zm_yunxia,jf_gongitsune"
TUNING_VOICES = "am_michael,bf_emma,zf_xiaoyi"
REPORT_READERS = "ls3664,ls4640,ls7312,dev-other"
TUNING_READERS = "ls669,ls1970,ls2136"
TEACHER = "prompts"  # the name of its folder in a test list
PROMPT_SECONDS, LEAST_SECONDS = 5.0, 3.0  # a prompt is as near to the first as can be, and longer than the second
PROMPTS = 3  # of a voice in a language, used in turn
Texts = Mapping[str, Sequence[str]]


def read_texts(path: Path, languages: Sequence[str], last: int, trained: set[str]) -> dict[str, list[str]]:
    """Return the last sentences of each language that are not among those trained on."""
    texts: dict[str, list[str]] = {language: [] for language in languages}
    for line in read_text(path, most=None).splitlines():
        language, _, text = line.partition("\t")
        if language in texts and text.strip() and text.strip() not in trained:
            texts[language].append(text.strip())
    if missing := [language for language, own in texts.items() if not own]:
        raise UserError(f"{path} holds no sentences of {', '.join(missing)} to say", "give others with --sentences")
    return {language: own[-last:] for language, own in texts.items()}


@dataclass(frozen=True)
class Teacher:
    """What the teacher spoke: excerpts with their seconds by voice and language, and by voice, language and text."""

    clips: Mapping[tuple[str, str], Sequence[tuple[float, CorpusExcerpt]]]
    by_text: Mapping[tuple[str, str, str], CorpusExcerpt]

    @classmethod
    def read(cls, folder: Path, voices: Sequence[str]) -> Teacher:
        """Read the lists that `recipes/teacher/teacher.py` writes; `UserError` if a voice has too few clips."""
        clips: dict[tuple[str, str], list[tuple[float, CorpusExcerpt]]] = defaultdict(list)
        for path in sorted(folder.glob("spoken-*.jsonl")):
            try:
                rows = [row for _, row in json_lines(path.read_text(encoding="utf-8"))]
            except BadLine as error:
                raise UserError(f"{path} is damaged at line {error.number}", "let teacher.py go on in it") from None
            for row in rows:
                if row["speaker"] in voices and (folder / row["audio"]).is_file():
                    about = row["speaker"], row["speaker"][1], row["language"]
                    excerpt = CorpusExcerpt(row["audio"], row["audio"], row["text"], *about, folder=TEACHER)
                    clips[row["speaker"], row["language"]].append((row["seconds"], excerpt))
        if lacking := [
            voice for voice in voices if sum(len(own) for (who, _), own in clips.items() if who == voice) < 2
        ]:
            raise UserError(
                f"{folder} holds no speech of {', '.join(lacking)}",
                f"let them speak: recipes/teacher/teacher.py {folder} --held-out {','.join(voices)} --speak-only",
            )
        return cls(clips, {(*key, one.text): one for key, own in clips.items() for _, one in own})

    def find_prompts(self, voice: str, language: str, text: str) -> list[CorpusExcerpt]:
        """Return a voice's best prompts: in the language where there are any, and never of the text itself."""
        own = [pair for pair in self.clips.get((voice, language), ()) if pair[1].text != text]
        others = [pair for (who, _), pairs in sorted(self.clips.items()) if who == voice for pair in pairs]
        return choose_prompts(own or [pair for pair in others if pair[1].text != text])


def choose_prompts(clips: Sequence[tuple[float, CorpusExcerpt]]) -> list[CorpusExcerpt]:
    """Return the `PROMPTS` clips that last nearest to `PROMPT_SECONDS`, of those that are long enough if there are."""
    enough = [pair for pair in clips if pair[0] >= LEAST_SECONDS] or clips
    return [one for _, one in sorted(enough, key=lambda pair: (abs(pair[0] - PROMPT_SECONDS), pair[1].id))[:PROMPTS]]


def draw_voices(options: Any, texts: Texts) -> list[TestItem]:
    """Return the sentences in voices of the teacher: each by one that spoke it, else by the next."""
    voices = [name.strip() for name in options.voices.split(",") if name.strip()]
    teacher = Teacher.read(options.teacher, voices)
    items: list[TestItem] = []
    for language, own in texts.items():
        for place, text in enumerate(own[: options.limit]):
            spoke = [voice for voice in voices if (voice, language, text) in teacher.by_text] or voices
            voice = spoke[place % len(spoke)]
            reference = teacher.by_text.get((voice, language, text)) or _absent(text, language)
            prompts = teacher.find_prompts(voice, language, text)
            other = voices[(voices.index(voice) + 1) % len(voices)]
            items.append(
                TestItem(
                    f"{language}-{place:02d}-{voice}",
                    text,
                    prompts[place % len(prompts)],
                    reference,
                    teacher.find_prompts(other, language, text)[0] if other != voice else None,
                )
            )
    return [replace(item, number=number) for number, item in enumerate(items)]


def draw_readers(options: Any, texts: Texts) -> tuple[list[TestItem], dict[str, Path]]:
    """Return sentences in the voices of readers, some for each in each language, and where their corpus lies."""
    if not texts:
        return [], {}
    wanted = {name.strip() for name in options.readers.split(",") if name.strip()}
    by: dict[str, list[CorpusUtterance]] = defaultdict(list)
    for utterance in read_corpus(options.data):
        if wanted & {utterance.speaker, utterance.split}:
            by[utterance.speaker].append(utterance)
    if len(by) < 2:
        raise UserError(f"fewer than two of {options.readers} read in the corpus", "name others with --readers")
    prompts = {who: choose_prompts([(one.seconds, one.whole()) for one in own]) for who, own in sorted(by.items())}
    names = list(prompts)
    items: list[TestItem] = []
    for language, own in texts.items():
        drawn = [(turn, who) for turn in range(options.each) for who in range(len(names))][: options.limit]
        for turn, who in drawn:
            own_prompts, others = prompts[names[who]], prompts[names[(who + 1) % len(names)]]
            text = own[(who * options.each + turn) % len(own)]
            item = TestItem(
                f"{language}-{names[who]}-{turn}",
                text,
                own_prompts[turn % len(own_prompts)],
                _absent(text, language),
                others[turn % len(others)],
            )
            items.append(replace(item, number=1000 + len(items)))
    return items, {CORPUS: next(iter(by.values()))[0].root}


def _absent(text: str, language: str) -> CorpusExcerpt:
    """Return what stands for a recording of a text that nobody recorded."""
    return CorpusExcerpt("", "", text, "", language=language)
