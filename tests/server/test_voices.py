"""Voices and consents: uploaded, kept over a restart, heard by nobody else, and forgotten."""

from __future__ import annotations

import base64
import errno
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from openvalle.errors import AudioError
from openvalle.media import write
from openvalle.safety.consent import ConsentPolicy
from openvalle.server import voices as voices_module
from openvalle.server.schema import MOST_BYTES, OPENAI_VOICES
from openvalle.server.voices import check_agreement
from openvalle.synth.voice import Voice

WORDS = "saw, see, saw, see"
CONSENT = "nobody's: made of buzz and hiss"


@pytest.fixture
def clip(clip_path: Path) -> bytes:
    return clip_path.read_bytes()


def upload(http, clip: bytes, name: str = "mine", **fields: str):
    values = {"name": name, "consent": CONSENT, "ref_text": WORDS} | fields
    return http.post("/v1/audio/voices", data=values, files={"audio_sample": ("clip.wav", clip, "audio/wav")})


def agree(http, clip: bytes, name: str = "Anna", language: str = "en-US"):
    files = {"recording": ("consent.wav", clip, "audio/wav")}
    return http.post("/v1/audio/voice_consents", data={"name": name, "language": language}, files=files)


def say(http, voice: object, **more: object):
    return http.post("/v1/audio/speech", json={"input": "Saw.", "voice": voice, "response_format": "pcm"} | more)


def test_voices_are_listed_in_the_shapes_that_clients_read(served) -> None:
    listed = served.http().get("/v1/audio/voices").json()
    assert listed["object"] == "list" and listed["data"] == listed["voices"]
    assert {"id": "buzz", "name": "buzz"}.items() <= listed["voices"][0].items()
    assert served.http().get("/v1/audio/voices/buzz").json()["object"] == "audio.voice"
    assert served.http().get("/v1/audio/voices/other").status_code == 404


@pytest.mark.parametrize("name", OPENAI_VOICES)
def test_openais_names_are_voices(served, name: str) -> None:
    assert say(served.http(), name).status_code == 200


def test_an_uploaded_voice_speaks_is_kept_over_a_restart_and_forgotten(start, clip, synthesizer, tmp_path) -> None:
    first = start(folder=tmp_path / "kept")
    answer = upload(first.http(), clip)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made["object"] == "audio.voice" and made["id"].startswith("voice_") and made["name"] == "mine"
    assert made["type"] == "audio_sample" and made["created_at"] > 1_700_000_000
    by_id = say(first.http(), {"id": made["id"]})
    assert by_id.status_code == 200
    assert by_id.content == say(first.http(), "mine").content != say(first.http(), "buzz").content
    kept = next((tmp_path / "kept").rglob("*.safetensors"))
    assert Voice.load(kept).consent == CONSENT and Voice.load(kept).text == WORDS

    again = start(folder=tmp_path / "kept")
    assert say(again.http(), made["id"]).content == by_id.content
    gone = again.http().delete(f"/v1/audio/voices/{made['id']}")
    assert gone.json() == {"id": made["id"], "deleted": True, "object": "audio.voice.deleted"}
    assert say(again.http(), "mine").status_code == 404 == say(first.http(), made["id"]).status_code
    assert again.http().delete(f"/v1/audio/voices/{made['id']}").status_code == 404
    assert not list((tmp_path / "kept").rglob("*.safetensors"))


def test_the_real_client_makes_a_voice_with_a_recorded_consent(start, clip) -> None:
    one = start()
    client = one.client()
    if not hasattr(client.audio, "voices"):
        pytest.skip("this client has no voices")
    consent = client.audio.voice_consents.create(
        name="Anna", language="en-US", recording=("consent.wav", clip, "audio/wav")
    )
    assert consent.object == "audio.voice_consent" and consent.id.startswith("cons_") and consent.language == "en-US"
    made = client.audio.voices.create(
        name="mine", consent=consent.id, audio_sample=("clip.wav", clip, "audio/wav"), type="audio_sample"
    )
    heard = client.audio.speech.create(model="tts-1", voice={"id": made.id}, input="Saw.", response_format="pcm")
    assert len(heard.content) > 1000
    assert Voice.load(next(one.folder.rglob("*.safetensors"))).consent.startswith(f"{consent.id}: Anna, 20")


