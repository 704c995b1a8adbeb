"""Shared fixtures: crude speech made of buzz and hiss, and a codec of random weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, and for processes that tests start

import numpy as np
import pytest
import torch

from openvalle.audio import RATE, Audio
from openvalle.media import write

torch.set_num_threads(1)

MANY = ("en", "eo", "ja", "zh")  # languages of the models of several
KEPT = ("OPENVALLE_SPEECH",)  # of the caller's environment; its other settings would change what is tested
VOWELS = {"AA": (730, 1090, 2440), "IY": (270, 2290, 3010)}  # formants in hertz (Peterson and Barney, 1952)
SAW_SEE = [("SIL", 0.3), ("S", 0.2), ("AA", 0.3), ("SIL", 0.2), ("S", 0.2), ("IY", 0.4), ("SIL", 0.3)]


def sound_of(
    name: str, seconds: float, rng: np.random.Generator, pitch: float = 110.0, fall: float = 0.0
) -> np.ndarray:
    """Return (samples,) of a vowel, a hiss (S) or faint noise (SIL), with soft edges.

    `fall`: share by which the pitch falls in a second; without it a vowel is a steady chord of its overtones.
    """
    count = round(seconds * RATE)
    times = np.arange(count) / RATE
    turns = times - fall * times**2 / 2  # of a second at the first pitch
    samples = 0.0005 * rng.standard_normal(count)
    if name in VOWELS:
        for hertz in np.arange(pitch, 5000, pitch):
            gain = sum(1 / (1 + ((hertz - formant) / 90) ** 2) for formant in VOWELS[name])
            samples += 0.06 * gain * np.sin(2 * np.pi * hertz * turns)
    elif name == "S":
        noise = np.diff(rng.standard_normal(count + 2), n=2)  # rises with frequency, as a hiss does
        samples += 0.03 * noise / noise.std()
    edge = np.clip(np.minimum(times, times[::-1]) / 0.01, 0, 1)
    return samples * edge


def crude_speech(repeats: int = 1, pitch: float = 110.0, fall: float = 0.0) -> Audio:
    """Return "saw, see", 1.9 s each time."""
    rng = np.random.default_rng(0)
    parts = [sound_of(name, seconds, rng, pitch, fall) for _ in range(repeats) for name, seconds in SAW_SEE]
    return Audio(np.concatenate(parts).astype(np.float32), RATE)


@pytest.fixture(scope="session")
def spoken() -> Audio:
    """Crude speech: "saw, see, saw, see", 3.8 s at 24 kHz."""
    return crude_speech(2)


@pytest.fixture(scope="session")
def intoned() -> Audio:
    """The same words at a pitch that falls, as in real speech: what never moves is no speech to the mark's detector."""
    return crude_speech(2, fall=0.6)


@pytest.fixture(scope="session")
def speak() -> Callable[[float], Audio]:
    """A function of pitch in hertz: the same words in another voice."""
    return lambda pitch: crude_speech(2, pitch)


@pytest.fixture(scope="session")
def say_builtin() -> Callable[[str, str], Audio]:
    """A function of a text and a language, English, Chinese or Japanese: what the built-in model says."""
    from openvalle.synth.synthesizer import Synthesizer

    synthesizer = Synthesizer.load()
    voices = {"en": "clara", "zh": "mei", "ja": "hana"}
    return lambda text, language: synthesizer.say(text, voices[language], language=language, seed=1).audio


@pytest.fixture
def clip_path(tmp_path: Path, spoken: Audio) -> Path:
    """The same as a WAV file."""
    return write(tmp_path / "clip.wav", spoken)


@pytest.fixture(scope="session")
def tiny_codec():
    """A codec of the real geometry with random weights."""
    from openvalle.codec.builtin import BuiltinCodec
    from openvalle.codec.settings import BuiltinCodecConfig

    torch.manual_seed(0)
    sizes = {"encoder_width": 16, "encoder_depth": 1, "trunk_width": 16, "trunk_depth": 1}
    config = BuiltinCodecConfig(latent=8, decoder_width=16, decoder_depth=1, **sizes)
    codec = BuiltinCodec(config).eval().requires_grad_(False)
    codec.quantizer.codebooks.normal_()
    return codec


