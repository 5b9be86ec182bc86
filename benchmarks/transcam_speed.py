"""Images a second of TransCAM: training steps, and multi-scale inference, in float32 and mixed precision.

    python benchmarks/transcam_speed.py                                      # Conformer-S, as train and infer do
    python benchmarks/transcam_speed.py --arch tiny --crop-size 64 --sizes 32 64 --batch-size 2 --rounds 2   # a trial

Noise goes through random weights: neither changes the speed. The precisions take turns, after a round that does not
count.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from util.runtime.cli import Parser, run


def main() -> int:
    args = parse_args()

    import torch

    from models.cam.transcam import TransCAM
    from models.common.precision import DTYPES
    from util.runtime import distributed

    dist = distributed.init(args.device)
    torch.manual_seed(0)
    net = TransCAM(21, args.arch).to(dist.device, memory_format=torch.channels_last)
    jobs = {}
    for amp in args.amp:
        jobs["training", amp] = training_step(args, net, dist, DTYPES[amp])
        jobs["inference", amp] = inference(args, net, dist.device, DTYPES[amp])
    seconds = measure(jobs, args.rounds, dist.device)

    name = (
        torch.cuda.get_device_name(dist.device) if dist.device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    print(f"Conformer {args.arch}, batch {args.batch_size}, {dist.device} ({name}), torch {torch.__version__}; training at "
          f"{args.crop_size} px, inference at {' '.join(map(str, args.sizes))} px with flips")  # fmt: skip
    for (kind, amp), values in seconds.items():
        rates = sorted(args.batch_size / value for value in values)
        print(f"{kind:<10} amp {amp:<5} {statistics.median(rates):8.2f} images/s "
              f"(slowest {rates[0]:.2f}, fastest {rates[-1]:.2f})")  # fmt: skip
    return 0


def parse_args():
    parser = Parser(__doc__)
    parser.add_common("device")
    parser.add_argument("--arch", choices=["tiny", "small", "base"], default="small", help="(default: small)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="(default: 8)")
    parser.add_argument("--crop-size", type=int, default=512, metavar="PX", help="of training (default: 512)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 768], metavar="PX", help="of inference")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="measured rounds (default: 10)")
    parser.add_argument(
        "--amp", nargs="+", choices=["off", "bf16", "fp16"], default=["off", "bf16"], help="(default: off bf16)"
    )
    return parser.parse_args()


def training_step(args, net, dist, dtype):
    """One optimiser step of `models.cam.training` on a batch of noise."""
    import torch

    from models.cam.training import ClassificationTask
    from models.common.precision import DTYPES
    from models.common.preprocessing import IMAGENET
    from models.common.recipe import Recipe
    from models.common.training import Trainer
    from util.data.voc import load_classes

    size, batch = args.crop_size, args.batch_size
    amp = next(name for name, value in DTYPES.items() if value == dtype)
    recipe = Recipe(steps=1000, batch_size=batch, lr=5e-5, weight_decay=5e-4, schedule="constant", amp=amp)
    task = ClassificationTask(recipe, load_classes(), IMAGENET, dist)
    trainer = Trainer(net, task, range(batch), recipe, dist, workers=0)
    images, targets = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8), torch.zeros(batch, 20)
    targets[:, 7] = 1

    def step() -> None:
        net.train()
        trainer.step(torch.arange(batch), images, targets, torch.ones(batch), [])

    return step


def inference(args, net, device, dtype):
    """`models.cam.inference.multi_scale_cams` of a batch of noise, two classes a picture."""
    import torch

    from models.cam.inference import multi_scale_cams

    count, largest = args.batch_size, max(args.sizes)
    inputs = [[torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for size in args.sizes] for _ in range(count)]

    def infer() -> None:
        net.eval()
        multi_scale_cams(net, inputs, [(largest, largest)] * count, [(8, 15)] * count, True, device, dtype)

    return infer


def measure(jobs: dict, rounds: int, device) -> dict:
    """Seconds of every job in every round but the first."""
    import torch

    seconds = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    run(main)
