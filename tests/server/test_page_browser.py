"""The page in a real browser, from the first click to the samples that sound."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from browser import Browser, browser, programs
from openvalle.audio import Audio
from openvalle.media import read, write
from openvalle.synth.generate import SpeechGenerator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        programs() is None, reason="no browser: install chromium and chromium-driver, or set CHROME and CHROMEDRIVER"
    ),
]
TEXT = "See the saw, so we see it. And so we saw the sea, and the sun.\n\nSo it costs $5."
LONG = "See the saw, so we see it. " * 150
SAID = "saw, see, saw, see"
CONSENT = "nobody's: made of buzz and hiss"
RATE = 24_000
# Before the page's own scripts: keep what Web Audio is given to play and when, and listen to what comes out of it.
SPY = """
window.given = []; window.loudest = 0; window.blocked = []; window.lit = []; window.states = [];
const { start } = AudioBufferSourceNode.prototype, { connect } = AudioNode.prototype;
AudioBufferSourceNode.prototype.start = function (when, ...rest) {
  const samples = Array.from(this.buffer.getChannelData(0), (sample) => Math.round(sample * 32768));
  const isEarly = document.getElementById("go").textContent === "Stop";
  given.push({ when, samples, rate: this.buffer.sampleRate, isEarly });
  return start.call(this, when, ...rest);
};
let meter = null;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    meter ||= new AnalyserNode(to.context, { fftSize: 2048 });
    connect.call(this, meter);
  }
  return connect.call(this, to, ...rest);
};
setInterval(() => {
  const samples = new Float32Array(2048);
  meter?.getFloatTimeDomainData(samples);
  loudest = Math.max(loudest, ...samples.map(Math.abs));
}, 20);
new MutationObserver((changes) => {
  for (const { target, attributeName } of changes) {
    if (attributeName === "data-state") states.push(target.dataset.state);
    else if (target.ariaCurrent && target.matches("#reading .word")) lit.push(target.textContent);
  }
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-state", "aria-current"] });
document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.blockedURI));
"""
STATE = "document.getElementById('state').textContent"
NOTICE = "document.getElementById('notice')"
WORDS = "[...document.querySelectorAll('#reading .word')].map((word) => word.textContent)"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory, spoken: Audio) -> Iterator[Browser]:
    """A browser whose microphone hears crude speech; what pages save goes to its folder `saved`."""
    folder = tmp_path_factory.mktemp("browser")
    microphone = write(folder / "microphone.wav", Audio(np.tile(spoken.samples, 3), spoken.rate))
    (folder / "saved").mkdir()
    with browser(folder / "saved", microphone=microphone) as one:
        one.saved = folder / "saved"
        one.control("Page.addScriptToEvaluateOnNewDocument", source=SPY)
        yield one


def visit(window: Browser, url: str) -> None:
    window.open(url)
    window.run("sessionStorage.clear()")
    window.wait(f"{STATE} === 'Ready.'")


def speak(window: Browser, text: str) -> None:
    window.type("#text", text)
    window.click("#go")
    await_sound(window)


def await_sound(window: Browser, seconds: float = 60.0) -> None:
    window.wait(f"{STATE}.startsWith('Done') || !{NOTICE}.hidden", seconds=seconds)
    assert window.run(f"return {NOTICE}.hidden"), window.text()


def given(window: Browser) -> np.ndarray:
    """All that Web Audio was given since the page came, (samples,)."""
    parts = window.run("return given")
    assert {part["rate"] for part in parts} == {RATE}
    return np.concatenate([part["samples"] for part in parts])


def pcm(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<i2")


def await_file(folder: Path, ending: str) -> Path:
    for _ in range(300):
        if found := list(folder.glob(f"*.{ending}")):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"no .{ending} was saved")


def test_from_the_first_click_to_the_samples_that_sound(served, window) -> None:
    visit(window, served.url)
    window.type("#seed", "7")
    speak(window, TEXT)
    window.wait("document.getElementById('player').dataset.state === 'still'", seconds=60)  # played to its end
    body = {"input": TEXT, "seed": int(window.run("return document.getElementById('seed').value"))}
    expected = pcm(served.http().post("/v1/audio/speech", json=body | {"response_format": "pcm"}))
    np.testing.assert_array_equal(given(window), expected)
    parts = window.run("return given.map(({ when, samples, isEarly }) => [when, samples.length / 24000, isEarly])")
    assert parts[0][2], "it is heard while it is still being made"
    for (when, seconds, _), (after, *_) in pairwise(parts):
        assert after >= when + seconds - 1e-6, "nothing sounds twice at a time"
    assert window.run("return loudest") > 0.01, "it comes out of Web Audio"


def test_words_light_up_when_they_are_said_and_are_heard_from_when_chosen(served, window) -> None:
    visit(window, served.url)
    speak(window, TEXT)
    words = window.run(f"return {WORDS}")
    assert words == TEXT.split()
    body = {"input": TEXT, "response_format": "wav", "stream": False}
    told = served.http().post("/dev/captioned_speech", json=body).json()["timestamps"]
    told = [word for word in told if word["word"] not in ("five", "dollars")]
    window.press("Escape")
    for place, word in enumerate(told):
        middle = (word["start_time"] + word["end_time"]) / 2
        lit = window.run(
            "const place = document.getElementById('place'); place.value = arguments[0];"
            "place.dispatchEvent(new Event('input'));"
            "return [...document.querySelectorAll('#reading .word')].findIndex((one) => one.classList.contains('lit'))",
            middle,
        )
        if word["end_time"] - word["start_time"] > 0.03:  # the slider's step is 0.01 s
            assert lit == place, (word, words[lit])
    expected = pcm(served.http().post("/v1/audio/speech", json=body | {"response_format": "pcm", "stream": True}))
    window.run("given.length = lit.length = states.length = 0")
    window.click("#reading .word:nth-of-type(4)")
    window.wait("states.at(-1) === 'still'")
    start = round(told[3]["start_time"] * RATE)
    np.testing.assert_array_equal(window.run("return given[0].samples"), expected[start:])
    lit = window.run("return lit")
    assert lit[0] == "so" and lit[-1] == "$5."
    places = [(words.index(word, 3), word) for word in lit if words.count(word) == 1]
    assert places == sorted(places) and len(lit) > 5, lit


def test_spoken_words_are_placed_on_written_ones(served, window) -> None:
    visit(window, served.url)
    said = ["Mister", "Smith", "paid", "five", "dollars", "at", "three", "o'clock"]
    times = [{"word": word, "start_time": at, "end_time": at + 1} for at, word in enumerate(said)]
    placed = window.run(
        "return import('/page/reading.js').then(({ placeWords }) => placeWords(...arguments))",
        'Mr. Smith paid $5 at "3 o\'clock"  –',
        times,
    )
    found = [(word["text"], word["start"], word["end"]) for word in placed]
    assert found == [
        *(
            ("Mr.", 0, 1),
            ("Smith", 1, 2),
            ("paid", 2, 3),
            ("$5", 3, 5),
            ("at", 5, 6),
            ('"3', 6, 7),
            ("o'clock\"", 7, 8),
        ),
        ("–", 8, 8),
    ]
    nothing = "return import('/page/reading.js').then(({ placeWords }) => placeWords(...arguments).length)"
    assert window.run(nothing, "See the saw.", []) == 3 and window.run(nothing, " ", times) == 0


def test_what_was_made_is_saved_and_heard_again(served, window) -> None:
    visit(window, served.url)
    speak(window, "See the saw.")
    window.click("#save-wav")
    window.click("#save-mp3")
    wav, mp3 = await_file(window.saved, "wav"), await_file(window.saved, "mp3")
    samples, rate = soundfile.read(wav, dtype="int16")
    assert rate == RATE and (wav.name, mp3.name) == ("see-the-saw-0.wav", "see-the-saw-0.mp3")
    np.testing.assert_array_equal(samples, given(window))
    window.wait(f"{STATE} === 'Saved.'")
    assert abs(read(mp3).seconds - len(samples) / RATE) < 0.15
    window.click("#other-seed")
    window.run("document.getElementById('speed').value = '1.5'")
    window.run("document.getElementById('speed').dispatchEvent(new Event('input'))")
    assert "1.5×" in window.text()
    window.click("#go")
    await_sound(window)
    seed = int(window.run("return document.getElementById('seed').value"))
    body = {"input": "See the saw.", "seed": seed, "speed": 1.5, "response_format": "pcm"}
    expected = pcm(served.http().post("/v1/audio/speech", json=body))
    np.testing.assert_array_equal(given(window)[len(samples) :], expected)
    window.run("given.length = 0")
    window.click("#history li:nth-child(2) .take")  # the older one
    window.wait("given.length")
    assert window.run("return document.activeElement.matches('#history li:nth-child(2) .take')"), "the focus stays"
    np.testing.assert_array_equal(window.run("return given[0].samples"), samples)
    window.run("document.getElementById('text').value = ''")
    window.click("#history li:nth-child(2) [aria-label^='Use again']")
    assert window.run("return [document.getElementById('text').value, document.getElementById('seed').value]") == [
        "See the saw.",
        "0",
    ]


def test_a_voice_is_made_of_a_file_with_consent_and_of_nothing_without(start, window, speak: object, tmp_path) -> None:
    one = start()
    clip = write(tmp_path / "clip.wav", speak(160.0))  # type: ignore[operator]
    visit(window, one.url)
    window.click("#add-voice")
    window.type("#voice-source input[type=file]", str(clip))
    window.wait("document.querySelector('#voice-source audio')")
    window.type("#voice-name", "Anna")
    window.type("#voice-said", SAID)
    window.click("#voice-save")
    assert window.run("return document.activeElement.id") == "voice-consent", "the browser asks for it"
    window.type("#voice-consent", "no")
    window.click("#voice-save")
    window.wait("!document.getElementById('voice-problem').hidden")
    assert "who agreed" in window.text() and not any("voice_" in voice["id"] for voice in voices(one))
    window.type("#voice-consent", f"body's: {CONSENT}")
    window.click("#voice-save")
    window.wait("!document.getElementById('voice-dialog').open", seconds=30)
    (added,) = (voice for voice in voices(one) if voice["name"] == "Anna")
    assert added["consent"] == f"nobody's: {CONSENT}"
    assert window.run("return document.getElementById('voice').value") == added["id"]
    speak_text(window, "See the saw.")
    body = {"input": "See the saw.", "voice": added["id"], "response_format": "pcm"}
    np.testing.assert_array_equal(given(window), pcm(one.http().post("/v1/audio/speech", json=body)))
    window.run("window.confirm = () => true")
    window.click("#remove-voice")
    window.wait(f"{STATE}.includes('is gone')")
    assert not any(voice["name"] == "Anna" for voice in voices(one))
    assert window.run("return document.getElementById('remove-voice').hidden")


def voices(one) -> list[dict]:
    return one.http().get("/v1/audio/voices").json()["voices"]


speak_text = speak  # the fixture `speak` makes crude speech


def test_a_voice_is_recorded_with_the_microphone(start, window) -> None:
    one = start()
    visit(window, one.url)
    window.click("#add-voice")
    window.click("#voice-source .record")
    window.wait("parseFloat(document.querySelector('.level div')?.style.getPropertyValue('--level')) > 0.05")
    assert "Read this aloud" in window.text()
    window.wait("document.querySelector('#voice-source .time').textContent === '0:05'", seconds=20)
    window.click("#voice-source .stop")
    window.wait("document.querySelector('#voice-source audio')")
    assert window.run("return document.getElementById('voice-said').value").startswith("When the sunlight")
    window.run("document.getElementById('voice-said').value = arguments[0]", f"{SAID}, saw, see")
    window.type("#voice-name", "Recorded")
    window.type("#voice-consent", CONSENT)
    window.click("#voice-save")
    window.wait(
        "!document.getElementById('voice-dialog').open || !document.getElementById('voice-problem').hidden", seconds=30
    )
    (added,) = [voice for voice in voices(one) if voice["name"] == "Recorded"] or [window.text()]
    assert 2.5 < added["seconds"] < 6.5


def test_a_dialogue_has_a_voice_for_each_speaker(start, window, hum) -> None:
    one = start()
    key = one.server.voices.add("everybody", hum)["id"]
    script = "[S1] See the saw. [S2] So we see it. [S1] So."
    visit(window, one.url)
    window.click("#tab-dialogue")
    window.type("#script", script)
    chosen = "return [...document.querySelectorAll('#cast select')].map((each) => each.value)"
    assert window.run(chosen) == ["buzz", key], "another voice for another speaker"
    window.click("#go")
    await_sound(window)
    body = {"input": script, "voices": {"S1": "buzz", "S2": key}, "response_format": "pcm"}
    np.testing.assert_array_equal(given(window), pcm(one.http().post("/dev/dialogue", json=body)))
    assert window.run("return [...document.querySelectorAll('.speaker')].map((each) => each.textContent)") == [
        *("S1", "S2", "S1")
    ]
    assert " ".join(window.run(f"return {WORDS}")) == "See the saw. So we see it. So."


def test_a_recording_is_edited_by_its_words(served, window, clip_path) -> None:
    visit(window, served.url)
    window.click("#tab-edit")
    window.type("#edit-source input[type=file]", str(clip_path))
    window.wait("!document.getElementById('edit-known').hidden")
    window.type("#said", "saw, see, saw, see")
    window.type("#edit-consent", CONSENT)
    window.click("#find-words")
    window.wait("!document.getElementById('edit-words').hidden", seconds=30)
    window.click("#words .word:nth-of-type(2)")
    window.click("#words .word:nth-of-type(3)")  # the words from the first to the last
    window.type("#new-words", "so")
    window.click("[data-kind=replace]")
    assert "“see saw” becomes “so”" in window.text()
    window.click("#go")
    await_sound(window)
    values = {"transcript": SAID, "edits": json.dumps([{"old": "see saw", "new": "so"}]), "consent": CONSENT}
    answer = served.http().post("/dev/edit", data=values, files={"audio": clip_path.read_bytes()})
    expected, _ = soundfile.read(io.BytesIO(answer.content), dtype="int16")
    assert len(given(window)) == len(expected)
    assert np.abs(given(window) - expected.astype(int)).max() <= 1
    assert window.run("return document.getElementById('reading').textContent.trim()") == "saw so see"
    window.click("#save-wav")
    for _ in range(200):
        if found := list(window.saved.glob("see-saw-becomes*.wav")):
            break
        time.sleep(0.05)
    assert found[0].read_bytes() == answer.content, "the file is as the server gave it"
    window.click("#changes button")  # not so
    window.click("#words .word:nth-of-type(2)")
    window.chord("Shift", "Right")
    window.press("Enter")
    window.click("[data-kind=delete]")
    window.click("#go")
    window.wait(f"{WORDS}.join(' ') === 'saw see'", seconds=30)  # crude as it is, its words are found in time
    window.click("#history [aria-label^=Edit]")  # and on from there
    window.wait("document.querySelectorAll('#words .word').length === 2", seconds=30)


def test_words_that_are_there_twice_take_their_neighbours_along(served, window) -> None:
    visit(window, served.url)
    ask = "return import('/page/edit.js').then(({ toEdit }) => toEdit(...arguments))"
    words = ["the", "cat", "and", "the", "dog", "and", "the", "cat"]

    def edit(kind: str, first: int, last: int, new: str = "") -> tuple[str, str, str]:
        found = window.run(ask, {"kind": kind, "first": first, "last": last, "words": new}, words)
        assert f" {' '.join(words)} ".lower().count(f" {found['old']} ") == 1
        return found["kind"], found["old"], found["new"]

    assert edit("replace", 4, 4, "bird") == ("replace", "dog", "bird")
    assert edit("replace", 3, 3, "a") == ("replace", "and the dog", "and a dog")
    assert edit("delete", 3, 3) == ("replace", "and the dog", "and dog")
    assert edit("insert", 7, 7, "too") == ("insert", "and the cat", "too")
    assert edit("insert", 0, 0, "black") == ("replace", "the cat and", "the black cat and")
    assert edit("replace", 0, 1, "it") == ("replace", "the cat and", "it and")


def test_words_of_chinese_and_japanese_are_joined_without_blanks(served, window) -> None:
    visit(window, served.url)
    ask = "return import('/page/edit.js').then(({ toEdit }) => toEdit(...arguments))"
    words = ["今天", "天气", "很", "好，", "明天", "很", "好。", "OK", "bye"]

    def edit(kind: str, first: int, last: int, new: str = "") -> tuple[str, str]:
        found = window.run(ask, {"kind": kind, "first": first, "last": last, "words": new}, words)
        return found["old"], found["new"]

    assert edit("replace", 0, 1, "雨") == ("今天天气", "雨")
    assert edit("insert", 2, 2, "不") == ("天气很", "不")
    assert edit("insert", 5, 5, "不") == ("明天很", "不")
    assert edit("replace", 6, 8, "x") == ("好。OK bye", "x")


def test_with_the_keyboard_alone(served, window) -> None:
    visit(window, served.url)
    focused = "return document.activeElement.id || document.activeElement.textContent"
    window.press("Tab")
    assert window.run(focused) == "tab-speak"
    window.press("Right", "Right")
    assert window.run("return [document.activeElement.id, document.getElementById('edit').hidden]") == [
        "tab-edit",
        False,
    ]
    window.press("Home", "Tab")
    assert window.run(focused) == "text"
    window.press(*("See the saw, so we see it. " * 4))
    order = []
    for _ in range(6):
        window.press("Tab")
        order.append(window.run(focused))
    assert order == ["voice", "add-voice", "speed", "seed", "other-seed", "go"]
    window.press("Enter")
    window.wait("given.length && states.includes('playing')", seconds=30)
    await_sound(window)
    playing = "document.getElementById('player').dataset.state === 'playing'"
    window.press("Escape")
    window.wait(f"!({playing})")
    window.press("Tab")  # into the words: one stop, and the arrow keys from word to word
    assert window.run(focused) == "See"
    window.press("Tab", "Tab", "Home")  # the place in the sound: its beginning
    assert window.run("return [document.activeElement.id, document.activeElement.value]") == ["place", "0"]
    window.chord("Shift", "Tab")
    window.chord("Shift", "Tab")
    assert window.run(focused) == "See"
    window.press("Right", "Right")
    assert window.run(focused) == "saw,"
    window.run("given.length = lit.length = 0")
    window.press("Enter")
    window.wait("given.length && lit[0] === 'saw,'")
    window.press("Tab")
    assert window.run(focused) == "play"
    window.press("Escape")
    window.wait(f"!({playing})")
    window.press("Tab", "Home")  # so that it lasts
    window.chord("Shift", "Tab")
    window.press("Space")
    window.wait(playing)
    window.press("Escape")
    window.wait(f"!({playing})")
    window.run("document.activeElement.blur()")
    window.press("Space")  # wherever nothing else takes it
    window.wait(playing)
    window.press("Space")
    window.wait(f"!({playing})")
    window.click("#text")
    window.chord("Control", "Enter")
    window.wait("document.querySelectorAll('#history li').length === 2", seconds=60)
    window.click("#add-voice")
    window.press("Escape")
    assert window.run("return [document.getElementById('voice-dialog').open, document.activeElement.id]") == [
        False,
        "add-voice",
    ], "the focus is back where it was"
    nameless = """return [...document.querySelectorAll("button, input:not([type=file]), select, textarea, audio")]
        .filter((each) => !(each.labels?.length || each.ariaLabel || each.textContent.trim()))
        .map((each) => each.outerHTML)"""
    assert window.run(nameless) == []


def test_it_is_stopped_in_the_middle_and_what_was_heard_stays(served, window) -> None:
    visit(window, served.url)
    window.run("document.getElementById('text').value = arguments[0]", LONG)
    window.click("#go")
    window.wait("given.length", seconds=60)
    window.press("Escape")
    window.wait(f"{STATE} === 'Stopped.'")
    assert window.run("return document.getElementById('go').textContent") == "Speak"
    assert window.run("return document.querySelectorAll('#history li').length") == 1
    can_save = "return ['wav', 'mp3'].map((kind) => !document.getElementById(`save-${kind}`).disabled)"
    assert window.run(can_save) == [True, False], "the server would say all of it"
    for _ in range(200):
        load = served.server.queue.batcher.load
        if not (load.running or load.waiting or load.rows):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the server goes on for nobody")


def colours(window: Browser) -> list[tuple[str, float]]:
    """Every text that is seen, with its contrast against what is behind it (WCAG 2.2)."""
    return window.run("""
      const parse = (text) => text.match(/[\\d.]+/g).map(Number);
      const light = (rgb) => rgb.slice(0, 3).map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
      const behind = (node) => { for (let at = node; at; at = at.parentElement) {
        const found = parse(getComputedStyle(at).backgroundColor);
        if (found.length < 4 || found[3] === 1) return found;
      } return [255, 255, 255]; };
      const says = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
      return [...document.querySelectorAll("body *")]
        .filter((node) => says(node) && node.checkVisibility() && !node.closest(":disabled")).map((node) => {
          const [one, other] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
          return [`${node.tagName} ${node.textContent.trim().slice(0, 30)}`, (one + 0.05) / (other + 0.05)];
        });""")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(served, window, scheme: str) -> None:
    visit(window, served.url)
    window.emulate(prefers_color_scheme=scheme)
    try:
        speak(window, "See the saw.")
        window.run("document.getElementById('place').dispatchEvent(new Event('input'))")
        ground = window.run("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(246, 247, 249)") == (scheme == "light"), ground
        seen = colours(window)
        window.click("#tab-dialogue")
        window.click("#go")  # of an empty script: a notice
        window.wait(f"!{NOTICE}.hidden")
        seen += colours(window)
        window.click("#tab-speak")
        window.click("#show-key")
        window.click("#add-voice")
        seen += colours(window)
    finally:
        window.emulate(prefers_color_scheme="")
    assert len(seen) > 60
    assert [(what, round(contrast, 2)) for what, contrast in seen if contrast < 4.5] == []


def test_on_a_phone(served, tmp_path) -> None:
    wide = "return [document.documentElement.scrollWidth, innerWidth]"
    small = """return [...document.querySelectorAll("button:not(.word), input:not([type=file]), select, textarea")]
        .filter((each) => each.checkVisibility() && !each.classList.contains("link"))
        .map((each) => [each.id || each.textContent, each.getBoundingClientRect().height])
        .filter(([, height]) => height < 40)"""
    with browser(tmp_path, phone=True) as window:
        visit(window, served.url)
        speak(window, TEXT)
        for tab in ("speak", "dialogue", "edit"):
            window.click(f"#tab-{tab}")
            assert window.run(wide) == [360, 360] and window.run(small) == []
        window.click("#tab-speak")
        window.click("#add-voice")
        box = window.run("return document.getElementById('voice-dialog').getBoundingClientRect()")
        assert box["left"] >= 0 and box["right"] <= 360 and box["bottom"] <= 740 and window.run(small) == []
        assert window.run("return getComputedStyle(document.querySelector('.keys')).display") == "none"


def test_nothing_is_asked_for_outside(served, window) -> None:
    visit(window, served.url)
    speak(window, "See the saw.")
    asked = window.run("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert len(asked) > 8 and all(name.startswith(served.url) for name in asked), asked
    outside = "http://localhost:9/"  # the policy refuses it before anybody is asked
    window.run(
        "const image = new Image(); image.src = arguments[0];"
        "const script = document.createElement('script'); script.src = arguments[0]; document.head.append(script);"
        "return fetch(arguments[0]).catch(() => 0)",
        outside,
    )
    window.wait("blocked.length >= 3")
    assert set(window.run("return blocked")) == {outside}
    window.run("const style = document.createElement('style'); style.textContent = '*{}'; document.head.append(style)")
    window.run("const code = document.createElement('script'); code.textContent = '0'; document.head.append(code)")
    window.wait("blocked.filter((each) => each === 'inline').length === 2")


def test_a_key_is_asked_for_and_the_wish_goes_on(start, window) -> None:
    one = start(keys=("secret",))
    visit(window, one.url)
    assert window.run("return document.getElementById('key-form').hidden")
    window.type("#text", "See the saw.")
    window.click("#go")
    window.wait("!document.getElementById('key-form').hidden")
    assert "asks for an API key" in window.text() and window.run("return document.activeElement.id") == "key"
    window.press(*"wrong", "Enter")
    window.wait("document.body.innerText.includes('does not know this API key')")
    window.run("document.getElementById('key').value = ''")
    window.type("#key", "secret")
    window.press("Enter")
    window.wait("given.length", seconds=30)  # what was asked for before
    await_sound(window)
    assert window.run("return document.getElementById('key-form').hidden")
    assert "buzz" in window.run("return document.getElementById('voice').textContent")
    window.open(one.url)
    window.wait(f"{STATE} === 'Ready.'")
    speak(window, "So.")  # the key is kept for this tab


def test_what_goes_wrong_is_said_in_words(start, window, monkeypatch) -> None:
    one = start(rows=1, waiting=1, most_characters=1000)
    visit(window, one.url)
    notice = f"return {NOTICE}.hidden ? '' : document.getElementById('notice-text').textContent"

    def fail(text: str) -> str:
        window.run("document.getElementById('text').value = arguments[0]", text)
        window.click("#go")
        window.wait(f"!{NOTICE}.hidden && document.getElementById('go').textContent === 'Speak'", seconds=30)
        told = window.run(notice)
        window.click("#dismiss")
        return told

    assert fail("") == "Write what is to be said."
    assert fail("x" * 1001) == "The input has 1001 characters; at most 1000 are spoken."
    window.run("document.getElementById('seed').value = '-1'")
    assert fail("Saw.") == "The seed is a whole number, 0 or more."
    window.run("document.getElementById('seed').value = '0'")

    whole = SpeechGenerator.encode

    def encode(self, segment):
        if segment.sentence.text == "Crash now.":
            raise RuntimeError("the engine broke at /secret/place")
        return whole(self, segment)

    monkeypatch.setattr(SpeechGenerator, "encode", encode)
    assert fail("Crash now.") == "Something went wrong in the server; its log says what."
    assert fail("See the saw.\n\nCrash now.") == "Something went wrong in the server; its log says what."
    assert window.run("return document.querySelectorAll('#history li').length") == 1, "what was heard stays"

    held = [one.http().stream("POST", "/v1/audio/speech", json={"input": LONG[:990]}) for _ in range(2)]
    threads = [threading.Thread(target=each.__enter__) for each in held]
    for thread in threads:
        thread.start()
    while one.server.queue.batcher.load.waiting < 1:
        time.sleep(0.01)
    window.run("document.getElementById('text').value = 'Saw.'")
    window.click("#go")
    window.wait(f"!{NOTICE}.hidden")
    assert window.run(notice).startswith("The server is busy with others. Try again in")
    for thread, each in zip(threads, held, strict=True):
        thread.join(60)
        each.__exit__(None, None, None)
    window.run("given.length = 0")
    window.click("#again")
    window.wait("given.length", seconds=30)
    await_sound(window)


def test_a_server_that_is_gone_or_not_ready(start, window, monkeypatch) -> None:
    one = start()
    one.server.queue.is_ready = False
    window.open(one.url)
    window.wait(f"{STATE}.includes('being made ready')")
    one.server.queue.is_ready = True
    window.wait(f"{STATE} === 'Ready.'")
    window.control("Network.enable")
    window.control(
        "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
    )
    try:
        window.type("#text", "Saw.")
        window.click("#go")
        window.wait(f"!{NOTICE}.hidden")
        assert "cannot be reached" in window.text()
    finally:
        conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        window.control("Network.emulateNetworkConditions", **conditions)
    window.click("#again")
    window.wait("given.length", seconds=30)
    await_sound(window)


def test_a_file_that_holds_no_sound_is_refused_in_the_page(served, window, tmp_path) -> None:
    (tmp_path / "words.wav").write_text("not a sound")
    visit(window, served.url)
    window.click("#tab-edit")
    window.click("#go")
    window.wait(f"!{NOTICE}.hidden")
    assert "Record something, or choose a file." in window.text()
    window.type("#edit-source input[type=file]", str(tmp_path / "words.wav"))
    window.wait("document.querySelector('#edit-source .problem')")
    assert "words.wav holds no sound" in window.text()
