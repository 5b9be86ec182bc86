"""The whole pipeline in one command: classifier, CAM labels, masks, merging, DeepLabV3+, tables.

    python quickstart.py

draws a small data set, so it needs no download, and takes a few minutes on two cores. Its labels come from image-level
labels alone: the ground truth serves for scores, at the end. On real data in VOC's layout
(see prepare_voc.py) the same stages run as

    python quickstart.py --voc VOC2012 --sam-checkpoint sam_vit_h_4b8939.pth --out runs/voc

Stages, in this order: data (draw the pictures), cam (train_transcam.py), labels (generate_cams.py), masks
(generate_sam_masks.py), compare (main.py), check (check_pseudo_label.py), deeplab (train_deeplabv3.py on the CAM labels
and on the enhanced ones), score (evaluate_enhanced.py). Interrupted, the same command goes on where it stopped. Leave
stages out with --skip or --only; hand further options to their scripts with --with, for instance

    --with "cam=--method transcam --weights Conformer_small_patch16.pth" --with "deeplab=--encoder resnet101 --epochs 30"

Several GPUs are used through torchrun. Writes OUT/tables.txt, OUT/summary.json and a folder a stage.
"""

from __future__ import annotations

import math
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from merge import RECOMMENDED
from util.runtime.cli import EXIT_FAILED_IMAGES, EXIT_INTERRUPTED, Parser, run
from util.runtime.errors import InputError
from util.runtime.signals import end_with_parent

ROOT = Path(__file__).resolve().parent
STAGES = ("data", "cam", "labels", "masks", "compare", "check", "deeplab", "score")
# Seconds that each stage takes on the generated data with two cores; they only weigh the estimate of the time left.
SECONDS = dict(zip(STAGES, (4, 34, 14, 22, 4, 1, 133, 12)))

# torchrun, but for its exit code, which is 1 for every failure: here 1 still means that some images failed.
TORCHRUN = """
import sys
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main
try:
    main(sys.argv[1:])
except ChildFailedError as error:
    sys.exit(1 if {failure.exitcode for failure in error.failures.values()} == {1} else 2)
"""


def parse_args():
    parser = Parser(__doc__)
    parser.add_common("out", "device", "workers", "seed", "overwrite", out={"default": Path("quickstart")})
    parser.add_argument("--skip", nargs="+", default=[], choices=STAGES, metavar="STAGE", help="leave these out")
    parser.add_argument("--only", nargs="+", choices=STAGES, metavar="STAGE", help="run only these")
    parser.add_argument(
        "--with", dest="extra", action="append", default=[], metavar="STAGE=OPTIONS",
        help="more options for a stage's script, in quotes",
    )  # fmt: skip
    parser.add_argument(
        "--method", metavar="NAME", help=f"strategy to train on (default: the best on --tune-list, or {RECOMMENDED})"
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="torchrun processes for what runs a network (default: one a GPU)"
    )
    masks = parser.add_argument_group("masks (default: regions, which need no weights and are no SAM)")
    masks.add_argument("--sam-checkpoint", type=Path, metavar="FILE", help="make masks with this SAM")
    masks.add_argument(
        "--sam-model", choices=("vit_h", "vit_l", "vit_b"), help="its encoder (default: by the file's name)"
    )
    masks.add_argument("--sam-path", type=Path, metavar="DIR", help="take these masks")
    small = parser.add_argument_group("generated data")
    small.add_argument("--images", type=int, default=240, metavar="N", help="training pictures (default: 240)")
    small.add_argument(
        "--effort", type=float, default=1.0, metavar="X", help="training length, times this (default: 1)"
    )
    real = parser.add_argument_group("real data")
    real.add_argument("--voc", type=Path, metavar="DIR", help="a folder in VOC's layout")
    real.add_argument("--cam-labels", type=Path, metavar="DIR", help="take these pseudo labels; no CAM is trained")
    real.add_argument(
        "--image-labels", type=Path, metavar="FILE", help="(default: DIR/cls_labels.npy, .csv, Annotations)"
    )
    real.add_argument("--class-names", type=Path, metavar="FILE", help="(default: DIR/class_names.txt, or VOC's)")
    lists = "(default: DIR/ImageSets/Segmentation/%s.txt)"
    real.add_argument("--train-list", type=Path, metavar="FILE", help="trained on " + lists % "trainaug")
    real.add_argument("--label-list", type=Path, metavar="FILE", help="pseudo labels are scored on " + lists % "train")
    real.add_argument("--val-list", type=Path, metavar="FILE", help="DeepLabV3+ is scored on " + lists % "val")
    real.add_argument(
        "--tune-list", type=Path, metavar="FILE",
        help="choose threshold and strategy by the ground truth of these (default: the recommended ones)",
    )  # fmt: skip
    args = parser.parse_args()
    if args.sam_checkpoint and args.sam_path:
        parser.error("--sam-checkpoint makes masks, --sam-path takes made ones; give one of them")
    if args.images < 8 or not 0 < args.effort < math.inf:
        parser.error("--images starts at 8, --effort above 0")
    if args.processes is not None and args.processes < 1:
        parser.error("--processes starts at 1")
    only_real = ("cam_labels", "image_labels", "class_names", "train_list", "label_list", "val_list", "tune_list")
    given = [name for name in only_real if getattr(args, name)]
    if args.voc is None and given:
        parser.error(f"--{given[0].replace('_', '-')} goes with --voc DIR")
    args.extra = parse_extra(parser, args.extra)
    return args


