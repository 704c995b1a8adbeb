"""What is layout or markup in a text that people or language models wrote: HTML, Markdown, wiki, lists, broken lines.

Marks inside a line are taken out by `RULES`, which `normalize` applies first. Lines are looked at before a text is cut
into sentences: headings, the items of lists and the rows of tables end with `LINE`, which asks for a pause; all other
line breaks are blanks, so that it does not matter where prose was wrapped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import chain

from openvalle.errors import find_choice
from openvalle.text.rules import Rule, regex, rewrite

LINE = "\u2028"  # the end of a line that is one: a heading, an item, a row
SHIELD = "\u2060"  # after a sign that is to be read as it stands


class TextFormat(StrEnum):
    """How a text is written."""

    AUTO = "auto"  # what is surely markup is taken out
    PLAIN = "plain"  # every sign is meant
    MARKDOWN = "markdown"
    HTML = "html"


_TAGS = (
    "a|abbr|address|article|aside|b|big|blockquote|body|br|center|cite|code|dd|del|details|dfn|div|dl|dt|em|figcaption|figure|font|"
    "footer|h[1-6]|head|header|hr|html|i|img|ins|kbd|li|link|main|mark|meta|nav|ol|p|pre|q|s|samp|section|small|span|strike|"
    "strong|style|sub|summary|sup|table|tbody|td|tfoot|th|thead|title|tr|tt|u|ul|var|wbr|script|ref"
)
_BLOCKS = (
    "address|article|aside|blockquote|br|dd|div|dl|dt|figcaption|figure|footer|h[1-6]|header|hr|li|main|nav|ol|p|pre|"
    "section|table|title|tr|ul"
)
_TAG = regex(
    rf"(?i)</?(?:{_TAGS})(?:\s[^<>]{{0,2000}})?/?>|<!--.{{0,5000}}?-->|<!DOCTYPE[^<>]{{0,500}}>|<\?xml[^<>]{{0,500}}>",
    re.S,
)
_IS_HTML = regex(r"(?i)\A\s*(?:<!doctype html|<html|<\?xml)|</(?:p|div|li|h[1-6]|table|body)>")
_IS_SSML = regex(r"\s*(<\?xml[^>]*>\s*)?<speak[\s>/]")
_SHIELDED = regex(  # where a sign of markup would begin
    r"(?<=<)(?=[a-zA-Z/!])|(?<=&)(?=#?\w{1,30};)|(?<=[*`~])|(?<=(?<!\w)_)|(?<=\])(?=\((?!/))|(?<=\[)(?=\[|\d|\^)|"
    r"(?m:^)(?=[ \t]*[-+*\u2022>#|=\d])"
)
_HIDDEN = regex(r"(?i)<(script|style|head|template|ref)\b[^<>]{0,2000}>.*?</\1\s*>", re.S)


def read_entity(match: re.Match[str]) -> str:
    """Return the sign an entity stands for; what is none stays."""
    sign = html.unescape(match[0])
    return " " if sign == "\u00a0" else sign


_ENTITY = regex(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
_LINK = regex(
    r"!?\[(?P<words>[^\[\]\n]{0,500})\]\((?!/[^()\s]{0,200}/\)|=)[^()\s]{0,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,50"
    r"0})?(?:\s\"[^\"\n]{0,500}\")?\)"
)
_WIKI = regex(r"\[\[(?:[^\[\]|\n]{1,300}\|)?(?P<words>[^\[\]|\n]{1,300})\]\]")
_EMPHASIS = regex(
    r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*\n]{1,2000}?)(?<=[^\s*])\1(?![\w*])|(?<![\w_])(_{1,3})(?=[^\s_])([^_\n]{"
    r"1,2000}?)(?<=[^\s_])\3(?![\w_])"
)
_QUOTES = regex(r"'{2,5}")  # of a wiki
_CELLS = regex(r"(?m)^[ \t]*\|(?P<cells>[^\n]*)\|[ \t]*$")


def _cells(match: re.Match[str]) -> str:
    cells = [cell.strip() for cell in match["cells"].split("|")]
    if all(re.fullmatch(r":?-{2,}:?", cell) for cell in cells):
        return ""
    return ", ".join(cell for cell in cells if cell)


RULES = (
    Rule("HTML", _TAG, lambda match: "\n" if re.match(rf"(?i)</?(?:{_BLOCKS})\b", match[0]) else ""),
    Rule("HTML", _ENTITY, read_entity),
    Rule("link", _LINK, lambda match: match["words"]),
    Rule("link", _WIKI, lambda match: match["words"]),
    Rule(
        "mark of a note",
        regex(r"(?<=[\w.,;:!?\"')])(?:\[(?:\d{1,3}|[a-z]|note \d{1,2}|citation needed|edit)\])+"),
        lambda match: "",
    ),
    Rule("mark of a note", regex(r"\[\^[\w-]{1,30}\]:?"), lambda match: ""),
    Rule("row of a table", _CELLS, _cells),
    Rule("heading", regex(r"(?m)^[ \t]{0,3}#{1,6}[ \t]+|(?<![ \t])[ \t]+#{1,6}[ \t]*$"), lambda match: ""),
    Rule("heading", regex(r"(?m)^[ \t]*(={2,6})[ \t]*([^=\n]{1,200}?)[ \t]*\1[ \t]*$"), lambda match: match[2]),
    Rule("quotation", regex(r"(?m)^[ \t]{0,3}(?:>[ \t]?)+(?=[^\d\s=])"), lambda match: ""),
    Rule(
        "item of a list",
        regex(
            r"(?m)^[ \t]{0,12}(?:[-*+\u2022\u2023\u25e6\u25aa\u25cf\u2043\u2013\u00b7][ \t]+(?=\D)(?:\[[ xX]\]"
            r"[ \t]+)?|\u2610|\u2611)"
        ),
        lambda match: "",
    ),
    Rule(
        "line between",
        regex(r"(?m)^[ \t]{0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|={3,})$"),
        lambda match: "",
    ),
    Rule("code", regex(r"(?m)^[ \t]{0,3}(?:`{3,}|~{3,})[^\n`]*$|`{3}"), lambda match: ""),
    Rule("emphasis", regex(r"~~(?=\S)([^~\n]{1,2000}?)(?<=\S)~~"), lambda match: match[1]),
    Rule("emphasis", _EMPHASIS, lambda match: match[2] or match[4]),
    Rule("emphasis", _QUOTES, lambda match: "" if len(match[0]) != 2 else match[0]),
)

_BULLETS = r"-*\u2022\u2023\u25e6\u25aa\u25cf\u2043\u00b7"
_ITEM = regex(
    rf"[ \t]*(?:[{_BULLETS}][ \t]+\S|(?P<plus>\+)[ \t]+\S|(?P<number>\d{{1,3}})[.)][ \t]+\S|[a-zA-Z]\)[ \t]+\S|"
    rf"\[[ xX]\][ \t]|\|)"
)
_MARKER = regex(rf"[ \t]*(?:[{_BULLETS}+]|\d{{1,3}}[.)]?|[a-zA-Z]\)?|\[[ xX]?\]?|\||#{{1,6}}|(?:>[ \t]?)+|=+)?[ \t]*\Z")
_QUOTATION = regex(r"[ \t]{0,3}(?:>[ \t]?)+(?=[^\d\s=>])")
_HEADING = regex(r"[ \t]{0,3}#{1,6}[ \t]+\S|[ \t]{0,3}={2,6}[ \t]*[A-Za-z\d]")
_MINUS = regex(r"[ \t]*[-*][ \t]+\d")
_BLANK = regex(r"[^\S\n]*\n")
_PLAIN_LINE = regex(r"[ \t]*[A-Z0-9][^.,;:!?\n]{0,40}\Z")


def to_plain(text: str, text_format: TextFormat | str = TextFormat.AUTO) -> str:
    """Return a text without the markup that spans lines, or, for `plain`, with its signs kept as they stand.

    Of Markdown all marks are taken out; those that `auto` finds inside a line are left to `normalize`. SSML stays.
    `ConfigError` for a format that is not known.
    """
    chosen = find_choice(TextFormat, text_format, "text format")
    if _IS_SSML.match(text):
        return text
    if chosen is TextFormat.PLAIN:
        return _SHIELDED.sub(SHIELD, text)
    if chosen is TextFormat.HTML or (chosen is TextFormat.AUTO and _IS_HTML.search(text)):
        text = _strip_html(text)
    if chosen is TextFormat.MARKDOWN:
        marked = "".join(mark_lines([_strip_markdown(text)])).replace(LINE, f"{LINE}\n")
        text = rewrite(marked, RULES).replace(f"{LINE}\n", LINE)
    return text


def _strip_html(text: str) -> str:
    """Return the words of a page; its blocks are paragraphs, the items of its lists lines."""
    text = _HIDDEN.sub("", re.sub(r"<!--.*?(?:-->|\Z)", "", text, flags=re.S))
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(?i)<br\s*/?>|</?(?:li|dt|dd|tr|option)\b[^<>]*>", LINE, text)
    text = re.sub(r"(?i)</t[dh]>\s*<t[dh]\b[^<>]*>", ", ", text)
    text = re.sub(rf"(?i)</?(?:{_BLOCKS})\b[^<>]*>", "\n\n", text)
    text = re.sub(r"(?i)<img\b[^<>]*?\balt=\"([^\"<>]*)\"[^<>]*>", r" \1 ", text)
    text = _ENTITY.sub(read_entity, re.sub(r"</?[a-zA-Z][^<>]*>", "", text))
    return re.sub(r"\s*\n\s*", "\n\n", re.sub(rf"[ \n]*{LINE}[ \n{LINE}]*", LINE, text)).strip()


def _strip_markdown(text: str) -> str:
    """Return a text without what only Markdown says over several lines: underlined headings, addresses of links."""
    text = re.sub(r"(?m)^([^\n]+)\n[ \t]{0,3}(?:=+|-{3,})[ \t]*$", r"# \1", text)
    return re.sub(r"(?m)^[ \t]{0,3}\[[^\]\n]{1,200}\]:[ \t]*\S+[^\n]*$", "", text)


_LONGEST_MARKER = 24  # signs at the beginning of a line that tell what it is


def mark_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Yield a text with `LINE` for each line break that is one: before and after headings, items and rows.

    How the text is cut into pieces changes nothing: a line break waits until the line after it can be told.
    """
    waiting, at_start, lines = "", True, _Lines()
    for piece in chain(pieces, (None,)):
        waiting += piece or ""
        while waiting:
            head = waiting[:_LONGEST_MARKER]
            if (
                at_start
                and piece is not None
                and "\n" not in head
                and len(head) < _LONGEST_MARKER
                and _MARKER.match(head)
            ):
                break
            if at_start and (blank := _BLANK.match(head)):
                lines.breaks += 1
                waiting = waiting[blank.end() :]
                continue
            if at_start:
                yield lines.begin(head)
                waiting = waiting[lines.skipped :]
            end = waiting.find("\n")
            yield waiting[:end] if end >= 0 else waiting
            waiting, at_start = (waiting[end + 1 :], True) if end >= 0 else ("", False)
            lines.breaks = int(at_start)


