"""The engine without torch: the codes of the reference, and to the last bit the same row alone and among others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from lm_samples import AR_KINDS, ENTRIES, NAR_KINDS, ar_engine, bundle_of, decode, nar_engine, utterance
from openvalle.decode.ar import AROptions
from openvalle.decode.nar import fill
from openvalle.decode.prompt import ARPrompt, NARPrompt, prepare_inputs, zero_shot
from openvalle.engines.layers import Precision, pack_blocks
from openvalle.engines.onnx import load_ar, load_codec, load_nar
from openvalle.engines.onnx_ar import OnnxAR
from openvalle.engines.onnx_nar import OnnxNAR
from openvalle.engines.torch import TorchAR, TorchCodec, TorchNAR
from openvalle.engines.weights import Weights
from openvalle.errors import ModelError
from openvalle.model.bundle import read_description
from openvalle.model.checkpoint import Storage, load_bundle, save_bundle
from openvalle.types import to_alignment

TARGET = np.array([7, 8, 9, 10, 9, 8])
SHAPES = ((5, 24), (9, 48), (3, 12), (6, 36))  # symbols and frames of the prompts
GREEDY = {"sampling": {"temperature": 0.0}, "path_temperature": 0.0}


def weights_of(network: nn.Module) -> Weights:
    return Weights({name: value.numpy() for name, value in network.state_dict().items()}, Path("network"))


def both(kind: str, precision: Precision = Precision.FP32) -> tuple[TorchAR, OnnxAR]:
    torch_engine = ar_engine(kind)
    return torch_engine, OnnxAR(torch_engine.config, weights_of(torch_engine.network), precision)


def prompts_for(config) -> list[ARPrompt]:
    return [zero_shot(config, utterance(*shape, shape[1]), TARGET, 1).ar(config) for shape in SHAPES]


def follow(engine, forks: bool) -> list[np.ndarray]:
    """Return all scores of rows that join, leave, change places and go on as several."""
    rng, prompts = np.random.default_rng(0), prompts_for(engine.config)
    scores, state = engine.prefill(prepare_inputs(engine.config, prompts[:2]), room=1)
    heard, rows = [scores.codes], 2

    def step() -> None:
        nonlocal scores, state
        groups = rng.integers(ENTRIES, size=(rows, engine.config.group))
        scores, state = engine.step(groups, np.full(rows, 3), np.ones(rows, np.int64), state)
        heard.extend([scores.codes] if scores.phonemes is None else [scores.codes, scores.phonemes])

    step()
    other_scores, other = engine.prefill(prepare_inputs(engine.config, prompts[2:]), room=1)
    heard.append(other_scores.codes)
    state, rows = state.join(other), 4
    step()
    state, rows = state.keep(np.array([2, 0, 1])), 3
    for _ in range(3):
        step()
    if forks:
        state = state.fork(np.array([1, 1, 0]))
        step()
    return heard


@pytest.mark.parametrize("kind", AR_KINDS)
def test_scores_are_those_of_the_reference(kind: str) -> None:
    for expected, own in zip(*(follow(engine, forks=True) for engine in both(kind)), strict=True):
        assert own.dtype == np.float32
        np.testing.assert_allclose(own, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("how", ["greedy", "seeded"])
@pytest.mark.parametrize("kind", AR_KINDS)
def test_codes_are_those_of_the_reference(kind: str, how: str) -> None:
    options = AROptions.parse({"limit_frames": 60, **(GREEDY if how == "greedy" else {})})
    expected, own = (decode(each, prompts_for(each.config), options, [1, 2, 3, 4]) for each in both(kind))
    for right, found in zip(expected, own, strict=True):
        np.testing.assert_array_equal(found.codes, right.codes)
        assert found.stopped_by == right.stopped_by and (found.alignment is None) == (right.alignment is None)
        assert found.alignment is None or np.array_equal(found.alignment, right.alignment)


@pytest.mark.parametrize("kind", AR_KINDS)
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_NARROW])
def test_a_row_among_others_is_the_row_alone_to_the_last_bit(kind: str, precision: Precision) -> None:
    _, engine = both(kind, precision)
    prompts, rng = prompts_for(engine.config), np.random.default_rng(0)
    steps = rng.integers(ENTRIES, size=(6, 4, engine.config.group))
    _, together = engine.prefill(prepare_inputs(engine.config, prompts), room=6)
    alone = [engine.prefill(prepare_inputs(engine.config, [prompt]), room=1)[1] for prompt in prompts]
    for groups in steps:
        scores, together = engine.step(groups, np.full(4, 2), np.ones(4, np.int64), together)
        for row in range(4):
            own, alone[row] = engine.step(groups[[row]], np.full(1, 2), np.ones(1, np.int64), alone[row])
            np.testing.assert_array_equal(own.codes[0], scores.codes[row])


@pytest.mark.parametrize("kind", ["valle", "valle2", "builtin"])
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_NARROW, Precision.INT4])
def test_fewer_bits_stay_near(kind: str, precision: Precision) -> None:
    expected, own = (follow(engine, forks=False) for engine in both(kind, precision))
    spread = np.concatenate([each.ravel() for each in expected]).std()
    far = 0.5 if precision is Precision.INT4 else 0.06  # a width of 16 has few blocks of 32: most layers stay whole
    for right, found in zip(expected, own, strict=True):
        assert np.abs(found - right).mean() < far * spread


@pytest.mark.parametrize("kind", NAR_KINDS)
def test_the_other_codebooks_are_those_of_the_reference(kind: str) -> None:
    engine = nar_engine(kind)
    own, rows = OnnxNAR(engine.config, weights_of(engine.network), Precision.FP32), []
    for frames in (9, 14, 40):
        row = utterance(4, frames + 6, frames)
        rows.append(NARPrompt(row.text, row.codes[6:, 0], 0, row.codes[:6], to_alignment(row.durations), 1))
    for right, found in zip(fill(engine, rows), fill(own, rows), strict=True):
        np.testing.assert_array_equal(found, right)


def test_blocks_of_four_bits_unpack_to_what_was_packed() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float32)
    packed, scales = pack_blocks(weight)
    values = np.stack([packed & 15, packed >> 4], axis=-1).reshape(6, 2, 32).astype(np.float32) - 8
    step = np.abs(scales)[..., None]
    assert np.abs(values * scales[..., None] - weight.reshape(6, 2, 32)).max() <= step.max() * 1.001


def test_weights_that_do_not_fit_are_named() -> None:
    engine = ar_engine("builtin")
    good = weights_of(engine.network).values
    name = "transformer.blocks.0.up.weight"
    broken = {
        "no weight": {key: value for key, value in good.items() if key != name},
        "config.json says": good | {name: good[name][:3]},
        "no finite numbers": good | {name: np.full_like(good[name], np.nan)},
        "that the model does not": good | {"another": good[name]},
    }
    for message, values in broken.items():
        with pytest.raises(ModelError, match=message):
            OnnxAR(engine.config, Weights(values, Path("network")), Precision.FP32)


@pytest.fixture(scope="module")
def codecs(tiny_codec, tmp_path_factory: pytest.TempPathFactory):
    """The codec of the tests by the reference, in float32, and in 8 bits."""
    folder = tmp_path_factory.mktemp("codec")
    tiny_codec.save(folder)
    from openvalle.codec.builtin import BuiltinCodec

    saved = TorchCodec(BuiltinCodec.load(folder))
    return saved, load_codec(folder, Precision.FP32), load_codec(folder, Precision.INT8)


def test_the_codec_is_the_reference(codecs) -> None:
    reference, own, _ = codecs
    assert own.spec == reference.spec
    samples = np.random.default_rng(0).normal(0, 0.1, 320 * 40 + 7).astype(np.float32)
    for merge in (1, 2):
        codes = reference.encode(samples, merge)
        np.testing.assert_array_equal(own.encode(samples, merge), codes)
    np.testing.assert_allclose(own.decode(codes), reference.decode(codes), atol=1e-4)


@pytest.mark.parametrize("bits", [0, 1])
def test_blocks_of_the_codec_join_to_the_whole(codecs, bits: int) -> None:
    engine = codecs[1 + bits]
    codes = np.random.default_rng(0).integers(engine.spec.entries, size=(40, engine.spec.codebooks))
    stream = engine.stream()
    blocks = [stream.push(codes[start : start + 7]) for start in range(0, 40, 7)]
    np.testing.assert_allclose(np.concatenate([*blocks, stream.flush()]), engine.decode(codes), atol=1e-5)
    assert len(engine.stream().flush()) == 0


def test_the_codec_with_a_fine_end_is_the_reference(tmp_path: Path) -> None:
    import torch

    from openvalle.codec.builtin import BuiltinCodec
    from openvalle.codec.settings import BuiltinCodecConfig

    torch.manual_seed(0)
    sizes = {"encoder_width": 16, "encoder_depth": 1, "trunk_width": 16, "trunk_depth": 1, "decoder_width": 16}
    config = BuiltinCodecConfig(latent=8, decoder_depth=1, fine_depth=1, fine_width=16, **sizes)
    codec = BuiltinCodec(config).eval().requires_grad_(False)
    codec.quantizer.codebooks.normal_()
    assert codec.decoder.fine is not None
    codec.decoder.fine.pitch.leave.weight.normal_()
    codec.save(tmp_path)
    reference, own = TorchCodec(BuiltinCodec.load(tmp_path)), load_codec(tmp_path, Precision.FP32)
    codes = np.random.default_rng(1).integers(1024, size=(60, 8))
    expected = reference.decode(codes)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(own.decode(codes), expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["valle", "valle2", "builtin"])
def test_stored_in_8_bits_it_says_in_8_bits_what_it_said_before(kind: str, tmp_path: Path) -> None:
    save_bundle(bundle_of(kind), tmp_path / "before", Storage.FLOAT16)
    save_bundle(load_bundle(tmp_path / "before"), tmp_path / "after", Storage.INT8)
    before, after = (load_ar(read_description(tmp_path / name), Precision.INT8) for name in ("before", "after"))
    for right, found in zip(follow(before, forks=True), follow(after, forks=True), strict=True):
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("kind", ["valle", "builtin"])
def test_stored_in_8_bits_it_is_the_reference_in_float32(kind: str, tmp_path: Path) -> None:
    save_bundle(bundle_of(kind), tmp_path / "model", Storage.INT8)
    bundle, model = load_bundle(tmp_path / "model"), read_description(tmp_path / "model")
    engines = TorchAR(bundle.ar), load_ar(model, Precision.FP32)
    for expected, own in zip(*(follow(engine, forks=True) for engine in engines), strict=True):
        np.testing.assert_allclose(own, expected, atol=2e-5, rtol=1e-5)
    row = utterance(4, 20, 14)
    given = [NARPrompt(row.text, row.codes[6:, 0], 0, row.codes[:6], to_alignment(row.durations), 1)]
    expected, own = (fill(engine, given) for engine in (TorchNAR(bundle.nar), load_nar(model, Precision.FP32)))
    np.testing.assert_array_equal(own[0], expected[0])
