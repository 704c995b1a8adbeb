"""The tables of other languages than English: every unit of theirs maps into the inventory, and back where it can."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from openvalle.errors import TextError
from openvalle.text.ipa import from_ipa
from openvalle.text.kana import MORAE, read_kana, read_morae, split_morae
from openvalle.text.language import find_language, phonemize, to_symbols
from openvalle.text.phones import MARKS, SEGMENTS, TONES, UnknownSound
from openvalle.text.pinyin import NotPinyin, apply_sandhi, join_syllables, read_syllable
from openvalle.text.sentences import measure, split, split_arriving
from openvalle.text.spans import detect_language, find_spans
from openvalle.text.symbols import inventory
from openvalle.text.written import read_written

SYLLABLES = re.findall(  # all that dictionaries of Mandarin list, without their tones
    r"\S+",
    "a ai an ang ao ba bai ban bang bao bei ben beng bi bian biang biao bie bin bing bo bong bu ca cai can cang "
    "cao ce cei cen ceng cha chai chan chang chao che chen cheng chi chong chou chu chua chuai chuan chuang chui "
    "chun chuo ci cong cou cu cuan cui cun cuo da dai dan dang dao de dei den deng di dia dian diao die din ding "
    "diu dong dou du duan dui dun duo e ei en eng er fa fan fang fei fen feng fiao fo fou fu ga gai gan gang gao "
    "ge gei gen geng gong gou gu gua guai guan guang gui gun guo ha hai han hang hao he hei hen heng hm hng hong "
    "hou hu hua huai huan huang hui hun huo ji jia jian jiang jiao jie jin jing jiong jiu ju juan jue jun ka kai "
    "kan kang kao ke kei ken keng kong kou ku kua kuai kuan kuang kui kun kuo la lai lan lang lao le lei len leng "
    "li lia lian liang liao lie lin ling liu lo long lou lu luan lun luo lü lüe m ma mai man mang mao me mei men "
    "meng mi mian miao mie min ming miu mo mou mu n na nai nan nang nao ne nei nen neng ng ni nia nian niang niao "
    "nie nin ning niu nong nou nu nuan nun nuo nü nüe o ou pa pai pan pang pao pei pen peng pi pian piao pie pin "
    "ping po pou pu qi qia qian qiang qiao qie qin qing qiong qiu qu quan que qun ran rang rao re ren reng ri "
    "rong rou ru rua ruan rui run ruo sa sai san sang sao se sen seng sha shai shan shang shao she shei shen "
    "sheng shi shou shu shua shuai shuan shuang shui shun shuo si song sou su suan sui sun suo ta tai tan tang "
    "tao te tei teng ti tian tiao tie ting tong tou tu tuan tui tun tuo wa wai wan wang wei wen weng wo wu xi xia "
    "xian xiang xiao xie xin xing xiong xiu xu xuan xue xun ya yan yang yao ye yi yin ying yo yong you yu yuan "
    "yue yun za zai zan zang zao ze zei zen zeng zha zhai zhan zhang zhao zhe zhei zhen zheng zhi zhong zhou zhu "
    "zhua zhuai zhuan zhuang zhui zhun zhuo zi zong zou zu zuan zui zun zuo ê ",
)


def test_every_syllable_of_mandarin_maps_and_none_like_another() -> None:
    read = {}
    for syllable in SYLLABLES:
        for tone, mark in enumerate(TONES, 1):
            phones = read_syllable(f"{syllable}{tone}")
            assert set(phones) <= {*SEGMENTS, *MARKS}, syllable
            assert [phone for phone in phones if phone in TONES] == [mark], syllable
            assert phones[-1] in SEGMENTS
            assert read.setdefault(phones, f"{syllable}{tone}") == f"{syllable}{tone}"
    assert len(read) == 5 * len(SYLLABLES) > 2000


def test_what_curls_and_what_is_spelt_otherwise() -> None:
    assert read_syllable("wanr2") == (*read_syllable("wan2"), "ɻ")
    assert read_syllable("er2") == ("tone2", "ɚ")
    assert read_syllable("lv4") == read_syllable("lu:4") == read_syllable("lü4")
    assert read_syllable("xiong") == ("ɕ", "j", "tone5", "ʊ", "ŋ")
    assert join_syllables(["jin1", "nian2"]).count("|") == 1, "two equal sounds would be one"
    for bad in ("", "x", "bx1", "zhx", "wong4", "hello"):
        with pytest.raises(NotPinyin):
            read_syllable(bad)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("你好 ni3hao3", "ni2 hao3"),
        ("展览馆 zhan3lan3guan3", "zhan2 lan2 guan3"),
        ("我 wo3|洗澡 xi3zao3", "wo3 xi2 zao3"),
        ("很 hen3|好 hao3", "hen2 hao3"),
        ("不 bu4|是 shi4", "bu2 shi4"),
        ("不 bu4|好 hao3", "bu4 hao3"),
        ("好 hao3|不 bu4|好 hao3", "hao3 bu5 hao3"),
        ("一 yi1|个 ge4", "yi2 ge4"),
        ("一 yi1|天 tian1", "yi4 tian1"),
        ("一 yi1|百 bai3", "yi4 bai3"),
        ("第 di4|一 yi1|个 ge4", "di4 yi1 ge4"),
        ("十一 shi2yi1|点 dian3", "shi2 yi1 dian3"),
        ("一 yi1|月 yue4|一 yi1|日 ri4", "yi1 yue4 yi1 ri4"),
        ("统一 tong3yi1|的 de5", "tong3 yi1 de5"),
        ("看 kan4|一 yi1|看 kan4", "kan4 yi5 kan4"),
        ("一 yi1", "yi1"),
        ("二 er4|一 yi1|三 san1", "er4 yi1 san1"),
    ],
)
def test_tones_beside_each_other(words: str, said: str) -> None:
    given = [(word.split()[0], re.findall(r"[a-z]+\d", word.split()[1])) for word in words.split("|")]
    assert " ".join(syllable for word in apply_sandhi(given) for syllable in word) == said


def test_every_mora_maps_and_none_like_another_but_those_that_sound_alike() -> None:
    alike = {
        "ヂ",
        "ヅ",
        "ヲ",
        "ヰ",
        "ヱ",
        "クヮ",
        "グヮ",
        "ヮ",
        "ャ",
        "ュ",
        "ョ",
        "ァ",
        "ィ",
        "ゥ",
        "ェ",
        "ォ",
        "ヵ",
        "ヶ",
    }
    alike |= {"ヂャ", "ヂュ", "ヂョ", "ヂェ"}
    read: dict[tuple[str, ...], str] = {}
    for kana in MORAE:
        phones = read_morae([kana])
        assert phones and set(phones) <= set(SEGMENTS), kana
        if kana not in alike:
            assert read.setdefault(phones, kana) == kana
    assert len(read) > 130
    hiragana = [chr(code) for code in range(0x3041, 0x3097)]
    assert all(split_morae(sign) for sign in hiragana)


@pytest.mark.parametrize(
    ("kana", "phones"),
    [
        ("トーキョー", "t ː o k j ː o"),
        ("バアイ", "b ː a i"),
        ("ガッコー", "ɡ a ː k ː o"),
        ("アッ", "a ʔ"),
        ("キッテ", "k i ː t e"),
        ("デス’", "d e s ɯ̥"),
        ("ハ↑シ", "h a ɕ ↑ i"),
        ("↓ハシ", "h ↓ a ɕ i"),
        ("しんぶん", "ɕ i ɴ b ɯ ɴ"),
        ("ファイル", "ɸ a i ɾ ɯ"),
    ],
)
def test_kana(kana: str, phones: str) -> None:
    assert " ".join(read_kana(kana)) == phones


def test_accents_of_a_phrase() -> None:
    assert " ".join(read_morae(["ハ", "シ"], 1)) == "h ↓ a ɕ i"
    assert " ".join(read_morae(["ハ", "シ"], 2)) == "h a ɕ ↑ ↓ i"
    assert " ".join(read_morae(["ハ", "シ"], 0)) == "h a ɕ ↑ i"
    assert " ".join(read_morae(["ガ"], 2, before=2)) == "ɡ a"


def test_every_letter_of_ipa_has_a_sound() -> None:
    letters = [chr(code) for code in range(0x250, 0x2B0)] + list("abcdefhijklmnopqrstuvwxyzæçðøħŋœβθχɡg")
    for letter in letters:
        phones = from_ipa(letter, is_strict=True)
        assert phones and set(phones) <= {*SEGMENTS, *MARKS}, (letter, unicodedata.name(letter))


@pytest.mark.parametrize(
    ("ipa", "phones"),
    [
        ("ˈtaː", "t ˈ ː a"),
        ("ˈɡuːtən", "ɡ ˈ ː u t ə n"),
        ("t͡ʃ", "tʃ"),
        ("pʰa", "pʰ a"),
        ("bʰa", "ʰ b a"),
        ("bɔ̃", "b ɔ̃"),
        ("ˈnɔtte", "n ˈ ɔ ː t e"),
        ("ma˥˩", "m tone4 a"),
        ("ma˧˥", "m tone2 a"),
        ("aɪ", "aɪ"),
        ("n̩", "̩ n"),
        ("a|b", "a | b"),
    ],
)
def test_ipa(ipa: str, phones: str) -> None:
    assert " ".join(from_ipa(ipa)) == phones


def test_what_is_no_sound_is_named() -> None:
    with pytest.raises(UnknownSound, match="%"):
        from_ipa("a%", is_strict=True)
    assert from_ipa("a%b") == ("a", "b")


def test_pronunciations_as_people_write_them() -> None:
    assert read_written("yin2 hang2") == read_written("yin2hang2") == ("tone2", "i", "n", "x", "tone2", "ɑ", "ŋ")
    assert read_written("ハ↑シ") == read_written("は↑し")
    assert read_written("x tone2 ɑ ŋ") == ("x", "tone2", "ɑ", "ŋ")
    assert read_written("T AH0 M") is None and read_written("təˈmɑːtoʊ") is None
    with pytest.raises(UnknownSound):
        read_written("wong4")


def test_the_language_of_each_part_of_a_text() -> None:
    spoken = ("en", "zh", "ja")
    assert list(find_spans("He said 你好 to me.", "en", spoken)) == (
        [("en", "He said "), ("zh", "你好"), ("en", " to me.")]
    )
    assert list(find_spans("In 東京の夜 2 o'clock", "en", spoken))[1] == ("ja", "東京の夜")
    assert list(find_spans("我喜欢ラーメン。", "zh", spoken)) == [("zh", "我喜欢"), ("ja", "ラーメン"), ("zh", "。")]
    assert list(find_spans("東京の夜", "ja", spoken)) == [("ja", "東京の夜")]
    assert list(find_spans("He said 你好.", "en", ("en",))) == [("en", "He said 你好.")]
    assert [detect_language(text, spoken) for text in ("今天", "東京の夜", "Tokyo 東京 is a large city", "")] == (
        ["zh", "ja", "en", "en"]
    )
    assert detect_language("今天", ("en",)) == "en"


def test_sentences_without_blanks_between_them() -> None:
    text = "今天天气很好。我们去公园吧！他说：“好的。”然后走了。真的吗？？是的。"
    one_by_one = [chunk.text for chunk in split_arriving(list(text), 60, "zh")]
    assert one_by_one == ["今天天气很好。", "我们去公园吧！", "他说：“好的。”", "然后走了。", "真的吗？？", "是的。"]
    assert "".join(chunk.text.replace(" ", "") for chunk in split(text, 60, "zh")) == text
    assert [chunk.text for chunk in split("彼は「行く。」と言った。", 60, "ja")] == ["彼は「行く。」と言った。"]
    for long in ("今天，天气很好，" * 60, "天" * 400, "今天天气很好。" * 60):
        chunks = split(long, 60, "zh")
        assert all(measure(chunk.text) <= 60 for chunk in chunks)
        assert "".join(chunk.text for chunk in chunks) == long


def test_a_language_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVALLE_HOME", str(tmp_path))
    folder = tmp_path / "languages" / "eo"
    folder.mkdir(parents=True)
    with pytest.raises(TextError, match="holds no language"):
        find_language("eo")
    (folder / "letters.tsv").write_text("# letters\na\ta\nm\tm\ni\ti\nk\tk\no\to\nĉ\ttʃ\naŭ\taʊ\nh\t\n")
    (folder / "lexicon.tsv").write_text("saluton\tsaˈluton\n")
    words = phonemize("Saluton, amiko aŭ ĉo!", "eo")
    assert [" ".join(word.phones) for word in words] == [
        "s a l ˈ u t o n",
        "a m i k | o".replace("| ", ""),
        "aʊ",
        "tʃ o",
    ]
    assert [word.pause for word in words] == [True, False, False, True]
    assert inventory().encode(to_symbols(words)[0])
    from openvalle.text.plain import read_language

    read_language.cache_clear()
    (folder / "letters.tsv").write_text("a\t%\n")
    with pytest.raises(TextError, match=r"letters\.tsv, line 1"):
        find_language("eo")