class _Lines:
    """The line before and what stands between it and the next: `breaks`, line breaks; `skipped`, marks of quotation."""

    def __init__(self) -> None:
        self.is_special, self.breaks, self.skipped, self.number = False, 0, 0, 0

    def begin(self, head: str) -> str:
        """Look at the beginning of a line; return what the line breaks before it are."""
        quotation = _QUOTATION.match(head)
        self.skipped = quotation.end() if quotation else 0
        head = head[self.skipped :]
        found = _ITEM.match(head)
        if found and self.breaks == 1:  # a line of prose may begin with a number, or with a plus
            goes_on = found["number"] is None or int(found["number"]) in (1, self.number + 1)
            is_sign = found["plus"] or _MINUS.match(head)  # 5 + 3, May 3 - 5
            found = found if goes_on and (self.is_special or not is_sign) else None
        is_special = bool(found or _HEADING.match(head))
        space = LINE if self.breaks == 1 and (self.is_special or is_special) else "\n" * self.breaks
        self.is_special, self.number = is_special, int(found["number"] or 0) if found else 0
        return space


def join_lines(text: str, is_word: Callable[[str], bool]) -> str:
    """Return a paragraph on one line: its line breaks are blanks but for each `LINE`.

    Words that a hyphen divides at the end of a line are one.

    `is_word`: whether a language has a word.
    """
    lines = text.strip().split("\n")
    if len(lines) > 2 and all(_PLAIN_LINE.match(line) for line in lines):
        return LINE.join(" ".join(line.split()) for line in lines)  # a list without marks
    text = _DIVIDED.sub(lambda match: _join_word(match, is_word), text)
    return LINE.join(" ".join(part.split()) for part in text.split(LINE) if part.strip())


_DIVIDED = regex(r"(?<=[^\W\d_])(?P<hyphen>[-\u2010\u00ad])[ \t\r]*\n[ \t]*(?P<last>[^\W\d_]+)")
_FIRST = regex(r"[^\W\d_]+\Z")


def _join_word(match: re.Match[str], is_word: Callable[[str], bool]) -> str:
    """Return what a hyphen at the end of a line and the word after it are: the end of a word, or part of a compound."""
    last = match["last"]
    found = _FIRST.search(match.string[max(0, match.start() - 64) : match.start()])
    first = found.group() if found else ""
    if match["hyphen"] == "\u00ad" or (last.islower() and is_word((first + last).lower())):
        return last
    if last in ("and", "or", "to"):
        return f"- {last}"  # four- or five-year plans
    if last.islower() and not (is_word(first.lower()) and is_word(last)):
        return last
    return f"-{last}"
