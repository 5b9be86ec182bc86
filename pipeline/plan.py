"""What the stages read, where they write, and how they are set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from merge import RECOMMENDED, STRATEGIES
from models.sam.options import PACKAGE_MODELS
from pipeline import recipes
from pipeline.options import FROM_TAGS, Argument, Settings
from util.data.ids import read_id_list
from util.data.labels import label_path
from util.runtime.cli import quoted
from util.runtime.errors import InputError
from util.runtime.files import check_folder, read_json, write_bytes


@dataclass
class Plan:
    """A run of the pipeline.

    Attributes:
        settings: the command line.
        images, image_labels: of the data set.
        class_names: None means VOC's.
        gt: folder of ground truth; None where there is none.
        train: ids that CAM network and DeepLabV3+ are trained on, and that get pseudo labels.
        label: ids that pseudo labels are scored on; None without ground truth for them.
        val: ids that DeepLabV3+ is scored on; None without ground truth for them.
        tune: ids whose ground truth chooses threshold and strategy, or None.
        options: stage -> options of its scripts.
        cam_labels, soft_cams: folders that later stages read; None where masks of the class names become the labels.
        masks: folder that later stages read.
        held_out: ids that no network is trained on, and that have no ground truth: the classifier is scored on them.
        processes: of torchrun, for what runs a network.
        gpus: that networks run on.
    """

    settings: Settings
    images: Path
    image_labels: Path
    class_names: Path | None
    gt: Path | None
    train: Path
    label: Path | None
    val: Path | None
    tune: Path | None
    options: dict[str, list[Argument]]
    cam_labels: Path | None
    soft_cams: Path | None
    masks: Path
    held_out: Path | None = None
    processes: int = 1
    gpus: int = 0

    @property
    def out(self) -> Path:
        return self.settings.out

    @property
    def is_real(self) -> bool:
        """Whether it runs on a person's data and not on drawn images."""
        return self.settings.voc is not None

    @property
    def names(self) -> list[Argument]:
        return ["--class-names", self.class_names] if self.class_names else []

    @property
    def overwrite(self) -> list[Argument]:
        return ["--overwrite"] if self.settings.overwrite else []

    def extra(self, stage: str) -> list[Argument]:
        """Options that a stage's scripts get besides the shared ones."""
        return [*self.options.get(stage, []), *self.settings.extra.get(stage, [])]

    def chosen(self) -> str:
        """The strategy that DeepLabV3+ is trained on: as asked, the best on the tune list, or the recommended one."""
        if self.settings.method:
            return self.settings.method
        if self.cam_labels is None:
            return FROM_TAGS
        if self.tune is None:
            return RECOMMENDED
        if self.settings.dry_run:
            return "BEST"
        methods = read_json(needs(self.out / "merge_tune" / "compare.json", "compare", "a comparison"))["methods"]
        return max(methods, key=lambda name: methods[name]["miou"])

    @property
    def enhanced(self) -> Path:
        """The labels that the chosen strategy makes."""
        return self.out / "merge" / self.chosen()

    def trainings(self) -> dict[str, Path]:
        """Name of a DeepLabV3+ -> the labels that it is trained on."""
        wanted = self.settings.baseline if self.settings.baseline is not None else self.val is not None
        baseline = {"cam_labels": self.cam_labels} if wanted and self.cam_labels else {}
        return {**baseline, "enhanced": self.enhanced}


def needs(path: Path, stage: str, what: str) -> Path:
    """Return ``path``, which an earlier stage wrote.

    Raises:
        InputError: if it is not there.
    """
    if not path.exists():
        raise InputError(f"{path}: {what} is missing; run the stage {stage} first (leave it out of --skip)")
    return path


def make_plan(settings: Settings) -> Plan:
    """What to run on.

    Raises:
        InputError: for what a late stage would stumble over, before the first one starts.
    """
    _check_inputs(settings)
    plan = _generated_plan(settings) if settings.voc is None else _real_plan(settings, settings.voc)
    plan.gpus = _gpu_count(settings.device)
    plan.processes = settings.processes or max(1, plan.gpus)
    return plan


