"""What the training loop needs to know of a kind of network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from models.common.preprocessing import Normalization
from util.data.voc import ClassTable


class Task(ABC):
    """One kind of network with its loss and its held-out images.

    Attributes:
        classes: what it is trained on.
        normalization: of the network's encoder.
        metric: the entry of `measure` whose highest value is the best state.
    """

    classes: ClassTable
    normalization: Normalization
    metric: str

    @abstractmethod
    def parameter_groups(self, net: nn.Module) -> list[dict[str, Any]]:
        """Groups of parameters with their learning rates (``lr``), as optimisers take them."""

    @abstractmethod
    def forward(self, net: nn.Module, images: Tensor) -> Tensor:
        """What the loss is of, for normalised images float Bx3xSxS; ``net`` may be wrapped for several processes."""

    @abstractmethod
    def loss(self, output: Tensor, *targets: Any) -> tuple[Tensor, Tensor]:
        """The sum of the losses and how many were summed, for what follows the images in a batch."""

    def train_mode(self, net: nn.Module) -> None:
        """Put the network into training mode, except for what is frozen."""
        net.train()

    def measure(self, net: nn.Module) -> dict[str, Any]:
        """Scores of the held-out images, to be kept in the history; empty where there are none."""
        return {}

    @abstractmethod
    def content(self, net: nn.Module, score: dict[str, Any] | None) -> dict[str, Any]:
        """What a checkpoint holds of a network, see `models.common.weights.described`."""

    @abstractmethod
    def show(self, net: nn.Module, entry: dict[str, Any], writer: SummaryWriter) -> None:
        """Show people where the training is, after a measurement, with the entry of the history."""
