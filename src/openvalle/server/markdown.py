"""Markdown as it is to be heard: chat programs hand over what a language model wrote."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n]*\n?|^ {0,3}(`{3,}|~{3,})[ \t]*$", re.M)
_RULE = re.compile(r"^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$|^[ \t]*\|?[ \t]*:?-{3,}:?[ \t]*(?:\|[ \t:|-]*)?$", re.M)
_LEAD = re.compile(r"^[ \t]{0,12}(?:#{1,6}[ \t]+|>[ \t]?|[-*+][ \t]+(?:\[[ xX]\][ \t]+)?)", re.M)
_LINK = re.compile(r"!?\[([^\[\]\n]{0,500})\]\((?!/[^()\s]*/\))[^()\s]{0,2000}(?:[ \t]+\"[^\"\n]{0,500}\")?\)")
_EMPHASIS = re.compile(r"(\*{1,3}|_{2,3}|~~)(?=\S)([^*~\n]{1,2000}?)(?<=\S)\1")
_CODE = re.compile(r"`{1,3}([^`\n]{1,2000})`{1,3}")
_ROW = re.compile(r"^[ \t]*\|(.*)\|[ \t]*$", re.M)


def strip_markdown(text: str) -> str:
    """Return the words of a text without Markdown's signs; a pronunciation, `[word](/phones/)`, stays as it is."""
    text = _RULE.sub("", _FENCE.sub("", text))
    for _ in range(3):  # a quoted list of headings
        text = _LEAD.sub("", text)
    text = _ROW.sub(lambda row: ", ".join(cell.strip() for cell in row[1].split("|") if cell.strip()), text)
    text = _CODE.sub(r"\1", _LINK.sub(r"\1", text))
    for _ in range(2):  # bold inside of italics
        text = _EMPHASIS.sub(r"\2", text)
    return text
