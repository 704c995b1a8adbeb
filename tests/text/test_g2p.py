"""The NumPy model is the torch model, and the shipped weights are as good as their card says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from older_tables import arpabet
from openvalle.errors import ModelError
from openvalle.text.g2p import LETTERS, SpellingConfig, SpellingModel, keep_one_primary, load_shipped, spell
from openvalle.text.phones import is_vowel
from openvalle.train import g2p as training
from openvalle.train.g2p import MISAKI, Pair, align, held_out, pairs

CHUNKS = [(), ("AE",), ("B",), ("K",), ("T",), ("Y", "UW")]


@pytest.fixture
def network() -> training.SpellingNetwork:
    torch.manual_seed(0)
    recipe = training.SpellingRecipe(width=16, heads=2, feed=24, encoder=2, decoder=2)
    return training.SpellingNetwork(recipe, len(CHUNKS)).eval()


def config() -> SpellingConfig:
    return SpellingConfig(width=16, heads=2, encoder=2, decoder=2, chunks=tuple(CHUNKS))


def test_numpy_equals_torch(network: training.SpellingNetwork) -> None:
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    model = SpellingModel(config(), weights)
    letters = [LETTERS.index(letter) for letter in "abutk"]
    chunks, stresses = [1, 2, 5, 4, 3], [0, training.UNKNOWN, 1, training.UNKNOWN, training.UNKNOWN]
    batch = training.Batch(*(torch.tensor([part]) for part in (letters, chunks, stresses)), torch.tensor([1]))
    with torch.no_grad():
        chunk_logits, stress_logits = network(batch)
    given = [3 if stress == training.UNKNOWN else stress for stress in [3, *stresses[:-1]]]
    past, rows = model.no_past(), []
    memory = model.encode(letters, source=1)
    for state, chunk, stress in zip(memory, [6, *chunks[:-1]], given, strict=True):
        row, past = model.step(state, np.array([chunk]), np.array([stress]), past)
        rows.append(row[0])
    features = np.stack(rows)
    assert np.allclose(model.chunk_scores(features), chunk_logits[0].log_softmax(-1), atol=1e-5)
    for at, chunk in enumerate(chunks):
        wanted = stress_logits[0, at].log_softmax(-1)
        assert np.allclose(model.stress_scores(features[at], np.array(chunk)), wanted, atol=1e-5)


def test_a_saved_model_is_the_same_model(network: training.SpellingNetwork, tmp_path: Path) -> None:
    model = training.save(network, config(), tmp_path)
    assert model("tabuk") == SpellingModel.load(tmp_path)("tabuk")
    assert model("") == model("123") == ()
    assert len(model("tab" * 30)) > 0  # longer than the model's positions


def test_a_damaged_model_is_refused(network: training.SpellingNetwork, tmp_path: Path) -> None:
    training.save(network, config(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelError, match="pronunciation model"):
        SpellingModel.load(tmp_path)
    with pytest.raises(ModelError, match="pronunciation model"):
        SpellingModel.load(tmp_path / "absent")


ITEMS = [
    Pair(word, tuple(phones.split()), MISAKI)
    for word, phones in (
        ("cat", "K AE1 T"), ("back", "B AE1 K"), ("tab", "T AE1 B"), ("tack", "T AE1 K"), ("act", "AE1 K T"),
        ("tax", "T AE1 K S"), ("cab", "K AE1 B"), ("bat", "B AE1 T"), ("at", "AE1 T"), ("sat", "S AE1 T"),
    )
]  # fmt: skip


def test_alignment_gives_every_phone_to_one_letter() -> None:
    inventory, aligned = align(ITEMS, rare=1)
    assert set(aligned) == {item.word for item in ITEMS}
    for item in ITEMS:
        spoken = tuple(phone for chunk in aligned[item.word] for phone in chunk)
        assert spoken == training.bare(item.phones)
        assert len(aligned[item.word]) == len(item.word)
        assert set(inventory).issuperset(aligned[item.word])
    assert aligned["tax"] == [("T",), ("AE",), ("K", "S")]
    assert aligned["cab"] == [("K",), ("AE",), ("B",)]


@pytest.mark.long
def test_a_tiny_training_run_learns_and_repeats() -> None:
    inventory, aligned = align(ITEMS, rare=1)
    groups = training.tensors(ITEMS, inventory, aligned)
    recipe = training.SpellingRecipe(steps=60, batch=4, warmup=5, rate=1e-2, width=16, heads=2, feed=24, encoder=1)
    first, second = (training.fit(recipe, groups, len(inventory)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    with torch.no_grad():
        assert sum(float(first.loss(batch)) for batch in groups.values()) / len(groups) < 0.3


def test_held_out_words_are_frozen() -> None:
    share = sum(held_out(str(number)) for number in range(4000)) / 4000
    assert 0.03 < share < 0.07
    assert [word for word in ("apple", "banana", "cherry", "lemon", "orange", "plum") if held_out(word)] == ["banana"]


def test_edits() -> None:
    assert training.edit_distance((), ("A", "B")) == 2
    assert training.edit_distance(("A", "B", "C"), ("A", "C")) == 1
    assert training.edit_distance(("A", "B"), ("B", "A")) == 2


def test_exactly_one_primary_stress() -> None:
    assert keep_one_primary(["AH1", "B", "AE1"]) == ["AH1", "B", "AE2"]
    assert keep_one_primary(["AH0", "B", "AE2"]) == ["AH0", "B", "AE1"]
    assert keep_one_primary(["AH0", "B"]) == ["AH1", "B"]
    assert keep_one_primary(["B", "S"]) == ["B", "S"]


def test_the_shipped_model_speaks_in_the_table() -> None:
    known = set(arpabet().symbols)
    for word in ("zorblax", "gathercole", "fizzlechip", "d'artagnan", "x", "supercalifragilisticexpialidociousness"):
        phones = spell(word)
        assert phones, word
        assert known.issuperset(phones)
        assert sum(is_vowel(phone) and phone[-1] == "1" for phone in phones) >= 1


@pytest.mark.long
def test_the_shipped_model_is_as_good_as_its_card() -> None:
    folder = Path(training.__file__).parents[1] / "assets" / "g2p"
    claimed = json.loads((folder / "scores.json").read_text())["misaki"]
    unseen = [item for item in pairs() if item.source == MISAKI and held_out(item.word)][::60]
    found = training.evaluate(load_shipped(), unseen)
    assert found["word accuracy"] > claimed["word accuracy"] - 0.1  # a sample of about 150 words
    assert found["phone accuracy"] > claimed["phone accuracy"] - 0.03
