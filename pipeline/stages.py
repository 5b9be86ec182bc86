"""The stages, in their order: what each needs, what it makes, and the steps that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline import changes, choice
from pipeline.choose import choose_labels, choose_strategy
from pipeline.downloads import prepare_voc
from pipeline.held_out import show_held_out
from pipeline.lists import usable_list, work_list
from pipeline.plan import Argument, Plan, needs
from pipeline.steps import Action, Command, Step
from util.data.ids import read_id_list, spread
from util.data.images import find_image
from util.data.synthetic import write_data_set
from util.runtime.commands import by_option
from util.runtime.errors import InputError
from util.runtime.files import read_json


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: as ``--skip``, ``--only`` and ``--with`` call it.
        what: it does, for the terminal.
        steps: plan -> the steps. Each is run before the next is asked for, so that one may rest on the one before.
        needs: (file below OUT, stage that makes it, what it is).
        seconds: that it takes on the generated data with two cores; they only weigh the estimate of the time left.
    """

    name: str
    what: str
    steps: Callable[[Plan], Iterable[Step]]
    needs: tuple[tuple[str, str, str], ...]
    seconds: float

    def needed(self, plan: Plan) -> list[tuple[str, str, str]]:
        """What it needs of ``needs``: no classifier where soft CAMs are given."""
        return [need for need in self.needs if not (plan.settings.cams and need[0] == CLASSIFIER)]


