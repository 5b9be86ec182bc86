"""The rows of the table of `run.py`: each measures one claim, gives lines, and fails if the two sides disagree."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco
from sam_generator import take_sides
from sam_reference import OPTIONS, small_sam
from scale import disk_use, make_masks
from timing import ROOT, best_times, measure, output_of
from torchmetrics.classification import MulticlassJaccardIndex

from models.cam.inference import ScaledImages, multi_scale_cams
from models.cam.plain_cam import PlainCAM
from models.common.precision import has_kernels
from models.sam.regions import region_masks
from processor import merge_labels
from util.data.images import find_image, read_image
from util.data.labels import encode_label, read_label, write_label
from util.data.mask_files import SUFFIXES, read_masks, write_masks
from util.data.masks import Masks
from util.data.merge_inputs import Inputs
from util.data.voc import load_classes
from util.evaluation.evaluate import evaluate_labels
from util.runtime.files import write_bytes
from util.runtime.memory import keep_freed_memory

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if path.name != "processor.py")
CPU = torch.device("cpu")
HEAD = f"{'what':<22}{'against':<36}{'theirs':>11}{'ours':>11} {'':<13}{'ratio':>7}{'of the limit':>13}{'aim':>10}"


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
        numbers = f"{self.theirs:>11.4g}{self.ours:>11.4g} {self.unit:<13}{self.ratio:>7.2f}"
        return f"{self.what:<22}{self.against:<36}{numbers}{share:>13}{aim:>10} {met:<7}{self.note}"


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


# --- merging and masks --------------------------------------------------------------------------------------------


def merging(args, data: Data, root: Path) -> Iterator[Row]:
    folder = root / "merge"
    rng = np.random.default_rng(0)
    for image_id in data.ids:
        label = read_label(data.labels / f"{image_id}.png")
        write_label(folder / "labels" / f"{image_id}.png", label)
        write_both_forms(folder, image_id, make_masks(label, 20 if args.short else 76, rng))
    inputs, parameters = (
        Inputs(folder / "labels", folder / "json", load_classes()),
        {"threshold": 0.5, "coverage": 0.85},
    )

    def ours():
        merge_labels(inputs, "max_iou_imp2", parameters, data.ids, folder / "ours", workers=1, overwrite=True)

    ours()
    merged = {i: read_label(folder / "ours" / "max_iou_imp2" / f"{i}.png") for i in data.ids}

    def limit():
        for i in data.ids:
            read_label(folder / "labels" / f"{i}.png")
            json.loads((folder / "json" / f"{i}.json").read_bytes())
            write_bytes(folder / "limit" / f"{i}.png", encode_label(merged[i]))

    def dense():
        for i in data.ids:
            plain = merge_densely(folder / "labels" / f"{i}.png", folder / "png" / i)
            Image.fromarray(plain).save(folder / "dense.png")
            if not np.array_equal(plain, merged[i]):
                raise SystemExit(f"{i}: the two ways of merging differ")

    times = best_times({"dense": dense, "ours": ours, "limit": limit}, args.rounds)
    dense_ms, ours_ms, limit_ms = (1000 * times[name] / len(data.ids) for name in ("dense", "ours", "limit"))
    share = limit_ms / ours_ms
    yield Row("merging", "PNG folders, dense", dense_ms, ours_ms, "ms per image", share, 25, 1 / 2.5, "same pixels")
    yield from storage(root / "storage", data)
    yield from mask_reading(args, folder, data.ids)


def write_both_forms(folder: Path, image_id: str, dense: np.ndarray) -> None:
    """The same masks as a JSON file and as a folder of PNG files."""
    write_masks(folder / "json" / f"{image_id}.json", Masks.from_dense(dense), image_id, f"{image_id}.jpg")
    (folder / "png" / image_id).mkdir(parents=True)
    for k, mask in enumerate(dense):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "png" / image_id / f"{k}.png")


def merge_densely(label_path: Path, folder: Path) -> np.ndarray:
    """max_iou_imp2 as it is commonly written: every PNG decoded again for every class."""
    label = np.array(Image.open(label_path))
    result, taken = np.zeros_like(label), set()
    for value in range(1, 21):
        own = label == value
        if not own.any():
            continue
        covered, painted, claimed = np.zeros(label.shape, bool), np.zeros(label.shape, bool), set()
        for path in folder.iterdir():
            if path in taken:
                continue
            mask = np.array(Image.open(path)) == 255
            covered |= mask
            inside = np.sum(own & mask)
            if 2 * inside > np.sum(mask) or inside / np.sum(own) >= 0.85:
                painted |= mask
                claimed.add(path)
        result[painted | (own & ~covered)] = value
        taken |= claimed
    return result


def storage(folder: Path, data: Data) -> Iterator[Row]:
    """Regions of the images, since their borders are as ragged as those of masks of real objects."""
    for image_id in data.ids:
        masks = region_masks(read_image(find_image(data.images, image_id)))
        write_both_forms(folder, image_id, np.stack([masks.dense(k) for k in range(len(masks))]))
        for suffix in SUFFIXES:
            write_masks(folder / suffix / f"{image_id}{suffix}", masks, image_id, f"{image_id}.jpg")
    (_, png_size, png_blocks), *forms = (disk_use(folder / kind) for kind in ("png", *SUFFIXES))
    for suffix, (_, size, blocks) in zip(SUFFIXES, forms, strict=True):
        kib, places = 1024 * len(data.ids), 4096 * len(data.ids)
        yield Row(f"masks as {suffix}", "PNG folders", png_size / kib, size / kib, "KiB per image", aim=2)
        yield Row(f"masks as {suffix}", "PNG folders", png_blocks / places, blocks / places, "4 KiB blocks", aim=6)


def mask_reading(args, folder: Path, ids: list[str]) -> Iterator[Row]:
    areas: dict[str, list] = {}

    def content(image_id):
        return json.loads((folder / "json" / f"{image_id}.json").read_bytes())

    def decoded(image_id):
        return coco.decode([annotation["segmentation"] for annotation in content(image_id)["annotations"]])

    def pixels(image_id):
        masks = read_masks(folder / "json", image_id)
        return [masks.dense(k) for k in range(len(masks))]

    def ours():
        areas["ours"] = [read_masks(folder / "json", image_id).areas.tolist() for image_id in ids]

    def theirs():
        areas["theirs"] = [decoded(image_id).sum((0, 1)).tolist() for image_id in ids]

    jobs = {"theirs": theirs, "ours": ours, "limit": lambda: [content(image_id) for image_id in ids]}
    jobs |= {
        "their pixels": lambda: [len(decoded(i)) for i in ids],
        "our pixels": lambda: [len(pixels(i)) for i in ids],
    }
    times = {name: 1000 * seconds / len(ids) for name, seconds in best_times(jobs, args.rounds).items()}
    if areas["theirs"] != areas["ours"]:
        raise SystemExit("pycocotools and ours read different areas")
    for what, one, other in (("areas", "theirs", "ours"), ("pixels", "their pixels", "our pixels")):
        share = times["limit"] / times[other]
        yield Row(f"reading masks, {what}", "pycocotools", times[one], times[other], "ms per image", share)


# --- evaluation ---------------------------------------------------------------------------------------------------


def evaluation(args, data: Data, root: Path) -> Iterator[Row]:
    torch.set_num_threads(args.threads)
    classes = load_classes()
    paths = [(data.labels / f"{image_id}.png", data.gt / f"{image_id}.png") for image_id in data.ids]
    results: dict[str, list[float]] = {}

    def ours():
        counts = evaluate_labels(data.labels, data.gt, data.ids, classes, workers=1).counts
        hit = np.diag(counts)
        results["ours"] = (hit / np.maximum(1, counts.sum(1) + counts[:, :-1].sum(0) - hit)).tolist()

    jobs = {
        "decode": lambda: [np.array(Image.open(path)).shape for pair in paths for path in pair],
        "ours": ours,
        "torchmetrics": lambda: results.update(torchmetrics=jaccard_iou(paths, len(classes))),
        "histograms": lambda: results.update(histograms=histogram_iou(paths, len(classes))),
    }
    times = {name: 1000 * seconds / len(paths) for name, seconds in best_times(jobs, args.rounds).items()}
    share = times["decode"] / times["ours"]
    for name, against in (("torchmetrics", "torchmetrics"), ("histograms", "histograms, as mmsegmentation")):
        if not np.allclose(results[name], results["ours"], atol=1e-6):
            raise SystemExit(f"{name} and ours give different IoUs: {results[name]} and {results['ours']}")
        yield Row("evaluation", against, times[name], times["ours"], "ms per image", share, 1, 1 / 2, "same IoUs")


def pairs(paths: list[tuple[Path, Path]]) -> Iterator[list[torch.Tensor]]:
    for pair in paths:
        yield [torch.from_numpy(np.array(Image.open(path))).long() for path in pair]


def histogram_iou(paths: list[tuple[Path, Path]], classes: int) -> list[float]:
    """IoU per class by three histograms per image, the way that mmsegmentation's metric counts."""
    totals = torch.zeros(3, classes, dtype=torch.float64)
    for pred, gt in pairs(paths):
        pred, gt = pred[gt != 255], gt[gt != 255]
        for number, values in enumerate((pred[pred == gt], pred, gt)):
            totals[number] += torch.histc(values.float(), bins=classes, min=0, max=classes - 1)
    hit, predicted, there = totals
    return (hit / (predicted + there - hit).clamp(min=1)).tolist()


