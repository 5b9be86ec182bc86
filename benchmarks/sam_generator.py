"""Our mask generator against segment-anything's, side by side in one run: masks, seconds, and where they go.

    python benchmarks/sam_generator.py --images JPEGImages --list train.txt --count 1 --threads 2

Without --checkpoint the network has random weights, and the thresholds are set from a coarse grid on the first picture
so that --pass-part of its masks pass each. Times are seconds a picture; compare them within one run only.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--model", choices=["vit_b", "vit_l", "vit_h"], default="vit_b")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--points-per-batch", type=int, default=64)
    parser.add_argument("--pass-part", type=float, default=0.3)
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16", "fp16"], default=["fp32"])
    parser.add_argument("--profile", action="store_true", help="a table of the operators of each, on the last picture")
    parser.add_argument("--disk", type=Path, help="also write both formats here, and tell their bytes")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    import numpy as np
    import torch
    from segment_anything import SamAutomaticMaskGenerator, sam_model_registry

    from models.sam import load_sam
    from models.sam_generator import MaskGenerator, Options
    from util.ids import read_id_list
    from util.images import find_image, read_image

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sam = load_sam(args.model, args.checkpoint) if args.checkpoint else sam_model_registry[args.model]()
    sam = sam.to(args.device).eval()
    ids = read_id_list(args.list)[: args.count]
    images = [read_image(find_image(args.images, image_id)) for image_id in ids]

    options = Options(points_per_side=args.points_per_side, points_per_batch=args.points_per_batch)
    if not args.checkpoint:
        coarse = Options(
            points_per_side=4, pred_iou_thresh=-9, stability_score_thresh=-9, stability_score_offset=0.01,
            box_nms_thresh=1.0,
        )  # fmt: skip
        masks = next(MaskGenerator(sam, coarse).generate(images[:1]))
        options = Options(
            points_per_side=args.points_per_side,
            points_per_batch=args.points_per_batch,
            pred_iou_thresh=max(1e-6, float(np.quantile(masks.predicted_iou, 1 - args.pass_part))),
            stability_score_thresh=max(1e-6, float(np.quantile(masks.stability_score, 1 - args.pass_part))),
            stability_score_offset=0.01,
            box_nms_thresh=0.99,
        )
    print(f"{args.model} on {args.device}, {args.threads} threads, {len(images)} picture(s), {options}", flush=True)

    runs = {"package": SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **vars(options)).generate}
    for precision in args.precision:
        generator = MaskGenerator(sam, options, precision=precision)
        runs[f"ours {precision}"] = lambda image, generator=generator: next(generator.generate([image]))
    seconds = {name: 0.0 for name in runs}
    for image_id, image in zip(ids, images, strict=True):
        results = {}
        for name, generate in runs.items():
            start = time.perf_counter()
            results[name] = generate(image)
            if args.device != "cpu":
                torch.cuda.synchronize()
            took = time.perf_counter() - start
            seconds[name] += took
            print(f"{image_id} {name}: {took:.1f} s, {len(results[name])} masks", flush=True)
        for name in list(runs)[1:]:
            print(f"{image_id} {name} against package: {agreement(results['package'], results[name])}", flush=True)
        if args.disk:
            print(f"{image_id} bytes: {disk(args.disk, image_id, results['package'], results['ours fp32'])}")
    for name in list(runs)[1:]:
        print(f"speed of {name}: {seconds['package'] / seconds[name]:.2f}x the package's", flush=True)
    if args.profile:
        for name, generate in runs.items():
            with torch.profiler.profile() as profile:
                generate(images[-1])
            print(name, profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=14), sep="\n")


def agreement(expected: list[dict], masks) -> dict:
    """How two results compare: order, boxes and points, and the matched masks' pixels and IoU."""
    import numpy as np
    from pycocotools import mask as coco

    keys = [(str(a["point_coords"]), str(a["bbox"])) for a in expected]
    own = [(str(extra["point_coords"]), str(extra["bbox"])) for extra in masks.extra]
    wrong, ious = 0, []
    where = {key: k for k, key in enumerate(own)}
    for annotation, key in zip(expected, keys, strict=True):
        if key not in where:
            continue
        theirs, ours = coco.decode(annotation["segmentation"]).astype(bool), masks.dense(where[key])
        wrong += int((theirs != ours).sum())
        ious.append(float((theirs & ours).sum() / max(1, (theirs | ours).sum())))
    pixels = len(ious) * masks.height * masks.width
    return {
        "same number": len(expected) == len(masks),
        "same order, boxes and points": keys == own,
        "matched": f"{len(ious)} of {len(expected)}",
        "largest difference of predicted IoU": float(
            max((abs(a["predicted_iou"] - s) for a, s in zip(expected, masks.predicted_iou)), default=0.0)
        ),
        "pixels off": f"{wrong} of {pixels}",
        "mean IoU": float(np.mean(ious)) if ious else None,
    }


def disk(folder: Path, image_id: str, expected: list[dict], masks) -> dict:
    """Bytes of our JSON file, and of the folder of PNG files that amg.py writes."""
    import cv2
    from pycocotools import mask as coco

    from util.masks import write_masks

    folder.mkdir(parents=True, exist_ok=True)
    write_masks(folder / f"{image_id}.json", masks, image_id, f"{image_id}.jpg")
    pngs = 0
    for annotation in expected:
        data = cv2.imencode(".png", coco.decode(annotation["segmentation"]) * 255)[1]
        pngs += len(data)
    table = len("\n".join(json.dumps([a["bbox"], a["point_coords"], a["crop_box"]]) for a in expected))
    return {"json": (folder / f"{image_id}.json").stat().st_size, "png": pngs + table}


if __name__ == "__main__":
    main()