@pytest.fixture(scope="session")
def tiny_model(tiny_codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of random weights, with its codec inside."""
    from openvalle.model.ar import AR
    from openvalle.model.bundle import BundleConfig
    from openvalle.model.checkpoint import Bundle, save_bundle
    from openvalle.model.config import ARConfig, NARConfig, TransformerConfig
    from openvalle.model.kinds import Alignment
    from openvalle.model.nar import NAR
    from openvalle.text.symbols import inventory

    torch.manual_seed(1)
    table, spec = inventory(), tiny_codec.spec
    stack = TransformerConfig(width=32, heads=2, depth=1, feedforward=64)
    shared = {"transformer": stack, "symbols": len(table), "alignment": Alignment.PHONEME, "merge": 2}
    config = BundleConfig(
        name="tiny",
        licence="Apache-2.0",
        codec=spec,
        symbols_digest=table.digest,
        ar=ARConfig(**shared, marks=table.marks),
        nar=NARConfig(**shared),
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    quick = {"symbol_frames": 8, "pause_frames": 8}  # a model of random weights would dwell at each symbol
    save_bundle(Bundle(config, AR(config.ar), NAR(config.nar), table.vocabulary, quick), folder)
    tiny_codec.save(folder / "codec")
    return folder


@pytest.fixture(scope="session")
def synthesizer(tiny_model: Path):
    """The tiny model, loaded."""
    from openvalle.synth.synthesizer import Synthesizer

    return Synthesizer.load(tiny_model)


@pytest.fixture(scope="session")
def tiny_voice(synthesizer, spoken: Audio):
    """A voice for the tiny model."""
    return synthesizer.voice(spoken, "saw, see, saw, see", consent="nobody's: made of buzz and hiss")


@pytest.fixture(scope="session")
def tiny_adapter(tiny_model: Path, tiny_voice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter for the tiny model, called anna, with the tiny voice in it and beside it."""
    from openvalle.model.adapter import Adapter, weights_digest
    from openvalle.model.checkpoint import load_bundle
    from openvalle.model.lora import AdapterConfig, adapter_tensors, add_adapter, to_arrays

    folder, bundle = tmp_path_factory.mktemp("adapter"), load_bundle(tiny_model)
    rng, tensors, digests = torch.Generator().manual_seed(0), {}, {}
    for part, network in (("ar", bundle.ar), ("nar", bundle.nar)):
        digests[part] = weights_digest(to_arrays(network))
        add_adapter(network, AdapterConfig(rank=4), seed=0)
        for key, each in network.named_parameters():
            if key.endswith(".up"):
                torch.nn.init.normal_(each, std=0.3, generator=rng)
        tensors[part] = adapter_tensors(network)
    voice = tiny_voice.save(folder / "voice.safetensors").read_bytes()
    Adapter(tensors, digests, "tiny", {"name": "anna"}, voice).save(folder / "adapter.safetensors")
    return folder


@pytest.fixture(scope="session", autouse=True)
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where what is loaded for many tests keeps what it measured of this machine."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENVALLE_HOME", str(home))
        yield home


@pytest.fixture(autouse=True)
def own_home(
    tmp_path_factory: pytest.TempPathFactory, shared_home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Every test has a folder of voices, models and settings of its own. It is empty but for which engine speaks a
    model here: that is measured by the first test that speaks it, so that all others hear the same one."""
    home, measured = tmp_path_factory.mktemp("home"), Path("cache", "engines.json")
    for name in [name for name in os.environ if name.startswith("OPENVALLE_") and name not in KEPT]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPENVALLE_HOME", str(home))
    if (shared_home / measured).is_file():
        (home / "cache").mkdir()
        shutil.copyfile(shared_home / measured, home / measured)
    yield home
    if (home / measured).is_file():
        (shared_home / "cache").mkdir(exist_ok=True)
        shutil.copyfile(home / measured, shared_home / measured)


@pytest.fixture
def esperanto(own_home: Path) -> None:
    """A language of the user's folder: it needs nothing that is not there."""
    folder = own_home / "languages" / "eo"
    folder.mkdir(parents=True)
    letters = "a b d e f i j k l m n o p r s t u v z".split()  # noqa: SIM905
    (folder / "letters.tsv").write_text("".join(f"{each}\t{each}\n" for each in letters))


@pytest.fixture(scope="session")
def speakers_of_many(tiny_codec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of four languages with ids for them, of random weights: with and without alignment (VALL-E X)."""
    from openvalle.model.ar import AR
    from openvalle.model.checkpoint import Bundle, BundleConfig, save_bundle
    from openvalle.model.config import ARConfig, NARConfig, TransformerConfig
    from openvalle.model.nar import NAR
    from openvalle.text.symbols import inventory

    torch.manual_seed(1)
    table, stack = inventory(), TransformerConfig(width=32, heads=2, depth=1, feedforward=64)
    folders = {}
    for name, alignment, merge in (("aligned", "phoneme", 2), ("paper", "none", 1)):
        shared = {"transformer": stack, "symbols": len(table), "alignment": alignment, "merge": merge}
        about = {"name": name, "licence": "Apache-2.0", "codec": tiny_codec.spec, "symbols_digest": table.digest}
        ar = ARConfig(**shared, languages=len(MANY), language_dropout=0.1, marks=table.marks)
        nar = NARConfig(**shared, **({} if merge == 2 else {"text": "target", "prompt": "sentence"}))
        config = BundleConfig(**about, ar=ar, nar=nar, languages=MANY)
        folders[name] = tmp_path_factory.mktemp("many") / name
        quick = {"symbol_frames": 8, "pause_frames": 8} if merge == 2 else {}
        save_bundle(Bundle(config, AR(ar), NAR(nar), table.vocabulary, quick), folders[name])
        tiny_codec.save(folders[name] / "codec")
    return folders


@pytest.fixture(scope="session")
def many(speakers_of_many: dict[str, Path]):
    """The aligned one of them, loaded."""
    from openvalle.synth.synthesizer import Synthesizer

    return Synthesizer.load(speakers_of_many["aligned"], engine="torch")  # a test changes its weights


KNOWN = (  # sentences of the test's translators, with what they say for them
    ("saw, see.", "今天天气很好。"),
    ("saw, see, saw, see", "你好我们今天去看大海天气很好。"),
    ("撒西，撒西。", "One two."),
    ("さあ、すい。", "amiko"),
    ("さあ、すい、さあ、すい。", "amiko"),
)


@pytest.fixture(scope="session")
def translators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of translators that know `KNOWN`, called by their languages."""
    for package in ("ctranslate2", "sentencepiece"):
        pytest.importorskip(package)
    from translator_samples import make_translator

    folder = tmp_path_factory.mktemp("translators")
    made = make_translator(folder / "en-zh", KNOWN)
    for pair in ("zh-en", "ja-eo", "en-eo"):
        shutil.copytree(made, folder / pair)
    return folder
