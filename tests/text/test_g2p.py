"""The NumPy model is the torch model, and the shipped weights are as good as their card says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from older_tables import arpabet
from openvalle.errors import ModelError
from openvalle.text.g2p import LETTERS, G2PConfig, G2PModel, keep_one_primary, load_shipped, spell
from openvalle.text.phones import is_vowel
from openvalle.train import g2p as training
from openvalle.train.g2p import MISAKI, Pair, align, pairs
from openvalle.train.loop import fit

CHUNKS = [(), ("AE",), ("B",), ("K",), ("T",), ("Y", "UW")]


def recipe(steps: int = 120, **values: int) -> training.G2PRecipe:
    optim = {"learning_rate": 1e-2, "warmup": 5, "floor": 0, "ema": 0}
    loop = {"steps": steps, "precision": "float32", "optim": optim, "validate_every": 100}
    values = {"batch": 4, "width": 16, "heads": 2, "feed": 24, "encoder": 1} | values
    return training.G2PRecipe.parse({"loop": loop, **values}, "test")


@pytest.fixture
def network() -> training.G2PNetwork:
    torch.manual_seed(0)
    return training.G2PNetwork(recipe(encoder=2, decoder=2), len(CHUNKS)).eval()


@pytest.fixture
def saved(network: training.G2PNetwork, tmp_path: Path) -> Path:
    """The folder of the network as the training keeps it."""
    task = training.G2PTask(recipe(encoder=2, decoder=2), ITEMS, rare=1)
    task.config = config()
    task.keep({"g2p": network}, tmp_path, 1.0)
    return tmp_path


def config() -> G2PConfig:
    return G2PConfig(width=16, heads=2, encoder=2, decoder=2, chunks=tuple(CHUNKS))


def test_numpy_equals_torch(network: training.G2PNetwork) -> None:
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    model = G2PModel(config(), weights)
    letters = [LETTERS.index(letter) for letter in "abutk"]
    chunks, stresses = [1, 2, 5, 4, 3], [0, training.UNKNOWN, 1, training.UNKNOWN, training.UNKNOWN]
    batch = training.G2PBatch(*(torch.tensor([part]) for part in (letters, chunks, stresses)), torch.tensor([1]))
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


def test_a_saved_model_is_the_same_model(network: training.G2PNetwork, saved: Path) -> None:
    model = G2PModel.load(saved)
    weights = {name: value.half().float().numpy() for name, value in network.state_dict().items()}
    assert model("tabuk") == G2PModel(config(), weights)("tabuk")
    assert model("") == model("123") == ()
    assert len(model("tab" * 30)) > 0  # longer than the model's positions


def test_a_damaged_model_is_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelError, match="pronunciation model"):
        G2PModel.load(saved)
    with pytest.raises(ModelError, match="pronunciation model"):
        G2PModel.load(saved / "absent")


ITEMS = [
    Pair(word, tuple(phones.split()), MISAKI)
    for word, phones in (
        ("cat", "K AE1 T"), ("back", "B AE1 K"), ("tab", "T AE1 B"), ("tack", "T AE1 K"), ("act", "AE1 K T"),
        ("tax", "T AE1 K S"), ("cab", "K AE1 B"), ("bat", "B AE1 T"), ("at", "AE1 T"), ("sat", "S AE1 T"),
    )
]  # fmt: skip
SEEN = [item for item in ITEMS if not item.is_held_out]


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


class Interrupted(training.G2PTask):
    def batch(self, index: int, rank: int, world: int) -> training.G2PBatch:
        if index == 70:
            raise KeyboardInterrupt
        return super().batch(index, rank, world)


def test_a_tiny_run_learns_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    loop, task = recipe().loop, training.G2PTask(recipe(), ITEMS, rare=1)
    averages = fit(task, loop, tmp_path / "whole")
    task.keep(averages, tmp_path / "g2p", 1.0)
    model = G2PModel.load(tmp_path / "g2p")
    assert [model(item.word) for item in SEEN] == [item.phones for item in SEEN]
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(recipe(), ITEMS, rare=1), loop.model_copy(update={"save_minutes": 1e-9}), tmp_path / "parts")
    parts = fit(training.G2PTask(recipe(), ITEMS, rare=1), loop, tmp_path / "parts")["g2p"]
    assert all(torch.equal(a, b) for a, b in zip(averages["g2p"].parameters(), parts.parameters(), strict=True))
    curves = [json.loads(row) for row in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curves if row["group"] == "valid"] == [100, 120]
    assert curves[-1]["misaki words"] == len(ITEMS) - len(SEEN) == 1


def test_batches_are_of_one_length_and_an_epoch_is_every_word_once() -> None:
    task = training.G2PTask(recipe(batch=3), ITEMS, rare=1)
    epochs = []
    for epoch in range(2):
        words = []
        for rank in range(2):
            for index in range(epoch * len(task.parts), (epoch + 1) * len(task.parts)):
                if index % 2 == rank:
                    batch = task.batch(index // 2, rank, 2)
                    words += ["".join(LETTERS[letter] for letter in row) for row in batch.letters.tolist()]
        epochs.append(words)
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(item.word for item in SEEN)


def test_held_out_words_are_frozen() -> None:
    share = sum(Pair(str(number), (), MISAKI).is_held_out for number in range(4000)) / 4000
    assert 0.03 < share < 0.07
    fruits = [Pair(word, (), MISAKI) for word in ("apple", "banana", "cherry", "lemon", "orange", "plum")]
    assert [pair.word for pair in fruits if pair.is_held_out] == ["banana"]


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
    unseen = [item for item in pairs() if item.source == MISAKI and item.is_held_out][::60]
    found = training.judge(load_shipped(), unseen)["misaki"]
    assert found["word accuracy"] > claimed["word accuracy"] - 0.1  # a sample of about 150 words
    assert found["phone accuracy"] > claimed["phone accuracy"] - 0.03
