"""Training in float16, whose gradients are scaled: on the CPU, where torch has that scaler as well."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from models.common.recipe import Recipe
from models.common.training import Trainer, optimizer_of
from util.runtime.distributed import Dist

CPU = torch.device("cpu")


class Moved:
    """Draws the mean of a network's output to 0.5; the gradients overflow in some steps."""

    def __init__(self, overflowing=()):
        self.overflowing, self.steps = overflowing, 0

    def parameter_groups(self, net):
        return [{"params": list(net.parameters()), "lr": 0.1}]

    def normalization(self, images):
        return images / 255

    def forward(self, net, images):
        return net(images)

    def loss(self, output):
        # The loss stays finite; its gradient, times the scale of 65536, is beyond what float16 holds.
        self.steps += 1
        factor = 1e4 if self.steps in self.overflowing else 0.1
        return factor * (output.float().mean() - 0.5).square(), torch.tensor(1.0)


def half_precision(task, state=None, steps=8):
    """A trainer that has taken some steps in fp16 on the CPU, its losses, and the scale after each."""
    torch.manual_seed(0)
    recipe = Recipe(steps=100, batch_size=2, lr=0.1, optimizer="sgd", amp="fp16", schedule="constant", clip_norm=1.0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 1))
    trainer = Trainer(net, task, range(2), recipe, Dist(0, 1, 0, CPU), workers=0)
    if state:
        trainer.load_state(state)
    images = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    losses, scales = [], []
    for _ in range(steps):
        before = [value.clone() for value in net.parameters()]
        losses.append(trainer.step(torch.arange(2), images).item())
        trainer.progress.step += 1
        moved = any(not torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))
        scales.append((trainer.scaler.get_scale(), moved))
    return trainer, losses, scales


def test_steps_in_float16_are_scaled_and_those_that_overflow_are_left_out():
    """As on a GPU: torch has the scaler for the CPU as well."""
    trainer, losses, scales = half_precision(Moved(overflowing={3}))
    assert trainer.scaler.is_enabled() and trainer.optimizer.state
    assert [moved for _, moved in scales] == [step != 3 for step in range(1, 9)]
    assert [scale for scale, _ in scales] == [65536.0] * 2 + [32768.0] * 6
    assert losses[2] > 100 * losses[1] and losses[-1] < 0.5 * losses[0]


def test_a_resumed_run_in_float16_has_the_scale_of_the_one_that_stopped():
    straight = half_precision(Moved(overflowing={3}), steps=8)
    stopped = half_precision(Moved(overflowing={3}), steps=4)[0].state()
    resumed = half_precision(Moved(), stopped, steps=4)
    assert resumed[0].scaler.state_dict() == straight[0].scaler.state_dict()
    assert resumed[0].scaler.get_scale() == 32768.0 and resumed[1] == straight[1][4:]
    for one, other in zip(straight[0].net.parameters(), resumed[0].net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_overflow_in_the_first_step_leaves_fused_sgd_as_it_was():
    """torch would leave its momentum uninitialised, and go on from there: NaN where it fills what is uninitialised."""
    recipe = Recipe(steps=2, batch_size=2, lr=0.1, optimizer="sgd", amp="fp16")

    def steps(gradients):
        weights = nn.Parameter(torch.ones(3))
        optimizer = optimizer_of([{"params": [weights], "lr": 0.1}], recipe, fused=True)
        scaler = torch.amp.GradScaler("cpu")
        for gradient in gradients:
            scaler.scale(torch.zeros(()))
            weights.grad = scaler.get_scale() * torch.full((3,), gradient)
            scaler.step(optimizer)
            scaler.update()
        return weights.detach()

    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(steps([float("inf"), 0.5]), steps([0.5]))
    finally:
        torch.use_deterministic_algorithms(False)
