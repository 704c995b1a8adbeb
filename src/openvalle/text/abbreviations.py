"""Abbreviations of English: what is said for them, and whether the full stop after them ends the sentence."""

from __future__ import annotations

import re

from openvalle.text.language import CAPITAL
from openvalle.text.rules import Rule, regex, word_set

# fmt: off
TITLES = {  # a name follows: a full stop after these never ends a sentence
    "Dr": "Doctor", "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Prof": "Professor", "Rev": "Reverend",
    "Gen": "General", "Col": "Colonel", "Capt": "Captain", "Lt": "Lieutenant", "Sgt": "Sergeant", "Hon": "Honorable",
    "Sen": "Senator", "Gov": "Governor", "Mt": "Mount", "Ft": "Fort", "Messrs": "Messers", "Fr": "Father",
    "Maj": "Major", "Cpl": "Corporal", "Cmdr": "Commander", "Adm": "Admiral", "Pres": "President",
    "Rep": "Representative", "Supt": "Superintendent", "Insp": "Inspector", "Det": "Detective", "Pvt": "Private",
    "Mme": "Madame", "Mlle": "Mademoiselle", "Asst": "Assistant",
}
_WITHOUT_DOT = ("Dr", "Mr", "Mrs", "Ms", "Prof", "Rev", "Sgt", "Capt", "Lt", "Sen", "Gov", "Mt", "Mme", "Cpl", "Cmdr")
_SMALL_TITLES = ("dr", "mr", "mrs", "ms", "prof")  # with a full stop, in small letters
NAMES = {  # parts of names: what stands before them is one, and often what follows, too
    "Inc": "Incorporated", "Ltd": "Limited", "Corp": "Corporation", "Co": "Company", "Jr": "Junior", "Sr": "Senior",
    "Bros": "Brothers", "Esq": "Esquire", "Assn": "Association", "Univ": "University", "Intl": "International",
    "Jan": "January", "Feb": "February", "Mar": "March", "Apr": "April", "Jun": "June", "Jul": "July",
    "Aug": "August", "Sept": "September", "Sep": "September", "Oct": "October", "Nov": "November", "Dec": "December",
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thur": "Thursday",
    "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday",
}
STREETS = {
    "Ave": "Avenue", "Av": "Avenue", "Blvd": "Boulevard", "Rd": "Road", "Ln": "Lane", "Hwy": "Highway",
    "Pkwy": "Parkway", "Sq": "Square", "Ct": "Court", "Pl": "Place", "Cir": "Circle", "Ter": "Terrace",
}
_SURE_STREETS = ("Ave", "Blvd", "Rd", "Ln", "Hwy", "Pkwy")  # without a full stop, too, after a name
WORDS = {
    "etc": "et cetera", "approx": "approximately", "dept": "department", "est": "established", "vs": "versus",
    "govt": "government", "incl": "including", "excl": "excluding", "misc": "miscellaneous", "cf": "compare",
    "max": "maximum", "min": "minimum", "avg": "average", "temp": "temperature", "tel": "telephone",
    "ca": "circa", "viz": "namely", "ed": "editor", "eds": "editors", "ref": "reference", "nr": "near",
}
_IN_THE_MIDDLE = ("vs", "approx", "incl", "excl", "cf", "ca", "viz", "nr")  # never last in a sentence
_ONLY_BEFORE_FIGURES = ("max", "min", "avg", "temp", "tel", "ca", "ref", "nr", "ed", "eds")
FIGURES = {  # only where a number or a letter of its own follows
    "no": "number", "nos": "numbers", "vol": "volume", "vols": "volumes", "fig": "figure", "figs": "figures",
    "p": "page", "pp": "pages", "ch": "chapter", "chap": "chapter", "sec": "section", "eq": "equation",
    "art": "article", "para": "paragraph", "apt": "apartment", "ste": "suite", "rm": "room", "pt": "part",
    "ex": "example", "ext": "extension", "fl": "floor",
}
_LIVES = {"c": "circa", "b": "born", "d": "died", "r": "reigned", "fl": "flourished"}  # in small letters, with a year
_LETTERED = ("vol", "fig", "figs", "ch", "chap", "sec", "eq", "art", "apt", "ste", "rm", "ex")  # Fig. A, Vol. II
SLASHED = {"w/o": "without", "w/": "with", "c/o": "care of", "b/c": "because", "n/a": "not applicable"}
_STARTERS = word_set(  # words that begin a sentence rather than go on with a name
    """The A An He She It They We You I This That These Those There Then But And So In On At By As If When While
    After Before For From Here His Her Its Their Our My Your No Not Now Once One Some What Where Who Why How Is
    Are Was Were Did Do Does Has Have Had Will Would Can Could Should Yet Or Only Even Also All Another Each
    Every Both Since Until With Without Because Although However Meanwhile Nobody Nothing Everyone Everybody
    Someone Something Soon Suddenly Perhaps Maybe Yes Later Still Just To Of Such Let Please Nor Most Many Few
    Several Whether Which"""
)
_DAYS_AND_MONTHS = frozenset(NAMES.values()) - {"Company", "Junior", "Senior"} | {"May", "Sunday"}
_SAINTS = word_set(  # and places called after them
    """Agnes Albans Andrew Andrews Ann Anne Annes Augustine Austell Barnabas Basil Benedict Bernard Bride
    Catharines Charles Christopher Clair Clare Cloud Columba Croix David Denis Dominic Edmund Edmunds Elizabeth
    Elmo Francis Gallen George Georges Germain Giles Helena Helens Helier Hilda Ignatius Ives James Jerome John
    Johns Joseph Jude Kilda Kitts Lawrence Leonard Louis Lucia Lucie Luke Margaret Mark Martin Mary Matthew
    Michael Moritz Neots Nicholas Olaf Oswald Pancras Patrick Paul Peter Peters Petersburg Simon Stephen Swithin
    Teresa Theresa Thomas Tropez Ursula Valentine Vincent Vitus Wilfrid"""
)
_BEFORE_SAINTS = word_set(
    """Mt Mount Mont Port Fort Lake Sault Bury Lytham Old New The Cape East West North South"""
)
_KINDS = word_set(
    """Plan Vitamin Grade Group Class Type Team Option Exhibit Section Part Model Column Row Point"""
)
_DEGREES = {
    "Ph.D.": "P-H-D", "PhD": "P-H-D", "Ed.D.": "E-D-D", "B.Sc.": "B-S-C", "M.Sc.": "M-S-C", "BSc": "B-S-C",
    "MSc": "M-S-C", "LL.B.": "L-L-B", "LL.M.": "L-L-M", "D.Phil.": "D-Phil", "M.Phil.": "M-Phil", "M.Ed.": "M-Ed",
    "B.Ed.": "B-Ed", "Pharm.D.": "Pharm-D", "Psy.D.": "Psy-D", "B.Eng.": "B-Eng", "M.Eng.": "M-Eng",
}
# fmt: on
_AMBIGUOUS = {word.lower() for table in (TITLES, NAMES, STREETS, WORDS, FIGURES) for word in table} | {
    "al",
    "st",
    "ss",
    "v",
    "ph.d",
    *_LIVES,
}
_BIG = rf"[A-Z{CAPITAL}]"
_NEXT = regex(rf"[\"')\]\u2019\u201d]{{0,8}}(\s+)[\"'(\[\u2018\u201c]{{0,8}}([{CAPITAL}\w]{{0,40}})")
_ENDING = regex(r"[\"')\]]*(\s*)")
_EARLIER = regex(rf"({_BIG}[\w'-]{{0,30}}|\d+(?:st|nd|rd|th))\.?\s+$")
_HOUSE = regex(rf"\d[\w-]{{0,5}}\s+(?:{_BIG}[\w'.-]{{0,30}}\s+){{1,3}}$")
_ABBREVIATION = regex(r"(?:^|[\s(\[\"'/-])((?:[A-Za-z]\.)*[A-Za-z0-9]+)\.$")
_LONGEST = 64  # signs before a full stop that are looked at


