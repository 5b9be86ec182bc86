"""Speed of our training step beside the plain fp32 step of torchvision's references/segmentation, in one run.

    python benchmarks/deeplabv3_training.py --encoder-weights mobilenet_v2.pth --amp bf16 --steps 12

The same network, weights and batches of noise go through both, by turns, with dropout off so that losses can be compared.
Each runs in a process of its own, since ours sets up its process, and the other should not profit.
"""

import multiprocessing
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import segmentation_models_pytorch as smp
import torch
from timing import on_device
from torch import nn

from models.common.preprocessing import IMAGENET
from models.common.run import resolve
from models.segmentation import deeplabv3
from models.segmentation.recipe import SegmentationRecipe
from models.segmentation.training import SegmentationTask, trainer_of
from util.data.voc import load_classes
from util.runtime import distributed
from util.runtime.cli import Parser, run

LR = 0.005
WARM_UP = 3  # steps that do not count: a GPU starts, and chooses its kernels


def main() -> int:
    args = parse_args()
    report(measure(args), args)
    return 0


def parse_args():
    parser = Parser(__doc__)
    parser.add_common(
        "device",
        "encoder",
        "encoder-weights",
        "batch-size",
        "crop-size",
        "amp",
        encoder_weights={"default": None},
        crop_size={"default": 224},
        amp={"default": "off"},
    )
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="measured steps of each")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch (default: torch's choice)")
    parser.add_argument("--compile", action="store_true", help="torch.compile our step")
    return parser.parse_args()


def measure(args) -> dict[str, list[tuple[float, float, int]]]:
    """Seconds, loss and peak of the GPU's memory of every step; the loops take turns, so that what else the machine does meets both."""
    context = multiprocessing.get_context("spawn")
    timings: dict[str, list] = {"plain": [], "ours": []}
    ends = {}
    for name in timings:
        ends[name], theirs = context.Pipe()
        context.Process(target=take_steps, args=(name, args, theirs), daemon=True).start()
        theirs.close()
    for number in range(args.steps + WARM_UP):
        for name, end in list(ends.items())[:: -1 if number % 2 else 1]:
            end.send(number)
            timings[name].append(end.recv())
    return timings


def take_steps(name: str, args, end) -> None:
    """Be the process of a loop: for each number of a batch that comes in, the seconds and the loss of the step go out."""
    if args.threads:
        torch.set_num_threads(args.threads)
    batches = make_batches(args)
    if name == "plain":  # its loader normalises; ours leaves that to the step
        batches = [(numbers, IMAGENET(images), labels.long()) for numbers, images, labels in batches]
    step = {"plain": plain_loop, "ours": our_loop}[name](args)
    while True:
        try:
            batch = batches[end.recv()]
        except EOFError:
            return
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()  # of the steps before, in which cuDNN looked for its kernels
        start = on_device()
        loss = step(*batch)
        took = on_device() - start
        end.send((took, float(loss), torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0))


def make_batches(args) -> list:
    """One batch per step and those to warm up: noise with square labels, (numbers, images, labels)."""
    generator = torch.Generator().manual_seed(0)
    size, batches = args.crop_size, []
    for _ in range(args.steps + WARM_UP):
        images = torch.randint(0, 256, (args.batch_size, 3, size, size), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 21, (args.batch_size, 4, 4), generator=generator, dtype=torch.uint8)
        labels = labels.repeat_interleave(size // 4, 1).repeat_interleave(size // 4, 2).contiguous()
        labels[:, :8] = 255
        batches.append((torch.arange(args.batch_size), images, labels))
    return batches


def fresh_net(args) -> nn.Module:
    """The network of both loops before our changes to it, with the same weights each time."""
    torch.manual_seed(0)
    rates = deeplabv3.ATROUS_RATES[16]
    net = smp.DeepLabV3Plus(args.encoder, encoder_weights=None, classes=21, decoder_atrous_rates=rates)
    if args.encoder_weights:
        net.encoder.load_state_dict(deeplabv3.build(21, args.encoder, args.encoder_weights).encoder.state_dict())
    return without_dropout(net)


def without_dropout(net: nn.Module) -> nn.Module:
    """The same network with dropout that drops nothing."""
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return net


def plain_loop(args):
    """torchvision's reference step: fp32, channels first, mean cross-entropy, SGD, the rate set after each step."""
    device = distributed.choose_device(args.device)
    net = fresh_net(args).to(device).train()
    head = [*net.decoder.parameters(), *net.segmentation_head.parameters()]
    groups = [{"params": list(net.encoder.parameters())}, {"params": head, "lr": 10 * LR}]
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / 1000) ** 0.9)

    def step(numbers, images, labels) -> torch.Tensor:
        images, labels = images.to(device), labels.to(device)
        loss = nn.functional.cross_entropy(net(images), labels, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    return step


def our_loop(args):
    """The step of `models.segmentation.training`, with the plain loop's rates."""
    dist = distributed.init(args.device)
    net = without_dropout(deeplabv3.build(21, args.encoder)).to(dist.device)
    net.load_state_dict(fresh_net(args).state_dict())
    recipe = SegmentationRecipe(
        lr=LR, batch_size=args.batch_size, warm_up=0.0, clip_norm=0.0, amp=args.amp, compile=args.compile, steps=1000
    )
    recipe = resolve(recipe, dist)
    task = SegmentationTask(recipe, load_classes(), {}, IMAGENET, dist)
    trainer = trainer_of(net, task, range(1), workers=0)
    trainer.net.train()

    def step(*batch) -> torch.Tensor:
        loss = trainer.step(*batch)
        trainer.progress.step += 1
        return loss

    return step


def report(timings: dict, args) -> None:
    where = f"{distributed.choose_device(args.device)}, {args.threads or torch.get_num_threads()} threads"
    print(f"{args.encoder}, batch {args.batch_size}, {args.crop_size} px, {where}, our step --amp {args.amp}")
    for name, values in timings.items():
        seconds = [value[0] for value in values[WARM_UP:]]
        losses = " ".join(f"{value[1]:.4f}" for value in values)
        rate = args.batch_size / statistics.median(seconds)
        print(
            f"{name:<6} median {statistics.median(seconds):.3f} s per step, {rate:.2f} images/s, peak {values[-1][2] >> 20} MiB; losses {losses}"
        )
    ratios = [
        plain[0] / ours[0] for plain, ours in zip(timings["plain"][WARM_UP:], timings["ours"][WARM_UP:], strict=True)
    ]
    print(f"ours is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    run(main)
