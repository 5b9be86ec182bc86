"""Train DeepLabV3+ on label maps: pseudo labels, enhanced labels or ground truth.

    python train_deeplabv3.py --images JPEGImages --labels out/grow --list train.txt \\
        --encoder resnet101 --encoder-weights imagenet --epochs 60 --out runs/deeplab

With held-out pictures that have ground truth, to keep the best state as well:

    python train_deeplabv3.py ... --val-list val.txt --val-gt SegmentationClassAug --val-every 500

Writes OUT/last.pth, OUT/best.pth (by mIoU on --val-list), OUT/run.json and TensorBoard's OUT/events*. The same
command again resumes. Score it: evaluate_enhanced.py --checkpoint OUT/last.pth. Several GPUs or machines:
torchrun --nproc-per-node N train_deeplabv3.py ..., where --batch-size counts for each process.
"""

from pathlib import Path

from util.runtime.cli import Parser, run


def main() -> int:
    args = parse_args()

    from util.runtime import distributed

    dist = distributed.init(args.device)
    try:
        return train(args, dist)
    finally:
        distributed.cleanup()


def parse_args():
    parser = Parser(__doc__)
    parser.add_common(
        "images", "labels", "list", "out", "num-classes", "class-names", "device", "workers", "seed", "overwrite",
        required=("images", "labels", "list", "out"),
    )  # fmt: skip
    parser.add_argument(
        "--encoder", default="mobilenet_v2", metavar="NAME",
        help="segmentation-models-pytorch encoder (default: mobilenet_v2)",
    )  # fmt: skip
    parser.add_argument(
        "--encoder-weights", default="imagenet", metavar="FILE|NAME|none",
        help="a file, published weights to download, or none (default: imagenet)",
    )  # fmt: skip
    parser.add_argument("--output-stride", type=int, choices=[8, 16], default=16, help="of the encoder (default: 16)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, default=60, metavar="N", help="passes over the list (default: 60)")
    length.add_argument("--steps", type=int, metavar="N", help="optimiser steps, instead of --epochs")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="pictures a process (default: 8)")
    parser.add_argument("--crop-size", type=int, default=512, metavar="PX", help="multiple of 16 (default: 512)")
    parser.add_argument(
        "--scale", type=float, nargs=2, default=(0.5, 2.0), metavar=("MIN", "MAX"), help="random scale (default: 0.5 2)"
    )
    parser.add_argument("--jitter", type=float, default=0.3, help="colour jitter, 0 to 1 (default: 0.3)")
    parser.add_argument(
        "--loss", choices=["cross-entropy", "symmetric", "bootstrapped", "online-mined"], default="cross-entropy",
        help="the last three stand wrong labels (default: cross-entropy)",
    )  # fmt: skip
    parser.add_argument("--lr", type=float, default=0.005, help="rate of the encoder (default: 0.005)")
    parser.add_argument("--head-factor", type=float, default=10, help="times --lr for the decoder (default: 10)")
    parser.add_argument(
        "--optimizer", choices=["sgd", "adamw"], default="sgd",
        help="adamw settles in fewer steps, at a --lr of 0.0001 and a --weight-decay of 0.01 (default: sgd)",
    )  # fmt: skip
    parser.add_argument("--momentum", type=float, default=0.9, help="SGD's (default: 0.9)")
    parser.add_argument("--weight-decay", type=float, default=1e-4, help="(default: 1e-4)")
    parser.add_argument(
        "--freeze-norm", action="store_true",
        help="keep the statistics of the encoder's batch norm: for short training and small batches",
    )  # fmt: skip
    parser.add_argument(
        "--warm-up", type=float, default=0.05, metavar="SHARE", help="share of the steps to warm up (default: 0.05)"
    )
    parser.add_argument("--clip-norm", type=float, default=2, help="longest gradient; 0: any (default: 2)")
    parser.add_argument("--ema", type=float, default=0, help="decay of the weights' moving average; 0: none (default)")
    parser.add_argument(
        "--amp", choices=["auto", "off", "bf16", "fp16"], default="auto",
        help="mixed precision; auto is off on a CPU (default: auto)",
    )  # fmt: skip
    parser.add_argument("--compile", action="store_true", help="use torch.compile")
    parser.add_argument("--no-sync-norm", action="store_true", help="leave batch norm to each process")
    parser.add_argument("--val-list", type=Path, metavar="FILE", help="ids of held-out pictures")
    parser.add_argument("--val-images", type=Path, metavar="DIR", help="their pictures (default: --images)")
    parser.add_argument("--val-gt", type=Path, metavar="DIR", help="their ground truth")
    parser.add_argument(
        "--val-every", type=int, default=0, metavar="STEPS", help="score this often (default: at the end)"
    )
    parser.add_argument("--save-minutes", type=float, default=10, metavar="M", help="save this often (default: 10)")
    args = parser.parse_args()
    args.encoder_weights = None if args.encoder_weights == "none" else args.encoder_weights
    if args.crop_size % 16 or args.crop_size < 32 or not 0 < args.scale[0] <= args.scale[1]:
        parser.error("--crop-size is a multiple of 16 from 32 on, and --scale is MIN MAX above 0")
    if args.batch_size < 1 or args.epochs <= 0 or (args.steps is not None and args.steps < 1):
        parser.error("--batch-size and --steps start at 1, --epochs above 0")
    if not (0 <= args.ema < 1 and 0 <= args.warm_up <= 1 and 0 <= args.jitter <= 1):
        parser.error("--ema, --warm-up and --jitter are shares, 0 to 1")
    if (args.val_list is None) != (args.val_gt is None):
        parser.error("--val-list and --val-gt go together")
    return args