def check_inputs(args) -> None:
    """Raise InputError for what a late stage would stumble over, before the first one starts."""
    from merge import STRATEGIES
    from util.runtime.files import check_folder

    for folder, what in ((args.sam_path, "SAM masks"), (args.cam_labels, "pseudo labels")):
        if folder is not None:
            check_folder(folder, what)
    files = ("sam_checkpoint", "class_names", "train_list", "label_list", "val_list", "tune_list")
    for name in files:
        path = getattr(args, name)
        if path is not None and not path.is_file():
            raise InputError(f"--{name.replace('_', '-')} {path}: no such file; check the path")
    if args.method is not None and args.method not in STRATEGIES:
        raise InputError(f"--method {args.method}: no such strategy; choose one of {', '.join(STRATEGIES)}")


def parse_extra(parser, texts: list[str]) -> dict[str, list[str]]:
    """``STAGE=OPTIONS`` texts as stage -> list of arguments."""
    extra: dict[str, list[str]] = {}
    for text in texts:
        stage, equals, options = text.partition("=")
        if not equals or stage not in STAGES[1:]:
            parser.error(f'--with {text!r}: write "STAGE=OPTIONS" with a stage of {", ".join(STAGES[1:])}')
        try:
            extra.setdefault(stage, []).extend(shlex.split(options))
        except ValueError as error:
            parser.error(f"--with {text!r}: {error}; close what is quoted")
    return extra


@dataclass
class Plan:
    """What the stages read, where they write, and how they are set.

    Attributes:
        images, gt, image_labels, class_names: of the data set; ``class_names`` None means VOC's.
        train: ids that CAM network and DeepLabV3+ are trained on, and that get pseudo labels.
        label: ids that pseudo labels are scored on.
        val: ids that DeepLabV3+ is scored on.
        tune: ids whose ground truth chooses threshold and strategy, or None.
        options: stage -> options of its scripts.
        cam_labels, masks, soft_cams: folders that later stages read.
    """

    args: object
    out: Path
    images: Path
    gt: Path
    image_labels: Path
    class_names: Path | None
    train: Path
    label: Path
    val: Path
    tune: Path | None
    options: dict[str, list[str]]
    cam_labels: Path = None
    soft_cams: Path | None = None
    masks: Path = None
    processes: int = 1
    failed: bool = False
    started: float = field(default_factory=time.monotonic)

    def extra(self, stage: str) -> list[str]:
        return [*self.options.get(stage, []), *self.args.extra.get(stage, [])]

    @property
    def names(self) -> list:
        return ["--class-names", self.class_names] if self.class_names else []

    @property
    def overwrite(self) -> list:
        return ["--overwrite"] if self.args.overwrite else []


