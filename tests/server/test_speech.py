"""OpenAI's endpoint, as the real client uses it: formats, streams, voices, what is wrong with a request."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import numpy as np
import openai
import pytest
import soundfile

from openvalle.server.formats import MEDIA_TYPES
from openvalle.synth.speech import join_speech

TEXT = "See the saw. So we see it."
MODEL = "tts-1"


def samples_in(pcm: bytes) -> np.ndarray:
    """The samples of 16-bit PCM, float32."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


def spoken(synthesizer, voice, text: str, seed: int = 0) -> np.ndarray:
    """What `Synthesizer.stream` says."""
    return np.concatenate([block.audio.samples for block in synthesizer.stream(text, voice, None, seed)])


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_every_format_is_streamed_and_can_be_played(served, name: str) -> None:
    client = served.client()
    create = client.audio.speech.with_streaming_response.create
    with create(model=MODEL, voice="alloy", input=TEXT, response_format=name) as answer:
        pieces = list(answer.iter_bytes())
    data = b"".join(pieces)
    assert answer.headers["content-type"] == MEDIA_TYPES[name]
    assert "content-length" not in answer.headers and "content-encoding" not in answer.headers
    assert len(pieces) > 2, "it came in one piece"
    plain = samples_in(
        client.audio.speech.create(model=MODEL, voice="alloy", input=TEXT, response_format="pcm").content
    )
    if name == "aac":
        av = pytest.importorskip("av")
        with av.open(io.BytesIO(data)) as file:
            heard = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
            rate = file.streams.audio[0].rate
    elif name == "pcm":
        heard, rate = samples_in(data), 24_000
    else:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            file.seekable = lambda: False  # the length of a stream is not known
            heard, rate = file.read(1 << 20), file.samplerate
    assert rate == 24_000
    assert abs(len(heard) - len(plain)) < 4000  # encoders fill their last frame
    if name in ("wav", "flac", "pcm"):
        assert np.abs(heard - plain).max() <= 1 / 32768


def test_the_default_is_mp3_and_a_voice_may_be_left_out(served) -> None:
    answer = served.http().post("/v1/audio/speech", json={"input": "Saw."})
    assert answer.status_code == 200 and answer.headers["content-type"] == "audio/mpeg"
    assert soundfile.info(io.BytesIO(answer.content)).format == "MP3"


def test_what_is_streamed_is_what_the_synthesizer_streams(served, synthesizer, buzz) -> None:
    options = {"model": MODEL, "voice": {"id": "buzz"}, "response_format": "pcm"}
    heard = served.client().audio.speech.create(input=TEXT, **options, extra_body={"seed": 3}).content
    wanted = spoken(synthesizer, buzz, TEXT, 3)
    assert np.abs(samples_in(heard) - wanted).max() < 1e-4
    other = served.client().audio.speech.create(input=TEXT, **options, extra_body={"seed": 4}).content
    assert other != heard


def test_a_whole_file_is_what_say_says_with_true_sizes(served, synthesizer, buzz) -> None:
    body = {"input": TEXT, "response_format": "wav", "stream": False, "seed": 5}
    answer = served.http().post("/v1/audio/speech", json=body)
    assert int(answer.headers["content-length"]) == len(answer.content)
    with soundfile.SoundFile(io.BytesIO(answer.content)) as file:
        heard = file.read()
        assert "openvalle" in file.comment  # where it comes from
    wanted = synthesizer.say(TEXT, buzz, seed=5).audio.samples
    assert len(heard) == len(wanted) and np.abs(heard - wanted).max() < 1e-4


def test_the_header_of_a_wav_stream_comes_in_one_piece_with_unknown_sizes(served) -> None:
    with served.http().stream("POST", "/v1/audio/speech", json={"input": TEXT, "response_format": "wav"}) as answer:
        head = next(answer.iter_raw())
    assert len(head) > 44 and head[:4] == b"RIFF" and head[4:8] == head[40:44] == b"\xff" * 4
    assert int.from_bytes(head[24:28], "little") == 24_000


def test_events_carry_the_file_and_what_it_took(served) -> None:
    options = {"model": MODEL, "voice": "alloy", "input": TEXT, "response_format": "pcm"}
    raw = served.client().audio.speech.create(**options, stream_format="sse")
    assert raw.response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in raw.content.decode().strip().split("\n\n")]
    kinds = [event["type"] for event in events]
    assert kinds[-1] == "speech.audio.done" and set(kinds[:-1]) == {"speech.audio.delta"} and len(kinds) > 3
    usage = events[-1]["usage"]
    assert usage["input_tokens"] > 5 and usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert sound == served.client().audio.speech.create(**options).content
    assert usage["output_tokens"] == pytest.approx(len(sound) / 2 / 320, abs=80)  # silence at joints is cut or added


