"""Class-agnostic masks of every picture.

    python generate_sam_masks.py --model vit_h --images JPEGImages --list train.txt --out out/sam_masks

OUT/<id>.json: the picture's masks in SA-1B's format; with --gzip OUT/<id>.json.gz, less than half of the bytes, which
every script reads as well. The official checkpoint is downloaded once, or give --checkpoint.
The masks are those of segment-anything's automatic generator with the same options. What is up to date is kept, so
an interrupted run goes on. Several GPUs: torchrun --nproc-per-node N generate_sam_masks.py ...

Without weights or a network: --model regions is no SAM but a graph segmentation at several scales. Its regions follow
colour, not objects; use it to try the pipeline, not to report results.

    python generate_sam_masks.py --model regions --images JPEGImages --out out/regions --preview 8
"""

import math
from pathlib import Path

from util.runtime.cli import Parser, run

GENERATOR_OPTIONS = (
    ("points-per-side", 32, "points a side of the grid of prompts"),
    ("points-per-batch", 64, "prompts at once; halved by itself when a GPU runs out of memory"),
    ("pred-iou-thresh", 0.88, "keep masks with a higher predicted IoU"),
    ("stability-score-thresh", 0.95, "keep masks with at least this stability score"),
    ("stability-score-offset", 1.0, "shift of the cutoff that the stability score tries"),
    ("box-nms-thresh", 0.7, "box IoU from which masks count as duplicates"),
    ("crop-n-layers", 0, "layers of crops; layer i has (2**i)**2"),
    ("crop-nms-thresh", 0.7, "box IoU from which masks of two crops count as duplicates"),
    ("crop-overlap-ratio", 512 / 1500, "overlap of the first layer's crops, of the short side"),
    ("crop-n-points-downscale-factor", 1, "layer i has points-per-side / factor**i points a side"),
    ("min-mask-region-area", 0, "remove islands and holes of fewer pixels"),
)


def main() -> int:
    args = parse_args()

    from util.runtime import distributed

    with distributed.init(args.device) as dist:
        return generate(args, dist)