def _data(plan: Plan) -> Iterator[Step]:
    settings = plan.settings
    if settings.download:
        yield prepare_voc(settings)
        return
    out, counts = plan.out / "data", {"train": settings.count, "val": max(4, settings.count // 3)}

    def draw() -> None:
        write_data_set(out, counts, seed=settings.seed, workers=settings.workers, overwrite=settings.overwrite)

    yield Action(f"draw {counts['train']} + {counts['val']} images to {out}", draw)


def _cam(plan: Plan) -> Iterator[Step]:
    arguments: list[Argument] = ["--images", plan.images, "--list", plan.train, "--image-labels", plan.image_labels]
    if plan.held_out:
        arguments += ["--val-list", plan.held_out]
    yield Command("train_transcam.py", [*arguments, *_training(plan, "cam")], plan.out / "cam", plan.processes)


def _training(plan: Plan, stage: str) -> list[Argument]:
    """Options that both training scripts take."""
    retrain: list[Argument] = ["--retrain"] if plan.settings.retrain else []
    options: list[Argument] = [*_network(plan), "--data-name", plan.data_name("train"), "--seed", plan.settings.seed]
    return [*options, *plan.overwrite, *retrain, "--save-minutes", 1, *plan.extra(stage)]


def _network(plan: Plan) -> list[Argument]:
    return [*plan.names, "--device", plan.settings.device, "--workers", plan.settings.workers]


def _labels(plan: Plan) -> Iterator[Step]:
    out = plan.out / "cams"
    common: list[Argument] = [
        *(*_cam_source(plan), "--images", plan.images),
        *("--image-labels", plan.image_labels, *_network(plan)),
    ]

    def command(ids: Path, *more: Argument) -> Command:
        given = plan.extra("labels")
        given = given if "--sweep" in more else _without(given, "--classes")  # labels are of all classes
        return Command("generate_cams.py", [*common, *given, "--list", ids, *more], out, plan.processes)

    overwrite = plan.overwrite
    threshold: list[Argument] = []
    if plan.tune and plan.gt and not plan.given("labels", "--bg-threshold"):
        refinements = [] if plan.given("labels", "--refine") else choice.REFINEMENTS
        swept = {}
        for refine in refinements or [""]:
            chosen: list[Argument] = ["--refine", refine] if refine else []
            yield command(plan.tune, *chosen, "--sweep", "--gt", plan.gt, *overwrite)
            overwrite = []  # what the sweep has just made is used
            swept[refine] = {} if plan.settings.dry_run else read_json(out / "sweep.json")
        yield Action(f"choose refinement and threshold: {choice.RULE}", partial(choose_labels, plan, swept))
        threshold = _chosen_labels(plan)
    yield command(work_list(plan), *threshold, *overwrite)
    if not plan.is_real and plan.label and plan.gt:
        # For a row of the table alone: what the best threshold would give, which only the ground truth knows.
        yield command(plan.label, "--sweep", "--gt", plan.gt)


def _cam_source(plan: Plan) -> list[Argument]:
    """What the CAMs come from: those that are given, or the classifier."""
    return ["--cams", plan.settings.cams] if plan.settings.cams else ["--checkpoint", plan.out / CLASSIFIER]


def _chosen_labels(plan: Plan) -> list[Argument]:
    """Options of generate_cams.py for what was chosen."""
    found = {"refine": "BEST", "threshold": "BEST"} if plan.settings.dry_run else plan.chosen_labels()
    assert found is not None
    refine: list[Argument] = ["--refine", found["refine"]] if found["refine"] else []
    return [*refine, "--bg-threshold", found["threshold"]]


def _masks(plan: Plan) -> Iterator[Step]:
    model = [*sam_options(plan), *_prompts(plan)]
    arguments: list[Argument] = ["--images", plan.images, "--list", work_list(plan), "--device", plan.settings.device]
    yield Command(
        "generate_sam_masks.py",
        [*model, *arguments, *plan.overwrite, *plan.extra("masks")],
        plan.out / "masks",
        1 if "regions" in model else plan.processes,
    )


def sam_options(plan: Plan) -> list[Argument]:
    """Which masks are made."""
    settings = plan.settings
    if settings.sam_checkpoint is None:
        return ["--model", settings.sam_model or ("vit_h" if settings.download else "regions")]
    named: list[Argument] = ["--model", settings.sam_model] if settings.sam_model else []
    return [*named, "--checkpoint", settings.sam_checkpoint]


def _prompts(plan: Plan) -> list[Argument]:
    prompt = plan.settings.prompt
    if not prompt:
        return []
    cams: list[Argument] = ["--cam-path", plan.soft_cams] if "cam" in prompt and plan.soft_cams else []
    return ["--prompt", *prompt, *cams, "--image-labels", plan.image_labels, *plan.names]


def _merging(plan: Plan) -> list[Argument]:
    labels: list[Argument] = ["--pseudo-path", plan.cam_labels] if plan.cam_labels else []
    soft: list[Argument] = ["--cam-path", plan.soft_cams] if plan.soft_cams else []
    return [
        # Of the images only vis has need; in run.json, the demo finds them.
        *(*labels, "--sam-path", plan.masks, *soft, "--images-path", plan.images, "--image-labels", plan.image_labels),
        *(*plan.names, "--workers", plan.settings.workers, *plan.overwrite),
    ]


def _merge(plan: Plan) -> Iterator[Step]:
    common, out = _merging(plan), plan.out / "merge"
    train = usable_list(plan, plan.train, "train")
    seed: list[Argument] = ["--seed", plan.settings.seed]

    def command(mode: str, ids: Path, *more: Argument, out: Path = out) -> Command:
        part = "choice" if out.name == "merge_tune" else "train"
        if mode == "vis" and (plan.label is None or plan.gt is None):
            part += ", most changed"
        return Command(
            "main.py", ["--mode", mode, *common, "--image-list", ids, "--data-name", plan.data_name(part), *more], out
        )

    if plan.tune and plan.gt:
        tune = usable_list(plan, plan.tune, "tune")
        asked: list[Argument] = ["--methods", plan.settings.method] if plan.settings.method else []
        yield command("compare", tune, *asked, "--gt-dir", plan.gt, *plan.extra("merge"), out=plan.out / "merge_tune")
        yield Action(f"choose the strategy: {choice.RULE}", partial(choose_strategy, plan))
    method: list[Argument] = [*_without(plan.extra("merge"), *COMPARING), "--method", plan.shown()]
    if plan.label is None or plan.gt is None:
        yield command("merge", train, *method)
        yield Action("measure what the merge changed", partial(changes.write_changes, plan, train))
        yield command("vis", train, *method, *seed, "--vis-sample", *changes.most_changed(plan))
        return
    labels = usable_list(plan, plan.label, "label")
    drawn: list[Argument] = ["--vis-best", 3, "--vis-worst", 2, "--vis-random", 3]
    if plan.cam_labels is None:  # one strategy, and nothing to compare it with
        yield command("merge", labels, *method)
        yield command("eval", labels, *method, "--gt-dir", plan.gt)
        drawn = ["--vis-random", 8]
    else:
        yield command("compare", labels, "--gt-dir", plan.gt, *plan.extra("merge"))
    is_trained_on = plan.chosen() != choice.INPUT
    if plan.settings.dry_run or (is_trained_on and train.read_bytes() != labels.read_bytes()):
        yield command("merge", train, *method)
    yield command("vis", labels, *method, "--gt-dir", plan.gt, *seed, *drawn)


def _without(options: list[Argument], *names: str) -> list[Argument]:
    """Options of a script without some of them."""
    found = by_option(map(str, options))
    return [word for name, values in found if name not in names for word in (name, *values)]


def _check(plan: Plan) -> Iterator[Step]:
    arguments: list[Argument] = [
        *("--labels", plan.enhanced, "--list", plan.out / "lists" / "train.txt", "--images", plan.images),
        *("--image-labels", plan.image_labels, *plan.names, "--workers", plan.settings.workers, *plan.extra("check")),
    ]
    yield Command("check_pseudo_label.py", arguments, plan.out / "check")


def _deeplab(plan: Plan) -> Iterator[Step]:
    for name, labels in plan.trainings().items():
        arguments: list[Argument] = [
            "--images",
            plan.images,
            "--labels",
            labels,
            "--list",
            plan.out / "lists" / "train.txt",
        ]
        out = plan.out / "deeplab" / name
        yield Command("train_deeplabv3.py", [*arguments, *_training(plan, "deeplab")], out, plan.processes)


def _score(plan: Plan) -> Iterator[Step]:
    if not plan.has_scores:
        yield from _segment_held_out(plan)
        return
    for name in plan.trainings():
        checkpoint = plan.out / "deeplab" / name / "last.pth"
        if not plan.settings.dry_run:
            needs(checkpoint, "deeplab", "a trained DeepLabV3+")
        arguments: list[Argument] = [
            *("--checkpoint", checkpoint, "--images", plan.images, "--gt", str(plan.gt), "--list", str(plan.val)),
            *("--device", plan.settings.device, "--workers", plan.settings.workers, *plan.overwrite),
            *("--data-name", plan.data_name("val"), *plan.extra("score")),
        ]
        yield Command("evaluate_enhanced.py", arguments, plan.out / "scores" / name, plan.processes)


def _segment_held_out(plan: Plan) -> Iterator[Step]:
    """Held-out images without ground truth: some are segmented and shown."""
    assert plan.held_out is not None
    ids = spread(read_id_list(plan.held_out, plan.images), HELD_OUT_SHOWN)
    files = [find_image(plan.images, image_id) for image_id in ids]
    checkpoint, out = plan.out / "deeplab" / "enhanced" / "last.pth", plan.out / "held_out"
    arguments: list[Argument] = ["--checkpoint", checkpoint, "--images", *files, "--device", plan.settings.device]
    yield Command("predict.py", [*arguments, *plan.overwrite, *plan.extra("score")], out)

    draw = partial(show_held_out, plan, ids, out / "labels")
    yield Action(f"draw them to {plan.held_out_sheet}", draw)


HELD_OUT_SHOWN = 24  # images
CLASSIFIER = "cam/last.pth"
COMPARING = (
    "--methods",
    "--baseline",
    "--split-half",
    "--sensitivity",
    "--values",
)  # what only a comparison of main.py takes
_NETWORK = ("deeplab/enhanced/last.pth", "deeplab", "a trained DeepLabV3+")
_LISTS = ("lists/train.txt", "merge", "a list of the ids with labels and masks")
STAGES = (
    Stage("data", "get the images", _data, (), 4),
    Stage("cam", "train a classifier on image-level labels", _cam, (), 34),
    Stage(
        "labels",
        "its class activation maps become pseudo labels",
        _labels,
        ((CLASSIFIER, "cam", "a trained classifier"),),
        14,
    ),
    Stage("masks", "masks of every image", _masks, (), 22),
    Stage("merge", "masks and labels become enhanced labels", _merge, (), 4),
    Stage("check", "are the enhanced labels fit to train on?", _check, (_LISTS,), 1),
    Stage("deeplab", "train DeepLabV3+", _deeplab, (_LISTS,), 133),
    Stage("score", "score it on held-out images, or segment some of them", _score, (_NETWORK,), 12),
)


def stages_to_run(plan: Plan) -> list[Stage]:
    """The stages in their order, without those that are not asked for, or whose result is given.

    Raises:
        InputError: if none is left, or ``--with`` names a stage whose result is given.
    """
    settings = plan.settings
    given = {
        "data": plan.is_real and not settings.download,
        "cam": settings.labels is not None or settings.cams is not None,
        "labels": settings.labels is not None,
        "masks": settings.masks is not None,
    }
    impossible = {
        "data": given["data"],
        "cam": settings.from_tags,
        "labels": settings.from_tags,
        "score": not plan.has_scores and plan.held_out is None,
    }
    for name in settings.extra:
        if impossible.get(name) or given.get(name) and name not in (settings.only or ()):
            raise InputError(
                f'--with "{name}=...": its result is given or not needed, so it does not run; leave that out'
            )
    wanted = settings.only or [stage.name for stage in STAGES if not given.get(stage.name)]
    todo = [
        stage
        for stage in STAGES
        if stage.name in wanted and stage.name not in settings.skip and not impossible.get(stage.name)
    ]
    if not todo:
        raise InputError("no stage is left to run; look at --only and --skip, and at what has ground truth")
    return todo