def _check_inputs(settings: Settings) -> None:
    for folder, what in (
        (settings.masks, "SAM masks"),
        (settings.labels, "pseudo labels"),
        (settings.images, "images"),
    ):
        if folder is not None:
            check_folder(folder, what)
    for name in ("sam_checkpoint", "class_names", "train_list", "label_list", "val_list", "tune_list"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            raise InputError(f"--{name.replace('_', '-')} {path}: no such file; check the path")
    for stage, words in settings.extra.items():
        _check_weights(stage, words)
    if settings.method is not None and settings.method not in STRATEGIES:
        raise InputError(f"--method {settings.method}: no such strategy; choose one of {', '.join(STRATEGIES)}")
    for kind, file in settings.prompts:
        if file is not None and not file.is_file():
            raise InputError(f"--prompt {kind} {file}: no such file; check the path")
    if settings.sam_model and settings.sam_model not in (*PACKAGE_MODELS, "regions"):
        _check_sam(settings.sam_model, any(kind == "tags" for kind, _ in settings.prompts))


def _check_sam(name: str, by_words: bool) -> None:
    """Raise InputError if a SAM is unknown, or takes no words and is to; the hub is asked later, for the masks."""
    from models.sam.families import MODELS, model_source
    from models.sam.text import check_words

    source = model_source(name)
    if by_words and (name in MODELS or Path(source).is_dir()):
        check_words(name)


def _check_weights(stage: str, words: list[str]) -> None:
    """Raise InputError for a file of weights that is not there, which a late stage would find after hours."""
    for name, value in zip(words, words[1:]):
        is_file = Path(value).suffix in (".pth", ".pt", ".bin", ".safetensors") or len(Path(value).parts) > 1
        if name in ("--weights", "--encoder-weights", "--checkpoint") and is_file and not Path(value).is_file():
            raise InputError(f'--with "{stage}={name} {value}": no such file; check the path')


def _generated_plan(settings: Settings) -> Plan:
    """The generated data set."""
    data = settings.out / "data"
    lists = data / "ImageSets" / "Segmentation"
    return Plan(
        settings,
        images=data / "JPEGImages",
        image_labels=data / "cls_labels.npy",
        class_names=data / "class_names.txt",
        gt=data / "SegmentationClassAug",
        train=lists / "train.txt",
        label=lists / "train.txt",
        val=lists / "val.txt",
        tune=None,
        options=recipes.generated(settings),
        **_folders(settings),
    )


def _folders(settings: Settings) -> dict:
    """Where labels, CAMs and masks come from: made here, or given."""
    cams = settings.out / "cams"
    return {
        "cam_labels": None if settings.from_tags else settings.labels or cams / "labels",
        "soft_cams": None if settings.from_tags or settings.labels else cams / "cams",
        "masks": settings.masks or settings.out / "masks",
    }


def _check_layout(settings: Settings, root: Path) -> None:
    check_folder(root, "the data set")
    if settings.images is None and not (root / "JPEGImages").is_dir():
        prepare = quoted(["python", "prepare_folder.py", "--source", root, "--out", "mydata"])
        raise InputError(f"{root}: not in VOC's layout, there is no folder JPEGImages; to bring it there: {prepare}")


def _real_plan(settings: Settings, root: Path) -> Plan:
    """A folder in VOC's layout, or one that ``--download`` will bring into it.

    Raises:
        InputError: if a part of it is missing.
    """
    if not settings.download:
        _check_layout(settings, root)
    lists = root / "ImageSets" / "Segmentation"

    def find(given: Path | None, *choices: Path) -> Path | None:
        there = (path for path in choices if path.exists())
        return given or (choices[0] if settings.download else next(there, None))

    def must(what: str, option: str, given: Path | None, *choices: Path) -> Path:
        path = find(given, *choices)
        if path is None:
            looked = ", ".join(str(path) for path in choices)
            raise InputError(
                f"{root}: no {what} (looked for {looked}); make it with prepare_voc.py or prepare_folder.py, "
                f"or give {option}"
            )
        return path

    gt = find(settings.gt, root / "SegmentationClassAug", root / "SegmentationClass")
    names = root / "class_names.txt"
    plan = Plan(
        settings,
        images=settings.images or root / "JPEGImages",
        image_labels=must(
            *("image-level labels", "--image-labels", settings.image_labels),
            *(root / "cls_labels.npy", root / "cls_labels.csv", root / "Annotations"),
        ),
        class_names=settings.class_names or (names if names.exists() else None),
        gt=gt,
        train=must("training list", "--train-list", settings.train_list, lists / "trainaug.txt", lists / "train.txt"),
        label=find(settings.label_list, lists / "train.txt"),
        val=find(settings.val_list, lists / "val.txt"),
        tune=settings.tune_list,
        options={},
        **_folders(settings),
    )
    if settings.download:
        plan.options = recipes.real(settings, recipes.VOC)
        return plan
    plan.options = recipes.real(settings, recipes.extent_of(plan.train, plan.images))
    held_out = plan.val
    for name in ("label", "val", "tune"):
        setattr(plan, name, _with_truth(plan, name, getattr(plan, name)))
    if plan.label is None and plan.val is None:
        print(
            f"{root}: no ground truth, so nothing is scored; the run ends with a trained network, and shows what the merge "
            "changed"
        )
    if plan.val is None and held_out is not None and plan.soft_cams is not None:
        plan.held_out = _disjoint(plan, held_out)
    return plan


def _disjoint(plan: Plan, source: Path) -> Path | None:
    """A list of held-out images; None if the networks train on one of them."""
    shared = set(read_id_list(source, plan.images)) & set(read_id_list(plan.train, plan.images))
    return None if shared else source


def _with_truth(plan: Plan, name: str, source: Path | None) -> Path | None:
    """The list, without ids that have no ground truth; None if none has.

    Raises:
        InputError: if the user named the list, and none of its ids has ground truth.
    """
    if source is None:
        return None
    ids = read_id_list(source, plan.images)
    scored = [image_id for image_id in ids if plan.gt is not None and is_there(label_path, plan.gt, image_id)]
    if len(scored) == len(ids):
        return source
    if getattr(plan.settings, f"{name}_list") and not scored:
        raise InputError(
            f"--{name}-list {source}: none of its {len(ids)} ids has ground truth"
            f"{f' in {plan.gt}' if plan.gt else ''}; give --gt DIR, or leave the list out"
        )
    if not scored:
        return None
    print(f"{source}: {len(scored)} of {len(ids)} ids have ground truth; the others are not scored")
    return write_list(plan, f"{name}_with_ground_truth", scored)


def is_there(find, folder: Path, image_id: str) -> bool:
    """Whether ``find(folder, id)`` finds a file."""
    try:
        return bool(find(folder, image_id))
    except InputError:
        return False


def write_list(plan: Plan, name: str, ids: list[str]) -> Path:
    """Write OUT/lists/NAME.txt, unless this is a dry run."""
    path = plan.out / "lists" / f"{name}.txt"
    if not plan.settings.dry_run:
        write_bytes(path, ("\n".join(dict.fromkeys(ids)) + "\n").encode())
    return path


def _gpu_count(device: str) -> int:
    """GPUs to use."""
    if device not in ("auto", "cuda"):
        return int(device.startswith("cuda"))
    import torch

    return torch.cuda.device_count()
