"""Whatever optional package is missing, every use of it is refused in one line that says how to bring it, exit 2."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import openvalle as package
from openvalle.audio import Audio
from openvalle.cli.main import MENDABLE, explain
from openvalle.cli.tools import BARE, EXTRAS, mend
from openvalle.errors import MissingExtra
from openvalle.speech_models import aligners

SOURCE = Path(package.__file__).parent
PROJECT = Path(__file__).parents[2]
REQUIRED = {"onnxruntime", "numpy", "safetensors", "soundfile", "soxr", "pydantic", "typer", "rich", "yaml"}
MODULES = {
    "faster-whisper": "faster_whisper",
    "webrtcvad-wheels": "webrtcvad",
    "phonemizer-fork": "phonemizer",
    "pyopenjtalk-plus": "pyopenjtalk",
}
FOR_TESTERS = {"openai", "httpx", "schemathesis", "pytest", "hypothesis", "ruff", "mypy", "pre-commit", "types-PyYAML"}


def optional_imports() -> set[str]:
    """Everything that the package imports somewhere and does not bring along by itself."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_extra":
                found |= {str(word.value).split(".")[0] for word in node.args[:1] if isinstance(word, ast.Constant)}
    return found - sys.stdlib_module_names - REQUIRED - {"openvalle"}


def use_espeak() -> None:
    from openvalle.text.phones import ask_espeak

    ask_espeak({"hello"})


def use_huggingface() -> None:
    from openvalle.hub import fetch

    fetch("hf://owner/name", ["config.json"])


def use_jiwer() -> None:
    from openvalle.speech_models.wer import word_errors

    word_errors("one", "one")


def use_sacrebleu() -> None:
    from openvalle.evaluate.by_language import measure_bleu

    measure_bleu([], "en")


def use_whisper() -> None:
    from openvalle.speech_models.asr import load_recognizer

    load_recognizer("whisper")


def use_pocketsphinx() -> None:
    from openvalle.speech_models.asr import load_recognizer

    load_recognizer("pocketsphinx")


def use_dnsmos() -> None:
    from openvalle.speech_models.mos import DNSMOS

    DNSMOS()


def use_resemblyzer() -> None:
    import numpy as np

    from openvalle.speech_models.speaker import load_encoder

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 24_000).astype(np.float32)
    load_encoder("resemblyzer").embed(Audio(noise, 24_000))


def use_byte_pairs() -> None:
    from openvalle.text.symbols import train_byte_pairs

    train_byte_pairs(["one two three"], 300)


def use_coqui() -> None:
    from openvalle.evaluate.systems.libraries import CoquiConfig, CoquiSystem

    CoquiSystem.load("coqui", CoquiConfig())


def use_transformers(what: str) -> Callable[[], None]:
    def use() -> None:
        from openvalle.evaluate.systems.libraries import TransformersConfig, TransformersSystem
        from openvalle.speech_models.asr import load_recognizer
        from openvalle.speech_models.speaker import load_encoder

        if what == "recognizer":
            load_recognizer("transformers:model")
        elif what == "encoder":
            load_encoder("wavlm-sv")
        else:
            TransformersSystem.load("theirs", TransformersConfig(model="model"))

    return use


def use_player() -> None:
    from openvalle.cli.say import play_file

    play_file(Path("speech.wav"))


def use_columns() -> None:
    import tempfile

    from openvalle.data.shards import TokenShards
    from openvalle.text.symbols import inventory
    from openvalle.types import TokenSpec

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        inventory().vocabulary.save(folder / "symbols.json")
        TokenSpec(name="any").save(folder / "codec.json")
        for name in ("index.arrow", "texts.arrow"):  # and no index.jsonl
            (folder / name).touch()
        TokenShards.open(folder)


RECIPE = SOURCE / "recipes" / "valle-small.yaml"


def use_pdf() -> None:
    from openvalle.apps.readers.pdf import read_pdf

    read_pdf("book.pdf")


def use_letters(language: str) -> Callable[[], None]:
    def use() -> None:
        from openvalle.text.notations import NOTATIONS

        NOTATIONS["ipa-letters"].write("今日", language)

    return use


def use_language(code: str, text: str) -> Callable[[], None]:
    def use() -> None:
        from openvalle.text.language import phonemize

        phonemize(text, code)

    return use


def use_translator() -> None:
    import tempfile

    from openvalle.text.translator import Place, Translator

    with tempfile.TemporaryDirectory() as place:
        for name in ("model.bin", "source.spm", "target.spm"):
            (Path(place) / name).touch()
        Translator(Place(Path(place)))


def use_pinyin() -> None:
    from openvalle.text.notations import NOTATIONS

    NOTATIONS["pinyin"].write("你好", "zh")


