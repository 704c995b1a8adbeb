"""Files of another project -> a model folder: found, recognised, checked, converted, and written with a card."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from openvalle.codec.load import ENCODEC, FILES, SPEECHTOKENIZER, keep_codec, load_codec
from openvalle.convert import amphion, amphion_v2, enhuiz, icefall, lifeiteng, plachtaa
from openvalle.convert.base import Converted, Given, Source, first_match
from openvalle.convert.plachtaa import VOICE
from openvalle.convert.weights import SAFETENSORS, StoredWeights, read_weights
from openvalle.decode.ar import AROptions
from openvalle.decode.failures import find_silence_codes
from openvalle.engines.torch import TorchCodec
from openvalle.errors import ModelError, UserError
from openvalle.files import sha256, write_text
from openvalle.hub import VOICE_SUFFIX, fetch, fetch_all, is_repository
from openvalle.model.ar import AR
from openvalle.model.bundle import OWN, BundleConfig
from openvalle.model.checkpoint import Bundle, Storage, save_bundle
from openvalle.model.nar import NAR
from openvalle.pipes import read_text
from openvalle.types import CodecSpec, Vocabulary

# The first that recognises a file is its source.
SOURCES: tuple[Source, ...] = (
    plachtaa.SOURCE,
    icefall.SOURCE,
    lifeiteng.SOURCE,
    amphion.SOURCE,
    amphion_v2.SOURCE,
    enhuiz.SOURCE,
)
NOT_WEIGHTS = re.compile(r"(optimizer|scheduler|random_states|scaler|sampler|training_args)[\w-]*\.\w+")
_STEP = re.compile(r"_step-(\d+)")
WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", SAFETENSORS)
# of a whole repository on the hub
WANTED = (*(f"*{suffix}" for suffix in WEIGHTS), "*.json", "*.yaml", "*.dict", "*symbols*", "*.npz")
UNWANTED = ("*optimizer*", "*scheduler*", "*random_states*", "*scaler*", "*training_args*")
CARD, VOICES = "README.md", "voices"
LIKE = {icefall.SOURCE, lifeiteng.SOURCE, amphion.SOURCE}  # which of them wrote a file cannot always be seen
_ON_THE_HUB = re.compile(r"hf://([\w-][\w.-]*/[\w-][\w.-]*)(@[\w.-]+)?/(.+)")
# codecs that lie among the files of a checkpoint: they are what the model is decoded with, and no model themselves
VOCOS = "vocos"
CODECS = {ENCODEC: "EnCodec", SPEECHTOKENIZER: "SpeechTokenizer", VOCOS: "a Vocos head"}
# Of each kind of codec, weights that no other has.
_CODEC_WEIGHTS = {
    ENCODEC: ("quantizer.layers.0.codebook.embed",),
    SPEECHTOKENIZER: ("quantizer.vq.layers.0._codebook.embed", "decoder.model.0.conv.conv.weight_g"),
    VOCOS: ("backbone.embed.weight", "head.out.weight"),
}


def find_source(name: str) -> Source:
    """Return the source of a name."""
    found = next((source for source in SOURCES if source.name == name), None)
    if found is None:
        names = ", ".join(sorted(source.name for source in SOURCES))
        raise UserError(f"there is no source {name!r}", f"use one of: {names}; or ask with --detect")
    return found


def find_files(places: Sequence[str]) -> list[Path]:
    """Return the files of paths, folders, and addresses `hf://owner/name` (all of it) and `hf://owner/name/file`."""
    found: list[Path] = []
    for place in places:
        if is_repository(place):
            found += _list_folder(fetch_all(place, WANTED, UNWANTED))
        elif address := _ON_THE_HUB.fullmatch(place):
            repository, revision, name = address.groups()
            found.append(fetch(f"hf://{repository}{revision or ''}", [name]) / Path(name).name)
        elif Path(place).is_dir():
            found += _list_folder(Path(place))
        elif Path(place).is_file():
            found.append(Path(place))
        else:
            raise ModelError(f"there is nothing at {place}", "give files, folders, or hf://owner/name[/file]")
    return found


def _list_folder(folder: Path) -> list[Path]:
    """Return the files of a folder, or of the snapshot in a folder of the hub's cache, as far as they may be needed."""
    if (folder / "snapshots").is_dir():
        snapshots = sorted((folder / "snapshots").iterdir(), key=lambda path: path.stat().st_mtime)
        main = folder / "refs" / "main"
        named = folder / "snapshots" / read_text(main).strip() if main.is_file() else folder
        folder = named if named in snapshots else (snapshots or [folder])[-1]
    inside = sorted(path for path in folder.rglob("*") if path.is_file())
    if not inside:
        raise ModelError(f"the folder {folder} is empty", "give the folder of a model")
    return _choose_newest([path for path in inside if not NOT_WEIGHTS.fullmatch(path.name)])


