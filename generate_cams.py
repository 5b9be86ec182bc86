"""Class activation maps of a trained classifier, and pseudo labels from them.

    python generate_cams.py --checkpoint runs/transcam/last.pth --images JPEGImages --list train.txt \\
        --image-labels cls_labels.npy --refine par --bg-threshold 0.5 --out out/cams

OUT/cams/<id>.npy: soft maps of the picture's classes, 0 to 1; OUT/cams_par/<id>.npy: refined, with --refine par;
OUT/labels/<id>.png: label maps. What is up to date is kept, so an interrupted run goes on, and another threshold
makes the label maps alone. Several GPUs: torchrun --nproc-per-node N generate_cams.py ...

The best threshold on pictures with ground truth (kept out of the labels: it prints, and writes OUT/sweep.json):

    python generate_cams.py ... --list tune.txt --sweep --gt SegmentationClassAug --out out/cams
"""

from pathlib import Path

from util.runtime.cli import Parser, class_indices, run


def main() -> int:
    args = parse_args()

    from contextlib import nullcontext

    from util.runtime import distributed
    from util.runtime.files import make_folder
    from util.runtime.locking import lock_folder

    with (
        distributed.init(args.device) as dist,
        lock_folder(make_folder(args.out)) if dist.is_main else nullcontext(),
    ):
        return generate(args, dist)


def parse_args():
    parser = Parser(__doc__)
    parser.add_common(
        "images", "list", "image-labels", "out", "gt", "classes", "num-classes", "class-names", "device", "workers",
        "overwrite", required=("images", "list", "image-labels", "out"),
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", required=True,
        help="from train_transcam.py, or the published TransCAM parameters",
    )  # fmt: skip
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="PX",
        help="input sizes, summed (default: TransCAM 256 512 768; plain CAM 512 640)",
    )  # fmt: skip
    parser.add_argument(
        "--shape", choices=["square", "long"],
        help="inputs are squares of these sizes, or have them as their long side (default: square; plain CAM long)",
    )  # fmt: skip
    parser.add_argument("--no-flip", dest="flip", action="store_false", help="leave the mirrored pictures out")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="the class convolution's maps, without attention (TransCAM; better when it was not pretrained) or "
        "random walk (plain CAM)",
    )
    parser.add_argument(
        "--refine", choices=["none", "par"], default="none",
        help="par: pixel-adaptive refinement by the picture's colours (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--bg-threshold", type=float, default=0.5, metavar="T", help="below it is background, 0 to 1 (default: 0.5)"
    )
    parser.add_argument("--sweep", action="store_true", help="find the best threshold against --gt; makes no labels")
    parser.add_argument("--batch-size", type=int, default=4, metavar="N", help="pictures at once (default: 4)")
    parser.add_argument(
        "--amp", choices=["auto", "off", "bf16", "fp16"], default="auto",
        help="mixed precision; auto is off on a CPU (default: auto)",
    )  # fmt: skip
    args = parser.parse_args()
    if args.sweep and args.gt is None:
        parser.error("--sweep compares with ground truth: give --gt DIR")
    if args.gt is not None and not args.sweep:
        parser.error("--gt is for --sweep alone: labels are made without ground truth; score them with main.py")
    if not 0 <= args.bg_threshold <= 1 or args.batch_size < 1 or min(args.sizes or [32]) < 32:
        parser.error("--bg-threshold is in 0..1, --batch-size from 1 on, --sizes from 32 pixels on")
    return args


def generate(args, dist) -> int:
    from models.cam.classifier import load_classifier
    from util.data.classes import find_classes
    from util.data.ids import read_id_list
    from util.data.image_labels import read_image_labels
    from util.runtime.files import check_folder

    # What the data says must be what the checkpoint was trained on; where it says nothing, the checkpoint's names count.
    asked = find_classes((args.image_labels, args.gt, args.images), args.class_names, args.num_classes)
    net, classes = load_classifier(args.checkpoint, asked)
    check_folder(args.images, "pictures")
    ids = read_id_list(args.list, args.images)
    tags = read_image_labels(args.image_labels, classes, ids)

    code = make_cams(args, dist, net, ids, tags)
    folder = args.out / "cams"
    if args.refine == "par":
        dist.barrier()
        code |= refine_cams(args, dist, ids, folder, args.out / "cams_par")
        folder = args.out / "cams_par"
    dist.barrier()
    if args.sweep:
        return code | (sweep(args, ids, folder, classes) if dist.is_main else 0)
    return code | make_labels(args, dist, ids, folder, classes)


