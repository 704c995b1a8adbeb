"""Laws of the non-autoregressive model, for every configuration."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lm_samples import ENTRIES, NAR_KINDS, SMALL, batch_for, nar_of, utterance
from openvalle.model.batch import Batch
from openvalle.model.config import NARConfig
from openvalle.model.nar import NAR, NARInputs, choose_stages
from openvalle.model.nar_inputs import add_codebook1_noise, draw_prompts
from openvalle.train.state import OptimConfig, make_optimizer

EVERY = pytest.mark.parametrize("kind", NAR_KINDS)


def inputs_for(model, rows, seed=0) -> NARInputs:
    batch = batch_for(model.config, rows)
    frames = draw_prompts(model.config, batch, torch.Generator().manual_seed(seed))
    languages = batch.languages[:, None]
    return NARInputs(batch.text, batch.text_lens, frames, languages, languages)


@EVERY
def test_a_row_in_a_batch_is_the_row_alone(kind, utterances):
    model = nar_of(kind)
    inputs = inputs_for(model, utterances)
    stages = [min(stage, model.config.stages) for stage in (1, 4, 7)]
    together = model(inputs, torch.tensor(stages))
    for index, stage in enumerate(stages):
        length, symbols = int(inputs.frames.lens[index]), int(inputs.text_lens[index])
        cut = {
            f.name: getattr(inputs.frames, f.name)[index : index + 1]
            for f in dataclasses.fields(inputs.frames)
            if getattr(inputs.frames, f.name) is not None
        }
        cut = {name: value if value.ndim == 1 else value[:, :length] for name, value in cut.items()}
        frames = dataclasses.replace(inputs.frames, **cut)
        row = slice(index, index + 1)
        alone = NARInputs(
            inputs.text[row, :symbols],
            inputs.text_lens[row],
            frames,
            inputs.languages[row],
            inputs.text_languages[row],
        )
        hidden = model(alone, torch.tensor([stage]))
        torch.testing.assert_close(together[index, :length], hidden[0], atol=1e-4, rtol=1e-4)


@EVERY
def test_targets_hide_the_stage_and_all_after_it(kind, utterances):
    model = nar_of(kind)
    stage = min(3, model.config.stages)
    inputs = inputs_for(model, utterances)
    before = model(inputs, torch.tensor([stage]))
    codes, target = inputs.frames.codes, ~inputs.frames.is_prompt
    codes[..., stage:][target] = (codes[..., stage:][target] + 1) % ENTRIES
    torch.testing.assert_close(model(inputs, torch.tensor([stage])), before)
    codes[..., stage - 1][target] = (codes[..., stage - 1][target] + 1) % ENTRIES
    assert not torch.allclose(model(inputs, torch.tensor([stage])), before)


@pytest.mark.parametrize("kind", [kind for kind in NAR_KINDS if kind != "staged"])  # has none in training
def test_all_codebooks_of_the_prompt_are_seen(kind, utterances):
    model = nar_of(kind)
    inputs = inputs_for(model, utterances)
    before = model(inputs, torch.tensor([1]))
    prompt = inputs.frames.is_prompt
    assert bool(prompt.any(1).all())
    inputs.frames.codes[..., 7][prompt] = (inputs.frames.codes[..., 7][prompt] + 1) % ENTRIES
    after = model(inputs, torch.tensor([1]))
    assert not torch.allclose(before[~prompt], after[~prompt])


@pytest.mark.parametrize(
    "kind", [kind for kind, values in NAR_KINDS.items() if values.get("residual", {}).get("passes") != 1]
)
def test_the_stage_matters(kind, utterances):
    model = nar_of(kind)
    inputs = inputs_for(model, utterances)
    inputs.frames.codes.zero_()
    with torch.no_grad():
        model.codes[:, 0] = 0  # so that only the conditioning tells the stages apart
    assert not torch.allclose(model(inputs, torch.tensor([2])), model(inputs, torch.tensor([6])))


@EVERY
def test_training_lowers_the_loss(kind, utterances):
    torch.manual_seed(0)
    model = NAR(NARConfig.parse({**SMALL, **NAR_KINDS[kind]})).train()
    batch = batch_for(model.config, utterances)
    optimizer = make_optimizer(model, OptimConfig(learning_rate=1e-2))
    losses = []
    for _ in range(60):
        loss = model.loss(batch, torch.Generator().manual_seed(5), stage=min(2, model.config.stages)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    unused = {name for name, p in model.named_parameters() if p.grad is None and p.requires_grad}
    assert unused == set()


@pytest.mark.parametrize("stage", range(1, 8))
def test_each_tied_head_is_the_table_of_the_same_codebook(stage):
    model = NAR(NARConfig.parse(SMALL))
    hidden = torch.zeros(16)
    hidden[5] = 1
    torch.testing.assert_close(model.logits(hidden, stage), model.codes[stage, :, 5])


def test_the_codecs_vectors_are_not_trained(utterances):
    model = nar_of("builtin").train()
    model.loss(batch_for(model.config, utterances), torch.Generator().manual_seed(0)).total.backward()
    assert model.codes.grad is None
    assert float(model.project.weight.grad.abs().sum()) > 0


def test_expecting_the_rest_exactly_costs_nothing_and_nothing_costs_one(utterances):
    model = nar_of("rests in passes")
    right = torch.randint(ENTRIES, (9, 8), generator=torch.Generator().manual_seed(0))
    given = right.clone()
    given[:, 0] = (given[:, 0] + 1) % ENTRIES  # what is wrong in the codes before the stage belongs to the rest
    whole = sum(model.codes[book][right[:, book]] for book in range(8))
    rest = whole - sum(model.codes[book][given[:, book]] for book in range(3))
    torch.testing.assert_close(model.residual(right, given, 3), rest)
    head = model.residual_head
    head.forward = lambda hidden, stage, tables: hidden
    assert float(head.distance(rest, rest, 3, model.codes)) < 1e-9
    assert float(head.distance(torch.zeros_like(rest), rest, 3, model.codes)) == pytest.approx(1)


def test_noise_swaps_whole_blocks_of_targets_within_a_symbol(utterances):
    config = NARConfig.parse({**SMALL, **NAR_KINDS["builtin"]})
    batch = batch_for(config, [utterance(4, 400, seed) for seed in range(3)])
    frames = draw_prompts(config, batch, torch.Generator().manual_seed(0))
    symbols = batch.text.gather(1, frames.alignment)
    tagged = frames.codes.clone()  # every entry says its symbol
    tagged[..., 0] = symbols * 1000 + torch.arange(frames.codes.shape[1]) // 2
    frames = dataclasses.replace(frames, codes=tagged)
    noisy = add_codebook1_noise(frames, batch.text, 0.5, 2, torch.Generator().manual_seed(0)).codes
    swapped = noisy[..., 0] != tagged[..., 0]
    assert torch.equal(noisy[..., 1:], tagged[..., 1:])
    assert not bool((swapped & ~frames.scored).any()), "prompts and padding stay"
    assert torch.equal(noisy[..., 0] // 1000, symbols)
    assert 0.1 < float(swapped.sum() / frames.scored.sum()) < 0.4
    pairs = swapped[:, : swapped.shape[1] // 2 * 2].view(3, -1, 2)
    assert torch.equal(pairs[..., 0], pairs[..., 1]), "both frames of a merged code"
    assert torch.equal(add_codebook1_noise(frames, batch.text, 0.0, 2, torch.Generator()).codes, tagged)


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_every_stage_is_met_as_often_as_its_weight_says(rows):
    model = NAR(NARConfig.parse({**SMALL, "stage_draw": "sample", "stage_weights": [4, 1, 1, 1, 1, 1, 1]}))
    weights = [0, 4, 1, 1, 1, 1, 1, 1]
    shares = (torch.arange(1000) / 1000).tolist()
    drawn = torch.cat([choose_stages(model.config, share, rows) for share in shares])
    assert torch.bincount(drawn, minlength=8).div(rows * 100).tolist() == pytest.approx(weights, abs=0.02)
    for share in shares[::100] if rows == 40 else []:  # and within a batch
        in_batch = torch.bincount(choose_stages(model.config, share, rows), minlength=8).tolist()
        assert all(abs(found - 4 * weight) <= 1 for found, weight in zip(in_batch, weights, strict=True))


def test_the_share_of_a_batch_decides_on_its_stage(utterances):
    model = NAR(NARConfig.parse(SMALL)).eval()
    batch = batch_for(model.config, utterances)
    for share, stage in ((0.0, 1), (0.5, 4), (0.999, 7)):
        losses = [
            model.loss(dataclasses.replace(batch, stage_uniform=torch.tensor(share)), torch.Generator().manual_seed(3)),
            model.loss(
                dataclasses.replace(batch, stage_uniform=torch.tensor(share)), torch.Generator().manual_seed(3), stage
            ),
        ]
        assert torch.equal(losses[0].total, losses[1].total)
        assert f"accuracy_{stage + 1}" in losses[0].parts


def test_a_prefix_prompt_is_at_most_half_and_whole_blocks():
    values = {"alignment": "phoneme", "merge": 2, "prompt_min": 3, "prompt_max": 12}
    config = NARConfig.parse({**SMALL, **values})
    batch = batch_for(config, [utterance(4, frames, frames) for frames in range(10, 60)])
    frames = draw_prompts(config, batch, torch.Generator().manual_seed(0))
    assert bool((frames.prompt_lens <= batch.code_lens // 2).all())
    assert bool((frames.prompt_lens % 2 == 0).all())
    assert frames.prompt_lens.unique().numel() > 3
    assert torch.equal(frames.scored.sum(1), batch.code_lens - frames.prompt_lens)
    assert torch.equal(frames.positions[0], torch.arange(frames.codes.shape[1]))


def test_a_segment_is_not_scored_where_it_shows_the_answer(utterances):
    config = NARConfig.parse({**SMALL, "prompt": "segment", "text": "target", "prompt_min": 4, "prompt_max": 9})
    rows = [dataclasses.replace(row, speaker_codes=None) for row in utterances]
    for index, row in enumerate(rows):  # every frame is recognisable
        rows[index] = dataclasses.replace(row, codes=np.arange(len(row.codes))[:, None].repeat(8, axis=1))
    batch = batch_for(config, rows)
    frames = draw_prompts(config, batch, torch.Generator().manual_seed(0))
    for row in range(3):
        prompt, length = int(frames.prompt_lens[row]), int(frames.lens[row])
        shown = set(frames.codes[row, :prompt, 0].tolist())
        assert len(shown) == prompt
        scored = frames.codes[row, :, 0][frames.scored[row]].tolist()
        assert sorted([*shown, *scored]) == list(range(length - prompt))
        assert frames.positions[row, prompt] == 0


def pieces_of(recording, starts, frames=20):
    """Return rows of `frames` frames cut out of one recording, with a path."""
    rows = []
    for start in starts:
        row = utterance(4, frames, start)
        codes = recording[start : start + frames]
        rows.append(dataclasses.replace(row, codes=codes, speaker_codes=recording, speaker_start=start))
    return rows


def test_a_segment_comes_from_elsewhere_in_the_recording_if_there_is_room():
    config = NARConfig.parse(
        {**SMALL, "prompt": "segment", "text": "target", "alignment": "phoneme", "prompt_min": 9, "prompt_max": 9}
    )
    recording = np.arange(60)[:, None].repeat(8, axis=1)  # every frame is recognisable
    batch = batch_for(config, pieces_of(recording, (0, 10, 25, 40)))
    seen = set()
    for seed in range(30):
        frames = draw_prompts(config, batch, torch.Generator().manual_seed(seed))
        for row, start in enumerate((0, 10, 25, 40)):
            shown = set(frames.codes[row, :9, 0].tolist())
            assert len(shown) == 9
            assert not shown & set(range(start, start + 20))
            seen |= shown
        assert frames.scored.sum(1).tolist() == [20] * 4
        assert frames.alignment[:, :9].unique().tolist() == [-1]
    assert seen == set(range(60))


def test_a_segment_is_as_long_as_the_paper_says_where_there_is_room_beside_the_row():
    """VALL-E 4.2.2: 3 s of the recording, however short the row; half the row where it is all there is."""
    config = NARConfig.parse({**SMALL, "prompt": "segment", "text": "target", "prompt_min": 15, "prompt_max": 15})
    recording = np.arange(60)[:, None].repeat(8, axis=1)
    for start, frames, wanted in ((0, 20, 15), (40, 20, 15), (20, 20, 15), (5, 46, 15), (0, 60, 15), (0, 24, 15)):
        batch = batch_for(config, pieces_of(recording, (start,), frames))
        assert draw_prompts(config, batch, torch.Generator().manual_seed(0)).prompt_lens.tolist() == [wanted]
    whole = np.arange(24)[:, None].repeat(8, axis=1)
    batch = batch_for(config, pieces_of(whole, (0,), 24))
    assert draw_prompts(config, batch, torch.Generator().manual_seed(0)).prompt_lens.tolist() == [12]


def test_a_segment_that_must_overlap_is_not_scored_there():
    """A prompt of 9 frames has no room beside 20 of 25 frames."""
    config = NARConfig.parse(
        {**SMALL, "prompt": "segment", "text": "target", "alignment": "phoneme", "prompt_min": 9, "prompt_max": 9}
    )
    recording = np.arange(25)[:, None].repeat(8, axis=1)
    batch = batch_for(config, pieces_of(recording, (3,)))
    for seed in range(20):
        frames = draw_prompts(config, batch, torch.Generator().manual_seed(seed))
        shown, scored = frames.codes[0, :9, 0].tolist(), frames.codes[0, :, 0][frames.scored[0]].tolist()
        assert set(scored) == set(range(3, 23)) - set(shown)
        paths = [int(batch.alignment[0, frame - 3]) if 3 <= frame < 23 else -1 for frame in shown]
        assert frames.alignment[0, :9].tolist() == paths


def test_pieces_cut_to_whole_groups_keep_their_place_in_the_recording():
    recording = np.arange(40)[:, None].repeat(8, axis=1)
    batch = Batch.of(pieces_of(recording, (5,), frames=19), group=4)
    start = int(batch.speaker_starts[0])
    assert np.array_equal(batch.codes[0], recording[start : start + 16])
    assert start == 8


def test_the_rest_of_the_recording_is_a_prompt_that_hides_nothing(utterances):
    config = NARConfig.parse({**SMALL, "prompt": "segment", "text": "target", "prompt_min": 4, "prompt_max": 9})
    batch = batch_for(config, utterances)
    frames = draw_prompts(config, batch, torch.Generator().manual_seed(0))
    assert torch.equal(frames.scored.sum(1), batch.code_lens)


def test_a_sentence_prompt_is_the_other_recording(utterances):
    config = NARConfig.parse({**SMALL, **NAR_KINDS["aligned sentence"]})
    batch = batch_for(config, utterances)
    frames = draw_prompts(config, batch, torch.Generator().manual_seed(0))
    for row, other in enumerate(utterances):
        length = len(other.speaker_codes)
        assert np.array_equal(frames.codes[row, :length], other.speaker_codes)
        assert frames.alignment[row, :length].unique().tolist() == [-1]
        assert torch.equal(
            frames.alignment[row, length : length + len(other.codes)], batch.alignment[row, : len(other.codes)]
        )


def test_given_prompt_lengths_are_used(utterances):
    config = NARConfig.parse(SMALL)
    batch = dataclasses.replace(batch_for(config, utterances), prompt_lens=torch.tensor([4, 0, 9]))
    frames = draw_prompts(config, batch, torch.Generator().manual_seed(0))
    assert frames.prompt_lens.tolist() == [4, 0, 9]


def test_some_batches_have_no_prompt(utterances):
    config = NARConfig.parse({**SMALL, "prompt_none": 0.5, "prompt_min": 3, "prompt_max": 8})
    batch, rng = batch_for(config, utterances), torch.Generator().manual_seed(0)
    without = [int(draw_prompts(config, batch, rng).prompt_lens.sum()) == 0 for _ in range(100)]
    assert 30 < sum(without) < 70