def _choose_newest(paths: list[Path]) -> list[Path]:
    """Return the files of a folder; of several checkpoints those of the last step."""
    steps = {path: int(found[1]) for path in paths if (found := _STEP.search(path.parent.name))}
    last = max(steps.values(), default=0)
    return [path for path in paths if steps.get(path, last) == last]


def detect(places: Sequence[str]) -> dict[str, str]:
    """Return, for each file of weights, the name of its source or, in words, what it is else."""
    said: dict[str, str] = {}
    for path in find_files(places):
        if path.suffix not in WEIGHTS:
            if str(path) in places:
                said[str(path)] = "a voice of plachtaa" if path.suffix == VOICE else "no file of weights"
            continue
        try:
            weights = read_weights(path)
            source = first_match(SOURCES, weights)
            codec = CODECS.get(find_codec(weights), "")
            said[str(path)] = source.name if source else codec or "weights, of no source that is known"
        except ModelError as error:
            said[str(path)] = error.what
    return said


@dataclass(frozen=True)
class ConversionOptions:
    """What people may choose."""

    symbols: Path | None = None
    settings: Mapping[str, Any] | None = None
    codec: str | None = None  # by default what the source's models are decoded with
    average: bool = False
    name: str | None = None
    storage: Storage = Storage.FLOAT32


def convert(source: Source, places: Sequence[str], out: Path, wishes: ConversionOptions) -> Converted | None:
    """Write the model of `places` into the folder `out`; return what it is made of.

    Voices alone are put into the model that is there already; then nothing is returned.
    """
    files = find_files(places)
    paths = [path for path in files if path.suffix in WEIGHTS]
    voices = [path for path in files if path.suffix == VOICE]
    if voices and source.read_voice is None:
        raise ModelError(f"{voices[0]} is no file of {source.name}", "voices in .npz files are of plachtaa")
    if voices and not paths:
        add_voices(source, voices, out)
        return None
    if not paths:
        raise ModelError(f"there are no weights among the files of {', '.join(places)}", f"give a {', '.join(WEIGHTS)}")
    weights, codecs = split_codecs([read_weights(path, average=wishes.average) for path in paths])
    for one in weights:
        _require_source(source, one)
    paths = [path for path in paths if str(path) in {one.source for one in weights}]
    others = tuple(path for path in files if path.suffix not in WEIGHTS)
    converted = source.convert(Given(weights, wishes.symbols, others, wishes.settings or {}))
    write_model(source, converted, paths, out, replace(wishes, codec=wishes.codec or name_codec(codecs, source.codec)))
    add_voices(source, voices, out)
    return converted


def find_codec(weights: StoredWeights) -> str:
    """Return the kind of codec that a file of weights is; nothing for other weights."""
    return next((kind for kind, names in _CODEC_WEIGHTS.items() if all(name in weights for name in names)), "")


def split_codecs(weights: Sequence[StoredWeights]) -> tuple[tuple[StoredWeights, ...], dict[str, Path]]:
    """Return the weights of models, and the folder of each kind of codec; `ModelError` for two of a kind."""
    models: list[StoredWeights] = []
    folders: dict[str, Path] = {}
    for one in weights:
        kind, folder = find_codec(one), Path(one.source).parent
        if not kind:
            models.append(one)
        elif folders.setdefault(kind, folder) != folder:
            raise ModelError(f"{CODECS[kind]} is in {folders[kind]} and in {folder}", "give one of them with --codec")
        elif kind != VOCOS and not (folder / FILES[0]).is_file():
            raise ModelError(
                f"{one.source} is {CODECS[kind]} without its {FILES[0]}", "give the folder that holds both"
            )
    return tuple(models), folders


def name_codec(folders: Mapping[str, Path], usual: str) -> str:
    """Return the address of the codec in these folders; `usual` is that of the source, and all of it without any."""
    if SPEECHTOKENIZER in folders and usual == SPEECHTOKENIZER:
        return f"{SPEECHTOKENIZER}:{folders[SPEECHTOKENIZER]}"
    if not usual.startswith(ENCODEC) or not folders.keys() & {ENCODEC, VOCOS}:
        return usual
    place = f":{folders[ENCODEC]}" if ENCODEC in folders else ""
    head = f"vocos={folders.get(VOCOS, '')}" if VOCOS in folders or "vocos=" in usual else ""
    return f"{ENCODEC}{place}?{head}"


