"""Each kind of system answers an item, and says clearly why it cannot."""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_samples import ESPEAK, espeak, item, speech_server, tone

from openvalle.audio import Audio
from openvalle.errors import ConfigError, UserError
from openvalle.evaluate.systems.base import settings_digest
from openvalle.evaluate.systems.config import build_candidate, parse_system, read_systems, short_system
from openvalle.evaluate.systems.external import (
    CommandConfig,
    CommandSystem,
    FolderConfig,
    FolderSystem,
    HttpConfig,
    HttpSystem,
    OpenAIConfig,
)
from openvalle.evaluate.systems.libraries import (
    CoquiConfig,
    CoquiSystem,
    TransformersConfig,
    TransformersSystem,
    to_audio,
)
from openvalle.evaluate.systems.ours import ModelConfig
from openvalle.media import write

COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
TELL = "import sys; open(sys.argv[1] + '.said', 'w').write(repr(sys.argv[2:]) + sys.stdin.read())"


def command(*parts: str, **more: Any) -> CommandSystem:
    return CommandSystem("c", CommandConfig(command=(sys.executable, "-c", *parts), **more))


def test_a_command_gets_its_prompt_and_gives_its_output() -> None:
    spoken = command(COPY, "{prompt}", "{output}").say(item(), tone(), seed=3)
    assert spoken.audio.seconds == pytest.approx(tone().seconds)
    assert spoken.seconds > 0


def test_placeholders_are_filled_once_and_never_reach_a_shell(tmp_path: Path) -> None:
    nasty = "say {output}; $(touch pwned) \"quoted\" 'x'"
    script = f"{TELL}; {COPY.replace('argv[1]', 'argv[3]').replace('argv[2]', 'argv[4]')}"
    system = command(script, str(tmp_path / "a"), "{text}", "{prompt}", "{output}", "{seed}", stdin="<{text}>")
    system.say(item(nasty), tone(), seed=7)
    said = (tmp_path / "a.said").read_text()
    assert repr(nasty) in said
    assert said.endswith(f"<{nasty}>")
    assert "'7'" in said
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("script", "more", "said"),
    [
        ("import sys; sys.exit('no voice today')", {}, "exit code 1: no voice today"),
        ("pass", {}, "wrote no {output}"),
        ("import time; time.sleep(60)", {"timeout": 0.3}, "took longer than 0.3 s"),
    ],
)
def test_a_command_that_fails_says_why(script: str, more: dict[str, Any], said: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=said):
        command(script, **more).say(item(), tone(), 0)
    assert time.monotonic() - started < 20


def test_a_command_that_is_not_there_or_writes_no_sound() -> None:
    with pytest.raises(UserError, match="cannot run /no/such"):
        CommandSystem("c", CommandConfig(command=("/no/such",))).say(item(), tone(), 0)
    with pytest.raises(UserError, match="cannot read"):
        command("import sys; open(sys.argv[1], 'w').write('text')", "{output}").say(item(), tone(), 0)
    with pytest.raises(ConfigError, match=r"no placeholder \{voice\}"):
        command("pass", "{voice}").say(item(), tone(), 0)


@pytest.mark.skipif(espeak() is None, reason="no espeak-ng: install it, or the wheel espeakng-loader")
def test_espeak_by_command_template() -> None:
    template = espeak()
    assert template
    system = CommandSystem("espeak", CommandConfig(command=template, stdin="{text}"))
    short, long = (system.say(item(text), tone(), 0).audio.seconds for text in ("Yes.", "Yes, this is much longer."))
    assert 0.2 < short < long < 10


def test_the_espeak_library_by_command_template() -> None:
    pytest.importorskip("espeakng_loader", reason="no espeak-ng: the wheel espeakng-loader is not installed")
    system = CommandSystem("e", CommandConfig(command=(sys.executable, str(ESPEAK), "{output}"), stdin="{text}"))
    assert 0.2 < system.say(item("Yes."), tone(), 0).audio.seconds < 3


