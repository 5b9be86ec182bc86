"""The order in which images are trained on; a resumed run repeats it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from torch.utils.data import Sampler

Item = tuple[int, int]


class StepOrder(Sampler[list[Item]]):
    """The batches of all steps from ``start`` on: shuffled epochs, one after the other, without a remainder.

    Batches run over the end of an epoch, so that every one is full, and small sets work with large batches. A step
    takes the same images whatever number of processes shares it. Yields lists of ``(number, epoch)``.

    Args:
        count: number of images.
        batch: images per step of one process.
        steps: how many steps there are.
        seed, rank, world: of the run, this process, and how many there are.
    """

    def __init__(self, count: int, batch: int, steps: int, seed: int, rank: int = 0, world: int = 1):
        self.count, self.batch, self.steps, self.seed, self.rank, self.world = count, batch, steps, seed, rank, world
        self.start = 0
        self._epoch = -1
        self._order: list[int] = []

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[Item]]:
        for step in range(self.start, self.steps):
            first = (step * self.world + self.rank) * self.batch
            yield [self._at(position) for position in range(first, first + self.batch)]

    def _at(self, position: int) -> Item:
        epoch, place = divmod(position, self.count)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, list(range(self.count))
            random.Random(f"{self.seed} order {epoch}").shuffle(self._order)
        return self._order[place], epoch