def test_consents_are_listed_renamed_and_withdrawn_with_the_voices_that_rest_on_them(start, clip) -> None:
    http = start().http()
    ids = [agree(http, clip, name).json()["id"] for name in ("Anna", "Ben", "Cleo")]
    listed = http.get("/v1/audio/voice_consents", params={"limit": 2}).json()
    assert listed["has_more"] and len(listed["data"]) == 2 and listed["last_id"] == listed["data"][1]["id"]
    rest = http.get("/v1/audio/voice_consents", params={"after": listed["last_id"]}).json()
    assert not rest["has_more"] and {item["id"] for item in listed["data"] + rest["data"]} == set(ids)
    assert http.get(f"/v1/audio/voice_consents/{ids[0]}").json()["name"] == "Anna"
    assert http.post(f"/v1/audio/voice_consents/{ids[0]}", json={"name": "Ann"}).json()["name"] == "Ann"
    assert http.post(f"/v1/audio/voice_consents/{ids[0]}", json={}).status_code == 400
    made = upload(http, clip, consent=ids[0]).json()["id"]
    assert upload(http, clip, "other", consent=ids[1]).status_code == 200
    gone = http.delete(f"/v1/audio/voice_consents/{ids[0]}").json()
    assert gone == {"object": "audio.voice_consent", "id": ids[0], "deleted": True, "voices": [made]}
    assert say(http, made).status_code == 404 and say(http, "other").status_code == 200
    assert http.get(f"/v1/audio/voice_consents/{ids[0]}").status_code == 404
    assert upload(http, clip, "third", consent=ids[0]).status_code == 404


def test_a_voice_made_from_words_is_refused_with_the_reason(served) -> None:
    body = {"type": "prompt", "name": "wizard", "prompt": "an old wizard"}
    answer = served.http().post("/v1/audio/voices", json=body)
    assert answer.status_code == 400 and "recording" in answer.json()["error"]["message"]
    assert served.http().post("/v1/audio/voices", json={"type": "prompt"}).json()["error"]["param"] == "name"


def test_an_upload_without_consent_name_or_speech_is_refused(served, clip) -> None:
    http = served.http()
    for fields, param in (({"consent": ""}, "consent"), ({"name": ""}, "name"), ({"name": "x" * 201}, "name")):
        answer = upload(http, clip, **{"name": "mine"} | fields)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == param
    for junk in (b"", b"junk" * 1000, b"RIFF\xff\xff\xff\xffWAVE"):
        answer = upload(http, junk)
        assert answer.status_code == 400 and "/tmp" not in answer.text and "openvalle-" not in answer.text
    assert upload(http, b"\0" * (MOST_BYTES + 1)).status_code == 413
    assert (
        upload(http, clip, ref_text="The quick brown fox jumps over the lazy dog again and again.").status_code == 400
    )
    assert upload(http, clip, language="xx").status_code == 400
    answer = http.post("/v1/audio/voices", data={"name": "mine", "consent": CONSENT})
    assert answer.status_code == 400
    assert not [voice for voice in http.get("/v1/audio/voices").json()["data"] if voice["id"].startswith("voice_")]


def test_a_name_is_taken_once(start, clip) -> None:
    http = start().http()
    assert upload(http, clip).status_code == 200
    assert upload(http, clip).json()["error"]["code"] == "voice_exists"


def test_one_keys_voices_are_not_anothers(start, clip, tmp_path) -> None:
    one = start(keys=("first-key", "second-key"))
    mine = upload(one.http("first-key"), clip).json()["id"]
    consent = agree(one.http("first-key"), clip).json()["id"]
    assert say(one.http("first-key"), mine).status_code == 200
    other = one.http("second-key")
    for name in (mine, "mine"):
        assert say(other, name).status_code == 404
    assert other.delete(f"/v1/audio/voices/{mine}").status_code == 404
    assert other.get(f"/v1/audio/voice_consents/{consent}").status_code == 404
    assert not other.get("/v1/audio/voice_consents").json()["data"]
    assert upload(other, clip, "theirs", consent=consent).status_code == 404
    assert mine not in other.get("/v1/audio/voices").text
    stranger = one.http().get("/v1/audio/voices").json()["voices"]
    assert not [voice for voice in stranger if voice["id"] in (mine, "buzz")]
    names = [path.name for path in one.folder.iterdir()]
    assert names and not any("key" in name for name in names)