def test_the_async_client_gets_the_same(served) -> None:
    options = {"model": MODEL, "voice": "alloy", "input": TEXT, "response_format": "pcm"}

    async def ask() -> list[bytes]:
        client = openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0)

        async def one(seed: int) -> bytes:
            create = client.audio.speech.with_streaming_response.create
            async with create(**options, extra_body={"seed": seed}) as answer:
                return b"".join([piece async for piece in answer.iter_bytes()])

        return list(await asyncio.gather(*(one(seed) for seed in (1, 2, 1))))

    first, second, again = asyncio.run(ask())
    assert first == again != second


def test_speed_and_loudness_change_the_sound(served) -> None:
    client = served.client()

    def heard(**more: object) -> tuple[np.ndarray, str]:
        options = {"model": MODEL, "voice": "alloy", "input": TEXT, "response_format": "pcm"}
        answer = client.audio.speech.with_raw_response.create(**options | more)
        return samples_in(answer.content), answer.headers.get("warning", "")

    plain, fast, faster = heard()[0], heard(speed=2)[0], heard(speed=4)
    assert len(fast) < 0.75 * len(plain)
    assert len(faster[0]) == len(fast) and "speed 4 is spoken as 2" in faster[1]
    quiet = heard(extra_body={"volume_multiplier": 0.5})[0]
    assert np.abs(quiet - plain / 2).max() < 2 / 32768
    short = heard(extra_body={"duration": 1.5})[0]
    assert len(short) == pytest.approx(1.5 * 24_000, abs=640)


@pytest.mark.parametrize("silent", ["None", "", " none "])
def test_instructions_that_say_nothing_are_nothing(served, silent: str) -> None:
    answer = served.http().post("/v1/audio/speech", json={"input": "Saw.", "instructions": silent})
    assert answer.status_code == 200 and "warning" not in answer.headers
    answer = served.http().post("/v1/audio/speech", json={"input": "Saw.", "instructions": "whisper"})
    assert "instructions are not followed" in answer.headers["warning"]


