"""Images per second of TransCAM: training steps, and multi-scale inference, in float32 and mixed precision.

    python benchmarks/transcam.py                                      # Conformer-S, as train_transcam.py and generate_cams.py do
    python benchmarks/transcam.py --arch tiny --crop-size 64 --sizes 32 64 --batch-size 2 --rounds 2   # a trial

Noise goes through random weights: neither changes the speed. The precisions take turns, after a round that does not count.
"""

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from timing import on_device, take_turns

from models.cam.inference import multi_scale_cams
from models.cam.training import ClassificationTask
from models.cam.transcam import TransCAM
from models.common.precision import DTYPES
from models.common.preprocessing import IMAGENET
from models.common.recipe import Recipe
from models.common.training import Trainer
from util.data.voc import load_classes
from util.runtime import distributed
from util.runtime.cli import Parser, run


def main() -> int:
    args = parse_args()
    dist = distributed.init(args.device)
    torch.manual_seed(0)
    net = TransCAM(21, args.arch).to(dist.device, memory_format=torch.channels_last)
    jobs = {}
    for amp in args.amp:
        jobs[f"training, {amp}"] = training_step(args, net, dist, amp)
        jobs[f"inference, {amp}"] = inference(args, net, dist.device, amp)
    seconds = take_turns(jobs, args.rounds, warm_up=1, clock=on_device)
    print(
        f"Conformer {args.arch}, batch {args.batch_size}, {dist.device}, {torch.get_num_threads()} threads; training at "
        f"{args.crop_size} px, inference at {' '.join(map(str, args.sizes))} px with flips"
    )
    for name, values in seconds.items():
        rates = sorted(args.batch_size / value for value in values)
        print(f"{name:<16} {statistics.median(rates):8.2f} images/s ({rates[0]:.2f} to {rates[-1]:.2f})")
    return 0


def parse_args():
    parser = Parser(__doc__)
    parser.add_common("device", "batch-size", "crop-size")
    parser.add_argument("--arch", choices=["tiny", "small", "base"], default="small", help="Conformer")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 768], metavar="PX", help="of inference")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="measured rounds")
    parser.add_argument("--amp", nargs="+", choices=["off", "bf16", "fp16"], default=["off", "bf16"])
    return parser.parse_args()


def training_step(args, net, dist, amp: str):
    """One optimiser step of `models.cam.training` on a batch of noise."""
    size, batch = args.crop_size, args.batch_size
    recipe = Recipe(steps=1000, batch_size=batch, lr=5e-5, weight_decay=5e-4, schedule="constant", amp=amp)
    task = ClassificationTask(recipe, load_classes(), IMAGENET, dist)
    trainer = Trainer(net, task, range(batch), recipe, dist, workers=0)
    images, targets = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8), torch.zeros(batch, 20)
    targets[:, 7] = 1

    def step() -> None:
        net.train()
        trainer.step(torch.arange(batch), images, targets, torch.ones(batch), [])

    return step


def inference(args, net, device, amp: str):
    """`models.cam.inference.multi_scale_cams` of a batch of noise, two classes per image."""
    count, largest = args.batch_size, max(args.sizes)
    inputs = [[torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for size in args.sizes] for _ in range(count)]

    def infer() -> None:
        net.eval()
        multi_scale_cams(net, inputs, [(largest, largest)] * count, [(8, 15)] * count, True, device, DTYPES[amp])

    return infer


if __name__ == "__main__":
    run(main)
