"""The page's files, as they are given; tests/server/test_page_browser.py uses them."""

from __future__ import annotations

import re

from openvalle.server.web import PAGE

FROM = r'from "\./([^"]+)"'


def test_the_page_and_its_files(start) -> None:
    http = start(keys=("secret",)).http()  # the page is there for everybody: it asks for the key
    page = http.get("/")
    assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and not re.search(r"https?:|unsafe|\*", policy)
    names = set(re.findall(r'(?:src|href)="([^"]+)"', page.text))
    assert names == {"/page/main.js", "/page/page.css", "/page/icon.svg"}
    while more := {f"/page/{other}" for name in names for other in re.findall(FROM, http.get(name).text)} - names:
        names |= more
    assert names | {"/page/index.html"} == {f"/page/{name}" for name in PAGE}, "every file is used"
    for name in names:
        answer = http.get(name)
        assert answer.status_code == 200 and answer.headers["content-security-policy"] == policy
        assert http.head(name).headers["content-length"] == str(len(answer.content))
        outside = re.findall(r"https?://[^\s\"']+", answer.text)
        assert set(outside) <= {"http://www.w3.org/2000/svg"}, "nothing outside is asked for"
    for name in ("/page/none.js", "/page/..%2fweb.py", "/page/../web.py", "/page/"):
        assert http.get(name).status_code in (401, 404)