# --- what to run on -----------------------------------------------------------------------------------------------


def generated_plan(args) -> Plan:
    """The generated data set with networks that learn it from random weights in minutes."""
    data, lists = args.out / "data", args.out / "data" / "ImageSets" / "Segmentation"
    encoder = ["--encoder", "timm-mobilenetv3_small_minimal_100", "--encoder-weights"]
    epochs, steps = max(1, round(15 * args.effort)), max(2, round(400 * args.effort))
    options = {
        "cam": ["--method", "cam", *encoder, "none", "--epochs", epochs, "--crop-size", 128, "--long-side", 112, 160,
                "--jitter", 0.1, "--lr", 0.002, "--batch-size", min(8, args.images)],
        "labels": ["--sizes", 160, 240],
        # The classifier's encoder is the only one at hand that has seen pictures, and it has seen no ground truth.
        "deeplab": [*encoder, args.out / "cam" / "last.pth", "--steps", steps, "--crop-size", 128, "--scale", 0.7, 1.2,
                    "--jitter", 0.1, "--optimizer", "adamw", "--lr", 0.0005, "--head-factor", 4, "--weight-decay", 0.01,
                    "--freeze-norm", "--batch-size", 8],
    }  # fmt: skip
    return Plan(
        args, args.out, data / "JPEGImages", data / "SegmentationClassAug", data / "cls_labels.npy",
        data / "class_names.txt", lists / "train.txt", lists / "train.txt", lists / "val.txt", None, options,
    )  # fmt: skip


def voc_plan(args) -> Plan:
    """A folder in VOC's layout.

    Raises:
        InputError: if a part of it is missing.
    """
    from util.runtime.files import check_folder

    root = check_folder(args.voc, "the data set")
    lists = root / "ImageSets" / "Segmentation"

    def first(what: str, option: str, *choices: Path) -> Path:
        for path in choices:
            if path.exists():
                return path
        looked = ", ".join(str(path) for path in choices)
        raise InputError(f"{root}: no {what} (looked for {looked}); make it with prepare_voc.py or give {option}")

    names = args.class_names or (root / "class_names.txt" if (root / "class_names.txt").exists() else None)
    options = {"cam": [] if "--method" in args.extra.get("cam", []) else ["--method", "cam"]}
    return Plan(
        args, args.out, root / "JPEGImages",
        first("ground truth", "another DIR", root / "SegmentationClassAug", root / "SegmentationClass"),
        args.image_labels or first("image-level labels", "--image-labels", root / "cls_labels.npy",
                                   root / "cls_labels.csv", root / "Annotations"),
        names,
        args.train_list or first("training list", "--train-list", lists / "trainaug.txt", lists / "train.txt"),
        args.label_list or first("list to score labels on", "--label-list", lists / "train.txt"),
        args.val_list or first("held-out list", "--val-list", lists / "val.txt"),
        args.tune_list, options,
    )  # fmt: skip


# --- running the scripts ------------------------------------------------------------------------------------------