def ends_sentence(text: str, end: int, loosely: bool = False) -> bool:
    """Whether a sentence ends after an abbreviation: the text is over, or a new sentence seems to begin.

    `loosely`: any capital begins one, but for days, months and capitals such as GMT; else only the words that
    sentences begin with.
    """
    following = _NEXT.match(text, end)
    if following is None or not following[2]:
        rest = _ENDING.match(text, end)
        return rest is None or rest.end() == len(text) or "\n" in rest[1] or "\u2028" in rest[1]
    if "\n" in following[1] or "\u2028" in following[1]:
        return True
    word = following[2]
    if word in _STARTERS:
        return True
    return loosely and word[:1].isupper() and word not in _DAYS_AND_MONTHS and not (len(word) > 1 and word.isupper())


def goes_on(text: str, start: int, end: int, is_whole: bool = True) -> bool | None:
    """Whether the sentence that begins at `start` goes on after the full stop before `end`.

    None: what follows has not arrived yet (`is_whole`: nothing more will) and would decide it.
    """
    found = _ABBREVIATION.search(text[max(start, end - _LONGEST) : end])
    if not found:
        return False
    word = found[1]
    lower = word.lower()
    if word.isdecimal():
        return len(word) <= 3 and not text[start : end - len(word) - 1].strip()  # the number of a list's item
    if lower not in _AMBIGUOUS and "." not in word and not (len(word) == 1 and word.isupper()):
        return False
    following = _NEXT.match(text, end)
    if not is_whole and (following is None or following.end() == len(text)):
        return None
    after = following[2] if following else ""
    if (word.capitalize() in TITLES and word.capitalize() != "Dr") or lower in ("e.g", "i.e", *_IN_THE_MIDDLE):
        return True
    if word in ("v", "Ste", "SS") and after[:1].isupper():
        return word == "v" or after not in _STARTERS
    if lower in ("dr", "st"):
        is_road = _is_road(text, end - len(word) - 1, after)
        return not (is_road and ends_sentence(text, end, True))
    if word in _LIVES and len(after) in (3, 4) and after.isdecimal():
        return True
    is_lettered = lower in _LETTERED and re.fullmatch("[IVXLC]+|[A-Z]", after)
    if lower in FIGURES and (after[:1].isdecimal() or is_lettered):
        return True
    if len(word) == 1 and word.isupper():
        earlier = text[max(start, end - _LONGEST) : end - 2].split()
        is_name = not earlier or not (earlier[-1].islower() or earlier[-1] in _KINDS)
        return is_name or not ends_sentence(text, end)
    if word.capitalize() in NAMES or word.capitalize() in STREETS or lower == "al":
        return not ends_sentence(text, end)
    if re.fullmatch(r"(?:[A-Za-z]\.)+[A-Za-z]", word):
        return not ends_sentence(text, end, lower in ("a.m", "p.m"))
    if lower in WORDS or f"{word}." in _DEGREES or lower in ("ft", "ph.d"):
        return not ends_sentence(text, end, True)
    return False


