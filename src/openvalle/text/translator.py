"""A text of one language -> the same in another: opus-mt models (Marian), computed by CTranslate2.

A translator is a folder as `ct2-transformers-converter` writes it of a model of Helsinki-NLP, with the `source.spm` and
`target.spm` that cut its texts. The user's own lie in `translators/` (`openvalle.hub`), called by their languages:
`en-zh`. Where no model goes from one language to another, two go by a third.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openvalle.errors import ModelError, TextError, UserError, import_extra
from openvalle.files import expand_home
from openvalle.hub import Kind, NoHomeFolder, fetch_all, find, is_repository, list_names, user_folder
from openvalle.text.language import LANGUAGES
from openvalle.types import ENGLISH

MODEL, CUTTERS = "model.bin", ("source.spm", "target.spm")
WANTED = ("model.bin", "config.json", "*vocabulary.json", "*vocabulary.txt", "tokenizer_config.json", "*.spm")
BEAM, MOST_PIECES = 4, 512  # hypotheses; and pieces of a text, as many as the models have positions
PATIENCE = 2.0  # times `BEAM` endings are waited for: with 1, four early and unlikely ones keep a likely one out
LONGER = 3  # times as many pieces as the text has, and some, a translation may have: else it repeats itself
END = "</s>"
_TARGET = re.compile(r">>(\w+)<<")  # what models of several target languages are told
_PAIR = re.compile(r"(?:^|[-_])([a-z]{2,3})[-_]([a-z]{2,3})$")
_MADE = re.compile(r"[-_](?:ct2|ctranslate2|int8|int16|float16|float32|int8_float16|int8_float32)$", re.I)
_CODES = {  # what opus-mt calls them, too
    "zh": ("cmn_Hans", "cmn", "zho_Hans", "zho", "zh"),
    "ja": ("jpn", "jap"),
    **{code: (long,) for code, long in (("en", "eng"), ("de", "deu"), ("fr", "fra"), ("es", "spa"), ("it", "ita"))},
    **{code: (long,) for code, long in (("pt", "por"), ("ru", "rus"), ("ko", "kor"), ("nl", "nld"), ("pl", "pol"))},
    **{code: (long,) for code, long in (("tr", "tur"), ("ar", "ara"), ("hi", "hin"), ("vi", "vie"), ("uk", "ukr"))},
}
_PUBLISHED = {("en", "ja"): "opus-mt-en-jap", ("zh", "ja"): "opus-mt-tc-big-zh-ja"}  # the others are opus-mt-FROM-TO


@dataclass(frozen=True)
class Place:
    """Where a translator lies, and from which language to which it goes, "" where nothing tells."""

    folder: Path
    source: str = ""
    target: str = ""

    @classmethod
    def find(cls, place: str | Path) -> Place:
        """Return the place of a name, a folder or an address `hf://owner/name`; `ModelError` if it is none."""
        is_there = is_repository(str(place))
        folder = fetch_all(str(place), WANTED) if is_there else find(Kind.TRANSLATOR, place)
        name = str(place).partition("@")[0] if is_there else expand_home(folder).resolve().name
        _check_files(folder, str(place))
        return cls(folder, *_read_pair(folder, name))

    def goes(self, source: str, target: str) -> bool:
        """Whether it goes from one language to the other, as far as is known."""
        return self.source in (source, "") and self.target in (target, "")


def _check_files(folder: Path, place: str) -> None:
    """Raise `ModelError` if a folder is no translator."""
    missing = [name for name in (MODEL, *CUTTERS) if not (folder / name).is_file()]
    if not missing:
        return
    lacks = f"{place} is no translator: it holds no {', '.join(missing)}"
    if (folder / "vocab.json").is_file() and MODEL in missing:
        raise ModelError(lacks, f"convert it: {convert_command(place, 'FOLDER')}")
    raise ModelError(
        lacks, "give a folder that ct2-transformers-converter wrote with --copy_files source.spm target.spm"
    )


def _read_pair(folder: Path, name: str) -> tuple[str, str]:
    """Return the languages of a translator: as its tokenizer says, else its name."""
    try:
        about = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        told = about["source_lang"], about["target_lang"]
    except (OSError, ValueError, KeyError, TypeError):
        told = None, None
    if all(isinstance(code, str) and code.isalpha() for code in told):
        return to_code(str(told[0])), to_code(str(told[1]))
    found = _PAIR.search(_MADE.sub("", _MADE.sub("", name)))
    return (to_code(found[1]), to_code(found[2])) if found else ("", "")


def to_code(name: str) -> str:
    """Return our code of a language that opus-mt names, the name itself where it is none of those known."""
    key = name.strip().lower()
    for code, names in _CODES.items():
        if key == code or key in (each.lower() for each in names):
            return code
    return next((row.code for row in LANGUAGES.values() if key in (row.code, *row.aliases)), key)


def convert_command(model: str, folder: str | Path) -> str:
    """Return the line that makes a translator of a model of transformers."""
    copied = "--copy_files source.spm target.spm --quantization int8"
    return f"ct2-transformers-converter --model {model} --output_dir {folder} {copied}"


class Translator:
    """A loaded translator. Threads may share it."""

    def __init__(self, place: Place, target: str = "") -> None:
        """`target`: the language, for a model of several. `ModelError` for files that are damaged."""
        ctranslate2 = import_extra("ctranslate2", "ctranslate2", "translate")
        sentencepiece = import_extra("sentencepiece", "sentencepiece", "translate")
        folder = place.folder
        _check_files(folder, str(folder))
        try:
            self._source, self._target = (
                sentencepiece.SentencePieceProcessor(model_file=str(folder / name)) for name in CUTTERS
            )
            self._model: Any = ctranslate2.Translator(str(folder), device="cpu")
            told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (RuntimeError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelError(f"the translator {folder} cannot be read ({reason})", "convert it again") from None
        self._end = [] if told.get("add_source_eos") else [str(told.get("eos_token") or END)]
        self._begin = _choose_target(folder, to_code(place.target or target))

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return each text in the other language, "" where the model says nothing.

        Sentences are what the models were trained on: of a text longer than `MOST_PIECES` pieces the rest is left out.
        """
        cut = [self._source.encode(" ".join(text.split()), out_type=str) for text in texts]
        asked = [[*self._begin, *pieces[: MOST_PIECES - 2], *self._end] for pieces in cut]
        longest = min(MOST_PIECES, LONGER * max(map(len, asked), default=0) + 16)
        how = {"beam_size": BEAM, "patience": PATIENCE, "max_batch_size": 16, "max_decoding_length": longest}
        found = self._model.translate_batch(asked, **how)
        return [self._target.decode(each.hypotheses[0]).strip() for each in found]


