"""The segmentation loss against PyTorch's own."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from trainables.losses.segmentation import segmentation_loss, segmentation_loss_sum


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 8, 8, generator=generator) * 3
    labels = torch.randint(0, 4, (3, 8, 8), generator=generator)
    labels[0, :5] = 255
    return logits, labels


def test_value_and_gradient_are_pytorchs(batch):
    logits, labels = batch
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = segmentation_loss(ours, labels)
    expected = cross_entropy(theirs, labels, ignore_index=255)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_two_pixels_by_hand():
    # Softmax of (0, ln 3) is (1/4, 3/4): the losses are ln 4 and ln (4/3), and one is ignored.
    logits = torch.tensor([0.0, 3.0]).log().clamp(min=0)[None, :, None, None].expand(1, 2, 1, 3)
    labels = torch.tensor([[[0, 1, 255]]])
    loss = segmentation_loss(logits, labels)
    assert loss.item() == pytest.approx((1.3862944 + 0.2876821) / 2, rel=1e-6)


def test_sums_of_micro_batches_make_the_loss_of_the_batch(batch):
    logits, labels = batch
    parts = [segmentation_loss_sum(logits[[i]], labels[[i]]) for i in range(3)]
    assert [pixels.item() for _, pixels in parts] == [24, 64, 64]
    accumulated = sum(total for total, _ in parts) / sum(pixels for _, pixels in parts)
    torch.testing.assert_close(accumulated, segmentation_loss(logits, labels))


def test_a_batch_without_labels_costs_nothing(batch):
    logits, _ = batch
    logits.requires_grad_()
    loss = segmentation_loss(logits, torch.full((3, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


def test_reduced_logits_are_compared_in_float32(batch):
    logits, labels = batch
    loss = segmentation_loss(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    assert loss == segmentation_loss(logits.bfloat16().float(), labels)


def test_logits_far_apart_stay_finite():
    logits = torch.tensor([1e4, -1e4])[None, :, None, None]
    assert segmentation_loss(logits, torch.ones(1, 1, 1, dtype=torch.int64)).item() == 2e4