def add_voices(source: Source, paths: Sequence[Path], out: Path) -> None:
    """Put voices into the folder `voices` of a converted model."""
    if not paths or source.read_voice is None:
        return
    config = BundleConfig.load(out / "config.json")
    vocabulary = Vocabulary.load(out / "symbols.json")
    for voice in [source.read_voice(path, config, vocabulary) for path in paths]:
        voice.save(out / VOICES / f"{voice.name}{VOICE_SUFFIX}")


def _require_source(source: Source, weights: StoredWeights) -> None:
    """Raise `ModelError` if the weights are another source's."""
    found = first_match(SOURCES, weights)
    is_near = found is source or {found, source} <= LIKE  # one layout in several projects
    if found is None:
        shown = ", ".join(list(weights.tensors)[:3])
        raise ModelError(f"{weights.source} is of no source that is known (it begins with {shown})", "see --detect")
    if not is_near:
        raise ModelError(f"{weights.source} is of the source {found.name}, not {source.name}", f"convert {found.name}")


def write_model(
    source: Source, converted: Converted, paths: Sequence[Path], out: Path, wishes: ConversionOptions
) -> None:
    """Write the folder of a model, with its codec where that lies on this machine, and its card."""
    AROptions.parse(dict(converted.generation), source.name)
    address = wishes.codec or source.codec
    loaded = load_codec(address)
    codec = loaded.spec
    wanted = converted.nar.codebooks, converted.nar.codebook_size
    if (codec.codebooks, codec.entries) != wanted:
        raise ModelError(
            f"the codec {address} has {codec.codebooks} codebooks of {codec.entries}, and the model {wanted[0]} of "
            f"{wanted[1]}",
            "give the codec that it was trained with: --codec",
        )
    ar, nar = (
        _fill(network, state, source.name)
        for network, state in (
            (AR(converted.ar), converted.ar_state),
            (NAR(converted.nar), converted.nar_state),
        )
    )
    with tempfile.TemporaryDirectory() as place:
        own = Path(place) / OWN
        config = BundleConfig.parse(
            {
                "name": wishes.name or out.name,
                "licence": source.licence,
                "languages": converted.languages,
                "codec": _name_codec(address, own, codec),
                "symbols_digest": converted.vocabulary.digest,
                "ar": converted.ar,
                "nar": converted.nar,
            },
            source.name,
        )
        assert isinstance(ar, AR) and isinstance(nar, NAR)
        generation = dict(converted.generation)
        generation["watch"] = {"silent": find_silence_codes(TorchCodec(loaded))} | generation.get("watch", {})
        bundle = Bundle(config, ar, nar, converted.vocabulary, generation)
        save_bundle(bundle, out, wishes.storage)
        if own.is_dir():
            shutil.rmtree(out / OWN, ignore_errors=True)
            shutil.copytree(own, out / OWN)
    write_text(out / CARD, write_card(source, converted, config, paths))


def _fill(network: nn.Module, state: dict[str, torch.Tensor], source: str) -> nn.Module:
    """Return the network with these weights, all of them."""
    missing = sorted(set(network.state_dict()) - set(state))
    assert not missing and len(state) == len(network.state_dict()), (source, missing[:5], sorted(state)[:5])
    network.load_state_dict(state)
    return network.eval()


def _name_codec(address: str, own: Path, codec: CodecSpec) -> CodecSpec:
    """Return the codec by the name that it is found by beside the model, where folders of this machine are copied."""
    kept = keep_codec(address, own)
    query = codec.name.partition("?")[2]
    if kept in (ENCODEC, f"{ENCODEC}?"):
        kept = f"{ENCODEC}?{query}"
    return codec.model_copy(update={"name": kept or codec.name})


def write_card(source: Source, converted: Converted, config: BundleConfig, paths: Sequence[Path]) -> str:
    """Return the card of a converted model."""
    lines = [
        f"# {config.name}",
        "",
        f"A model of [{source.name}]({source.repository}), converted by openvalle. Its numbers are those of revision "
        f"{source.revision[:7]} there.",
        "",
        f"- licence of what {source.name} publishes: {source.licence}; a checkpoint from elsewhere may have another",
        f"- languages: {', '.join(converted.languages)}",
        f"- speaks the codes of {config.codec.name} ({config.codec.digest})",
        *(f"- {note}" for note in converted.notes),
        "",
        "| file | SHA-256 |",
        "|---|---|",
        *(f"| {path.name} | {sha256(path)} |" for path in paths),
    ]
    return "\n".join(lines) + "\n"