def test_a_folder_gives_its_clips_and_misses_others(tmp_path: Path) -> None:
    write(tmp_path / "utt1-3.flac", tone(seconds=0.5))
    config = FolderConfig(path=str(tmp_path), pattern="{id}-{seed}")
    system = FolderSystem.load("f", config)
    spoken = system.say(item(), tone(), seed=3)
    assert spoken.audio.seconds == 0.5
    assert np.isnan(spoken.seconds), "nobody knows what it took"
    with pytest.raises(UserError, match="no clip utt1-4"):
        system.say(item(), tone(), seed=4)
    write(tmp_path / "utt1-4.wav", tone())
    assert FolderSystem.load("f", config).digest != system.digest, "new clips are judged anew"
    with pytest.raises(UserError, match="no folder"):
        FolderSystem.load("f", FolderConfig(path=str(tmp_path / "nowhere")))


def test_an_openai_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    with speech_server() as server:
        config = OpenAIConfig(url=f"{server.url}/v1/", voice="nova", key="$MY_KEY", extra={"seed": "{seed}"})
        system = HttpSystem("o", config)
        spoken = system.say(item("Hello."), tone(), seed=5)
        assert spoken.audio.seconds == pytest.approx(0.4 + 0.05 * 6)
        assert server.asked == [
            {"path": "/v1/audio/speech", "key": "Bearer s3cret", "model": "tts-1", "voice": "nova", "input": "Hello.",
             "response_format": "wav", "seed": 5}
        ]  # fmt: skip
        with pytest.raises(UserError, match=r"answers 400: .*cannot say that"):
            system.say(item("unspeakable"), tone(), 0)
        assert len(server.asked) == 2, "a refusal is not asked again"
    assert "s3cret" not in settings_digest(config) + config.model_dump_json()
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ConfigError, match="MY_KEY is not set"):
        system.say(item(), tone(), 0)


def test_other_http_interfaces() -> None:
    body = {"text": "{text}", "prompt": {"wav": "{prompt_base64}", "text": "{prompt_text}"}, "settings": [0.5, True]}
    with speech_server() as server:
        from_json = HttpConfig(url=f"{server.url}/json/{{speaker}}", body=body, audio_field="data.0.audio")
        from_pcm = HttpConfig(url=f"{server.url}/pcm", body={"text": "{text}"}, pcm_rate=24_000)
        for config in (from_json, from_pcm):
            spoken = HttpSystem("h", config).say(item("Hello."), tone(), 0)
            assert spoken.audio.seconds == pytest.approx(0.7, abs=0.01)
            assert abs(spoken.audio.samples).max() == pytest.approx(0.3, abs=0.01)
        asked = server.asked[0]
        assert (asked["path"], asked["prompt"]["text"], asked["settings"]) == ("/json/anna", "SAW SEE", [0.5, True])
        assert base64.b64decode(asked["prompt"]["wav"])[:4] == b"RIFF"
        with pytest.raises(UserError, match=r"no base64 sound at data\.1"):
            HttpSystem("h", from_json.model_copy(update={"audio_field": "data.1"})).say(item(), tone(), 0)


def test_overload_is_waited_for_and_redirects_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openvalle.evaluate.systems.external.WAIT_SECONDS", 0.01)
    with speech_server() as server:
        system = HttpSystem("h", HttpConfig(url=server.url, body={"text": "{text}"}, tries=3))
        server.replies = [(429, {"Retry-After": "0"}), (503, {})]
        assert system.say(item(), tone(), 0).audio.seconds > 0
        server.replies = [(503, {})] * 3
        with pytest.raises(UserError, match="answers 503"):
            system.say(item(), tone(), 0)
        server.replies = [(302, {"Location": "http://127.0.0.1:1/elsewhere"})]
        with pytest.raises(UserError, match=r"redirect to http://127\.0\.0\.1:1/elsewhere"):
            system.say(item(), tone(), 0)
    with pytest.raises(UserError, match=r"cannot reach 127\.0\.0\.1"):
        system.say(item(), tone(), 0)