def run_script(plan: Plan, script: str, *arguments, network: bool = False, out: Path) -> None:
    """Run one of the project's scripts as a user would.

    Args:
        network: whether it runs a network, and so through torchrun when there are several processes.
        out: the folder that it writes to.

    Raises:
        InputError: if it refuses its input.
        KeyboardInterrupt: if it, or this process, was interrupted.
    """
    command = [sys.executable]
    if network and plan.processes > 1:
        command += ["-c", TORCHRUN, "--standalone", "--nproc-per-node", str(plan.processes)]
    command += [str(ROOT / script), *map(str, arguments), "--out", str(out)]
    shown = shlex.join([script, *command[command.index(str(ROOT / script)) + 1 :]])
    print(f"$ python {shown}" if plan.processes == 1 or not network else f"$ torchrun {shown}", flush=True)
    wait_for_lock(out)
    # Its own session: Ctrl-C reaches this process alone, which passes on one signal, so that a network in training is
    # saved. The second signal would stop it at once.
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=partial(end_with_parent, "SIGTERM"))
    try:
        code = child.wait()
    except BaseException:
        child.terminate()
        try:
            child.wait()
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise
        raise
    if code == EXIT_FAILED_IMAGES:
        plan.failed = True
    elif code in (EXIT_INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    elif code:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        raise InputError(f"{script} stopped with {how}, see above; fix it and re-run the command to resume")


def wait_for_lock(out: Path, seconds: float = 120) -> None:
    """Wait until no process of a run that was killed writes to a folder any more.

    Raises:
        InputError: if one still does after ``seconds``.
    """
    from util.runtime.locking import lock_folder

    if not out.is_dir():
        return
    end = time.monotonic() + seconds
    while True:
        try:
            lock_folder(out).close()
            return
        except InputError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


# --- the stages ---------------------------------------------------------------------------------------------------


def make_data(plan: Plan) -> None:
    from util.data.synthetic import write_data_set

    args = plan.args
    counts = {"train": args.images, "val": max(4, args.images // 3)}
    write_data_set(plan.out / "data", counts, seed=args.seed, workers=args.workers, overwrite=args.overwrite)


def train_cam(plan: Plan) -> None:
    args = plan.args
    run_script(
        plan, "train_transcam.py", "--images", plan.images, "--list", plan.train, "--image-labels", plan.image_labels,
        *plan.names, "--device", args.device, "--workers", args.workers, "--seed", args.seed, *plan.overwrite,
        "--save-minutes", 1, *plan.extra("cam"), network=True, out=plan.out / "cam",
    )  # fmt: skip


def make_cam_labels(plan: Plan) -> None:
    args, out = plan.args, plan.out / "cams"
    checkpoint = needs(plan.out / "cam" / "last.pth", "cam", "a trained classifier")
    common = [
        "--checkpoint", checkpoint, "--images", plan.images, "--image-labels", plan.image_labels, *plan.names,
        "--device", args.device, "--workers", args.workers, *plan.overwrite, *plan.extra("labels"),
    ]  # fmt: skip
    threshold = []
    if plan.tune:
        run_script(
            plan, "generate_cams.py", *common, "--list", plan.tune, "--sweep", "--gt", plan.gt, network=True, out=out
        )
        threshold = ["--bg-threshold", read(out / "sweep.json")["best"]]
        common = [argument for argument in common if argument != "--overwrite"]
    run_script(plan, "generate_cams.py", *common, *threshold, "--list", work_list(plan), network=True, out=out)
    if plan.args.voc is None:
        # For a row of the table alone: what the best threshold would give, which only the ground truth knows.
        common = [argument for argument in common if argument != "--overwrite"]
        run_script(
            plan, "generate_cams.py", *common, "--list", plan.label, "--sweep", "--gt", plan.gt, network=True, out=out
        )


def make_masks(plan: Plan) -> None:
    args = plan.args
    model = ["--model", "regions"]
    if args.sam_checkpoint:
        name = args.sam_model or next((m for m in ("vit_h", "vit_l", "vit_b") if m in args.sam_checkpoint.name), None)
        if name is None:
            raise InputError(
                f"{args.sam_checkpoint}: the name does not tell the encoder; give --sam-model vit_h, _l or _b"
            )
        model = ["--model", name, "--checkpoint", args.sam_checkpoint]
    run_script(
        plan, "generate_sam_masks.py", *model, "--images", plan.images, "--list", work_list(plan), "--device", args.device,
        *plan.overwrite, *plan.extra("masks"), network=bool(args.sam_checkpoint), out=plan.out / "masks",
    )  # fmt: skip


def work_list(plan: Plan) -> Path:
    """The ids that get CAM labels and masks: all that are trained on, scored or chosen on, and that can be merged."""
    from util.data.ids import read_id_list
    from util.data.mask_files import masks_path

    parts = [plan.train, plan.label, *([plan.tune] if plan.tune else [])]
    ids = list(dict.fromkeys(image_id for part in parts for image_id in read_id_list(part, plan.images)))
    if plan.args.sam_path:
        ids = [image_id for image_id in ids if is_there(masks_path, plan.masks, image_id)]
    if not ids:
        raise InputError(f"{plan.masks}: no masks for any id of {', '.join(map(str, parts))}; check --sam-path")
    return write_list(plan, "work", ids)


def is_there(find, folder: Path, image_id: str) -> bool:
    """Whether ``find(folder, id)`` finds a file."""
    try:
        return bool(find(folder, image_id))
    except InputError:
        return False


def write_list(plan: Plan, name: str, ids: list[str]) -> Path:
    from util.runtime.files import write_bytes

    path = plan.out / "lists" / f"{name}.txt"
    write_bytes(path, ("\n".join(dict.fromkeys(ids)) + "\n").encode())
    return path


def usable_list(plan: Plan, source: Path, name: str) -> Path:
    """The ids of a list that have both a pseudo label and masks; told when some have not."""
    from util.data.ids import read_id_list
    from util.data.labels import label_path
    from util.data.mask_files import masks_path

    ids = read_id_list(source, plan.images)
    usable = [i for i in ids if is_there(label_path, plan.cam_labels, i) and is_there(masks_path, plan.masks, i)]
    if not usable:
        raise InputError(
            f"{source}: none of its {len(ids)} ids has a label in {plan.cam_labels} and masks in {plan.masks}; "
            "check the folders or run the stages that make them"
        )
    if len(usable) < len(ids):
        print(
            f"{source}: {len(usable)} of {len(ids)} ids have a label in {plan.cam_labels} and masks in {plan.masks}; "
            "the others are left out from here on"
        )
    return write_list(plan, name, usable)


def merge_options(plan: Plan) -> list:
    soft = ["--cam-path", plan.soft_cams] if plan.soft_cams else []
    return [
        "--pseudo-path", plan.cam_labels, "--sam-path", plan.masks, *soft, "--image-labels", plan.image_labels,
        *plan.names, "--workers", plan.args.workers, *plan.overwrite,
    ]  # fmt: skip


def compare(plan: Plan) -> None:
    common, out = merge_options(plan), plan.out / "merge"
    labels = usable_list(plan, plan.label, "label")
    train = usable_list(plan, plan.train, "train")
    if plan.tune:
        tune = usable_list(plan, plan.tune, "tune")
        run_script(
            plan, "main.py", "--mode", "compare", *common, "--image-list", tune, "--gt-dir", plan.gt,
            *plan.extra("compare"), out=plan.out / "merge_tune",
        )  # fmt: skip
    run_script(
        plan, "main.py", "--mode", "compare", *common, "--image-list", labels, "--gt-dir", plan.gt,
        *plan.extra("compare"), out=out,
    )  # fmt: skip
    method = ["--method", chosen(plan)]
    if train.read_bytes() != labels.read_bytes():
        run_script(plan, "main.py", "--mode", "merge", *method, *common, "--image-list", train, out=out)
    run_script(
        plan, "main.py", "--mode", "vis", *method, *common, "--image-list", labels, "--gt-dir", plan.gt,
        "--images-path", plan.images, "--vis-best", 3, "--vis-worst", 2, "--vis-random", 3, "--seed", plan.args.seed,
        out=out,
    )  # fmt: skip


def chosen(plan: Plan) -> str:
    """The strategy that DeepLabV3+ is trained on: as asked, the best on the tune list, or the recommended one."""
    if plan.args.method:
        return plan.args.method
    if plan.tune is None:
        return RECOMMENDED  # see README for the comparison behind it
    methods = read(needs(plan.out / "merge_tune" / "compare.json", "compare", "a comparison"))["methods"]
    return max(methods, key=lambda name: methods[name]["miou"])


def check(plan: Plan) -> None:
    run_script(
        plan, "check_pseudo_label.py", "--labels", plan.out / "merge" / chosen(plan), "--list", lists(plan)["train"],
        "--images", plan.images, "--image-labels", plan.image_labels, *plan.names, "--workers", plan.args.workers,
        *plan.extra("check"), out=plan.out / "check",
    )  # fmt: skip


def lists(plan: Plan) -> dict[str, Path]:
    """The lists that `compare` wrote, by name."""
    return {
        name: needs(plan.out / "lists" / f"{name}.txt", "compare", "a list of the ids with labels and masks")
        for name in ("train", "label")
    }


def trainings(plan: Plan) -> dict[str, Path]:
    """Name of a DeepLabV3+ -> the labels that it is trained on."""
    return {"cam_labels": plan.cam_labels, "enhanced": plan.out / "merge" / chosen(plan)}


def train_deeplab(plan: Plan) -> None:
    args = plan.args
    for name, labels in trainings(plan).items():
        run_script(
            plan, "train_deeplabv3.py", "--images", plan.images, "--labels", labels, "--list", lists(plan)["train"],
            *plan.names, "--device", args.device, "--workers", args.workers, "--seed", args.seed, *plan.overwrite,
            "--save-minutes", 1, *plan.extra("deeplab"), network=True, out=plan.out / "deeplab" / name,
        )  # fmt: skip


def score(plan: Plan) -> None:
    for name in trainings(plan):
        checkpoint = needs(plan.out / "deeplab" / name / "last.pth", "deeplab", "a trained DeepLabV3+")
        run_script(
            plan, "evaluate_enhanced.py", "--checkpoint", checkpoint, "--images", plan.images, "--gt", plan.gt,
            "--list", plan.val, "--device", plan.args.device, "--workers", plan.args.workers, *plan.overwrite,
            *plan.extra("score"), network=True, out=plan.out / "scores" / name,
        )  # fmt: skip


def needs(path: Path, stage: str, what: str) -> Path:
    """Return ``path``, which an earlier stage wrote.

    Raises:
        InputError: if it is not there.
    """
    if not path.exists():
        raise InputError(f"{path}: {what} is missing; run the stage {stage} first (leave it out of --skip)")
    return path


def read(path: Path):
    from util.runtime.files import read_json

    return read_json(path)


WORK = {
    "data": ("draw the pictures", make_data),
    "cam": ("train a classifier on image-level labels", train_cam),
    "labels": ("its class activation maps become pseudo labels", make_cam_labels),
    "masks": ("class-agnostic masks", make_masks),
    "compare": ("merge labels and masks by every strategy, and compare", compare),
    "check": ("are the enhanced labels fit to train on?", check),
    "deeplab": ("train DeepLabV3+ on the CAM labels and on the enhanced labels", train_deeplab),
    "score": ("score both on held-out pictures", score),
}


# --- the end ------------------------------------------------------------------------------------------------------


def summary_of(plan: Plan) -> dict:
    """What ``summary.json`` holds: the two tables as numbers, and what was chosen how."""
    comparison = read(needs(plan.out / "merge" / "compare.json", "compare", "a comparison"))
    names = ("miou", "precision", "recall", "pixel_accuracy")
    rows = {"CAM labels": comparison["input"], **comparison["methods"]}
    scored = {
        name: read(needs(plan.out / "scores" / name / "metrics.json", "score", "a score")) for name in trainings(plan)
    }
    how = "as asked" if plan.args.method else f"the best on {plan.tune}" if plan.tune else "the recommended one"
    return {
        "chosen": chosen(plan),
        "chosen_how": how,
        "pseudo_labels": {row: {name: scores[name] for name in names} for row, scores in rows.items()},
        "best_threshold": best_threshold(plan),
        "pseudo_label_images": comparison["input"]["images"],
        "classes": comparison["input"]["classes"],
        "segmentation": {row: {name: scores[name] for name in names} for row, scores in scored.items()},
        "segmentation_images": next(iter(scored.values()))["images"],
        "segmentation_classes": next(iter(scored.values()))["classes"],
        "checkpoint": str(plan.out / "deeplab" / "enhanced" / "last.pth"),
    }


def best_threshold(plan: Plan) -> dict | None:
    """The threshold that the ground truth of the scored pictures would choose, and its mIoU; None if not known."""
    path = plan.out / "cams" / "sweep.json"
    if plan.args.voc is not None or not path.exists():
        return None
    swept = read(path)
    return {"threshold": swept["best"], "miou": swept["miou"]}


def tables(summary: dict, plan: Plan) -> str:
    """The two tables for a terminal, in per cent."""

    def cells(scores, base):
        change = f"{100 * (scores['miou'] - base['miou']):+8.2f}" if scores is not base else " " * 8
        values = [100 * scores[name] for name in ("precision", "recall", "pixel_accuracy")]
        return f"{100 * scores['miou']:8.2f} {change} " + " ".join(f"{value:9.2f}" for value in values)

    header = f"{'mIoU':>8} {'change':>8} {'precision':>9} {'recall':>9} {'accuracy':>9}"
    rows = summary["pseudo_labels"]
    base = rows["CAM labels"]
    lines = [
        f"Pseudo labels of {plan.label}: {summary['pseudo_label_images']} images, {len(summary['classes'])} classes",
        f"{'':<24}{header}",
    ]
    for name in ["CAM labels", *sorted((n for n in rows if n != "CAM labels"), key=lambda n: rows[n]["miou"])]:
        mark = " *" if name == summary["chosen"] else ""
        lines.append(f"{name + mark:<24}{cells(rows[name], base)}")
    if best := summary["best_threshold"]:
        gain = 100 * (best["miou"] - base["miou"])
        lines.append(f"{'CAM labels, best case':<24}{100 * best['miou']:8.2f} {gain:+8.2f}")
        lines.append(
            f"best case: the threshold ({best['threshold']:.2f}) that the ground truth would choose; nothing else uses it"
        )
    lines += [f"* trained on: {summary['chosen_how']}", ""]
    rows = summary["segmentation"]
    lines += [
        f"Segmentation of {plan.val}: {summary['segmentation_images']} images, "
        f"{len(summary['segmentation_classes'])} classes",
        f"{'DeepLabV3+ trained on':<24}{header}",
    ]
    for name, shown in (("cam_labels", "CAM labels"), ("enhanced", summary["chosen"])):
        lines.append(f"{shown:<24}{cells(rows[name], rows['cam_labels'])}")
    return "\n".join(lines)


def example_picture(plan: Plan, count: int = 4) -> Path:
    """The rows of the first pictures that ``main.py --mode vis`` drew, below each other."""
    from util.data.images import read_image
    from util.vis import save_image, stack_rows

    rows = sorted((plan.out / "merge" / "vis" / chosen(plan)).glob("*.png"))[:count]
    path = plan.out / "merge_example.png"
    save_image(path, stack_rows([read_image(row) for row in rows]))
    return path


def report(plan: Plan) -> None:
    """Write and print tables, pictures, places and what to type next."""
    from util.runtime.files import write_bytes, write_json

    summary = summary_of(plan)
    text = tables(summary, plan)
    write_json(plan.out / "summary.json", summary)
    write_bytes(plan.out / "tables.txt", (text + "\n").encode())
    out, best = plan.out, summary["chosen"]
    print(f"\n{'=' * 72}\n{text}\n")
    places = {
        "pictures, label by label": example_picture(plan),
        "all of them": out / "merge" / "vis" / best,
        "strategies compared": out / "merge" / "compare.png",
        "what DeepLabV3+ sees": out / "scores" / "enhanced" / "predictions" / "pictures",
        "CAM labels": plan.cam_labels,
        "masks": plan.masks,
        "enhanced labels": out / "merge" / best,
        "networks": out / "deeplab",
        "these tables": out / "tables.txt",
    }
    print(f"took {clock(time.monotonic() - plan.started)}\n")
    print("\n".join(f"{name:<26}{path}" for name, path in places.items()))
    if plan.args.voc is None:
        print(
            "\nOn real data (the archives to download are named by the first command):\n"
            "  python prepare_voc.py --archives downloads --out VOC2012\n"
            "  python quickstart.py --voc VOC2012 --sam-checkpoint sam_vit_h_4b8939.pth --out runs/voc"
        )
    print(f"\nThe network trained on the enhanced labels is {summary['checkpoint']}; look at it in the demo:")
    print(f"streamlit run Web_demo/src/app.py -- --checkpoint {shlex.quote(summary['checkpoint'])}", flush=True)


def main() -> int:
    args = parse_args()
    check_inputs(args)
    from util.runtime.files import make_folder
    from util.runtime.locking import lock_folder
    from util.runtime.provenance import write_run_json

    plan = generated_plan(args) if args.voc is None else voc_plan(args)
    plan.cam_labels = args.cam_labels or plan.out / "cams" / "labels"
    plan.soft_cams = None if args.cam_labels else plan.out / "cams" / "cams"
    plan.masks = args.sam_path or plan.out / "masks"
    plan.processes = args.processes or gpu_count(args.device)
    todo = stages_to_run(args)
    make_folder(plan.out)
    with lock_folder(plan.out):
        write_run_json(plan.out / "run.json", {**{k: v for k, v in vars(args).items() if k != "overwrite"}})
        for number, stage in enumerate(todo):
            print(f"\n[{number + 1}/{len(todo)}] {stage}: {WORK[stage][0]}{time_left(plan, todo, number)}", flush=True)
            WORK[stage][1](plan)
        if todo[-1] == STAGES[-1]:
            report(plan)
        else:
            print(f"\n{', '.join(todo)} done in {clock(time.monotonic() - plan.started)}; results are in {plan.out}")
    return 1 if plan.failed else 0


def stages_to_run(args) -> list[str]:
    """The stages in their order, without those that are not asked for or whose result is given."""
    given = {"data": args.voc is not None, "cam": args.cam_labels, "labels": args.cam_labels, "masks": args.sam_path}
    wanted = args.only or [stage for stage in STAGES if not given.get(stage)]
    todo = [stage for stage in STAGES if stage in wanted and stage not in args.skip]
    if not todo:
        raise InputError("no stage is left to run; look at --only and --skip")
    return todo


def gpu_count(device: str) -> int:
    """GPUs to use, or 1."""
    if device not in ("auto", "cuda"):
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def time_left(plan: Plan, todo: list[str], number: int) -> str:
    """How long the run has taken, and for generated data how long it will."""
    passed = time.monotonic() - plan.started
    if plan.args.voc is not None or not number:
        return f"   ({clock(passed)} so far)" if number else ""
    done = sum(SECONDS[stage] for stage in todo[:number])
    left = sum(SECONDS[stage] for stage in todo[number:])
    return f"   ({clock(passed)} so far, about {clock(left * passed / done)} left)"


def clock(seconds: float) -> str:
    return f"{math.floor(seconds / 60)}:{math.floor(seconds % 60):02}"


if __name__ == "__main__":
    run(main)