def _stop(match: re.Match[str], loosely: bool = False) -> str:
    """Return the full stop that an abbreviation's own also is."""
    return "." if match[0].endswith(".") and ends_sentence(match.string, match.end(), loosely) else ""


def _match_case(found: str, table: dict[str, str]) -> str:
    spoken = table.get(found) or table.get(found.lower()) or table[found.capitalize()]
    return spoken[0].upper() + spoken[1:] if found[0].isupper() else spoken[0].lower() + spoken[1:]


def _title(match: re.Match[str]) -> str:
    return _match_case(match["title"], TITLES)


def _is_road(text: str, start: int, after: str) -> bool:
    """Whether St. or Dr. at `start` follows the name of a road: "5 Lake Dr.", "Elm St. near", "42nd St. Then"."""
    before = text[max(0, start - _LONGEST) : start]
    if _HOUSE.search(before):
        return True
    earlier = _EARLIER.search(before)
    if earlier is None or (earlier[1] in _BEFORE_SAINTS and text.startswith("St", start)) or earlier[1] in TITLES:
        return False  # Mt. St. Helens, Rev. Dr. King
    heads = before[: earlier.start()].strip()[-1:] in ("", ".", "!", "?", '"', "\n")
    is_name = not (earlier[1] in _STARTERS or (heads and after[:1].isupper() and after not in _STARTERS))
    return is_name and (not after[:1].isupper() or after in _STARTERS or after not in _SAINTS)


def _saint_or_street(match: re.Match[str]) -> str:
    text, end = match.string, match.end()
    following = _NEXT.match(text, end)
    after = following[2] if following else ""
    if _is_road(text, match.start(), after):
        return "Street" + _stop(match, True)
    if after[:1].isupper():
        return "Saint"
    is_end = not after or not after[0].isalpha()
    return "Street" + _stop(match, True) if match.start() and (is_end or after.islower()) else match[0]


def _doctor_or_drive(match: re.Match[str]) -> str:
    following = _NEXT.match(match.string, match.end())
    after = following[2] if following else ""
    is_name = after[:1].isupper() and after not in _STARTERS
    before = match.string[max(0, match.start() - _LONGEST) : match.start()]
    if _HOUSE.search(before) or (
        not is_name and _EARLIER.search(before) and _is_road(match.string, match.start(), after)
    ):
        return "Drive" + _stop(match, True)
    return "Doctor" if match[0].endswith(".") or is_name else match[0]


def _street(match: re.Match[str]) -> str:
    word = match["street"].capitalize()
    before = match.string[max(0, match.start() - _LONGEST) : match.start()]
    is_sure = word in _SURE_STREETS or _HOUSE.search(before)
    if not is_sure or not (_EARLIER.search(before) or match[0].endswith(".")):
        return match[0]
    return STREETS[word] + _stop(match, True)


