import numpy as np
import pytest
import torch

from bidder.recommendation.training_module import (
    Batches,
    Examples,
    HeadModule,
    Tables,
    logits_of,
    with_unseen,
)
from market.features import AD_ROWS, CONTEXT_ROWS
from tests.bidder.recommendation.known_world import known_world


def examples(count=500, seed=1):
    log = known_world(seed, count).log
    return Examples(
        torch.from_numpy(log.features.astype(np.int32)),
        torch.from_numpy(log.ad_features.astype(np.int32)),
        torch.from_numpy(log.clicked.astype(np.float32)),
        torch.from_numpy(log.weight),
    )


def module(width, l2=0.0):
    return HeadModule(
        width, 0.1, examples(), learning_rate=0.01, l2=l2, epochs=1,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip


def test_batches_show_every_example_once_an_epoch_in_a_new_order():
    rows = examples(103)
    numbered = rows._replace(weights=torch.arange(103, dtype=torch.float32))
    batches = Batches(numbered, 10, torch.Generator().manual_seed(2))
    epochs = [[batch.weights for batch in batches] for _ in range(2)]
    assert len(batches) == len(epochs[0]) == 11
    first, second = (torch.cat(epoch) for epoch in epochs)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(103))
    assert first.tolist() != second.tolist()


def test_an_untrained_head_predicts_about_the_base_rate():
    head = module(8)
    logits = logits_of(Tables(head.context.detach(), head.ad.detach(), head.bias), examples())
    assert (1.0 / (1.0 + np.exp(-logits))).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("width", [0, 8])
def test_a_step_touches_the_rows_of_its_batch_and_no_other(width):
    head = module(width, l2=1.0)
    (adam,), _ = head.configure_optimizers()
    before = head.context.detach().clone(), head.ad.detach().clone()
    rows = examples(64)
    # a second step on other rows must leave those of the first where they were
    for part in (slice(0, 32), slice(32, 64)):
        batch = Examples(*(tensor[part] for tensor in rows))
        touched = {int(row) for row in batch.features.unique()}
        kept = head.context.detach().clone()
        adam.zero_grad()
        head.training_step(batch).backward()
        adam.step()
        moved = (head.context.detach() != kept).any(1).nonzero().flatten()
        assert {int(row) for row in moved} == touched
    assert (head.context.detach() != before[0]).any()
    assert (head.ad.detach() != before[1]).any()


def test_the_penalty_counts_each_row_of_a_batch_once():
    plain, penalised = module(8), module(8, l2=0.5)
    rows = examples(64)
    difference = (penalised.training_step(rows) - plain.training_step(rows)).detach()
    squares = sum(
        float(table.detach()[used.unique().long()].square().sum())
        for table, used in ((plain.context, rows.features), (plain.ad, rows.ad_features))
    )
    assert float(difference) == pytest.approx(0.5 * squares, rel=1e-4)


def test_the_gradient_is_that_of_the_formula():
    head = module(3)
    rows = examples(16)
    head.training_step(rows).backward()
    found = head.context.grad.to_dense()
    dense_context = head.context.detach().double().requires_grad_()
    ad = head.ad.detach().double()
    one_hot = torch.zeros(16, CONTEXT_ROWS, dtype=torch.float64)
    one_hot.scatter_(1, rows.features.long(), 1.0)
    ad_hot = torch.zeros(16, AD_ROWS, dtype=torch.float64).scatter_(1, rows.ad_features.long(), 1.0)
    u, a = one_hot @ dense_context, ad_hot @ ad
    z = head.bias + u[:, 0] + a[:, 0] + (u[:, 1:] * a[:, 1:]).sum(1)
    y = rows.labels.double()
    (torch.nn.functional.softplus(z) - y * z).mean().backward()
    assert torch.allclose(found.double(), dense_context.grad, atol=1e-7)


def test_an_unseen_row_becomes_the_average_of_what_was_seen():
    table = torch.tensor(
        [[1.0, 10.0], [5.0, 50.0], [-9.0, 9.0], [2.0, 2.0], [4.0, 0.0], [7.0, 7.0]]
    )
    rows = torch.tensor([[0, 4], [0, 4], [0, 4], [1, 4]], dtype=torch.int32)
    found = with_unseen(table, rows, 3)
    assert found[[0, 1, 4]].tolist() == table[[0, 1, 4]].tolist()
    assert found[2].tolist() == [2.0, 20.0]
    assert found[3].tolist() == found[5].tolist() == [4.0, 0.0]
