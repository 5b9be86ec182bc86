"""What the project claims of its speed and size, measured side by side with what people use today: one table.

    python benchmarks/run.py --voc VOC2012 --encoder-weights mobilenet_v2.pth     # real pictures and labels
    python benchmarks/run.py                                                      # generated ones
    python benchmarks/run.py --short                                              # under a minute: does it all run?

Both sides of a row run by turns, on the same inputs, in this run, with one thread unless told, and must agree on the
result. A ratio above 1 says that ours is the better. "of the limit" is the share of our time that decoding the inputs
and encoding the outputs alone takes. Further tables show how cost grows with images, masks an image and classes.
Take rows out with --only, for instance --only merge evaluation.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import merge_speed
import numpy as np
import scale
from PIL import Image

from util.data.voc import load_classes
from util.runtime.cli import Parser, run
from util.runtime.errors import InputError

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if path.name != "processor.py")


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what, against: what is measured, and with what it is compared.
        theirs, ours: of the unit.
        unit: of both.
        share: our time's share that is decoding and encoding alone, or None.
        aim: smallest ratio that is aimed at, or None.
        least_share: smallest share that is aimed at, or None.
        note: what else was seen.
    """

    what: str
    against: str
    theirs: float
    ours: float
    unit: str
    share: float | None = None
    aim: float | None = None
    least_share: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours

    @property
    def met(self) -> bool | None:
        """Whether all that is aimed at was reached; None where nothing is."""
        aims = [(self.ratio, self.aim), (self.share, self.least_share)]
        asked = [value >= aim for value, aim in aims if aim is not None]
        return all(asked) if asked else None

    def __str__(self) -> str:
        share = "" if self.share is None else f"{100 * self.share:.0f} %"
        aim = "" if self.aim is None else f"{self.aim:g}"
        aim += "" if self.least_share is None else f" {100 * self.least_share:.0f} %"
        met = {None: "", True: "met", False: "MISSED"}[self.met]
        return (f"{self.what:<22}{self.against:<36}{self.theirs:>11.4g}{self.ours:>11.4g} {self.unit:<13}"
                f"{self.ratio:>7.2f}{share:>13}{aim:>10} {met:<7}{self.note}")  # fmt: skip


HEAD = f"{'what':<22}{'against':<36}{'theirs':>11}{'ours':>11} {'':<13}{'ratio':>7}{'of the limit':>13}{'aim':>10}"


@dataclass(frozen=True)
class Data:
    """What the rows measure on.

    Attributes:
        images, labels, gt: folders.
        ids: of images with foreground, that are in all three.
        list: an id list with them.
        encoder_weights: of the network that is trained, or None for random ones.
    """

    images: Path
    labels: Path
    gt: Path
    ids: list[str]
    list: Path
    encoder_weights: Path | None


def main() -> int:
    args = parse_args()
    chosen = args.only or list(ROWS)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = given_data(args, root) if args.voc else generated_data(args, root)
        print(
            f"{len(data.ids)} images of {args.voc or 'the generated data set'}, {args.threads} thread(s)\n\n{HEAD}",
            flush=True,
        )
        missed = 0
        for part in chosen:
            for row in ROWS[part](args, data, root):
                print(row, flush=True)
                missed += isinstance(row, Row) and row.met is False
    print(f"\n{missed} aim(s) missed")
    return 0


def parse_args():
    parser = Parser(__doc__)
    parser.add_argument("--voc", type=Path, metavar="DIR", help="pictures, labels and lists in VOC's layout")
    parser.add_argument(
        "--labels", type=Path, metavar="DIR", help="pseudo labels (default: DIR/pseudo_labels/transcam, or the truth)"
    )
    parser.add_argument("--list", type=Path, metavar="FILE", help="(default: DIR/ImageSets/Segmentation/train.txt)")
    parser.add_argument("--encoder-weights", type=Path, metavar="FILE", help="of the trained network (default: random)")
    parser.add_argument("--count", type=int, metavar="N", help="images (default: 60; 6 with --short)")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="the best of so many counts (default: 3; 1 with --short)"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the networks (default: 1)")
    parser.add_argument("--short", action="store_true", help="small inputs: shows that it runs, not how fast")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    args = parser.parse_args()
    args.count = args.count or (6 if args.short else 60)
    args.rounds = args.rounds or (1 if args.short else 3)
    if args.count < 2 or args.rounds < 1 or args.threads < 1:
        parser.error("--count starts at 2, --rounds and --threads at 1")
    return args


