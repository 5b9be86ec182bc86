"""Losses for segmentation with labels that are partly wrong. Void pixels (255) take no part.

A loss gives a sum over pixels and how many it counts, so that several processes together take the same step as
one process with all their images: the sum of the sums over the sum of the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from util.data.voc import VOID

Loss = Callable[..., tuple[Tensor, Tensor]]


def cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy.

    Args:
        logits: float32 BxCxHxW.
        labels: int64 BxHxW, below C or 255.

    Returns:
        the sum over the pixels that are not void, and their number (both float scalars).
    """
    logits, labels = _by_pixel(logits, labels)
    # Summed here: on a GPU ``reduction="sum"`` of flattened pixels runs in one block.
    total = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none").sum()
    return total, (labels != VOID).sum().to(total.dtype)


def symmetric(logits: Tensor, labels: Tensor, alpha: float = 1.0, beta: float = 0.5) -> tuple[Tensor, Tensor]:
    """Symmetric cross-entropy: ``alpha`` CE + ``beta`` reverse CE, where log 0 of the label counts as -4.

    Reverse CE is bounded, so a confident network can disagree with a wrong label at a finite price.
    Source: Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", arXiv 1908.06112.
    """
    logits, labels = _by_pixel(logits, labels)
    losses = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none")
    valid = labels != VOID
    # A void pixel's loss is 0, so it counts as certain: 1 - exp(0) = 0.
    each = alpha * losses + beta * 4.0 * (1 - (-losses).exp())
    return each.sum(), valid.sum().to(each.dtype)


def bootstrapped(logits: Tensor, labels: Tensor, beta: float = 0.8) -> tuple[Tensor, Tensor]:
    """Hard bootstrapping: the target is ``beta`` of the label and 1 - ``beta`` of what the network itself predicts.

    Source: Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping", arXiv 1412.6596.
    """
    logits, labels = _by_pixel(logits, labels)
    valid = labels != VOID
    logs = F.log_softmax(logits, dim=1)
    given = F.nll_loss(logs, labels, ignore_index=VOID, reduction="none").sum()
    own = -(logs.amax(dim=1) * valid).sum()
    return beta * given + (1 - beta) * own, valid.sum().to(logs.dtype)


def online_mined(logits: Tensor, labels: Tensor, drop: float = 0.1) -> tuple[Tensor, Tensor]:
    """Cross-entropy without the ``drop`` share of pixels of highest loss, which are wrong labels most often.

    The small-loss selection of Han et al., "Co-teaching", arXiv 1804.06872, a pixel at a time in one network.
    """
    logits, labels = _by_pixel(logits, labels)
    losses = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none")[labels != VOID]
    kept = math.ceil(losses.numel() * (1 - drop))
    # topk of nothing is an error, and an all-void batch must still give every parameter a gradient.
    chosen = losses.topk(kept, largest=False, sorted=False).values if kept else logits[:0]
    return chosen.sum(), losses.new_full((), kept)


def _by_pixel(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    # Of channels-last logits this is a view, and the softmax over adjacent numbers takes half the time on a CPU.
    return logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]), labels.reshape(-1)


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "symmetric": symmetric,
    "bootstrapped": bootstrapped,
    "online-mined": online_mined,
}
