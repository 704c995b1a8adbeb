"""`openvalle finetune`: a model and speech -> an adapter (or a whole model) that speaks like it, and a report."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from openvalle.errors import AudioError, ConfigError, TextError, UserError, import_extra
from openvalle.files import lock_folder
from openvalle.finetune.material import HELD_OUT, Material, gather
from openvalle.finetune.report import Comparison, Judged, compare
from openvalle.hub import Kind, find
from openvalle.model.adapter import ADAPTER_FILE, Adapter
from openvalle.model.bundle import BundleConfig
from openvalle.model.checkpoint import Part
from openvalle.prepare.executor import Progress
from openvalle.safety.consent import choose_policy, require_consent
from openvalle.synth.synthesizer import Synthesizer
from openvalle.synth.voice import Voice
from openvalle.train.lm import LanguageModelRecipe, train_language_model
from openvalle.train.loop import BEST
from openvalle.train.pack import PackRecipe, pack

log = logging.getLogger(__name__)

VALIDATE_EVERY = 25  # updates
FRAMES = 4000  # of a batch
TRIES = 5  # clips that are tried as the voice's prompt


class Method(StrEnum):
    """What is trained."""

    LORA = "lora"  # a small addition to the matrices: an adapter of a few megabytes
    FULL = "full"  # all weights: a model folder


RATES = {Method.LORA: 1e-3, Method.FULL: 1e-4}  # peak learning rates


@dataclass(frozen=True)
class FinetuneOptions:
    """How a model is fine-tuned; the defaults are for ten minutes of one voice."""

    method: Method = Method.LORA
    rank: int = 16
    steps: int = 600  # of each network, at most
    minutes: float | None = None  # of training in all, at most
    learning_rate: float | None = None  # None: what suits the method
    held_out: float = 0.1  # share of the utterances that training never sees
    patience: int = 4  # validations without improvement after which training ends
    judged: int = 6  # held-out sentences that are spoken for the report; 0: no report
    name: str = ""
    consent: str = ""
    asr: str = ""
    seed: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.held_out <= 0.5:
            raise ConfigError(f"{self.held_out:g} is no share to hold out", "give a number up to 0.5")


@dataclass(frozen=True)
class FinetuneResult:
    """What came of it: the adapter's file or the model's folder, and what the report compares."""

    path: Path
    seconds: float  # of speech
    comparison: Comparison | None


def finetune(
    model: str, source: Path, out: Path, options: FinetuneOptions | None = None, progress: Progress | None = None
) -> FinetuneResult:
    """Fine-tune `model` (a name or folder) on the speech at `source`; the same command goes on after any stop.

    `out` holds the adapter or the model, `report.md` with sounds and a picture, and what they were made from.
    `UserError` if there is too little speech, or if another process is at `out`.
    """
    options = options or FinetuneOptions()
    import_extra("torch.utils.tensorboard", "tensorboard", "train")
    name = options.name or source.resolve().stem
    require_consent(options.consent, name, choose_policy(None))
    folder = find(Kind.MODEL, model)
    config = BundleConfig.load(folder / "config.json")
    with lock_folder(out):
        share, asr = options.held_out, options.asr
        material = gather(source, out / "data", folder, config, share, asr, options.jobs, progress)
        log.info("%.1f min of speech, %d utterances held out", material.seconds / 60, len(material.of(HELD_OUT)))
        learnt = find_new_languages(material, config, options.method)
        for part in Part:
            train_language_model(part, make_recipe(folder, material, options, config, learnt), out / part.value)
        before = Synthesizer.load(folder, asr=asr)
        if options.method is Method.FULL:
            path = _write_model(folder, config, out, name)
            after = Synthesizer.load(path, asr=asr)  # which may speak a language that the one before does not
            voice = choose_voice(after, material, name, options.consent)
            voice.save(out / "voice.safetensors")
        else:
            voice = choose_voice(before, material, name, options.consent)
            path = _write_adapter(config, out, options, material, voice, name)
            after = Synthesizer.load(folder, adapter=path, asr=asr)
        comparison = None
        if options.judged:
            judged = Judged(material, voice, options.judged, options.seed, asr)
            comparison = compare(None if learnt else before, after, judged, out)
    return FinetuneResult(path, material.seconds, comparison)


def find_new_languages(material: Material, config: BundleConfig, method: Method) -> tuple[str, ...]:
    """Return the languages of the speech that the model does not know; `ConfigError` for an adapter, which adds to
    matrices and no vector of a language."""
    found = dict.fromkeys(row["language"] for row in material.rows)
    new = tuple(code for code in found if code not in config.languages)
    if new and method is Method.LORA:
        raise ConfigError(
            f"the model {config.name} does not know {', '.join(new)}, which an adapter cannot add",
            "use --method full; or, if the speech is in another language, say so in its manifest",
        )
    return new


def make_recipe(
    folder: Path, material: Material, options: FinetuneOptions, config: BundleConfig, learnt: tuple[str, ...]
) -> LanguageModelRecipe:
    """Return the recipe that both networks are trained by; `learnt`: languages that the model does not know yet."""
    loop: dict[str, Any] = {
        "steps": options.steps,
        "seconds": None if options.minutes is None else 60 * options.minutes / len(Part),
        "seed": options.seed,
        "optim": {
            "learning_rate": options.learning_rate or RATES[options.method],
            "warmup": 20,
            "weight_decay": 0.0,
            "ema": 0.95,
        },
        "log_every": 5,
        "validate_every": VALIDATE_EVERY,
        "save_minutes": 1.0,
        "keep": 1,
        "patience": options.patience,
    }
    pairs = 0.5 if material.rows and "score" in material.rows[0] else 0.0  # byte pairs cannot be joined
    values = {
        "data": str(material.tokens),
        "valid_split": HELD_OUT,
        "start": str(folder),
        "model": {"languages": len(config.languages) + len(learnt)} if learnt else {},
        "adapter": {"rank": options.rank} if options.method is Method.LORA else None,
        "loop": loop,
        "batches": {"frames": FRAMES, "pairs": pairs},
        "valid_batches": 16,
        "shows": False,  # the report does, at the end
    }
    return LanguageModelRecipe.parse(values, "the settings of finetune")


def choose_voice(synthesizer: Synthesizer, material: Material, name: str, consent: str) -> Voice:
    """Return the training clip that catches the voice best, as its prompt."""
    why: UserError = AudioError("there is no clip")
    for row in material.prompts()[:TRIES]:
        (clip,) = material.sounds([row])
        try:
            return synthesizer.voice(clip, row["text"], consent=consent, language=row["language"])
        except (AudioError, TextError) as error:
            why = error
    raise UserError(f"no clip can be the prompt of {name}: {why.what}", why.hint)


def _write_model(folder: Path, config: BundleConfig, out: Path, name: str) -> Path:
    """Write what was trained as a model, which decodes as the one in `folder` does; return its folder."""
    best = {part.value: out / part.value / BEST for part in Part}
    generation = (folder / "generation.json").read_text(encoding="utf-8")
    made = pack(PackRecipe.parse({**best, "name": name, "licence": config.licence}, "finetune"), out / "model")
    (made / "generation.json").write_text(generation, encoding="utf-8")
    return made


def _write_adapter(
    config: BundleConfig, out: Path, options: FinetuneOptions, material: Material, voice: Voice, name: str
) -> Path:
    """Write the adapter with the voice in it, and the voice beside it; return its path."""
    voice_file = voice.save(out / "voice.safetensors")
    parts = [Adapter.load(out / part.value / BEST / ADAPTER_FILE) for part in Part]
    adapter = Adapter(
        {key: tensors for part in parts for key, tensors in part.tensors.items()},
        {key: digest for part in parts for key, digest in part.digests.items()},
        config.name,
        {"name": name, "seconds of speech": f"{material.seconds:.0f}", "consent": options.consent},
        voice_file.read_bytes(),
    )
    return adapter.save(out / ADAPTER_FILE)