def given_data(args, root: Path) -> Data:
    from util.data.ids import read_id_list
    from util.data.labels import read_label
    from util.runtime.files import check_folder

    images, gt = (check_folder(args.voc / name, what) for name, what in
                  (("JPEGImages", "pictures"), ("SegmentationClassAug", "ground truth")))  # fmt: skip
    labels = args.labels or args.voc / "pseudo_labels" / "transcam"
    labels = labels if labels.is_dir() or args.labels else gt
    ids = []
    for image_id in read_id_list(args.list or args.voc / "ImageSets" / "Segmentation" / "train.txt"):
        if not all((folder / f"{image_id}.png").is_file() for folder in (labels, gt)):
            continue
        if len(np.unique(read_label(labels / f"{image_id}.png"))) > 1:
            ids.append(image_id)
        if len(ids) == args.count:
            break
    return finished_data(root, images, labels, gt, ids, args)


def generated_data(args, root: Path) -> Data:
    from util.data.synthetic import write_data_set

    side = 96 if args.short else 480
    write_data_set(root / "data", {"train": args.count}, side=side)
    labels = root / "data" / "SegmentationClassAug"
    ids = sorted(path.stem for path in labels.iterdir())
    return finished_data(root, root / "data" / "JPEGImages", labels, labels, ids, args)


def finished_data(root: Path, images: Path, labels: Path, gt: Path, ids: list[str], args) -> Data:
    if len(ids) < 2:
        raise InputError(f"{labels}: fewer than two listed images have foreground; give another --list or --labels")
    (root / "ids.txt").write_text("\n".join(ids) + "\n")
    return Data(images, labels, gt, ids, root / "ids.txt", args.encoder_weights)