def make_cams(args, dist, net, ids: list[str], tags: dict[str, tuple[int, ...]]) -> int:
    """Pictures -> OUT/cams."""
    import torch
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    from models.cam import inference as cam_inference
    from models.cam import plain_cam, transcam
    from models.common.precision import DTYPES, choose_precision
    from util.data.cams import write_cam
    from util.data.images import find_image
    from util.runtime.errors import InputError
    from util.runtime.files import file_digest, read_bytes
    from util.runtime.ledger import Stage
    from util.runtime.parallel import batches_of, start_worker

    is_plain = net.config["method"] == "cam"
    sizes = args.sizes or ((512, 640) if is_plain else (256, 512, 768))
    shape = args.shape or ("long" if is_plain else "square")
    amp = DTYPES[choose_precision("--amp", args.amp, dist)]
    options = {
        "checkpoint": file_digest(args.checkpoint), "sizes": list(sizes), "shape": shape, "flip": args.flip,
        "raw": args.raw, "amp": str(amp),
    }  # fmt: skip
    code = [plain_cam.__file__ if is_plain else transcam.__file__, cam_inference.__file__]
    made_from = {"checkpoint": str(args.checkpoint), "images": str(args.images), "list": str(args.list)}
    with Stage(
        args.out / "cams", options, code=code, made_from=made_from, overwrite=args.overwrite, rank=dist.rank
    ) as stage:
        keys: dict[str, str] = {}
        wanted: set[int] = set()
        mine = dist.shard(ids)
        for number, image_id in enumerate(mine):
            try:
                if image_id not in tags:
                    raise InputError(f"no image-level label in {args.image_labels}; add it or drop the id")
                key = stage.key(read_bytes(find_image(args.images, image_id)), repr(tags[image_id]))
            except InputError as error:
                stage.fail(image_id, str(error))
                continue
            keys[image_id] = key
            if not stage.is_current(image_id, key):
                wanted.add(number // args.batch_size)
        # Rounding depends on how many pictures share a batch: these are fixed by the list and made again as a whole,
        # so that a resumed run ends with the same bits as one that was never stopped.
        groups = [
            [i for i in mine[n * args.batch_size : (n + 1) * args.batch_size] if i in keys] for n in sorted(wanted)
        ]
        todo = [image_id for group in groups for image_id in group]
        place = {image_id: number for number, image_id in enumerate(todo)}
        batches = [[place[image_id] for image_id in group] for group in groups]
        net = net.to(dist.device, memory_format=torch.channels_last)
        data = cam_inference.ScaledImages(todo, args.images, sizes, shape == "square")
        loader = DataLoader(
            data, batch_sampler=batches, num_workers=args.workers, collate_fn=list, worker_init_fn=start_worker
        )
        with tqdm(total=len(todo), desc="CAMs", unit="image", disable=not dist.is_main, dynamic_ncols=True) as bar:
            for batch in batches_of(loader):
                for image_id, _, inputs, message in batch:
                    if not inputs:
                        stage.fail(image_id, message)
                good = [item for item in batch if item[2]]
                cams = cam_inference.multi_scale_cams(
                    net, [item[2] for item in good], [item[1] for item in good], [tags[item[0]] for item in good],
                    args.flip, dist.device, amp, args.raw,
                ) if good else []  # fmt: skip
                for (image_id, *_), cam in zip(good, cams, strict=True):
                    write_cam(stage.out, image_id, cam)
                    stage.record(image_id, keys[image_id], [stage.out / f"{image_id}.npy"])
                bar.update(len(batch))
        return stage.finish()


def refine_cams(args, dist, ids: list[str], source: Path, out: Path) -> int:
    """OUT/cams and pictures -> OUT/cams_par."""
    import torch

    from models.cam import inference as cam_inference
    from models.common import refine
    from util.data.cams import read_cam, write_cam
    from util.data.images import find_image, read_image

    def work(image_id: str) -> Path:
        cam = read_cam(source, image_id)
        if cam:
            image = torch.from_numpy(read_image(find_image(args.images, image_id))).to(dist.device)
            maps = torch.stack([torch.from_numpy(value) for value in cam.values()]).to(dist.device)
            maps = cam_inference.stretch(refine.refine_maps(image, maps)).cpu().numpy()
            cam = dict(zip(cam, maps, strict=True))
        write_cam(out, image_id, cam)
        return out / f"{image_id}.npy"

    code = [refine.__file__, cam_inference.__file__]
    return each_image(args, dist, ids, out, work, {}, code, source, "refinement", with_pictures=True)


def make_labels(args, dist, ids: list[str], source: Path, classes) -> int:
    """Soft CAMs -> OUT/labels."""
    from models.cam import labels as cam_labels
    from util.data.cams import read_cam
    from util.data.images import find_image, image_size
    from util.data.labels import write_label

    out = args.out / "labels"

    def work(image_id: str) -> Path:
        shape = image_size(find_image(args.images, image_id))
        label = cam_labels.label_from_cams(read_cam(source, image_id), args.bg_threshold, shape)
        write_label(out / f"{image_id}.png", label, classes.palette)
        return out / f"{image_id}.png"

    options = {"bg_threshold": args.bg_threshold, "classes": classes.names, "source": source.name}
    return each_image(args, dist, ids, out, work, options, [cam_labels.__file__], source, "labels")


def each_image(
    args, dist, ids, out, work, options: dict, code: list, source: Path, description: str, with_pictures=False
) -> int:
    """Run ``work(id) -> file written`` for every image whose soft CAM, or whose picture, is new."""
    from tqdm import tqdm

    from util.data.cams import cam_file
    from util.data.images import find_image
    from util.runtime.errors import InputError
    from util.runtime.files import read_bytes
    from util.runtime.ledger import Stage

    made_from = {"cams": str(source), "images": str(args.images), "list": str(args.list)}
    with Stage(out, options, code=code, made_from=made_from, overwrite=args.overwrite, rank=dist.rank) as stage:
        bar = tqdm(dist.shard(ids), desc=description, unit="image", disable=not dist.is_main, dynamic_ncols=True)
        for image_id in bar:
            try:
                parts = [read_bytes(cam_file(source, image_id))]
                if with_pictures:
                    parts.append(read_bytes(find_image(args.images, image_id)))
                key = stage.key(*parts)
                if not stage.is_current(image_id, key):
                    stage.record(image_id, key, [work(image_id)])
            except InputError as error:
                stage.fail(image_id, str(error))
        return stage.finish()


def sweep(args, ids: list[str], source: Path, classes) -> int:
    """Print the curve of thresholds, and write OUT/sweep.json."""
    import sys

    from tqdm import tqdm

    from models.cam.labels import ThresholdSweep
    from util.data.cams import read_cam
    from util.data.labels import label_path, read_label
    from util.runtime.errors import InputError
    from util.runtime.files import write_json

    curve = ThresholdSweep(len(classes))
    failed = 0
    for image_id in tqdm(ids, desc="sweep", unit="image", dynamic_ncols=True):
        try:
            curve.update(read_cam(source, image_id), read_label(label_path(args.gt, image_id), len(classes)))
        except InputError as error:
            failed += 1
            tqdm.write(f"{image_id}: {error}", file=sys.stderr)
    only = class_indices(args.classes, classes)
    everything = curve.scores(classes)
    chosen = curve.scores(classes, only)
    print("threshold   mIoU" + ("   mIoU of all present" if only else ""))
    for threshold, scores, all_scores in zip(curve.thresholds, chosen, everything, strict=True):
        print(f"{threshold:9.2f} {100 * scores['miou']:6.2f}" + (f" {100 * all_scores['miou']:21.2f}" if only else ""))
    best, miou = curve.best(classes, only)
    print(f"best: --bg-threshold {best}, mIoU {100 * miou:.2f} over {', '.join(chosen[0]['classes'])} "
          f"on {curve.images} images of {args.list}")  # fmt: skip
    write_json(args.out / "sweep.json", {
        "best": best, "miou": miou, "source": source.name, "list": str(args.list), "images": curve.images,
        "classes": chosen[0]["classes"],
        "curve": [{"threshold": round(float(t), 4), "miou": s["miou"], "miou_all_present": a["miou"]}
                  for t, s, a in zip(curve.thresholds, chosen, everything, strict=True)],
    })  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
