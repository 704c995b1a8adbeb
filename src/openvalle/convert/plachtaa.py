"""Plachtaa/VALL-E-X: the networks of lifeiteng/vall-e with languages on the text, its tokens, and its voices.

A text is written in 65 single characters (IPA, punctuation, tone arrows), without <bos> and <eos>. Voices are `.npz`
files of codes, the ids of what is said in them, and their language.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from pydantic import Field

from openvalle.config import Config, Syntax, read_data
from openvalle.convert.base import Converted, Given, Source
from openvalle.convert.lifeiteng import convert_pair, has_languages
from openvalle.convert.weights import StoredWeights
from openvalle.errors import ModelError
from openvalle.files import atomic_path
from openvalle.model.bundle import BundleConfig
from openvalle.synth.voice import Voice, now
from openvalle.types import Vocabulary

NOTATION = "ipa-letters"
SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
LETTERS = "!#*,-.=?NQ^_`abdefghijklmnopstuvwxyz~æçðŋɑɔəɛɥɪɫɯɸɹɾʃʊʑʒʰˈˌθ…⁼↑→↓"
LANGUAGES = ("en", "zh", "ja")  # in the order of the rows of the language tables
VOICE = ".npz"
VOICE_LANGUAGES = ("zh", "ja", "en")  # in the numbers of the voices, which are others
MOST_BYTES = 16 << 20  # of an array in a voice


class PlachtaaSettings(Config):
    """What the weights do not say: it is fixed in that code."""

    nhead: int = Field(16, gt=0, description="attention heads")


def convert(given: Given) -> Converted:
    """Return the model of a checkpoint."""
    weights, settings = given.one(), given.parse(PlachtaaSettings)
    symbols = (*SPECIAL, *LETTERS) if given.symbols is None else read_tokens(given.symbols)
    networks = convert_pair(weights, (settings.nhead, settings.nhead), symbols, 1, edges=False)
    generation = {"sampling": {"repetition_aware": False}, "least_frames": 0.0}
    notes = ("its Mandarin is read with the extra zh, its Japanese with the extra ja",)
    return Converted(*networks, Vocabulary(symbols, notation=NOTATION), LANGUAGES, generation, notes)


def read_tokens(path: Path) -> tuple[str, ...]:
    """Return the tokens of a `bpe_69.json` by their ids; `ModelError` for one that merges letters."""
    values = read_data(path, Syntax.JSON)
    model = values.get("model") if isinstance(values, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ModelError(f"{path} is no tokenizer file", "give bpe_69.json, or leave --symbols away")
    if model is not None and model.get("merges"):
        raise ModelError(f"{path} merges letters, which its published models do not", "give bpe_69.json")
    return tuple(sorted(vocabulary, key=vocabulary.__getitem__))


def recognise(weights: StoredWeights) -> bool:
    """Whether these are weights of such networks."""
    return weights.has("ar_decoder.layers.") and has_languages(weights)


def read_voice(path: Path, config: BundleConfig, vocabulary: Vocabulary) -> Voice:
    """Return the voice of an `.npz` file for a converted model; `ModelError` if it is none."""
    arrays = _read_arrays(path)
    codes, ids, code = arrays["audio_tokens"], arrays["text_tokens"], int(arrays["lang_code"].reshape(-1)[0])
    if codes.ndim != 3 or codes.shape[0] != 1 or codes.shape[2] != config.nar.codebooks or ids.ndim != 2:
        raise ModelError(f"{path} has codes of shape {codes.shape} and ids of shape {ids.shape}", "it is no such voice")
    if not codes.size or not ids.size:
        raise ModelError(f"{path} holds no sound or no words", "give another")
    is_known = ids.min() >= 0 and ids.max() < len(vocabulary) and 0 <= code < len(VOICE_LANGUAGES)
    if not is_known or codes.min() < 0 or codes.max() >= config.nar.codebook_size:
        raise ModelError(f"{path} has codes, ids or a language that the model does not know", "is it of another model?")
    symbols = tuple(vocabulary.symbols[index] for index in ids[0])
    return Voice(
        codes=codes[0].astype(np.uint16),
        symbols=symbols,
        durations=(),
        text="".join(symbols).replace("_", " "),
        codec_digest=config.codec.digest,
        symbols_digest=vocabulary.digest,
        name=path.stem,
        language=VOICE_LANGUAGES[code],
        source=path.name,
        created=now(),
    )


def write_voice(voice: Voice, path: str | Path, *, replace: bool = True) -> Path:
    """Write a voice of a converted model as the `.npz` file that VALL-E X reads; return its path.

    Codes, ids and language are all that such a file holds: consent and terms are left out. `ModelError` for a voice of
    another model, `FileExistsError` if not to `replace` a file that is there.
    """
    ids = {symbol: index for index, symbol in enumerate((*SPECIAL, *LETTERS))}
    language = voice.language.partition("-")[0]
    if voice.symbols_digest != Vocabulary(tuple(ids), notation=NOTATION).digest:
        raise ModelError(
            f"the voice {voice.name!r} is not of a model of VALL-E X, whose voices alone fit in {VOICE}",
            "make it with the converted model: openvalle voice add NAME CLIP -m MODEL",
        )
    if language not in VOICE_LANGUAGES:
        raise ModelError(
            f"the voice {voice.name!r} speaks {voice.language!r}", f"VALL-E X knows {', '.join(VOICE_LANGUAGES)}"
        )
    codes = np.asfortranarray(voice.codes[None].astype(np.int64))  # as its own files lie
    text = np.array([[ids[symbol] for symbol in voice.symbols]], np.int64)
    with atomic_path(path, replace=replace) as part, part.open("wb") as file:
        np.savez(file, audio_tokens=codes, text_tokens=text, lang_code=np.int32(VOICE_LANGUAGES.index(language)))
    return Path(path)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the three arrays of a voice; no objects are read, and nothing that is larger than it says."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in ("audio_tokens", "text_tokens", "lang_code"):
                if archive.getinfo(f"{name}.npy").file_size > MOST_BYTES:
                    raise ModelError(f"{path}: {name} is larger than any voice's", "it is no such voice")
                data = io.BytesIO(archive.read(f"{name}.npy"))
                found[name] = np.lib.format.read_array(data, allow_pickle=False)
                if found[name].dtype.kind not in "iu":
                    raise ModelError(f"{path}: {name} holds no whole numbers", "it is no such voice")
    except KeyError as error:
        raise ModelError(
            f"{path} is no voice of VALL-E X: {' '.join(str(error).split())}", "give an .npz of it"
        ) from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ModelError(
            f"{path} cannot be read ({' '.join(str(error).split())[:100]})", "give an .npz of it"
        ) from None
    return found


SOURCE = Source(
    "plachtaa",
    "https://github.com/Plachtaa/VALL-E-X",
    "3faaf8ccadb154d63b38070caf518ce9309ea0f4",
    "MIT",
    "encodec?vocos=",
    recognise,
    convert,
    ("Plachta/VALL-E-X",),
    read_voice,
)