def test_unknown_fields_are_left_alone_with_a_word_or_refused(served, start) -> None:
    body = {"input": "Saw.", "exaggeration": 0.5, 'ev"il\r\n': 1, "voice": None}
    answer = served.http().post("/v1/audio/speech", json=body)
    assert answer.status_code == 200
    assert "unknown fields are left alone: 'exaggeration'" in answer.headers["warning"]
    strict = start(is_strict=True).http()
    answer = strict.post("/v1/audio/speech", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "exaggeration"
    answer = strict.post("/v1/audio/speech", json={"input": "Saw.", "model": "other"})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"
    assert strict.post("/v1/audio/speech", json={"input": "Saw.", "model": "tts-1-hd"}).status_code == 200


WRONG = {
    "no input": ({}, 400, "input"),
    "an empty input": ({"input": ""}, 400, "input"),
    "nothing to say": ({"input": "..."}, 400, None),
    "too long": ({"input": "a " * 2049}, 400, "input"),
    "a format": ({"input": "Saw.", "response_format": "ogg"}, 400, "response_format"),
    "a speed": ({"input": "Saw.", "speed": 5}, 400, "speed"),
    "no speed": ({"input": "Saw.", "speed": float("nan")}, 400, "speed"),
    "a voice": ({"input": "Saw.", "voice": "nobody"}, 404, "voice"),
    "a path": ({"input": "Saw.", "voice": "/etc/passwd"}, 404, "voice"),
    "a path in the text": ({"input": "[voice:../secret.safetensors] Saw."}, 404, "voice"),
    "a seed": ({"input": "Saw.", "seed": -1}, 400, "seed"),
    "half a character": ({"input": "Saw \ud800"}, 400, "input"),
    "a language": ({"input": "Saw.", "language": "de"}, 400, "language"),
    "an address": ({"input": "Saw.", "ref_audio": "http://127.0.0.1/a.wav"}, 400, "ref_audio"),
    "a file": ({"input": "Saw.", "ref_audio": "file:///etc/passwd"}, 400, "ref_audio"),
    "two voices": ({"input": "Saw.", "ref_audio": "data:a;base64,aa", "voice": "buzz"}, 400, None),
    "markup": ({"input": "[pause:x] Saw <speak>", "markup": "ssml"}, 400, "input"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_the_shape_that_clients_read(served, what: str) -> None:
    body, status, param = WRONG[what]
    headers = {"Content-Type": "application/json"}
    answer = served.http().post("/v1/audio/speech", content=json.dumps(body), headers=headers)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and set(answer.json()) == {"error"}
    assert error["type"] == "invalid_request_error" and error["param"] == param
    assert error["message"]


def test_the_real_client_raises_what_the_server_says(served) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        served.client().audio.speech.create(model=MODEL, voice="nobody", input="Saw.")
    assert raised.value.param == "voice" and raised.value.code == "voice_not_found"
    assert "buzz" in str(raised.value)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"input": "Saw."', b"[" * 100_000, b"\xff\xfe", b'"text"']
)
def test_a_body_that_is_no_request_is_refused(served, body: bytes) -> None:
    answer = served.http().post("/v1/audio/speech", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


def test_other_addresses_and_methods_are_refused_in_the_same_shape(served) -> None:
    answer = served.http().get("/v1/nothing")
    assert answer.status_code == 404 and "error" in answer.json()
    answer = served.http().get("/v1/audio/speech")
    assert answer.status_code == 405 and "error" in answer.json()


def test_the_words_of_markdown_are_spoken_without_its_signs(served) -> None:
    def heard(text: str) -> bytes:
        return served.http().post("/v1/audio/speech", json={"input": text, "response_format": "pcm"}).content

    assert heard("## **Saw** [see](https://example.com/a) `saw` \U0001f600\n\n- see") == heard("Saw see saw\n\nsee")
    assert heard("**Saw.** [see](/s\u0254/)") == heard("Saw. [see](/s\u0254/)") != heard("Saw. see")


def test_models_are_listed_as_clients_ask_for_them(served) -> None:
    listed = list(served.client().models.list())
    assert [model.id for model in listed] == ["openvalle"] and listed[0].object == "model"
    assert served.client().models.retrieve("tts-1").id == "tts-1"
    with pytest.raises(openai.NotFoundError):
        served.client().models.retrieve("other")
    assert [model["id"] for model in served.http().get("/v1/audio/models").json()["models"]] == ["openvalle"]


def test_a_link_is_kept_for_players_that_probe(served) -> None:
    http = served.http()
    answer = http.post("/v1/audio/speech", json={"input": "Saw.", "return_download_link": True})
    link, data = answer.headers["x-download-path"], answer.content
    assert http.get(link).content == data and http.get(link).headers["content-type"] == "audio/mpeg"
    probe = http.head(link)
    assert probe.status_code == 200 and not probe.content and int(probe.headers["content-length"]) == len(data)
    part = http.get(link, headers={"Range": "bytes=0-1"})
    assert part.status_code == 206 and part.content == data[:2]
    assert part.headers["content-range"] == f"bytes 0-1/{len(data)}"
    assert http.get(link, headers={"Range": "bytes=-3"}).content == data[-3:]
    assert http.get(link, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    assert http.get(f"{link}x").status_code == 404


def test_a_batch_answers_each_text_by_itself(served, synthesizer, buzz) -> None:
    items = [{"input": "Saw."}, {"input": "..."}, {"input": "See.", "seed": 7}, {"input": "So.", "speed": 99}, {}]
    body = {"items": items, "response_format": "wav", "seed": 2}
    answer = served.http().post("/v1/audio/speech/batch", json=body).json()
    assert [result["status"] for result in answer["results"]] == ["success", "error", "success", "error", "error"]
    assert (answer["total"], answer["succeeded"], answer["failed"]) == (5, 2, 3)
    for index, (text, seed) in {0: ("Saw.", 2), 2: ("See.", 7)}.items():
        heard, _ = soundfile.read(io.BytesIO(base64.b64decode(answer["results"][index]["audio_data"])))
        wanted = join_speech(list(synthesizer.sentences(text, buzz, None, seed))).audio.samples
        assert np.abs(heard - wanted).max() < 1e-4
    assert answer["results"][1]["error"]["type"] == "invalid_request_error"
    assert answer["results"][3]["error"]["param"] == "speed" and answer["results"][4]["error"]["param"] == "input"


def test_figures_are_there_for_prometheus(served) -> None:
    served.http().post("/v1/audio/speech", json={"input": "Saw."})
    figures = served.http().get("/metrics").text
    assert 'openvalle_requests_total{route="/v1/audio/speech",status="200"}' in figures
    for name in ("time_to_first_audio_seconds_count", "real_time_factor_count", "queue_depth", "audio_seconds_total"):
        assert f"openvalle_{name}" in figures
    assert 'openvalle_generation_stops_total{reason="' in figures


def test_it_is_alive_and_ready(served) -> None:
    assert served.http().get("/health").json() == {"status": "healthy"}
    assert served.http().get("/ready").json() == {"status": "ready"}
    assert served.http().head("/health").status_code == 200