def test_a_voice_for_one_request_comes_with_it(served, start, clip, synthesizer) -> None:
    body = {"ref_audio": "data:audio/wav;base64," + base64.b64encode(clip).decode(), "ref_text": WORDS}
    answer = say(served.http(), None, **body, consent=CONSENT)
    assert answer.status_code == 200
    heard = upload(start().http(), clip)
    assert heard.status_code == 200
    missing = say(served.http(), None, **body)
    assert missing.status_code == 400 and missing.json()["error"]["param"] == "consent"
    free = start(replace(synthesizer, policy=ConsentPolicy.OFF)).http()
    assert say(free, None, **body).content == answer.content
    assert say(served.http(), None, ref_audio="data:audio/wav;base64,!!!", consent=CONSENT).status_code == 400
    junk = base64.b64encode(b"junk" * 99).decode()
    answer = say(served.http(), None, ref_audio=f"data:audio/wav;base64,{junk}", consent=CONSENT)
    assert answer.status_code == 400 and "/tmp" not in answer.text


@pytest.mark.parametrize("kind", ["voice", "consent"])
def test_a_full_disk_is_told_and_leaves_nothing(start, clip, monkeypatch, kind: str) -> None:
    one = start()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if kind == "voice":
        monkeypatch.setattr(Voice, "save", full)
        answer = upload(one.http(), clip)
    else:
        monkeypatch.setattr(voices_module, "write_text", full)
        answer = agree(one.http(), clip)
    assert answer.status_code == 507 and answer.json()["error"]["code"] == "disk_full"
    assert not [path for path in one.folder.rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert (upload if kind == "voice" else agree)(one.http(), clip).status_code == 200


def test_a_damaged_voice_is_left_out(start, clip, tmp_path) -> None:
    one = start()
    assert upload(one.http(), clip).status_code == 200
    kept = next(one.folder.rglob("*.safetensors"))
    kept.with_name("voice_" + "0" * 24 + ".safetensors").write_bytes(b"junk")
    consents = kept.parents[1] / "consents"
    consents.mkdir(exist_ok=True)
    (consents / "cons_0.json").write_text(json.dumps({"id": 1}))
    assert len([v for v in one.http().get("/v1/audio/voices").json()["data"] if v["id"].startswith("voice_")]) == 1
    assert one.http().get("/v1/audio/voice_consents").json()["data"] == []


def test_compressed_recordings_are_read(start, spoken, tmp_path) -> None:
    http = start().http()
    for ending in ("mp3", "flac", "ogg"):
        data = write(tmp_path / f"clip.{ending}", spoken).read_bytes()
        assert upload(http, data, ending).status_code == 200, ending
    av = pytest.importorskip("av")
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=spoken.rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(spoken.samples[None], format="fltp", layout="mono")
        frame.sample_rate = spoken.rate
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert upload(http, sink.getvalue(), "m4a").status_code == 200


@pytest.mark.parametrize(
    ("language", "said"), [("zh-CN", "我同意使用我的声音"), ("ja", "許可します"), ("en-US", "I agree")]
)
def test_who_agrees_is_heard_in_their_language(clip, monkeypatch, language, said) -> None:
    from openvalle.speech_models import asr

    class Whisper(asr.WhisperRecognizer):
        knows_languages = True  # type: ignore[assignment]

        def __init__(self) -> None:
            self.name = "whisper of a test"

        def transcribe(self, audio, language: str = "en") -> asr.Transcript:
            return asr.Transcript(spoken[language])

    monkeypatch.setattr(asr, "load_recognizer", lambda name: Whisper())
    monkeypatch.setenv(asr.CHOICE, "whisper")
    spoken = {language.partition("-")[0]: said}
    assert check_agreement(clip, language) == said
    spoken = dict.fromkeys(spoken, "42")
    with pytest.raises(AudioError, match="does not say that its speaker agrees"):
        check_agreement(clip, language)
    monkeypatch.delenv(asr.CHOICE)
    monkeypatch.setattr(asr, "find_spec", lambda name: None)
    assert check_agreement(clip, language) == "", "who hears too badly, or nothing, refuses nobody"
