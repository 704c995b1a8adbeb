"""Words in time, dialogues, changed recordings, phones."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import soundfile

from openvalle.media import read

TEXT = "See the saw. So we see it."
CONSENT = "nobody's: made of buzz and hiss"


def test_words_come_with_their_times(served) -> None:
    body = {"input": TEXT, "response_format": "wav", "stream": False}
    whole = served.http().post("/dev/captioned_speech", json=body).json()
    sound, rate = soundfile.read(io.BytesIO(base64.b64decode(whole["audio"])))
    assert [word["word"] for word in whole["timestamps"]] == ["See", "the", "saw", "So", "we", "see", "it"]
    for word, after in zip(whole["timestamps"], whole["timestamps"][1:], strict=False):
        assert 0 <= word["start_time"] <= word["end_time"] <= after["start_time"] + 0.001
    assert whole["timestamps"][-1]["end_time"] <= len(sound) / rate + 0.001


def test_words_and_sound_are_streamed_line_by_line(served) -> None:
    body = {"input": TEXT, "response_format": "pcm", "seed": 3}
    with served.http().stream("POST", "/dev/captioned_speech", json=body) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.iter_lines()]
    sound = b"".join(base64.b64decode(line["audio"]) for line in lines)
    assert sound == served.http().post("/v1/audio/speech", json=body).content
    words = [word for line in lines for word in line["timestamps"] or ()]
    assert [word["word"] for word in words] == ["See", "the", "saw", "So", "we", "see", "it"]
    times = [word["start_time"] for word in words]
    assert times == sorted(times) and words[-1]["end_time"] <= len(sound) / 48_000 + 0.01
    assert len(lines) > 3


def test_a_dialogue_is_spoken_by_its_speakers(start, hum, tmp_path) -> None:
    one = start()
    one.server.voices.add("everybody", hum)
    turns = [{"speaker": "Anna", "text": "Saw."}, {"speaker": "Ben", "text": "**See.**", "pause": 0.1}]
    turns.append({"speaker": "Anna", "text": "So."})
    body = {"turns": turns, "voices": {"Anna": "hum", "Ben": "buzz"}, "response_format": "pcm", "stream": False}
    heard = one.http().post("/dev/dialogue", json=body)
    assert heard.status_code == 200, heard.text
    other = one.http().post("/dev/dialogue", json=body | {"voices": {"Anna": "buzz", "Ben": "hum"}})
    assert heard.content != other.content
    streamed = one.http().post("/dev/dialogue", json=body | {"stream": True}).content
    assert len(streamed) == pytest.approx(len(heard.content), rel=0.2)
    script = {"input": "[S1] Saw. [S2] See.", "voices": {"S1": {"id": "hum"}}, "response_format": "pcm"}
    plain = one.http().post("/dev/dialogue", json=script)
    captioned = one.http().post("/dev/dialogue", json=script | {"captions": True}).text.splitlines()
    lines = [json.loads(line) for line in captioned]
    assert b"".join(base64.b64decode(line["audio"]) for line in lines) == plain.content
    assert [line["speaker"] for line in lines if "speaker" in line] == ["S1", "S2"]
    assert [word["word"] for line in lines for word in line["timestamps"] or ()] == ["Saw", "See"]
    whole = one.http().post("/dev/dialogue", json=script | {"captions": True, "stream": False}).json()
    assert [word["word"] for word in whole["timestamps"]] == ["Saw", "See"]
    for wrong, param in (
        ({"input": "Nobody speaks."}, None),
        ({"input": "[S1] Hi.", "turns": turns}, None),
        ({}, None),
        ({"turns": turns, "voices": {"Cleo": "hum"}}, "voices"),
        ({"turns": turns, "voices": {"Anna": "nobody"}}, "voice"),
        ({"turns": [{"speaker": "Anna", "text": "[voice:hum] Saw."}]}, None),
        ({"turns": [{"speaker": str(n), "text": "Saw."} for n in range(9)]}, "voices"),
    ):
        answer = one.http().post("/dev/dialogue", json=wrong)
        assert answer.status_code in (400, 404) and answer.json()["error"]["param"] == param, wrong


def edit(http, clip: bytes, edits: object, **more: str):
    values = {"transcript": "saw, see, saw, see", "edits": json.dumps(edits), "consent": CONSENT} | more
    return http.post("/dev/edit", data=values, files={"audio": ("clip.wav", clip, "audio/wav")})


def test_words_of_a_recording_are_changed_and_the_rest_stays(served, clip_path, spoken) -> None:
    clip = clip_path.read_bytes()
    answer = edit(served.http(), clip, [{"old": "see saw", "new": "so"}])
    assert answer.status_code == 200, answer.text
    facts = json.loads(answer.headers["x-edit"])
    sound, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    assert facts["text"] == "saw so see" and facts["seconds"] == pytest.approx(len(sound) / rate, abs=0.001)
    before = read(clip_path, None).samples
    start = round(facts["spans"][0]["start"] * rate) - 300
    assert start > 1000 and np.array_equal(sound[:start], before[:start])
    for edits in ([], [{"old": "nothing"}], [{"old": "saw", "new": "so"}], [{"kind": "sing", "old": "saw"}], {}, "x"):
        assert edit(served.http(), clip, edits).status_code == 400
    wanted = [{"old": "see saw", "new": "so"}]
    assert edit(served.http(), clip, wanted, consent="").json()["error"]["param"] == "consent"
    assert edit(served.http(), clip, wanted, response_format="opus").status_code == 400
    assert edit(served.http(), clip, wanted, seed="x").status_code == 400
    junk = edit(served.http(), b"junk" * 99, wanted)
    assert junk.status_code == 400 and "/tmp" not in junk.text


def test_words_of_a_recording_are_found(served, clip_path) -> None:
    def ask(clip: bytes, **fields: str):
        return served.http().post("/dev/transcribe", data=fields, files={"audio": clip})

    told = ask(clip_path.read_bytes(), transcript="Saw, see,  saw, see").json()
    assert told["text"] == "Saw, see, saw, see" and told["seconds"] == pytest.approx(read(clip_path).seconds, abs=0.001)
    assert [word["word"] for word in told["words"]] == ["Saw", "see", "saw", "see"]
    begins = [word["start_time"] for word in told["words"]]
    assert begins == pytest.approx([0.3, 1.0, 2.2, 2.9], abs=0.15)  # see SAW_SEE in tests/conftest.py
    assert ask(clip_path.read_bytes(), transcript="It says something else, and much more of it.").status_code == 400
    assert ask(b"junk" * 99).status_code == 400 and ask(b"").status_code == 400
    heard = ask(clip_path.read_bytes())  # recognised, well or badly
    assert heard.status_code == 200 and len(heard.json()["words"]) > 0


def translate(http, clip: bytes, **fields: str):
    values = {"to": "eo", "from": "ja", "transcript": "さあ、すい、さあ、すい。", "consent": CONSENT} | fields
    return http.post("/dev/translate", data=values, files={"audio": ("clip.wav", clip, "audio/wav")})


@pytest.mark.usefixtures("esperanto")
def test_a_recording_is_spoken_in_another_language(start, many, translators, clip_path) -> None:
    pytest.importorskip("pyopenjtalk")
    http, clip = start(many, translators=(str(translators / "ja-eo"),)).http(), clip_path.read_bytes()
    answer = translate(http, clip)
    assert answer.status_code == 200, answer.text
    facts = json.loads(answer.headers["x-translation"])
    sound, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    assert (facts["from"], facts["to"]) == ("ja", "eo") and facts["seconds"] == pytest.approx(
        len(sound) / rate, abs=0.01
    )
    told = translate(http, clip, captions="true", fit="true", voice="buzz", consent="", response_format="flac").json()
    assert told["audio_format"] == "audio/flac" and base64.b64decode(told["audio"])[:4] == b"fLaC"
    (segment,) = told["segments"]
    assert segment["text"] == "さあ、すい、さあ、すい。" and segment["translation"] == "amiko"
    for fields, param in (
        ({"to": ""}, "to"),
        ({"to": "klingon"}, "to"),
        ({"to": "fr"}, "to"),
        ({"from": "klingon"}, None),
        ({"to": "ja"}, None),
        ({"from": "zh", "transcript": "撒西"}, None),
        ({"consent": ""}, "consent"),
        ({"seed": "x"}, "seed"),
        ({"response_format": "opus"}, "response_format"),
        ({"voice": "nobody"}, "voice"),
        ({"transcript": "..."}, None),
    ):
        wrong = translate(http, clip, **fields)
        assert wrong.status_code in (400, 404) and wrong.json()["error"]["param"] == param, (fields, wrong.text)
    junk = translate(http, b"junk" * 99)
    assert junk.status_code == 400 and "/tmp" not in junk.text


def test_a_server_without_a_translator_says_how_to_start_one(served, clip_path) -> None:
    answer = translate(served.http(), clip_path.read_bytes())
    error = answer.json()["error"]
    assert answer.status_code == 404 and error["code"] == "no_translator" and "serve --translator" in error["message"]


def test_phones_are_told(served) -> None:
    told = served.http().post("/dev/phonemize", json={"text": "See the saw 2 times."}).json()
    assert [word["word"] for word in told["words"]] == ["See", "the", "saw", "two", "times"]
    assert told["words"][0]["phones"] == ["S", "IY1"] and told["phonemes"].startswith("S IY1")
    assert served.http().post("/dev/phonemize", json={"text": "..."}).status_code == 400
    answer = served.http().post("/dev/phonemize", json={"text": "Saw.", "language": "xx"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "language"
