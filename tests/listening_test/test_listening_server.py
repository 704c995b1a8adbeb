"""Answers arrive, once, and stay; the server gives away nothing else."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from listening_clips import honest_values, study_in

from openvalle.errors import UserError
from openvalle.listening_test.answers import Answer, Rater, RequestRefused, Store
from openvalle.listening_test.schedule import schedule
from openvalle.listening_test.server import MAX_BODY, ListeningServer
from openvalle.listening_test.study import Study, TestKind


def answers(study: Study, number: int) -> list[Answer]:
    return [
        Answer(trial=place, clips=t.clips, reference=t.reference, values=honest_values(study, t), seconds=1.0)
        for place, t in enumerate(schedule(study, number))
    ]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_in(tmp_path, TestKind.CMOS, items=2, training=1, catches=1, max_raters=3, code="SECRET7")


@pytest.fixture
def server(tmp_path: Path, study: Study) -> Iterator[ListeningServer]:
    with ListeningServer(tmp_path / "study") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: ListeningServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = ({"Content-Type": "application/json"} if body is not None else {}) | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    connection.request(method, path, data, given)
    reply = connection.getresponse()
    result = reply.status, reply.read(), reply.headers
    connection.close()
    return result


def test_an_answer_taken_is_on_disk_even_if_the_server_dies(tmp_path: Path, study: Study) -> None:
    store = Store(study, tmp_path / "study")
    rater = store.join()
    store.answer(rater.token, answers(study, 0)[0])
    again = Store(study, tmp_path / "study")  # the first one was never closed
    assert [len(submission.answers) for submission in again.submissions()] == [1]
    assert again.join(token=rater.token) == rater
    assert again.list_answered(rater) == [0]


def test_the_first_answer_counts_and_repetitions_are_told(tmp_path: Path, study: Study) -> None:
    store = Store(study, tmp_path / "study")
    rater = store.join("anna")
    first = answers(study, 0)[2]
    store.answer(rater.token, first)
    store.answer(rater.token, first)  # sent again because the reply was lost
    store.answer(rater.token, first.model_copy(update={"values": (-first.values[0] or 1.0,)}))
    (submission,) = store.submissions()
    assert (submission.rater, submission.repeats, submission.finished) == ("anna", 1, False)
    assert submission.answers[0].values == first.values


def test_a_test_is_finished_once_and_whole(tmp_path: Path, study: Study) -> None:
    store = Store(study, tmp_path / "study")
    rater = store.join()
    with pytest.raises(RequestRefused, match="4 trials are open"):
        store.finish(rater.token)
    for answer in answers(study, 0):
        store.answer(rater.token, answer)
    store.finish(rater.token, "nice")
    store.finish(rater.token, "again")
    (submission,) = store.submissions()
    assert (submission.finished, submission.comment) == (True, "nice")


def test_raters_get_different_numbers_and_idle_ones_give_theirs_back(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(study, tmp_path / "study")
    first, second = store.join("anna"), store.join()
    assert (first.number, second.number) == (0, 1)
    store.answer(second.token, answers(study, 1)[0])
    monkeypatch.setattr("openvalle.listening_test.answers.IDLE_SECONDS", -1.0)
    assert store.join().number == 0, "anna answered nothing"
    with pytest.raises(RequestRefused, match="all the raters it needs"):
        store.join()
    with pytest.raises(RequestRefused, match="has begun"):
        store.join("anna")
    assert isinstance(store.join("anna", first.token), Rater)


def test_answers_of_another_test_are_not_mixed_in(tmp_path: Path, study: Study) -> None:
    Store(study, tmp_path / "study").close()
    with pytest.raises(UserError, match="another test"):
        Store(study.model_copy(update={"id": "other"}), tmp_path / "study")


def test_a_whole_test_over_the_network(server: ListeningServer, study: Study) -> None:
    status, body, _ = ask(server, "POST", "/api/join", {"rater": "anna"})
    told = json.loads(body)
    assert (status, told["answered"], told["code"]) == (200, [], "")
    for answer in answers(study, told["number"]):
        sent = {"token": told["token"], "answer": answer.model_dump(mode="json")}
        assert ask(server, "POST", "/api/answer", sent)[0] == 200
    assert ask(server, "POST", "/api/answer", sent)[0] == 200, "the same again: taken, not counted"
    status, body, _ = ask(server, "POST", "/api/finish", {"token": told["token"], "comment": "ok"})
    assert (status, json.loads(body)) == (200, {"finished": True, "code": "SECRET7"})
    (submission,) = server.store.submissions()
    assert (submission.rater, len(submission.answers), submission.repeats) == ("anna", 4, 0)


@pytest.mark.parametrize(
    "path",
    ["/study.json", "/audio/../study.json", "/audio/%2e%2e/study.json", "/answers.sqlite", "/../../etc/passwd",
     "//etc/passwd", "/audio/", "/audio/..%2fstudy.json", "/page/listen.js", "/audio/study.json%00.flac"],
)  # fmt: skip
def test_only_listed_names_are_served(server: ListeningServer, path: str) -> None:
    status, body, _ = ask(server, "GET", path)
    assert status == 404
    assert b"base" not in body


def test_pages_come_with_headers_that_keep_strangers_out(server: ListeningServer, study: Study) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    for path in ("/", "/?rater=anna", "/index.html", "/listen.js", "/players.js", "/answers.js", "/listen.css"):
        status, body, headers = ask(server, "GET", path)
        assert (status, bool(body)) == (200, True)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    status, body, _ = ask(server, "GET", "/study.js")
    assert b"SECRET7" not in body
    assert ask(server, "HEAD", "/")[1] == b""


def test_clips_are_sent_whole_and_in_parts(server: ListeningServer, study: Study) -> None:
    name = next(iter(study.clips))
    whole = (server.folder / "audio" / name).read_bytes()
    status, body, headers = ask(server, "GET", f"/audio/{name}")
    assert (status, body, headers["Content-Type"]) == (200, whole, "audio/flac")
    for asked, part in (("bytes=0-99", whole[:100]), ("bytes=100-", whole[100:]), ("bytes=-7", whole[-7:])):
        status, body, headers = ask(server, "GET", f"/audio/{name}", Range=asked)
        assert (status, body) == (206, part)
        assert headers["Content-Range"].endswith(f"/{len(whole)}")
    assert ask(server, "GET", f"/audio/{name}", Range=f"bytes={len(whole)}-")[0] == 416
    assert ask(server, "GET", f"/audio/{name}", Range="bytes=x-y")[0] == 200


def test_bad_requests_are_turned_down(server: ListeningServer, study: Study) -> None:
    token = json.loads(ask(server, "POST", "/api/join", {})[1])["token"]
    good = answers(study, 0)[0].model_dump(mode="json")

    def status(path: str, body: Any, **headers: str) -> int:
        return ask(server, "POST", path, body, **headers)[0]

    assert status("/api/join", b"x" * (MAX_BODY + 1)) == 413
    assert status("/api/join", b"{}", Content_Type="text/plain") == 415
    assert status("/api/join", b"{}", Content_Length="many") == 411
    assert status("/api/join", b"not json") == 400
    assert status("/api/join", {"rater": "<script>"}) == 400
    assert status("/api/join", {"rater": "a", "admin": True}) == 400
    assert status("/api/secret", {}) == 404
    assert status("/api/answer", {"token": "guess", "answer": good}) == 403
    assert status("/api/answer", {"token": token, "answer": good | {"trial": 99}}) == 400
    assert status("/api/answer", {"token": token, "answer": good | {"values": [9]}}) == 400
    assert status("/api/answer", {"token": token, "answer": good | {"values": [1, 1]}}) == 400
    assert status("/api/answer", {"token": token, "answer": good | {"clips": ["a", "b"]}}) == 400
    assert (
        status("/api/answer", json.dumps({"token": token, "answer": good}).replace("[-3.0]", "[NaN]").encode()) == 400
    )
    assert status("/api/finish", {"token": token}) == 409
    assert server.store.submissions() == []


def test_a_port_in_use_is_said(server: ListeningServer) -> None:
    with pytest.raises(UserError, match="choose another --port"):
        ListeningServer(server.folder, port=server.server_address[1])
