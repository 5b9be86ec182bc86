"""Train a classifier on image-level labels; its class activation maps become pseudo labels (generate_cams.py).

TransCAM, from the ImageNet weights that Conformer's authors publish:

    python train_transcam.py --images JPEGImages --list trainaug.txt --image-labels cls_labels.npy \\
        --weights Conformer_small_patch16.pth --val-list val.txt --out runs/transcam

Plain CAM, without Conformer weights:

    python train_transcam.py --method cam --encoder mobilenet_v2 --encoder-weights imagenet \\
        --images JPEGImages --list trainaug.txt --image-labels cls_labels.npy --out runs/cam

Writes OUT/last.pth and OUT/best.pth (by mean average precision on --val-list), OUT/history.json, OUT/run.json and
TensorBoard's OUT/events*. The same command again resumes.
Several GPUs: torchrun --nproc-per-node N train_transcam.py ...
"""

import math
from pathlib import Path

from util.runtime.cli import Parser, run

# What the recipes differ in: TransCAM's is the paper's, the other is for a small encoder and little data.
RECIPES = {
    "transcam": dict(lr=5e-5, weight_decay=5e-4, schedule="constant"),
    "cam": dict(lr=2e-4, weight_decay=5e-4, schedule="poly"),
}


def main() -> int:
    args = parse_args()

    from util.runtime import distributed

    with distributed.init(args.device) as dist:
        return train(args, dist)


def parse_args():
    parser = Parser(__doc__)
    parser.add_common(
        "images", "list", "image-labels", "out", "num-classes", "class-names", "device", "workers", "seed",
        "overwrite", required=("images", "list", "image-labels", "out"),
    )  # fmt: skip
    parser.add_argument("--method", choices=list(RECIPES), default="transcam", help="network (default: transcam)")
    parser.add_argument(
        "--arch", choices=["tiny", "small", "base"], default="small",
        help="size of the Conformer; tiny is for trials without published weights (default: small)",
    )  # fmt: skip
    parser.add_argument(
        "--weights", metavar="FILE",
        help="pretrained Conformer, class heads left out; 'none' trains from scratch (method transcam)",
    )  # fmt: skip
    parser.add_argument(
        "--encoder", default="mobilenet_v2",
        help="segmentation-models-pytorch encoder (method cam; default: mobilenet_v2)",
    )  # fmt: skip
    parser.add_argument(
        "--encoder-weights", default="imagenet", metavar="FILE|NAME|none",
        help="a file, a published set of weights to download, or none (method cam; default: imagenet)",
    )  # fmt: skip
    parser.add_argument("--val-list", type=Path, metavar="FILE", help="held-out ids for average precision")
    parser.add_argument("--val-images", type=Path, metavar="DIR", help="their pictures (default: --images)")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="passes over the list (default: 20)")
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="pictures a step of one process (default: 8)"
    )
    parser.add_argument("--crop-size", type=int, default=512, metavar="PX", help="side of the crop (default: 512)")
    parser.add_argument(
        "--long-side", type=int, nargs=2, default=(320, 640), metavar=("MIN", "MAX"),
        help="range that the long side is scaled to at random (default: 320 640)",
    )  # fmt: skip
    parser.add_argument("--jitter", type=float, default=0.3, help="colour jitter, 0 to 1 (default: 0.3)")
    parser.add_argument("--lr", type=float, help="learning rate (default: 5e-5; 2e-4 for method cam, head tenfold)")
    parser.add_argument("--weight-decay", type=float, help="AdamW's (default: 5e-4)")
    parser.add_argument(
        "--schedule", choices=["constant", "poly"], help="of the learning rate (default: constant; poly for cam)"
    )
    parser.add_argument(
        "--amp", choices=["auto", "off", "bf16", "fp16"], default="auto",
        help="mixed precision; auto is off on a CPU (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--save-minutes", type=float, default=10, metavar="M",
        help="save within an epoch this often (default: 10; 0: only at its end)",
    )  # fmt: skip
    args = parser.parse_args()
    for name, value in RECIPES[args.method].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if not (0 < args.lr < math.inf and 0 <= args.weight_decay < math.inf and 0 <= args.jitter <= 1):
        parser.error("--lr is above 0, --weight-decay from 0 on, --jitter in 0..1")
    if not 0 <= args.save_minutes < math.inf:
        parser.error("--save-minutes is from 0 on")
    if min(args.epochs, args.batch_size) < 1 or args.crop_size < 32 or args.long_side[0] > args.long_side[1]:
        parser.error("--epochs and --batch-size start at 1, --crop-size at 32, and --long-side is MIN MAX")
    if args.method == "transcam" and args.weights is None:
        parser.error("--weights FILE is missing: give a pretrained Conformer, or 'none' to train from scratch")
    return args


