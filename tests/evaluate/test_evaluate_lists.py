"""Laws of test lists: what the papers' rules say, the same for the same seed, exact when shared and read again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from openvalle.errors import ConfigError, UserError
from openvalle.evaluate.build_list import ListSource, build_list
from openvalle.evaluate.corpus import VARIABLE, choose, read_corpus
from openvalle.evaluate.protocols import Protocol, protocol, protocols
from openvalle.evaluate.test_list import CORPUS, check_files, read_list


@pytest.fixture(scope="module")
def quick_list(corpus: Path):
    return build_list(protocol("quick"), ListSource(corpus, seed=0, limit=6))


def test_every_protocol_is_complete_and_says_what_is_open():
    for name, entry in protocols().items():
        assert entry.name == name
        assert len(entry.notes) > 60
        assert bool(entry.paper) == (name not in ("quick", "preserve", "cross-lingual"))
    with pytest.raises(UserError, match=r"no protocol 'valle3'; there are: quick"):
        protocol("valle3")
    with pytest.raises(ConfigError, match="promt"):
        Protocol.parse({"promt": 1}, "protocols.yaml")


def test_without_data_the_user_is_told_what_to_give(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match="--data FOLDER or set OPENVALLE_SPEECH"):
        read_corpus(None)
    with pytest.raises(UserError, match="there is nothing at"):
        read_corpus(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no usable speech"):
        read_corpus(tmp_path)


def test_every_speaker_has_a_turn_and_the_seed_decides(corpus, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(corpus))
    utterances = read_corpus(None, "dev-clean")
    assert len(utterances) == 9
    assert {item.gender for item in utterances} == {"F", "M"}
    chosen = choose(utterances, 6, seed=1)
    assert [item.speaker for item in chosen] == ["anna", "ben", "carl"] * 2
    assert choose(utterances[::-1], 6, seed=1) == chosen
    assert choose(utterances, 6, seed=2) != chosen


def test_quick_items_are_of_one_speaker_with_another_text_and_a_wrong_speaker(quick_list, corpus):
    assert len(quick_list.items) == 6
    for item in quick_list.items:
        assert item.prompt.speaker == item.reference.speaker != item.other.speaker
        assert item.prompt.id != item.reference.id
        assert 2.4 <= item.prompt.load({CORPUS: corpus}).seconds <= 3.6
        assert 2 <= len(item.prompt.text.split()) <= 4
    assert len({(item.prompt.id, item.reference.id) for item in quick_list.items}) == 6
    assert len({item.seed(0) for item in quick_list.items}) == 6


def test_a_list_is_the_same_when_read_again_elsewhere(quick_list, corpus, tmp_path):
    path = quick_list.write(tmp_path / "items.jsonl")
    again = read_list(path)
    assert again == quick_list
    assert again.digest == quick_list.digest
    assert not any(str(corpus) in line for line in path.read_text().splitlines())
    for item in again.items[:1]:
        first, second = (one.prompt.load({CORPUS: corpus}).samples for one in (item, quick_list.items[0]))
        assert np.array_equal(first, second)
    check_files(again.items, {CORPUS: corpus})
    with pytest.raises(UserError, match=r"recordings of the list are missing, such as anna0\.wav|such as"):
        check_files(again.items, {CORPUS: tmp_path})


def test_a_list_that_was_changed_or_is_none_is_refused(quick_list, tmp_path):
    path = quick_list.write(tmp_path / "items.jsonl")
    head, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([head, json.dumps(json.loads(first) | {"text": "other words"}), *rest]))
    with pytest.raises(UserError, match="was changed"):
        read_list(path)
    path.write_text('{"id": 1}\n')
    with pytest.raises(UserError, match="not a test list"):
        read_list(path)


def test_the_seed_decides_and_the_same_seed_gives_the_same_list(librispeech):
    small = replace_counts("valle")
    first, again, other = (build_list(small, ListSource(librispeech, seed=seed, partial=True)) for seed in (0, 0, 1))
    assert first == again
    assert first.digest != other.digest


def replace_counts(name: str) -> Protocol:
    """The protocol, content with a tiny corpus."""
    return protocol(name).model_copy(update={"utterances": 6, "speakers": 2})


def test_cross_sentence_prompts_are_crops_of_other_utterances(librispeech):
    found = build_list(replace_counts("valle"), ListSource(librispeech, seed=0))
    assert len(found.items) == 6
    for item in found.items:
        assert item.prompt.id != item.reference.id
        assert item.prompt.speaker == item.reference.speaker
        assert item.prompt.end - item.prompt.start == pytest.approx(3.0, abs=0.5)
        assert item.prompt.text
    assert len({item.prompt.start for item in found.items}) > 1


def test_a_continuation_says_the_rest_of_the_same_recording(librispeech):
    for name, is_whole in (("valle-continual", False), ("valle2-prefix", True)):
        for item in build_list(replace_counts(name), ListSource(librispeech, seed=0)).items:
            assert item.prompt.id == item.reference.id
            assert item.prompt.start == 0
            assert item.prompt.end == pytest.approx(3.0, abs=0.5)
            assert f"{item.prompt.text} {item.text}".upper() == "SAW SEE SAW SEE SAW SEE SAW SEE"
            assert len(item.judged_text.split()) == (8 if is_whole else 8 - len(item.prompt.text.split()))
            reference, prompt = (excerpt.load({CORPUS: librispeech}) for excerpt in (item.reference, item.prompt))
            assert reference.seconds == pytest.approx(7.6 if is_whole else 7.6 - prompt.seconds, abs=0.01)


def test_the_previous_utterance_is_the_whole_prompt_and_the_first_takes_the_last(librispeech):
    items = {
        item.reference.id: item.prompt for item in build_list(replace_counts("valle2"), ListSource(librispeech)).items
    }
    assert items["61-7-0001"].id == "61-7-0000"
    assert items["61-7-0000"].id == "61-7-0002"
    assert all(prompt.start == 0 and prompt.end is None for prompt in items.values())


def test_vctk_takes_the_utterance_just_shorter_and_one_text_of_each_speaker(vctk):
    small = protocol("valle2-vctk-3").model_copy(update={"speakers": 2})
    items = build_list(small, ListSource(vctk, seed=3)).items
    assert [item.prompt.speaker for item in items] == ["p225", "p226"]
    for item in items:
        longest = 1 if item.reference.id.endswith("002") else 2
        assert item.prompt.id.endswith(f"00{longest}")


def test_prompts_in_another_language_come_from_their_own_corpus(librispeech, corpus):
    small = protocol("vallex").model_copy(update={"utterances": 6, "speakers": 2, "subset": "test-clean"})
    with pytest.raises(UserError, match="--prompts FOLDER"):
        build_list(small, ListSource(librispeech))
    items = build_list(small, ListSource(librispeech, prompts=corpus)).items
    assert {item.prompt.language for item in items} == {"zh"}
    assert {item.prompt.speaker for item in items} == {"anna", "ben", "carl"}
    assert items[0].prompt.load({"prompts": corpus}).seconds > 4


def test_conditions_multiply_the_items(corpus):
    found = build_list(protocol("preserve"), ListSource(corpus, limit=2))
    assert len(found.items) == 2 * len(protocol("preserve").conditions)
    assert len({item.id for item in found.items}) == len(found.items)


def test_a_wrong_or_partial_corpus_is_named_with_what_to_do(librispeech, corpus, tmp_path):
    with pytest.raises(UserError, match=r"valle needs librispeech test-clean.*openslr\.org/12: unpack test-clean"):
        build_list(protocol("valle"), ListSource(corpus))
    with pytest.raises(UserError, match=r"6 of 2620 utterances are there; 2 of 40 speakers.*--partial"):
        build_list(protocol("valle"), ListSource(librispeech))
    with pytest.raises(UserError, match=r"holds no dev-clean \(it holds test-clean\)"):
        build_list(protocol("vallex"), ListSource(librispeech, prompts=corpus))
    found = build_list(protocol("valle2"), ListSource(librispeech, partial=True))
    assert any("6 of 2620" in note for note in found.notes)


def test_missing_recordings_are_counted(librispeech, tmp_path):
    import shutil

    copy = Path(shutil.copytree(librispeech, tmp_path / "copy"))
    next(copy.rglob("*.flac")).unlink()
    with pytest.raises(UserError, match="1 recordings are missing, such as"):
        build_list(replace_counts("valle2"), ListSource(copy))


def test_one_speaker_gives_no_control(librispeech):
    one = protocol("valle2").model_copy(update={"utterances": 3, "speakers": 1, "subset": ""})
    with pytest.raises(UserError, match="all prompts are by one speaker"):
        build_list(one, ListSource(librispeech / "test-clean" / "61"))
