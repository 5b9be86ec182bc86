"""The rule of `merge.auto` for a data set, decided before any image is merged."""

from __future__ import annotations

from dataclasses import dataclass

from merge.auto import Signals, choose, measure, sentence
from util.data.ids import spread
from util.data.merge_inputs import Inputs
from util.runtime.distributed import Dist
from util.runtime.errors import InputError
from util.runtime.parallel import run_parallel

SAMPLE = 1000  # images that are looked at, spread over the list


@dataclass(frozen=True)
class _Measure:
    """Measures one image in a worker process; one that cannot be read counts for nothing, the merge reports it."""

    inputs: Inputs

    def __call__(self, image_id: str) -> Signals:
        try:
            label, masks = self.inputs.read(image_id).decode(self.inputs)[:2]
        except (InputError, OSError):
            return Signals()
        return measure(label, masks)


def rule_of(inputs: Inputs, ids: list[str]) -> str:
    """The rule that `decide` finds for these images, in this process."""
    return choose(sum(map(_Measure(inputs), spread(ids, SAMPLE)), Signals()))


def decide(inputs: Inputs, ids: list[str], *, workers: int, dist: Dist) -> str:
    """The rule for these images, the same in every process; the main one prints why.

    Raises:
        InputError: if a folder of the inputs is missing.
    """
    inputs.check()
    mine = run_parallel(_Measure(inputs), dist.shard(spread(ids, SAMPLE)), workers=workers, description="auto")
    signals = sum(dist.gather(sum(mine, Signals())), Signals())
    rule = choose(signals)
    if dist.is_main and signals.pixels:  # of at least one image that could be read
        print(sentence(signals, rule))
    return rule