def jaccard_iou(paths: list[tuple[Path, Path]], classes: int) -> list[float]:
    """IoU per class by torchmetrics."""
    metric = MulticlassJaccardIndex(classes, average="none", ignore_index=255, validate_args=False)
    for pred, gt in pairs(paths):
        metric.update(pred[None], gt[None])
    return metric.compute().tolist()


# --- networks -----------------------------------------------------------------------------------------------------


def generator(args, data: Data, root: Path) -> Iterator[Row]:
    against = "SamAutomaticMaskGenerator"
    if args.short:
        torch.set_num_threads(args.threads)
        sides = take_sides(small_sam(), OPTIONS, [read_image(find_image(data.images, data.ids[0]))], ["fp32"])
        theirs, ours = (sides[name].seconds for name in ("package", "ours fp32"))
        yield Row("mask generation", against, theirs, ours, "s per image", note="a toy network")
        return
    aims = {"fp32": 1.3, **({"bf16": 2} if computes_in_bfloat16() else {})}
    options = ["--images", data.images, "--list", data.list, "--threads", args.threads, "--points-per-side", 16]
    text = output_of("benchmarks/sam_generator.py", *options, "--amp", *aims)
    seconds = dict(re.findall(r"^(package|ours \w+): ([\d.]+) s", text, re.M))
    for precision, aim in aims.items():
        theirs, ours = float(seconds["package"]), float(seconds[f"ours {precision}"])
        same = re.search(rf"^ours {precision}: .*?, (the same masks|other masks)", text, re.M)
        note = f"vit_b, {same[1]}"
        yield Row(f"mask generation {precision}", against, theirs, ours, "s per image", aim=aim, note=note)