def train(args, dist) -> int:
    import torch

    from models.segmentation import deeplabv3
    from models.segmentation import training as segmentation_training
    from util.data.classes import classes_of
    from util.runtime import checkpoint
    from util.runtime.files import make_folder
    from util.runtime.locking import lock_folder
    from util.runtime.provenance import write_run_json

    classes = classes_of((args.labels, args.val_gt, args.images), args.class_names, args.num_classes)
    segmentation_training.check_batch(args.batch_size, dist.world, not args.no_sync_norm)
    data, failures, data_digest = load_data(args, classes, dist)
    recipe = make_recipe(args, dist, len(data))
    if dist.is_main:
        make_folder(args.out)
    lock = lock_folder(args.out) if dist.is_main else None
    options = resolved_options(args, recipe, data, data_digest, dist)
    last = args.out / "last.pth"
    resumed = checkpoint.load_to_resume(last, options, "config", args.overwrite)

    torch.manual_seed(args.seed)
    weights = None if resumed else args.encoder_weights
    net = deeplabv3.build(len(classes), args.encoder, weights, args.output_stride).to(dist.device)
    trainer = segmentation_training.Trainer(
        net, data, recipe, dist, workers=args.workers, sync_norm=not args.no_sync_norm
    )
    score_now = None
    if resumed:
        trainer.load_state(resumed["training"])
        score_now = resumed["score"]
        say(dist, f"{last}: {trainer.progress.step} of {recipe.steps} steps are done")
        del resumed

    writer = None
    if dist.is_main:
        from torch.utils.tensorboard import SummaryWriter

        write_run_json(args.out / "run.json", options)
        writer = SummaryWriter(args.out, purge_step=trainer.progress.step + 1)

    def log(name: str, value: float, step: int) -> None:
        if writer:
            writer.add_scalar(name, value, step)

    scores = {}

    def score() -> dict:
        nonlocal score_now
        found, unscored = score_held_out(args, segmenter_now(), dist)
        scores.update(found)
        failures.update(unscored)
        score_now = {"step": trainer.progress.step, **{k: found[k] for k in ("miou", "pixel_accuracy", "per_class")}}
        return found

    def segmenter_now():
        return deeplabv3.Segmenter(deeplabv3.PixelNetwork(trainer.model), classes, options, None, dist.device)

    def save(best: bool) -> None:
        if not dist.is_main:
            return
        content = deeplabv3.checkpoint_content(trainer.model.state_dict(), options, classes, score_now)
        # last.pth comes last: a run that is killed in between writes best.pth again.
        if best:
            checkpoint.save(args.out / "best.pth", content)
        checkpoint.save(last, {**content, "training": trainer.state()})
        add_pictures(writer, segmenter_now(), args, trainer.progress.step)

    trainer.run(
        save, save_seconds=60 * args.save_minutes, score=score if args.val_list else None,
        score_steps=args.val_every, log=log,
    )  # fmt: skip
    if dist.is_main:
        writer.close()
        lock.close()
    return report(args, dist, trainer, classes, scores, failures)