def test_any_transformers_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    import json

    import torch

    letters = ["<pad>", *"abcdefghijklmnopqrstuvwxyz '.,"]
    (tmp_path / "vocab.json").write_text(json.dumps({letter: place for place, letter in enumerate(letters)}))
    transformers.VitsTokenizer(str(tmp_path / "vocab.json"), phonemize=False, pad_token="<pad>").save_pretrained(
        tmp_path
    )
    config = transformers.VitsConfig(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16, flow_size=16,
        spectrogram_bins=9, upsample_initial_channel=16, upsample_rates=[4, 4], upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]], duration_predictor_filter_channels=16,
        prior_encoder_num_flows=1, prior_encoder_num_wavenet_layers=1, posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1, depth_separable_num_layers=1, use_stochastic_duration_prediction=False,
        num_speakers=2, speaker_embedding_size=4,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.VitsModel(config).save_pretrained(tmp_path)
    settings = TransformersConfig(model=str(tmp_path), options={"speaker_id": 1})
    system = TransformersSystem.load("t", settings)
    state = torch.random.get_rng_state()
    one, same, other = (system.say(item("hello"), tone(), seed).audio for seed in (0, 0, 1))
    assert one.rate == 24_000
    np.testing.assert_array_equal(one.samples, same.samples)
    assert len(one.samples) != len(other.samples) or not np.array_equal(one.samples, other.samples)
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's draws are not disturbed"
    wrong = TransformersSystem("t", TransformersConfig(model="m", options={"speaker_id": 9}), system.pipeline)
    with pytest.raises(UserError, match=r"m failed: .*speaker_id"):
        wrong.say(item("hello"), tone(), 0)
    with pytest.raises(UserError, match="cannot load"):
        TransformersSystem.load("t", TransformersConfig(model=str(tmp_path / "nowhere")))


def test_coqui_is_asked_for_by_name() -> None:
    try:
        import TTS  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="pip install coqui-tts"):
            CoquiSystem.load("x", CoquiConfig())
    else:
        pytest.skip("coqui TTS is installed")


def test_whatever_libraries_call_sound() -> None:
    stereo = np.stack([tone().samples, tone().samples])
    for given in (stereo, stereo.T, stereo[0], stereo[0].tolist(), stereo[:1]):
        np.testing.assert_allclose(to_audio(given, 24_000).samples, tone().samples, atol=1e-6)
    assert isinstance(to_audio(np.zeros(16_000), 16_000), Audio)
    for bad in (np.zeros(0), np.zeros((2, 2, 2))):
        with pytest.raises(UserError, match="the model gave"):
            to_audio(bad, 24_000)


def test_settings_are_strict_and_have_short_forms(tmp_path: Path) -> None:
    path = tmp_path / "systems.yaml"
    path.write_text(
        "systems:\n"
        "  espeak: {kind: command, command: [espeak-ng, -w, '{output}', '{text}']}\n"
        "  eleven:\n"
        "    kind: http\n"
        "    url: https://api.elevenlabs.io/v1/text-to-speech/VOICE?output_format=pcm_24000\n"
        "    headers: {xi-api-key: $ELEVENLABS_API_KEY}\n"
        "    body: {text: '{text}', model_id: eleven_multilingual_v2, seed: '{seed}'}\n"
        "    pcm_rate: 24000\n"
    )
    systems = read_systems(path)
    assert [system.kind for system in systems.values()] == ["command", "http"]
    assert settings_digest(systems["espeak"]) != settings_digest(systems["eleven"])
    assert short_system("ours=model:builtin")[1] == parse_system("ours", {"kind": "model"})
    exact = parse_system("exact", {"kind": "model", "engine": "onnx-fp32"})
    assert isinstance(exact, ModelConfig) and exact.engine == "onnx-fp32"
    with pytest.raises(UserError, match="onnx-fp23"):
        build_candidate("x", exact.model_copy(update={"engine": "onnx-fp23"}))
    assert short_system("clips=folder:out/x")[1] == FolderConfig(path="out/x")
    assert short_system("api=openai:http://localhost:8000/v1")[1] == OpenAIConfig(url="http://localhost:8000/v1")
    for text in ("ours", "ours=abc:x", "=model:x", "a/b=model:x"):
        with pytest.raises(UserError):
            short_system(text)
    for given, said in (
        ({"kind": "openai"}, "url"),
        ({"kind": "openai", "url": "file:///etc/passwd"}, "url"),
        ({"kind": "http", "url": "http://x", "body": {}, "colour": 1}, "colour"),
        ({"kind": "nothing"}, "kind"),
    ):
        with pytest.raises(ConfigError, match=said):
            parse_system("x", given)
    path.write_text("espeak: {kind: model}\n")
    with pytest.raises(ConfigError, match="does not hold systems"):
        read_systems(path)