def computes_in_bfloat16() -> bool:
    """Whether rows in bfloat16 say anything here; they are left out where it is emulated."""
    there = has_kernels(torch.bfloat16, CPU)
    if not there:
        print("left out: bfloat16, in which this processor does not compute", file=sys.stderr)
    return there


def training(args, data: Data, root: Path) -> Iterator[Row]:
    options = ["--batch-size", 2, "--crop-size", 64, "--steps", 2] if args.short else []
    options += ["--encoder-weights", data.encoder_weights] if data.encoder_weights else []
    for amp in ("off",) if args.short or not computes_in_bfloat16() else ("off", "bf16"):
        (plain, _), (ours, _) = training_steps(*options, "--amp", amp, "--threads", args.threads)
        what, aim = "training" + (" bf16" if amp == "bf16" else ""), None if args.short else 1.8
        yield Row(what, "plain fp32 loop", plain, ours, "s per step", aim=aim, note="mobilenet_v2")


def training_steps(*options) -> list[tuple[float, int]]:
    """Of the plain loop and of ours, see deeplabv3_training.py: seconds per step, and MiB of a GPU's memory at the peak."""
    text = output_of("benchmarks/deeplabv3_training.py", *options)
    found = re.findall(r"^(?:plain|ours) +median ([\d.]+) s .* peak (\d+) MiB", text, re.M)
    return [(float(seconds), int(peak)) for seconds, peak in found]


def cam_inference(args, data: Data, root: Path) -> Iterator[Row]:
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    sizes, ids = (64,) if args.short else (256, 384), data.ids[:8]
    net = PlainCAM(21, "mobilenet_v2", None).eval().to(memory_format=torch.channels_last)
    items = [ScaledImages(ids, data.images, sizes, True)[number] for number in range(len(ids))]
    results: dict[str, list] = {}

    def cams(name: str, batches: list) -> None:
        results[name] = []
        for batch in batches:
            images, shapes = [item[2] for item in batch], [item[1] for item in batch]
            results[name] += multi_scale_cams(net, images, shapes, [(8, 15)] * len(batch), True, CPU)

    jobs = {"single": lambda: cams("single", [[item] for item in items]), "ours": lambda: cams("ours", [items])}
    times = {name: seconds / len(items) for name, seconds in best_times(jobs, args.rounds).items()}
    for one, other in zip(results["ours"], results["single"], strict=True):
        if any(np.abs(one[value] - other[value]).max() > 1e-3 for value in one):
            raise SystemExit("batched and single CAMs differ")
    note = f"batch of {len(items)}"
    yield Row("CAM inference", "one image at a time", times["single"], times["ours"], "s per image", note=note)


def start_up(args, data: Data, root: Path) -> Iterator[Row]:
    for script in SCRIPTS:
        took = min(measure(script, "--help").seconds for _ in range(args.rounds + 1))
        yield Row("start", f"{script} --help, 0.5 s", 0.5, took, "s", aim=1)


ROWS: dict[str, Callable[..., Iterator[Row]]] = {
    "merge": merging,
    "evaluation": evaluation,
    "generator": generator,
    "training": training,
    "cams": cam_inference,
    "start": start_up,
}