USES: list[tuple[str, Callable[[], None] | tuple[str, ...]]] = [  # module, and a function or a command that needs it
    ("TTS", use_coqui),
    ("av", ("say", "Hi.", "--voice", "M4A")),
    ("ctranslate2", use_translator),
    ("espeakng_loader", use_espeak),
    ("fastapi", ("serve",)),
    ("faster_whisper", use_whisper),
    ("huggingface_hub", use_huggingface),
    ("jieba", use_letters("zh")),
    ("jieba", use_language("zh", "今天")),
    ("jiwer", use_jiwer),
    ("sacrebleu", use_sacrebleu),
    ("matplotlib", ("say", "Hi.", "--plot")),
    ("matplotlib", ("voice", "show", "default", "--plot", "voice.png")),
    ("matplotlib", ("model", "describe", str(RECIPE), "--plot", "mask.png")),
    ("phonemizer", use_espeak),
    ("prometheus_client", ("serve",)),
    ("pyopenjtalk", use_letters("ja")),
    ("pyarrow", use_columns),
    ("pypdf", use_pdf),
    ("pypinyin", use_pinyin),
    ("pyopenjtalk", use_language("ja", "今日")),
    ("pypinyin", ("phonemes", "今天")),
    ("python_multipart", ("serve",)),
    ("pocketsphinx", ("say", "Hi.", "--voice", "CLIP", "--prompt-text", "saw see saw see")),
    ("pocketsphinx", ("voice", "add", "me", "CLIP", "--prompt-text", "saw see saw see")),
    ("pocketsphinx", use_pocketsphinx),
    ("ray", ("serve", "--ray")),
    ("resemblyzer", use_resemblyzer),
    ("sentencepiece", use_translator),
    ("sounddevice", use_player),
    ("speechmos", use_dnsmos),
    ("starlette", ("serve",)),
    ("tensorboard", ("train", "ar", str(RECIPE), "--out", "run")),
    ("tensorboard", ("train", "codec", str(SOURCE / "recipes" / "codec.yaml"), "--out", "run")),
    ("tokenizers", use_byte_pairs),
    ("torch", ("say", "Hi.", "--engine", "torch")),
    ("torch", ("say", "Hi.", "--device", "cuda")),
    ("transformers", ("say", "Hi.", "--codec", "encodec")),
    ("transformers", use_transformers("recognizer")),
    ("transformers", use_transformers("encoder")),
    ("transformers", use_transformers("system")),
    ("uvicorn", ("serve",)),
    ("webrtcvad", use_resemblyzer),
    ("wetext", use_language("zh", "2月")),
    ("websockets", ("serve",)),
]


def hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Make every import of a package fail as if it was not installed."""
    for name in list(sys.modules):
        if name.partition(".")[0] == module or name.startswith("torch.utils.tensorboard"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)


def test_every_optional_import_has_a_case_here() -> None:
    assert optional_imports() <= {module for module, _ in USES}


@pytest.mark.parametrize(
    ("module", "use"),
    USES,
    ids=[f"{module}-{use.__name__ if callable(use) else '-'.join(use[:2])}" for module, use in USES],
)
def test_a_missing_package_is_one_line_with_the_command_that_brings_it(
    module: str, use: Callable[[], None] | tuple[str, ...], openvalle, clip_path, monkeypatch, capsys
) -> None:
    if module == "webrtcvad":
        pytest.importorskip("resemblyzer")
    aligners._load_pocketsphinx.cache_clear()
    hide(monkeypatch, module)
    monkeypatch.setenv("PATH", "")  # nor a player
    if callable(use):
        with pytest.raises(Exception) as raised:
            use()
        assert module == "sounddevice" or isinstance(raised.value, MissingExtra)
        code, shown = explain(raised.value, debug=False), capsys.readouterr().err
    else:
        clips = {"CLIP": clip_path, "M4A": clip_path.with_suffix(".m4a")}
        clips["M4A"].write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0")  # what tells the container
        run = openvalle(*(clips.get(word, word) for word in use))
        code, shown = run.code, run.err
        assert not run.out
        assert not [path for path in Path().iterdir() if path.suffix != ".safetensors"], "something was left behind"
    assert code == MENDABLE
    assert len(shown.splitlines()) == 1
    assert re.search(r"run: (\S+ -m )?pip install \S+", shown)


def test_built_in_voices_speak_without_pocketsphinx_and_words_are_read_alike(openvalle, monkeypatch) -> None:
    from openvalle.text.language import phonemize

    unlisted = "Zhdanov's"  # the second dictionary has it
    before = phonemize(unlisted)
    hide(monkeypatch, "pocketsphinx")
    assert phonemize(unlisted) == before
    run = openvalle("say", "Hi.", "--attempts", "1", "--quiet")
    assert run.code == 0
    assert Path(run.out.strip()).stat().st_size > 1000


def test_what_doctor_advises_brings_what_it_says() -> None:
    """Each module is in the extra's requirements, or in the rest of the command that doctor prints."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert set(extras) - {"all", "dev"} == set(EXTRAS)
    for extra, modules in EXTRAS.items():
        brought = {MODULES.get(name, name.replace("-", "_")) for name in required(extras, extra)}
        command = mend(extra)
        assert f"openvalle[{extra}]" in command
        for module in modules:
            assert module in brought or module in command, f"{module} does not come with {command}"
        assert brought <= set(modules), f"doctor does not look for all that {extra} brings"
        assert all(name in command for name in BARE.get(extra, ()))


def required(extras: dict[str, list[str]], extra: str) -> set[str]:
    """The packages of an extra, with those of the extras it names."""
    found = set()
    for line in extras[extra]:
        name = re.match(r"[A-Za-z0-9_.-]+", line)[0]  # type: ignore[index]
        if name == "openvalle":
            for inner in re.search(r"\[(.*)]", line)[1].split(","):  # type: ignore[index]
                found |= required(extras, inner)
        else:
            found.add(name)
    return found


def test_the_installed_package_names_its_extras_and_licences() -> None:
    about = metadata.metadata("openvalle")
    assert {"plot", "train", "eval-offline"} <= set(about.get_all("Provides-Extra") or ())