def train(args, dist) -> int:
    import torch

    from models.cam import classifier as cam_classifier
    from models.cam import training as cam_training
    from models.common.precision import DTYPES, choose_precision
    from util.data.classes import classes_of
    from util.runtime import checkpoint
    from util.runtime.files import make_folder, write_json
    from util.runtime.locking import lock_folder
    from util.runtime.provenance import write_run_json

    classes = classes_of((args.image_labels, args.images), args.class_names, args.num_classes)
    data, held_out = load_data(args, classes)
    make_folder(args.out)
    lock = lock_folder(args.out) if dist.rank == 0 else None
    options = resolved_options(args, data, held_out)
    last = args.out / "last.pth"
    resumed = checkpoint.load_to_resume(last, options, "options", args.overwrite)

    net = build_network(args, len(classes), pretrained=resumed is None)
    if resumed:
        net.load_state_dict(resumed["model"])
    # Channels last: a third less time a step in float32 and half in bfloat16 on a CPU, and what tensor cores want.
    trainer = cam_training.Trainer(
        net.to(dist.device, memory_format=torch.channels_last), data, held_out, dist,
        epochs=args.epochs, batch=args.batch_size, lr=args.lr, weight_decay=args.weight_decay,
        poly=args.schedule == "poly", amp=DTYPES[choose_precision("--amp", args.amp, dist)],
        workers=args.workers, seed=args.seed,
    )  # fmt: skip
    if resumed:
        trainer.load_state(resumed["trainer"])
        done = trainer.progress
        if dist.rank == 0:
            write_json(args.out / "history.json", done.history)
        print(f"{last}: {done.epoch} of {args.epochs} epochs and {done.step} steps are done", flush=True)

    writer = None
    if dist.rank == 0:
        from torch.utils.tensorboard import SummaryWriter

        write_run_json(args.out / "run.json", options)
        writer = SummaryWriter(args.out)

    def save(best: bool) -> None:
        if dist.rank:
            return
        content = cam_classifier.classifier_content(net, classes)
        # last.pth comes last: what is written before it, a run that is killed in between writes again.
        if best:
            checkpoint.save(args.out / "best.pth", content)
        write_json(args.out / "history.json", trainer.progress.history)
        checkpoint.save(last, {**content, "options": options, "trainer": trainer.state()})
        if trainer.progress.step == 0:
            report_epoch(trainer.progress.history[-1])

    def log(name: str, value: float, step: int) -> None:
        if writer:
            writer.add_scalar(name, value, step)

    trainer.run(save, 60 * args.save_minutes, log)
    if dist.rank == 0:
        writer.close()
        lock.close()
        if held_out is not None and trainer.progress.history:
            print(cam_training.ap_table(trainer.progress.history[-1], classes))
        print(f"{last}: trained for {args.epochs} epochs; next: generate_cams.py --checkpoint {last}")
    return report_failures(trainer.failures)


def load_data(args, classes):
    """The training pictures, and the held-out ones or None.

    Raises:
        InputError: if an id has no image-level label, or the lists do not fit the batch size.
    """
    from models.cam.data import Augmentation, TaggedImages
    from util.data.ids import read_id_list
    from util.data.image_labels import read_image_labels
    from util.runtime.errors import InputError
    from util.runtime.files import check_folder

    for folder in {args.images, args.val_images} - {None}:
        check_folder(folder, "pictures")
    val_images = args.val_images or args.images
    ids = read_id_list(args.list, args.images)
    val_ids = [] if args.val_list is None else read_id_list(args.val_list, val_images)
    tags = read_image_labels(args.image_labels, classes, [*ids, *val_ids])
    for path, listed in ((args.list, ids), (args.val_list, val_ids)):
        untagged = [image_id for image_id in listed if image_id not in tags]
        if untagged:
            raise InputError(
                f"{args.image_labels}: no image-level label for {len(untagged)} of the {len(listed)} ids of {path}, "
                f"the first: {untagged[0]}; add them or take them off the list"
            )
    if len(ids) < args.batch_size:
        raise InputError(f"{args.list}: {len(ids)} ids do not fill a batch of {args.batch_size}; lower --batch-size")
    augmentation = Augmentation(args.crop_size, tuple(args.long_side), args.jitter)
    data = TaggedImages(ids, args.images, tags, len(classes), args.crop_size, augmentation, args.seed)
    if args.val_list is None:
        return data, None
    return data, TaggedImages(val_ids, val_images, tags, len(classes), args.crop_size)


def resolved_options(args, data, held_out) -> dict:
    """What the result depends on: options, the lists and labels, the weights, and the code."""
    import json
    import os

    from util.runtime.files import digest, file_digest
    from util.runtime.provenance import code_digest

    ignored = {"out", "device", "workers", "overwrite", "save_minutes"}
    options = {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in vars(args).items()
        if name not in ignored
    }
    for name in ("weights", "encoder_weights"):
        if options[name] and os.path.isfile(options[name]):
            options[f"{name}_digest"] = file_digest(options[name])
    for name, part in (("data_digest", data), ("val_digest", held_out)):
        if part is not None:
            options[name] = digest(json.dumps([[image_id, part.tags[image_id]] for image_id in part.ids]))
    options["code_digest"] = code_digest([__file__])
    return options


def build_network(args, num_classes: int, pretrained: bool):
    """The network, with pretrained weights unless a checkpoint follows."""
    import torch

    from models.cam import classifier as cam_classifier
    from models.cam.plain_cam import PlainCAM
    from models.cam.transcam import TransCAM

    torch.manual_seed(args.seed)
    if args.method == "transcam":
        net = TransCAM(num_classes, args.arch)
        if pretrained and args.weights != "none":
            cam_classifier.load_backbone(net, args.weights)
        return net
    from_file = Path(args.encoder_weights).suffix in (".pth", ".pt", ".tar", ".bin")
    published = None if from_file or args.encoder_weights == "none" or not pretrained else args.encoder_weights
    net = PlainCAM(num_classes, args.encoder, published, frozen=args.encoder_weights != "none")
    if pretrained and from_file:
        cam_classifier.load_backbone(net, args.encoder_weights)
    return net


def report_epoch(entry: dict) -> None:
    held_out = f"   held-out mAP {100 * entry['map']:.2f}" if "map" in entry else ""
    print(f"epoch {entry['epoch']}: loss {entry['loss']:.4f}{held_out}", flush=True)


def report_failures(failures: set[str]) -> int:
    import sys

    if failures:
        print(f"{len(failures)} picture(s) could not be read and were left out; see above", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
