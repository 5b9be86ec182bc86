"""Speed of our training step beside the plain fp32 step of torchvision's references/segmentation, in one run.

    python benchmarks/deeplabv3_training.py --encoder-weights mobilenet_v2.pth --amp bf16 --steps 12 \\
        --images JPEGImages --labels SegmentationClassAug --list ImageSets/Segmentation/train.txt

The same network, weights and batches go through both, by turns, with dropout off so that losses can be compared. Each
runs in a process of its own, since ours sets up its process, and the other should not profit. Batches are augmented
crops of the listed pictures, and whole steps with loading are measured as well; without --list they are noise.
"""

import multiprocessing
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from util.runtime.cli import Parser, run

LR = 0.005


def main() -> int:
    args = parse_args()

    report(measure(args), args)
    if args.list:
        measure_loading(args)
    return 0


def parse_args():
    parser = Parser(__doc__)
    parser.add_common("images", "labels", "list", "device", "workers")
    parser.add_argument("--encoder", default="mobilenet_v2", metavar="NAME", help="(default: mobilenet_v2)")
    parser.add_argument("--encoder-weights", metavar="FILE", help="of both networks (default: random)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="(default: 8)")
    parser.add_argument("--crop-size", type=int, default=224, metavar="PX", help="(default: 224)")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="measured steps of each (default: 5)")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch (default: torch's choice)")
    parser.add_argument("--amp", choices=["off", "bf16", "fp16"], default="off", help="of our step")
    parser.add_argument("--compile", action="store_true", help="torch.compile our step")
    args = parser.parse_args()
    if len({args.images is None, args.labels is None, args.list is None}) > 1:
        parser.error("--images, --labels and --list go together")
    return args


def load_batches(args) -> list:
    """As `make_batches`, from pictures."""
    from torch.utils.data import default_collate

    from models.common.order import StepOrder

    data = pictures(args)
    return [
        default_collate([data[item] for item in items])
        for items in StepOrder(len(data), args.batch_size, args.steps + 1, seed=0)
    ]


def pictures(args):
    from models.segmentation.data import CropAugmentation, LabelledImages
    from util.data.ids import read_id_list

    return LabelledImages(
        read_id_list(args.list), args.images, args.labels, 21, CropAugmentation(args.crop_size), seed=0
    )


def make_batches(args) -> list:
    """One batch a step and one to warm up: noise with square labels, (numbers, images, labels)."""
    import torch

    generator = torch.Generator().manual_seed(0)
    size = args.crop_size
    batches = []
    for _ in range(args.steps + 1):
        shape = (args.batch_size, 3, size, size)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 21, (args.batch_size, 4, 4), generator=generator, dtype=torch.uint8)
        labels = labels.repeat_interleave(size // 4, 1).repeat_interleave(size // 4, 2).contiguous()
        labels[:, :8] = 255
        batches.append((torch.arange(args.batch_size), images, labels))
    return batches


def fresh_net(args):
    """The network of both loops before our changes to it, with the same weights each time."""
    import segmentation_models_pytorch as smp
    import torch

    from models.segmentation import deeplabv3

    torch.manual_seed(0)
    net = smp.DeepLabV3Plus(
        args.encoder, encoder_weights=None, classes=21, decoder_atrous_rates=deeplabv3.ATROUS_RATES[16]
    )
    if args.encoder_weights:
        net.encoder.load_state_dict(deeplabv3.build(21, args.encoder, args.encoder_weights).encoder.state_dict())
    return without_dropout(net)


def without_dropout(net):
    """The same network with dropout that drops nothing."""
    import torch

    for module in net.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return net


def plain_loop(args, device):
    """torchvision's reference step: fp32, channels first, mean cross-entropy, SGD, the rate set after each step."""
    import torch

    net = fresh_net(args).to(device).train()
    head = [*net.decoder.parameters(), *net.segmentation_head.parameters()]
    optimizer = torch.optim.SGD(
        [{"params": list(net.encoder.parameters())}, {"params": head, "lr": 10 * LR}],
        lr=LR, momentum=0.9, weight_decay=1e-4,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / 1000) ** 0.9)

    def step(numbers, images, labels) -> float:
        images, labels = images.to(device), labels.to(device)
        loss = torch.nn.functional.cross_entropy(net(images), labels, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.item()

    return step


def our_trainer(net, args, data, dist, **recipe):
    """The trainer of `models.segmentation.training`, with the plain loop's rates."""
    from models.common.preprocessing import IMAGENET
    from models.segmentation.recipe import SegmentationRecipe
    from models.segmentation.training import SegmentationTask, trainer_of
    from util.data.voc import load_classes

    plain = {"lr": LR, "batch_size": args.batch_size, "warm_up": 0.0, "clip_norm": 0.0}
    recipe = SegmentationRecipe(**plain, amp=args.amp, compile=args.compile, **recipe)
    task = SegmentationTask(recipe, load_classes(), {}, IMAGENET, dist)
    return trainer_of(net.to(dist.device), task, data, workers=args.workers)


def our_loop(args, device):
    """Our step."""
    from models.segmentation import deeplabv3
    from util.runtime import distributed

    net = without_dropout(deeplabv3.build(21, args.encoder))
    net.load_state_dict(fresh_net(args).state_dict())
    trainer = our_trainer(net, args, range(1), distributed.init(args.device), steps=1000)
    trainer.net.train()

    def step(*batch) -> float:
        loss = trainer.step(*batch)
        trainer.progress.count(loss)
        return loss

    return step


def measure(args) -> dict[str, list[tuple[float, float]]]:
    """Seconds and loss of every step; the loops take turns, so that what else the machine does meets both."""
    context = multiprocessing.get_context("spawn")
    timings, ends = {"plain": [], "ours": []}, {}
    for name in timings:
        ends[name], theirs = context.Pipe()
        context.Process(target=take_steps, args=(name, args, theirs), daemon=True).start()
        theirs.close()
    for number in range(args.steps + 1):
        for name, end in ends.items():
            end.send(number)
            timings[name].append(end.recv())
    return timings


def take_steps(name: str, args, end) -> None:
    """Be the process of a loop: for each number of a batch that comes in, the seconds and the loss of the step go out."""
    import torch

    from models.common.preprocessing import IMAGENET
    from util.runtime.distributed import choose_device

    set_threads(args)
    device = choose_device(args.device)
    batches = load_batches(args) if args.list else make_batches(args)
    if name == "plain":  # its loader normalises; ours leaves that to the step
        batches = [(numbers, IMAGENET(images), labels.long()) for numbers, images, labels in batches]
    step = {"plain": plain_loop, "ours": our_loop}[name](args, device)
    while True:
        try:
            batch = batches[end.recv()]
        except EOFError:
            return
        start = time.perf_counter()
        loss = step(*batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        end.send((time.perf_counter() - start, loss))


def set_threads(args) -> None:
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)


def report(timings: dict, args) -> None:
    import torch

    from util.runtime.distributed import choose_device

    set_threads(args)
    print(f"{args.encoder}, batch {args.batch_size}, {args.crop_size} px, {choose_device(args.device)}, "
          f"{torch.get_num_threads()} threads, "
          f"torch {torch.__version__}, our step --amp {args.amp}")  # fmt: skip
    for name, values in timings.items():
        seconds = [value[0] for value in values[1:]]
        losses = " ".join(f"{value[1]:.4f}" for value in values)
        print(f"{name:<6} median {statistics.median(seconds):.3f} s a step (fastest {min(seconds):.3f}, "
              f"slowest {max(seconds):.3f}), {args.batch_size / statistics.median(seconds):.2f} images/s; "
              f"losses {losses}")  # fmt: skip
    means = {name: statistics.mean(value[1] for value in values[1:]) for name, values in timings.items()}
    print("mean loss of the measured steps: " + ", ".join(f"{name} {mean:.4f}" for name, mean in means.items()))
    ratios = [plain[0] / ours[0] for plain, ours in zip(timings["plain"][1:], timings["ours"][1:], strict=True)]
    print(
        f"ours is {statistics.median(ratios):.2f} times as fast (step by step {min(ratios):.2f} to {max(ratios):.2f})"
    )


def measure_loading(args) -> None:
    """Images a second, and the share of time waiting for data, of whole training steps on real pictures."""
    from models.segmentation import deeplabv3
    from util.runtime import distributed

    dist = distributed.init(args.device)
    trainer = our_trainer(deeplabv3.build(21, args.encoder), args, pictures(args), dist, steps=args.steps + 2)
    start = time.perf_counter()
    trainer.run(lambda best: None)
    seconds = time.perf_counter() - start
    print(f"with loading, {args.workers} workers: {trainer.recipe.steps * args.batch_size / seconds:.2f} images/s, "
          f"{100 * trainer.waited / seconds:.1f} % of the time waiting for data (start included)")  # fmt: skip


if __name__ == "__main__":
    run(main)