def parse_args():
    parser = Parser(__doc__)
    parser.add_common("images", "list", "out", "device", "overwrite", required=("images", "out"))
    parser.add_argument(
        "--model", choices=["vit_h", "vit_l", "vit_b", "regions"], default="vit_h",
        help="SAM's encoder; regions is no SAM but needs no weights (default: vit_h)",
    )  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="of the model (default: the official one)")
    parser.add_argument("--mirror", metavar="URL", help="folder with the official checkpoints' files")
    parser.add_argument(
        "--precision", choices=["fp32", "bf16", "fp16"], default="fp32",
        help="of the network; bf16 and fp16 are for GPUs and processors that have them (default: fp32)",
    )  # fmt: skip
    parser.add_argument(
        "--exact", action="store_true",
        help="run the package's own modules: in fp32 the same bits, instead of the same masks but for rounding; slower",
    )  # fmt: skip
    parser.add_argument(
        "--encode-batch", type=int, metavar="N", help="pictures or crops encoded at once (default: 1; 4 on a GPU)"
    )
    parser.add_argument("--gzip", action="store_true", help="write <id>.json.gz; files made without it are converted")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads a process (default: torch's)")
    parser.add_argument("--preview", type=int, default=0, metavar="N", help="draw the first N pictures' masks")
    group = parser.add_argument_group("options of the automatic mask generator, as segment-anything's")
    for name, default, text in GENERATOR_OPTIONS:
        group.add_argument(
            f"--{name}", type=type(default), default=default, metavar="N", help=f"{text} (default: {default:.4g})"
        )
    args = parser.parse_args()
    if args.model == "regions" and (args.checkpoint or args.mirror):
        parser.error("--model regions has no weights; leave --checkpoint and --mirror out")
    if args.checkpoint and args.mirror:
        parser.error("--mirror is where the official checkpoint comes from; leave it out with --checkpoint")
    numbers = [getattr(args, name.replace("-", "_")) for name, *_ in GENERATOR_OPTIONS]
    if not all(map(math.isfinite, numbers)):
        parser.error("the options of the mask generator must be finite numbers")
    if min(args.points_per_side, args.points_per_batch, args.crop_n_points_downscale_factor) < 1:
        parser.error("--points-per-side, --points-per-batch and --crop-n-points-downscale-factor are from 1 on")
    if args.crop_n_layers < 0 or args.min_mask_region_area < 0 or not 0 <= args.crop_overlap_ratio < 1:
        parser.error("--crop-n-layers and --min-mask-region-area are from 0 on, --crop-overlap-ratio in 0..1")
    if args.points_per_side < args.crop_n_points_downscale_factor**args.crop_n_layers:
        parser.error("the last crop layer would have no points; raise --points-per-side")
    if args.preview < 0 or any(value is not None and value < 1 for value in (args.encode_batch, args.threads)):
        parser.error("--preview is from 0 on, --encode-batch and --threads from 1 on")
    return args


def generate(args, dist) -> int:
    from util.data.ids import read_id_list
    from util.data.images import list_image_ids
    from util.runtime.files import check_folder
    from util.runtime.ledger import Stage

    check_folder(args.images, "images")
    ids = read_id_list(args.list, args.images) if args.list else list_image_ids(args.images)
    make_masks, batch, options, code = prepare(args, dist)
    made_from = {"images": str(args.images), "list": str(args.list), "checkpoint": str(args.checkpoint)}
    with Stage(args.out, options, code=code, made_from=made_from, overwrite=args.overwrite, rank=dist.rank) as stage:
        dist.barrier()  # every process has read what is done before one of them goes on
        wanted = find_work(args, stage, dist.shard(ids))
        write_all(args, dist, stage, wanted, make_masks, batch)
        # Rank 0 ends last, since its lock keeps other runs out, and its ledger, the last that is read, knows all.
        done = dist.gather({image_id: stage.done[image_id] for image_id in dist.shard(ids) if image_id in stage.done})
        if dist.is_main:
            for entries in done:
                stage.done.update(entries)
        codes = dist.gather(stage.finish())
        if dist.is_main:
            preview(args, ids)
    return max(codes)


def prepare(args, dist):
    """(function: pictures -> their masks, pictures at once, what the result depends on, its source files)."""
    if args.model == "regions":
        from models.sam import regions

        return lambda images: map(regions.region_masks, images), 1, {"model": "regions"}, [regions.__file__]

    import torch

    from models.common.precision import choose_precision
    from models.sam import checkpoints as sam
    from models.sam import generator as sam_generator
    from util.runtime.files import file_digest

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.checkpoint is None:
        if dist.local_rank == 0:  # one download a machine, the others find it in the cache
            sam.official_checkpoint(args.model, args.mirror or sam.OFFICIAL_URL)
        dist.barrier()
        args.checkpoint = Path(sam.official_checkpoint(args.model, args.mirror or sam.OFFICIAL_URL))
    values = {name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name, *_ in GENERATOR_OPTIONS}
    batch = args.encode_batch or (4 if dist.device.type == "cuda" else 1)
    generator = sam_generator.MaskGenerator(
        sam.load_sam(args.model, args.checkpoint).to(dist.device), sam_generator.Options(**values),
        precision=choose_precision("--precision", args.precision, dist), exact=args.exact, encode_batch=batch,
    )  # fmt: skip
    options = {
        "model": args.model, "checkpoint": file_digest(args.checkpoint), "precision": args.precision,
        "exact": args.exact, **values,
    }  # fmt: skip
    return generator.generate, batch, options, [sam_generator.__file__, sam.__file__]


def find_work(args, stage, ids: list[str]) -> dict[str, tuple[Path, str]]:
    """id -> (picture, key) of the pictures whose masks are missing or out of date."""
    from util.data.images import find_image
    from util.data.mask_files import repack
    from util.runtime.errors import InputError
    from util.runtime.files import read_bytes

    wanted = {}
    for image_id in ids:
        try:
            path = find_image(args.images, image_id)
            key = stage.key(read_bytes(path), path.name)
        except InputError as error:
            stage.fail(image_id, str(error))
            continue
        if not stage.is_current(image_id, key):
            wanted[image_id] = path, key
            continue
        target, other = mask_files(args, image_id)
        if target.name not in stage.done[image_id]["files"]:
            repack(other, target)
            stage.record(image_id, key, [target])
        other.unlink(missing_ok=True)
    return wanted


def mask_files(args, image_id: str) -> tuple[Path, Path]:
    """The mask file that is asked for, and the other form of it, which is not to be left there."""
    plain, packed = args.out / f"{image_id}.json", args.out / f"{image_id}.json.gz"
    return (packed, plain) if args.gzip else (plain, packed)


def write_all(args, dist, stage, wanted: dict[str, tuple[Path, str]], make_masks, batch: int) -> None:
    """Pictures -> mask files; the next ones are decoded while the network works."""
    from concurrent.futures import ThreadPoolExecutor

    from tqdm import tqdm

    from util.data.images import read_image
    from util.data.mask_files import write_masks
    from util.runtime.errors import InputError

    ids = list(wanted)
    batches = [ids[start : start + batch] for start in range(0, len(ids), batch)]
    bar = tqdm(total=len(ids), desc="masks", unit="image", disable=not dist.is_main, dynamic_ncols=True)
    with bar, ThreadPoolExecutor(max(2, batch)) as pool:
        ahead = [[pool.submit(read_image, wanted[image_id][0]) for image_id in part] for part in batches[:1]]
        for number, part in enumerate(batches):
            reading = ahead.pop()
            ahead = [
                [pool.submit(read_image, wanted[image_id][0]) for image_id in after]
                for after in batches[number + 1 : number + 2]
            ]
            images = {}
            for image_id, future in zip(part, reading, strict=True):
                try:
                    images[image_id] = future.result()
                except InputError as error:
                    stage.fail(image_id, str(error))
            for image_id, masks in zip(images, make_masks(list(images.values())), strict=True):
                path, key = wanted[image_id]
                target, other = mask_files(args, image_id)
                write_masks(target, masks, image_id, path.name)
                other.unlink(missing_ok=True)
                stage.record(image_id, key, [target])
            bar.update(len(part))


def preview(args, ids: list[str]) -> None:
    """OUT/preview/<id>.png: the picture, and its masks drawn over it."""
    from util.data.images import find_image, read_image
    from util.data.mask_files import read_masks
    from util.runtime.errors import InputError
    from util.vis import draw_masks, panel_row, save_image

    shown = 0
    for image_id in ids:
        if shown == args.preview:
            return
        try:
            image = read_image(find_image(args.images, image_id))
            masks = read_masks(args.out, image_id, size=image.shape[:2])
        except InputError:
            continue  # reported when its masks were made
        panels = [(image_id, image), (f"{len(masks)} masks", draw_masks(image, masks))]
        save_image(args.out / "preview" / f"{image_id}.png", panel_row(panels, height=360))
        shown += 1


if __name__ == "__main__":
    run(main)