def best_times(ways: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Least processor time of each, by turns, so that what else the machine does meets all."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - begun)
    return best


def skipped(what: str, why: str) -> str:
    return f"{what:<22}not measured: {why}"


# --- the rows: each gives lines of the table ----------------------------------------------------------------------


def merging(args, data: Data, root: Path):
    folder = root / "merge"
    merge_speed.prepare(folder, data.labels, data.ids, 20 if args.short else 76)
    theirs, ours, limit = merge_speed.compare(folder, data.ids, args.rounds)
    yield Row("merging", "PNG folders, dense", theirs, ours, "ms an image", limit / ours, 25, 1 / 2.5, "same pixels")
    yield from storage(root / "storage", data)
    yield from mask_reading(args, folder, data.ids)


def storage(folder: Path, data: Data):
    """Regions of the pictures, since their borders are as ragged as those of masks of real objects."""
    from models.sam.regions import region_masks
    from util.data.images import find_image, read_image
    from util.data.mask_files import SUFFIXES, write_masks

    for image_id in data.ids:
        masks = region_masks(read_image(find_image(data.images, image_id)))
        for suffix in SUFFIXES:
            write_masks(folder / suffix / f"{image_id}{suffix}", masks, image_id, f"{image_id}.jpg")
        (folder / "png" / image_id).mkdir(parents=True)
        for k in range(len(masks)):
            Image.fromarray(masks.dense(k).astype(np.uint8) * 255).save(folder / "png" / image_id / f"{k}.png")
    (_, png_size, png_blocks), *forms = (scale.disk_use(folder / kind) for kind in ("png", *SUFFIXES))
    for suffix, (_, size, blocks) in zip(SUFFIXES, forms, strict=True):
        kib, places = 1024 * len(data.ids), 4096 * len(data.ids)
        yield Row(f"masks as {suffix}", "PNG folders", png_size / kib, size / kib, "KiB an image", aim=2)
        yield Row(f"masks as {suffix}", "PNG folders", png_blocks / places, blocks / places, "4 KiB blocks", aim=6)


def mask_reading(args, folder: Path, ids: list[str]):
    from util.data.mask_files import read_masks

    try:
        from pycocotools import mask as coco
    except ImportError:
        yield skipped("reading masks", "pycocotools is not installed")
        return
    areas: dict[str, list] = {}

    def content(image_id):
        return json.loads((folder / "json" / f"{image_id}.json").read_bytes())

    def decoded(image_id):
        return coco.decode([annotation["segmentation"] for annotation in content(image_id)["annotations"]])

    def theirs():
        areas["theirs"] = [decoded(image_id).sum((0, 1)).tolist() for image_id in ids]

    def ours():
        areas["ours"] = [read_masks(folder / "json", image_id).areas.tolist() for image_id in ids]

    def dense():
        for image_id in ids:
            masks = read_masks(folder / "json", image_id)
            areas["dense"] = [masks.dense(k) for k in range(len(masks))]

    def theirs_dense():
        for image_id in ids:
            decoded(image_id)

    ways = {"theirs": theirs, "ours": ours, "theirs dense": theirs_dense, "dense": dense}
    times = best_times({**ways, "limit": lambda: [content(image_id) for image_id in ids]}, args.rounds)
    if areas["theirs"] != areas["ours"]:
        raise SystemExit("pycocotools and ours read different areas")
    per_image = {name: 1000 * seconds / len(ids) for name, seconds in times.items()}
    share = times["limit"] / times["ours"]
    yield Row("reading masks, areas", "pycocotools", per_image["theirs"], per_image["ours"], "ms an image", share)
    yield Row("reading masks, pixels", "pycocotools", per_image["theirs dense"], per_image["dense"], "ms an image",
              times["limit"] / times["dense"])  # fmt: skip


def evaluation(args, data: Data, root: Path):
    import torch

    from util.evaluation.evaluate import evaluate_labels

    torch.set_num_threads(args.threads)
    classes = load_classes()
    paths = [(data.labels / f"{image_id}.png", data.gt / f"{image_id}.png") for image_id in data.ids]
    results: dict[str, list[float]] = {}

    def decode():
        for pair in paths:
            for path in pair:
                np.array(Image.open(path))

    def ours():
        found = evaluate_labels(data.labels, data.gt, data.ids, classes, workers=1)
        counts = found.counts[:, :-1]
        results["ours"] = (
            np.diag(counts) / np.maximum(1, found.counts.sum(1) + counts.sum(0) - np.diag(counts))
        ).tolist()

    def histograms():
        results["histograms"] = histogram_iou(paths, len(classes))

    ways = {"decode": decode, "ours": ours, "histograms": histograms}
    try:
        from torchmetrics.classification import MulticlassJaccardIndex
    except ImportError:
        yield skipped("evaluation", "torchmetrics is not installed")
    else:
        ways["torchmetrics"] = lambda: results.update(
            torchmetrics=jaccard_iou(MulticlassJaccardIndex, paths, len(classes))
        )
    times = best_times(ways, args.rounds)
    for name in set(results) - {"ours"}:
        if not np.allclose(results[name], results["ours"], atol=1e-6):
            raise SystemExit(f"{name} and ours give different IoUs: {results[name]} and {results['ours']}")
    per_image = {name: 1000 * seconds / len(paths) for name, seconds in times.items()}
    share = times["decode"] / times["ours"]
    against = {"torchmetrics": "torchmetrics", "histograms": "histograms an image, as mmsegmentation"}
    for name in against.keys() & ways.keys():
        yield Row(
            "evaluation", against[name], per_image[name], per_image["ours"], "ms an image", share, 1, 1 / 2, "same IoUs"
        )


def histogram_iou(paths: list[tuple[Path, Path]], classes: int) -> list[float]:
    """IoU a class by three histograms an image, the way that mmsegmentation's metric counts."""
    import torch

    totals = torch.zeros(3, classes, dtype=torch.float64)
    for pred_path, gt_path in paths:
        pred, gt = (torch.from_numpy(np.array(Image.open(path))).long() for path in (pred_path, gt_path))
        known = gt != 255
        pred, gt = pred[known], gt[known]
        for number, values in enumerate((pred[pred == gt], pred, gt)):
            totals[number] += torch.histc(values.float(), bins=classes, min=0, max=classes - 1)
    hit, predicted, there = totals
    return (hit / (predicted + there - hit).clamp(min=1)).tolist()


def jaccard_iou(metric_class, paths: list[tuple[Path, Path]], classes: int) -> list[float]:
    """IoU a class by torchmetrics."""
    import torch

    metric = metric_class(classes, average="none", ignore_index=255, validate_args=False)
    for pred_path, gt_path in paths:
        pred, gt = (torch.from_numpy(np.array(Image.open(path)))[None].long() for path in (pred_path, gt_path))
        metric.update(pred, gt)
    return metric.compute().tolist()


def generator(args, data: Data, root: Path):
    against = "SamAutomaticMaskGenerator"
    if args.short:
        import torch
        from sam_reference import OPTIONS, official, small_sam

        from models.sam.generator import MaskGenerator
        from util.data.images import find_image, read_image

        torch.set_num_threads(args.threads)
        sam, image = small_sam(), read_image(find_image(data.images, data.ids[0]))
        ours = MaskGenerator(sam, OPTIONS)
        ways = {"theirs": lambda: official(sam, image, OPTIONS), "ours": lambda: next(ours.generate([image]))}
        times = best_times(ways, args.rounds)
        yield Row("mask generation", against, times["theirs"], times["ours"], "s an image", note="a toy network")
        return
    aims = {"fp32": 1.3, **({"bf16": 2} if computes_in_bfloat16() else {})}
    text = output_of("benchmarks/sam_generator.py", "--images", data.images, "--list", data.list, "--count", 1,
                     "--threads", args.threads, "--points-per-side", 16, "--precision", *aims)  # fmt: skip
    seconds = {name: float(value) for name, value in re.findall(r"^\S+ (package|ours \w+): ([\d.]+) s", text, re.M)}
    for precision, aim in aims.items():
        same = re.search(rf"^ours {precision}: .*?, (the same masks|other masks)", text, re.M)
        yield Row(f"mask generation {precision}", against, seconds["package"], seconds[f"ours {precision}"], "s an image",
                  aim=aim, note=f"vit_b, {same[1]}")  # fmt: skip


def computes_in_bfloat16() -> bool:
    """Whether rows in bfloat16 say anything here; they are left out where it is emulated."""
    import torch

    from models.common.precision import has_kernels

    there = has_kernels(torch.bfloat16, torch.device("cpu"))
    if not there:
        print("left out: bfloat16, in which this processor does not compute", file=sys.stderr)
    return there


def training(args, data: Data, root: Path):
    size = ["--batch-size", 2, "--crop-size", 64, "--steps", 2] if args.short else []
    weights = ["--encoder-weights", data.encoder_weights] if data.encoder_weights else []
    for amp in ("off",) if args.short or not computes_in_bfloat16() else ("off", "bf16"):
        text = output_of("benchmarks/deeplabv3_training.py", *size, *weights, "--amp", amp, "--threads", args.threads)
        plain, ours = (float(re.search(rf"^{name} +median ([\d.]+) s", text, re.M)[1]) for name in ("plain", "ours"))
        aim = None if args.short else 1.8
        yield Row("training" + (" bf16" if amp == "bf16" else ""), "plain fp32 loop", plain, ours, "s a step", aim=aim,
                  note="mobilenet_v2")  # fmt: skip


def cam_inference(args, data: Data, root: Path):
    import torch

    from models.cam.inference import ScaledImages, multi_scale_cams
    from models.cam.plain_cam import PlainCAM
    from util.runtime.memory import keep_freed_memory

    torch.set_num_threads(args.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    sizes = (64,) if args.short else (256, 384)
    net = PlainCAM(21, "mobilenet_v2", None).eval().to(memory_format=torch.channels_last)
    items = [ScaledImages(data.ids[:8], data.images, sizes, True)[number] for number in range(min(8, len(data.ids)))]
    tags, device, results = [(8, 15)] * len(items), torch.device("cpu"), {}

    def batched():
        results["ours"] = multi_scale_cams(
            net, [item[2] for item in items], [item[1] for item in items], tags, True, device
        )

    def single():
        results["single"] = [
            multi_scale_cams(net, [item[2]], [item[1]], tags[:1], True, device)[0] for item in items
        ]  # fmt: skip

    times = best_times({"single": single, "ours": batched}, args.rounds)
    for one, other in zip(results["ours"], results["single"], strict=True):
        if any(np.abs(one[value] - other[value]).max() > 1e-3 for value in one):
            raise SystemExit("batched and single CAMs differ")
    yield Row("CAM inference", "one picture at a time", times["single"] / len(items), times["ours"] / len(items),
              "s an image", note=f"batch of {len(items)}")  # fmt: skip


def start_up(args, data: Data, root: Path):
    for script in SCRIPTS:
        took = min(scale.measure(script, "--help").seconds for _ in range(args.rounds + 1))
        yield Row("start", f"{script} --help, 2 s", 2, took, "s", aim=1)


def output_of(script: str, *options) -> str:
    """What another benchmark prints.

    Raises:
        SystemExit: if it fails.
    """
    done = subprocess.run([sys.executable, str(ROOT / script), *map(str, options)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{script} ended with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout


# --- how cost grows -----------------------------------------------------------------------------------------------


def growth(args, data: Data, root: Path):
    """Seconds and peak memory of the merge stage and the evaluation as the work grows tenfold and again."""
    images = (10, 40) if args.short else (10, 100, 1_000, 10_000)
    masks = (10, 40) if args.short else (10, 100, 1_000)
    classes = (20, 254) if args.short else (20, 80, 254)
    few = 10 if args.short else 100
    height, width = (60, 80) if args.short else (240, 320)
    yield ""
    yield from grown("images", images, lambda n: dict(images=n, masks=20, classes=21), root, height, width)
    yield from grown("masks an image", masks, lambda n: dict(images=few, masks=n, classes=21), root, height, width)
    yield from grown("classes", classes, lambda n: dict(images=few, masks=20, classes=n), root, height, width)


def grown(what: str, values, settings: Callable, root: Path, height: int, width: int):
    yield f"{what:<16}{'merge':>10}{'peak':>10}{'evaluation':>12}{'peak':>10}   each further one costs, ms (merge, evaluation)"
    before = None
    for value in values:
        folder = root / f"{what} {value}"
        scale.make_set(folder / "set", distinct=10, height=height, width=width, **settings(value))
        merge = scale.measure(*scale.merge_command(folder / "set", folder / "out", 1))
        score = scale.measure(
            *scale.evaluate_command(folder / "set", folder / "out" / "max_iou_imp2", folder / "scores", 1)
        )
        line = (f"{value:<16,}{merge.seconds:>8.2f} s{merge.peak / 2**20:>6.0f} MiB{score.seconds:>10.2f} s"
                f"{score.peak / 2**20:>6.0f} MiB")  # fmt: skip
        if before:
            each = [1000 * (now.seconds - then.seconds) / (value - before[0]) for now, then in
                    ((merge, before[1]), (score, before[2]))]  # fmt: skip
            line += f"   {each[0]:.3f}, {each[1]:.3f}"
        yield line
        before = value, merge, score
    yield ""


ROWS = {
    "merge": merging,
    "evaluation": evaluation,
    "generator": generator,
    "training": training,
    "cams": cam_inference,
    "start": start_up,
    "growth": growth,
}


if __name__ == "__main__":
    run(main)
