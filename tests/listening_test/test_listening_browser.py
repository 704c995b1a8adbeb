"""A listening test in a real browser, from the first click to the computed CMOS."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from listening_clips import QUALITY, honest_values, study_in

from browser import Browser, browser, programs
from openvalle.listening_test.answers import read_submission
from openvalle.listening_test.results import results
from openvalle.listening_test.server import ListeningServer, export_study
from openvalle.listening_test.study import Exclusion, Study, TestKind, Trial

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        programs() is None, reason="no browser: install chromium and chromium-driver, or set CHROME and CHROMEDRIVER"
    ),
]
NEXT = "document.getElementById('next')"
HEARD = "document.querySelector(`[data-clip='${arguments[0]}']`).classList.contains('done')"


@contextmanager
def served(folder: Path) -> Iterator[ListeningServer]:
    with ListeningServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def screen(window: Browser) -> str:
    return window.run("return document.querySelector('main').dataset.screen")


def shown(window: Browser, study: Study) -> Trial:
    """The trial on the page, as the page knows it: the names of its clips in order."""
    names = window.run("return [...document.querySelectorAll('.player')].map((player) => player.dataset.clip)")
    stage = "training" if screen(window) in ("training", "volume") else "test"
    return Trial(stage=stage, item=study.clips[names[-1]].item, clips=tuple(names))


def take(window: Browser, study: Study, rng: np.random.Generator, trials: int, is_reversed: bool = False) -> None:
    """Answer trials with the mouse until the end or until so many are done; some read the scale backwards."""
    for _ in range(trials):
        window.wait(f"{NEXT} || document.getElementById('finish')")
        if screen(window) == "ending":
            return
        trial = shown(window, study)
        assert window.run(f"return {NEXT}.disabled"), "no answer before the clips were heard"
        for name in trial.clips:
            window.click(f"[data-clip='{name}']")
            window.wait(HEARD, name)
        if screen(window) == "volume":
            window.click("#next")
            continue
        value = honest_values(study, trial, 0.6 * rng.standard_normal())[0] * (-1 if is_reversed else 1)
        window.click(f"label:has(input[value='{value:g}'])")
        window.click("#next")
        if trial.stage == "training":
            window.click("#continue")


def test_simulated_raters_get_back_their_preferences(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.CMOS, items=3, training=1, catches=1, code="DONE42")
    with served(tmp_path / "study") as server, browser(tmp_path) as window:
        for place in range(3):
            rng = np.random.default_rng(place)
            window.open(f"{server.url}?rater=person{place}")
            window.wait("document.getElementById('begin')")
            window.click("#agree")
            window.click("#begin")
            window.wait(NEXT)
            if place == 1:  # closes the page in the middle and comes back: goes on where it was
                take(window, study, rng, trials=3)
                window.wait("state.pending.length === 0")
                window.open("about:blank")
                window.open(f"{server.url}?rater=person{place}")
                window.click("#begin")
            take(window, study, rng, trials=99, is_reversed=place == 2)
            window.click("#finish")
            window.wait("document.getElementById('code')")
            assert "DONE42" in window.text()
        submissions = server.store.submissions()
    assert all(submission.finished and len(submission.answers) == 5 for submission in submissions)
    found = results(study, submissions, Exclusion())
    assert found["raters"]["left_out"] == {"person2": ["1 of 1 catch trials wrong"]}
    (ours,) = found["systems"]
    assert ours["answers"] == 2 * 3
    assert ours["low"] <= QUALITY["ours"] - QUALITY["base"] <= ours["high"]
    assert abs(ours["mean"] - 1.0) < 0.5


def test_a_bundle_taken_with_the_keyboard_alone(tmp_path: Path) -> None:
    study = study_in(tmp_path, TestKind.SMOS, items=2, training=1, catches=1, headphones=True, must_hear=False)
    bundle = export_study(tmp_path / "study", tmp_path / "bundle", raters=3)
    with browser(tmp_path, phone=True) as window:
        window.open(f"{(bundle / 'index.html').as_uri()}?number=2&rater=anna")
        window.press("Tab", "Space", "Tab", "Enter")  # agree and begin
        window.wait("document.querySelector('main').dataset.screen === 'volume'")
        window.press("Space", "Enter")
        for _ in range(6 + 1 + 4 + 1):  # headphones, training, test, catch
            window.wait(NEXT)
            stage = screen(window)
            window.press("1" if stage == "headphones" else "4", *(() if stage == "headphones" else ("Right",)), "Enter")
            if stage == "training":
                window.press("Enter")
        window.click("#finish")
        window.click("#download")
        file = tmp_path / "answers-anna.json"
        window.wait("document.getElementById('download')")
        for _ in range(200):
            if file.is_file():
                break
            threading.Event().wait(0.02)
    given = read_submission(study, file)
    assert (given.rater, given.number, given.finished) == ("anna", 2, True)
    assert json.loads(file.read_text())["study"] == study.id
    found = results(study, [given], Exclusion(min_headphones=0))
    assert {row["mean"] for row in found["systems"]} == {4.5}