def _choose_target(folder: Path, target: str) -> list[str]:
    """Return the sign that tells a model of several target languages which one; none for other models."""
    known = {sign[1]: sign[0] for token in _read_vocabulary(folder) if (sign := _TARGET.fullmatch(token))}
    if not known:
        return []
    for name in _CODES.get(target, (target,)):
        if name in known:
            return [known[name]]
    fits = sorted(name for name in known if name.partition("_")[0] in (*_CODES.get(target, ()), target))
    if not fits:
        there = ", ".join(sorted(known)[:12])
        raise ModelError(f"the translator {folder} does not write {target!r}", f"it writes {there} ...")
    return [known[fits[0]]]


def _read_vocabulary(folder: Path) -> Iterable[str]:
    """Return the pieces that a model reads."""
    for name in ("source_vocabulary", "shared_vocabulary"):
        if (path := folder / f"{name}.json").is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            return (token for token in found if isinstance(token, str))
        if (path := folder / f"{name}.txt").is_file():
            return path.read_text(encoding="utf-8").splitlines()
    return ()


@dataclass(frozen=True)
class Translators:
    """The translators that there are: those given, else the user's own. Each is loaded once, when it is first used."""

    places: tuple[Place, ...]
    _loaded: dict[tuple[Path, str], Translator] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def find(cls, places: Sequence[str | Path] = ()) -> Translators:
        """Return those at some places (see `Place.find`), else those in the user's folder of them."""
        if places:
            return cls(tuple(Place.find(place) for place in places))
        return cls(tuple(Place(path, *_read_pair(path, name)) for name, path in list_names(Kind.TRANSLATOR).items()))

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """Return each text in another language; `UserError` says how to bring a translator that is not there."""
        for place, code in self.find_way(source, target):
            texts = self._load(place, code).translate(texts)
        return list(texts)

    def find_way(self, source: str, target: str) -> list[tuple[Place, str]]:
        """Return the translators to go by, one or two, each with the language that it goes to."""
        direct = [place for place in self.places if place.goes(source, target)]
        if direct:
            return [(min(direct, key=lambda place: not place.target), target)]
        for first in (place for place in self.places if place.source == source and place.target):
            for second in (place for place in self.places if place.source == first.target and place.target == target):
                return [(first, first.target), (second, target)]
        raise explain_missing(source, target, self.places)

    @property
    def digest(self) -> str:
        """Identity of the translators: where they lie, and how large their weights are and since when."""
        weights = [(place.folder / MODEL).stat() for place in self.places]
        facts = [(str(p.folder), w.st_size, w.st_mtime_ns) for p, w in zip(self.places, weights, strict=True)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def load(self) -> None:
        """Load all whose languages are known now, so that nobody has to wait for it later."""
        for place in self.places:
            if place.target:
                self._load(place, place.target)

    def _load(self, place: Place, target: str) -> Translator:
        with self._lock:
            key = place.folder, target
            if key not in self._loaded:
                self._loaded[key] = Translator(place, target)
            return self._loaded[key]


def explain_missing(source: str, target: str, there: Sequence[Place] = ()) -> UserError:
    """Return what to say where no translator goes from one language to another: which model to fetch, and how."""
    try:
        folder: str | Path = user_folder(Kind.TRANSLATOR)
    except NoHomeFolder:
        folder = "translators"
    is_published = ENGLISH in (source, target) or (source, target) in _PUBLISHED
    steps = [(source, target)] if is_published else [(source, ENGLISH), (ENGLISH, target)]
    lines = [
        convert_command(
            f"Helsinki-NLP/{_PUBLISHED.get(step, 'opus-mt-{}-{}'.format(*step))}", f"{folder}/{'-'.join(step)}"
        )
        for step in steps
    ]
    have = ", ".join(f"{place.source}-{place.target}" for place in there if place.target)
    return TextError(
        f"no translator goes from {source!r} to {target!r}" + (f", only {have}" if have else ""),
        "run: pip install 'openvalle[translate]' 'transformers[torch]' && "
        f"{' && '.join(lines)}; or give its folder with --translator",
    )
