"""Losses for segmentation with labels that are partly wrong. Void pixels (255) take no part.

A loss gives a sum over pixels and how many it counts, so that several processes together take the same step as
one process with all their pictures: the sum of the sums over the sum of the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from util.voc import VOID

Loss = Callable[..., tuple[Tensor, Tensor]]


def cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy.

    Args:
        logits: float32 BxCxHxW.
        labels: int64 BxHxW, below C or 255.

    Returns:
        the sum over the pixels that are not void, and their number (both float scalars).
    """
    total = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="sum")
    return total, (labels != VOID).sum().to(total.dtype)


def symmetric(logits: Tensor, labels: Tensor, alpha: float = 1.0, beta: float = 0.5) -> tuple[Tensor, Tensor]:
    """Symmetric cross-entropy: ``alpha`` CE + ``beta`` reverse CE, where log 0 of the label counts as -4.

    Reverse CE is bounded, so a confident network can disagree with a wrong label at a finite price.
    Source: Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", arXiv 1908.06112.
    """
    valid = labels != VOID
    logs = F.log_softmax(logits, dim=1)
    picked = _at_label(logs, labels, valid)
    each = alpha * -picked + beta * 4.0 * (1 - picked.exp())
    return (each * valid).sum(), valid.sum().to(logits.dtype)


def bootstrapped(logits: Tensor, labels: Tensor, beta: float = 0.8) -> tuple[Tensor, Tensor]:
    """Hard bootstrapping: the target is ``beta`` of the label and 1 - ``beta`` of what the network itself predicts.

    Source: Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", arXiv 1412.6596.
    """
    valid = labels != VOID
    logs = F.log_softmax(logits, dim=1)
    each = -beta * _at_label(logs, labels, valid) - (1 - beta) * logs.amax(dim=1)
    return (each * valid).sum(), valid.sum().to(logits.dtype)


def online_mined(logits: Tensor, labels: Tensor, drop: float = 0.1) -> tuple[Tensor, Tensor]:
    """Cross-entropy without the ``drop`` share of pixels of highest loss, which are wrong labels most often.

    The small-loss selection of Han et al., "Co-teaching", arXiv 1804.06872, a pixel at a time in one network.
    """
    valid = labels != VOID
    losses = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none")[valid]
    kept = math.ceil(losses.numel() * (1 - drop))
    if not kept:
        return logits.sum() * 0, losses.new_tensor(0.0)
    return losses.topk(kept, largest=False, sorted=False).values.sum(), losses.new_tensor(float(kept))


def _at_label(values: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    return values.gather(1, torch.where(valid, labels, 0)[:, None])[:, 0]


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "symmetric": symmetric,
    "bootstrapped": bootstrapped,
    "online-mined": online_mined,
}