def _word(match: re.Match[str]) -> str:
    word = match["word"]
    lower = word.lower()
    if lower not in WORDS and (word.islower() and lower not in ("dept", "inc", "ltd", "corp", "bros", "jr", "sr")):
        return match[0]  # small letters: ordinary words or parts of words, as sun and mon are
    if lower in _ONLY_BEFORE_FIGURES and not re.match(r"\s*\d", match.string[match.end() : match.end() + 4]):
        return match[0]
    table = WORDS if lower in WORDS else NAMES
    stop = "" if lower in _IN_THE_MIDDLE else _stop(match, lower == "etc" or lower in WORDS)
    return _match_case(word, table) + stop


def _before_figures(match: re.Match[str]) -> str:
    word = match["word"] or match["lettered"]
    return _match_case(word, FIGURES) + " " if "." in match[0] or word[0].isupper() else match[0]


def _spell_dotted(match: re.Match[str]) -> str:
    """Spell U.S. and a.m.; initials such as J.R.R. before a name do not end a sentence."""
    letters = match[0].replace(".", "").upper()
    text, start, end = match.string, match.start(), match.end()
    if letters in ("AM", "PM") and re.search(r"\d ?$", text[max(0, start - 2) : start]):
        return match[0]  # a time of day
    return "-".join(letters) + ("." if ends_sentence(text, end, letters in ("AM", "PM")) else "")


def _list(words: object) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))  # type: ignore[call-overload]


RULES = (
    Rule("for example", regex(r"\b[Ee]\.\s?g\.(?=[,\s]|$)"), lambda match: "for example"),
    Rule("that is", regex(r"\b[Ii]\.\s?e\.(?=[,\s]|$)"), lambda match: "that is"),
    Rule("and others", regex(r"\bet al\.(?=(?:'s)?[\s,;:)])|\bet al\.$"), lambda match: "et al" + _stop(match)),
    Rule(
        "degree",
        regex(rf"(?<![\w.])({_list(_DEGREES)})(?:(?<=\.)(?!\w)|(?<!\.)\b)"),
        lambda match: _DEGREES[match[1]] + _stop(match, True),
    ),
    Rule("letters with full stops", regex(r"(?<!\w)(?<!\w\.)(?:[A-Za-z]\.){2,}(?!\w)"), _spell_dotted),
    Rule(
        "with a slash",
        regex(r"(?i)(?<![\w/])(w/o|w/(?=\s|\d)|c/o|b/c|n/a)(?![\w/])"),
        lambda m: SLASHED[m[1].lower()],
    ),
    Rule("saint or street", regex(r"\bSt\b\.?(?!['\w-])"), _saint_or_street),
    Rule("saint", regex(rf"\bSte\.? (?={_BIG})|\bSS\. (?={_BIG})"), lambda match: "Saint "),
    Rule("doctor or drive", regex(r"\bDr\b\.?(?!['\w-])"), _doctor_or_drive),
    Rule(
        "title",
        regex(
            rf"(?<!\d )(?<!\d)\b(?P<title>{_list(TITLES)}|{_list(name.upper() for name in TITLES)}|"
            rf"{_list(_SMALL_TITLES)})\."
        ),
        _title,
    ),
    Rule(
        "title",
        regex(rf"\b(?P<title>{_list(_WITHOUT_DOT)})(?= (?:[A-Z][a-z]|{CAPITAL}))"),
        _title,
    ),
    Rule("street", regex(rf"\b(?P<street>{_list(STREETS)})\b\.?(?!['\w-])"), _street),
    Rule(
        "abbreviation before a year",
        regex(r"(?<![\w.'])(c|b|d|r|fl)\. ?(?=1[0-9]\d\d\b|20\d\d\b|[4-9]\d\d\b(?! ?[a-z]))(?!\d+[.,:]\d)"),
        lambda match: f"{_LIVES[match[1]]} ",
        figures=True,
    ),
    Rule(
        "abbreviation before a figure",
        regex(
            rf"(?<![\w.'])(?:(?P<word>(?i:{_list(FIGURES)}))(?:\.\s?|\s)(?=\d)|"
            rf"(?P<lettered>(?i:{_list(_LETTERED)}))\.\s(?=(?:[A-Z]|[IVXLC]+)\b))"
        ),
        _before_figures,
    ),
    Rule("versus", regex(rf"(?<=\w )v\.(?= {_BIG})"), lambda match: "versus"),
    Rule(
        "abbreviation",
        regex(rf"(?i)(?<![\w.'-])(?P<word>{_list((*WORDS, *NAMES))})\."),
        _word,
    ),
    Rule(
        "abbreviation",
        regex(r"(?<![\w.'-])(?P<word>approx|vs|incl|excl|dept|govt|Dept|Govt|Approx|Jr|Sr|Inc|Ltd|Corp)\b(?!['.-])"),
        _word,
    ),
)