def load_data(args, classes, dist):
    """The training crops, id -> message for what cannot be used, and the digest of all files read."""
    from models.segmentation.data import CropAugmentation, LabelledImages, check_pairs
    from util.data.ids import read_id_list
    from util.runtime.files import check_folder

    check_folder(args.images, "pictures")
    check_folder(args.labels, "label maps")
    ids = read_id_list(args.list, args.images)
    found = None
    if dist.is_main:
        found = check_pairs(ids, args.images, args.labels, len(classes), args.workers)
    ids, failures, data_digest = dist.broadcast(found)
    for image_id, message in failures.items():
        say(dist, f"{image_id}: {message}")
    augmentation = CropAugmentation(args.crop_size, tuple(args.scale), args.jitter)
    data = LabelledImages(ids, args.images, args.labels, len(classes), augmentation, args.seed)
    return data, failures, data_digest


def make_recipe(args, dist, count: int):
    """The training recipe, with steps counted out and mixed precision decided."""
    import torch

    from models.common.precision import choose_precision
    from models.segmentation.training import Recipe

    amp = choose_precision("--amp", args.amp, dist)
    if args.amp == "auto" and dist.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    steps = args.steps or max(1, round(args.epochs * count / (args.batch_size * dist.world)))
    return Recipe(
        steps=steps, batch=args.batch_size, lr=args.lr, head_factor=args.head_factor, optimizer=args.optimizer,
        momentum=args.momentum, weight_decay=args.weight_decay, warm_up=round(args.warm_up * steps),
        clip_norm=args.clip_norm, loss=args.loss,
        ema=args.ema, freeze_norm=args.freeze_norm, amp=amp, compiled=args.compile, seed=args.seed,
    )  # fmt: skip


def resolved_options(args, recipe, data, data_digest: str, dist) -> dict:
    """What the result depends on: options, the pictures and labels, the weights, and the code."""
    import os

    from models.segmentation.inference import working_size
    from util.runtime.files import file_digest
    from util.runtime.provenance import code_digest

    ignored = {"out", "device", "workers", "overwrite", "save_minutes", "epochs"}
    options = {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in {**vars(args), **vars(recipe)}.items()
        if name not in ignored
    }
    options["working_size"] = dist.broadcast(dist.is_main and working_size(data.images, data.ids, args.scale))
    options |= {"processes": dist.world, "data_digest": data_digest, "code_digest": code_digest([__file__])}
    if args.encoder_weights and os.path.isfile(args.encoder_weights):
        options["encoder_weights_digest"] = file_digest(args.encoder_weights)
    return options


def score_held_out(args, segmenter, dist):
    """Scores of the held-out pictures, and id -> message for what could not be scored."""
    from models.segmentation.training import score_pictures
    from util.data.ids import read_id_list

    images = args.val_images or args.images
    return score_pictures(segmenter, read_id_list(args.val_list, images), images, args.val_gt, dist)


def add_pictures(writer, segmenter, args, step: int, count: int = 4) -> None:
    """Show what is predicted on the first held-out pictures, or training pictures without these, in TensorBoard."""
    import numpy as np

    from util.data.ids import read_id_list
    from util.data.images import find_image, read_image
    from util.runtime.errors import InputError
    from util.vis import overlay

    images = args.val_images or args.images if args.val_list else args.images
    for image_id in read_id_list(args.val_list or args.list, images)[:count]:
        try:
            image = read_image(find_image(images, image_id))
        except InputError:
            continue  # reported where it is scored or checked
        label = segmenter.predict(image).argmax(0).astype(np.uint8)
        writer.add_image(f"predictions/{image_id}", overlay(image, label, segmenter.palette), step, dataformats="HWC")


def report(args, dist, trainer, classes, scores: dict, failures: dict) -> int:
    """Print the outcome; the exit code is 1 if pictures were left out."""
    from util.evaluation.metrics import score_table

    if scores:
        say(dist, score_table(scores))
    say(dist, f"{args.out / 'last.pth'}: {trainer.progress.step} steps, loss {trainer.progress.loss:.4f}; "
              f"next: evaluate_enhanced.py --checkpoint {args.out / 'last.pth'}")  # fmt: skip
    if failures:
        say(dist, f"{len(failures)} picture(s) were left out, the first: {next(iter(failures))}; mend or unlist them")
    return 1 if failures else 0


def say(dist, message: str) -> None:
    """Print once, whatever the number of processes."""
    if dist.is_main:
        print(message, flush=True)


if __name__ == "__main__":
    run(main)
