"""Laws of the autoregressive model, for every configuration."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lm_samples import AR_KINDS, ENTRIES, SMALL, ar_of, batch_for, shaken, utterance
from openvalle.model.ar import AR, ARInputs, ar_examples
from openvalle.model.batch import Batch
from openvalle.model.config import ARConfig
from openvalle.types import Utterance

EVERY = pytest.mark.parametrize("kind", AR_KINDS)


def inputs_for(model, rows) -> ARInputs:
    return ar_examples(model.config, batch_for(model.config, rows), None, training=False).inputs


def narrow(inputs: ARInputs, start: int, end: int) -> ARInputs:
    """Return the inputs with only the groups before `end`; `start` unused groups are none."""
    assert start == 0
    aligned = None if inputs.aligned is None else inputs.aligned[:, : end + 1]
    lens = torch.full_like(inputs.group_lens, end)
    return ARInputs(
        inputs.text,
        inputs.text_lens,
        inputs.groups[:, :end],
        lens,
        aligned,
        inputs.languages,
        inputs.text_languages,
    )


@EVERY
def test_cached_decoding_equals_the_full_forward(kind, utterances):
    model = ar_of(kind)
    inputs = inputs_for(model, utterances)
    steps = int(inputs.group_lens.min())
    inputs = narrow(inputs, 0, steps)
    full = model(inputs)
    logits, state = model.prefill(narrow(inputs, 0, 2), room=steps)
    for at in range(2, steps + 1):
        torch.testing.assert_close(logits.codes[:, 0], full.codes[:, at])
        if full.phonemes is not None:
            torch.testing.assert_close(logits.phonemes[:, 0], full.phonemes[:, at])
        if at < steps:
            aligned = None if inputs.aligned is None else inputs.aligned[:, at + 1]
            logits, state = model.step(inputs.groups[:, at], aligned, inputs.languages[:, 0], state)


@EVERY
def test_forked_rows_go_on_as_their_source(kind, utterances):
    model = ar_of(kind)
    inputs = narrow(inputs_for(model, utterances), 0, 3)
    _, state = model.prefill(inputs, room=4)
    twice = state.fork(torch.tensor([1, 1]))
    aligned = None if inputs.aligned is None else inputs.aligned[:, 1]
    group, language = inputs.groups[:, 0], inputs.languages[:, 0]
    some = None if aligned is None else aligned[1].expand(2)
    forked, _ = model.step(group[1].expand(2, -1), some, language[1].expand(2), twice)
    whole, _ = model.step(group, aligned, language, state)
    torch.testing.assert_close(forked.codes, whole.codes[1].expand(2, -1, -1, -1))


@EVERY
def test_a_row_in_a_batch_is_the_row_alone(kind, utterances):
    model = ar_of(kind)
    together = model(inputs_for(model, utterances))
    for index, row in enumerate(utterances):
        alone = model(inputs_for(model, [row]))
        length = alone.codes.shape[1]
        torch.testing.assert_close(together.codes[index, :length], alone.codes[0], atol=1e-4, rtol=1e-4)


@EVERY
def test_the_loss_of_a_batch_is_the_mean_over_its_positions(kind, utterances):
    model = ar_of(kind)
    batch = batch_for(model.config, utterances)
    counts = (batch.code_lens // model.config.step_frames + 1).tolist()  # <EOS> too
    alone = [model.loss(batch_for(model.config, [row])).parts["code"] for row in utterances]
    total = sum(loss * count for loss, count in zip(alone, counts, strict=True))
    torch.testing.assert_close(model.loss(batch).parts["code"], total / sum(counts), atol=1e-4, rtol=1e-4)


@EVERY
def test_later_codes_change_nothing_before(kind, utterances):
    model = ar_of(kind)
    inputs = inputs_for(model, utterances[:1])
    before = model(inputs).codes
    at = inputs.groups.shape[1] // 2
    inputs.groups[:, at] = (inputs.groups[:, at] + 1) % ENTRIES
    after = model(inputs).codes
    torch.testing.assert_close(before[:, : at + 1], after[:, : at + 1])
    assert not torch.allclose(before[:, at + 1 :], after[:, at + 1 :])


@EVERY
def test_text_never_sees_audio(kind, utterances):
    model = ar_of(kind)
    seen = []
    model.transformer.register_forward_hook(lambda module, args, output: seen.append(output))
    inputs = inputs_for(model, utterances[:1])
    model(inputs)
    inputs.groups.copy_((inputs.groups + 1) % ENTRIES)
    model(inputs)
    symbols = int(inputs.text_lens[0]) + 1
    torch.testing.assert_close(seen[0][:, :symbols], seen[1][:, :symbols])


@pytest.mark.parametrize(("attention", "is_changed"), [("bidirectional", True), ("causal", False)])
def test_the_first_symbol_sees_the_last_only_if_text_is_bidirectional(attention, is_changed, utterances):
    model = AR(ARConfig.parse({**SMALL, "text_attention": attention})).eval()
    seen = []
    model.transformer.register_forward_hook(lambda module, args, output: seen.append(output[:, 0]))
    inputs = inputs_for(model, utterances[:1])
    model(inputs)
    inputs.text[0, -1] += 1
    model(inputs)
    assert torch.allclose(seen[0], seen[1]) is not is_changed


def test_a_lead_of_one_tells_a_code_its_phoneme():
    """The symbol of frame t enters where frame t is predicted, or (VALL-E R) one position later."""
    for lead in (0, 1):
        model = AR(ARConfig.parse({**SMALL, "alignment": "phoneme", "phoneme_lead": lead}))
        row = dataclasses.replace(utterance(3, 4, 0), durations=np.array([2, 1, 1]))
        aligned = inputs_for(model, [row]).aligned
        assert aligned[0].tolist() == ([-1, 0, 0, 1, 2] if lead == 0 else [0, 0, 1, 2, 2])


@pytest.mark.parametrize("lead", [0, 1])
def test_the_phoneme_target_is_the_frame_after_the_last_input_one(lead):
    config = ARConfig.parse({**SMALL, "alignment": "phoneme", "phoneme_lead": lead})
    row = Utterance(np.array([3, 5, 7]), np.zeros((4, 8), np.int64), np.array([2, 1, 1]))
    found = ar_examples(config, Batch.of([row]), None, training=True)
    assert found.phonemes is not None
    assert found.phonemes.tolist() == ([3, 3, 5, 7, -100] if lead == 0 else [3, 5, 7, -100, -100])


def test_a_noisy_history_keeps_targets_prompts_and_phonemes(utterances):
    """Changed inputs come from frames of the same symbol but for one in eight, and never from elsewhere in a prompt."""
    config = ARConfig.parse({**SMALL, "alignment": "phoneme", "history_noise": 0.9, "merge": 2})
    rows = [dataclasses.replace(row, prompt_frames=6) for row in utterances]
    batch = Batch.of(rows, merge=2)
    noisy = ar_examples(config, batch, torch.Generator().manual_seed(0), training=True)
    clean = ar_examples(config, batch, None, training=False)
    assert torch.equal(noisy.codes, clean.codes)
    assert torch.equal(noisy.inputs.groups[:, :3], clean.inputs.groups[:, :3])
    changed = noisy.inputs.groups != clean.inputs.groups
    real = torch.arange(changed.shape[1]) < clean.inputs.group_lens[:, None]
    assert changed.any() and not changed[~real].any()
    phonemes = batch.text.gather(1, batch.alignment[:, ::2])
    known = {(int(p), int(c)) for p, c in zip(phonemes[real], clean.inputs.groups[..., 0][real], strict=True)}
    fitting = [
        (int(p), int(c)) in known for p, c in zip(phonemes[changed[..., 0]], noisy.inputs.groups[changed], strict=True)
    ]
    assert sum(fitting) > len(fitting) / 2


def test_without_begin_the_texts_end_predicts_the_first_code(utterances):
    """VALL-E 4.2.1: two <EOS>, no <BOS>. The sequence is one position shorter."""
    lengths = []
    for begin in (True, False):
        model = shaken(AR(ARConfig.parse({**SMALL, "use_bos": begin})))
        model.transformer.register_forward_hook(lambda module, args, output: lengths.append(output.shape[1]))
        logits = model(inputs_for(model, utterances[:1])).codes
        assert logits.shape[1] == len(utterances[0].codes) + 1
        assert any("bos" in name for name, _ in model.named_parameters()) is begin
    assert lengths[0] == lengths[1] + 1 == len(utterances[0].text) + 2 + len(utterances[0].codes)


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_groups_are_clipped_from_the_start_and_end_with_a_group_of_eos(group):
    """Papers' 9.2: c = codes[len % G:]; the target after the last group is G times <EOS>."""
    model = shaken(AR(ARConfig.parse({**SMALL, "group": group})))
    row = utterance(5, 29, 0)
    batch = batch_for(model.config, [row])
    assert batch.codes[0, :, 0].tolist() == row.codes[29 % group :, 0].tolist()
    logits = model(inputs_for(model, [row])).codes[0].log_softmax(-1)  # (N + 1, G, classes)
    target = torch.cat([batch.codes[0, :, 0], torch.full((group,), model.eos)]).view(-1, group)
    assert len(logits) == 29 // group + 1
    expected = -logits.gather(-1, target[..., None]).mean()
    torch.testing.assert_close(model.loss(batch).parts["code"], expected)


def test_the_tied_head_is_the_code_table():
    model = AR(ARConfig.parse(SMALL))
    assert model.codes.weight.shape == (ENTRIES + 1, 16)
    hidden = torch.zeros(1, 1, 16)
    hidden[..., 3] = 1
    torch.testing.assert_close(model._logits(hidden).codes[0, 0, 0], model.codes.weight[:, 3])
    assert not any("head" in name for name, _ in model.named_parameters())


def test_groups_of_one_and_merging_by_one_are_plain(utterances):
    torch.manual_seed(0)
    plain = AR(ARConfig.parse(SMALL)).eval()
    torch.manual_seed(0)
    grouped = AR(ARConfig.parse({**SMALL, "group": 1, "merge": 1})).eval()
    batch = batch_for(plain.config, utterances)
    assert torch.equal(plain.loss(batch).total, grouped.loss(batch).total)
    assert torch.equal(inputs_for(plain, utterances).groups[..., 0], batch.codes[..., 0])


def test_language_dropout_is_for_training_only():
    config = ARConfig.parse({**SMALL, "languages": 2, "language_dropout": 0.99})
    model = AR(config).train()
    batch = batch_for(config, [utterance(5, 32, seed) for seed in range(4)])
    rng = torch.Generator().manual_seed(0)
    assert int(ar_examples(model.config, batch, rng, training=True).inputs.languages.count_nonzero()) == 0
    assert torch.equal(ar_examples(model.config, batch, rng, training=False).inputs.languages[:, 0], batch.languages)


@EVERY
def test_training_lowers_the_loss(kind, utterances):
    torch.manual_seed(0)
    model = AR(ARConfig.parse({**SMALL, **AR_KINDS[kind]})).train()
    batch = batch_for(model.config, utterances)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = float(model.loss(batch).total.detach())
    for _ in range(20):
        loss = model.loss(batch, torch.Generator().manual_seed(0)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.8 * first
    assert all(p.grad is not None for p in model.parameters())
