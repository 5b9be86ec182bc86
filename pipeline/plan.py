"""What the stages read, where they write, and how they are set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from merge import RECOMMENDED
from pipeline import choice
from pipeline.options import FROM_TAGS, Argument, Settings
from util.data.ids import read_id_list
from util.runtime.errors import InputError


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
        tune: ids whose ground truth chooses threshold, refinement and strategy, or None; not among ``label`` and ``val``.
        options: stage -> options of its scripts.
        cam_labels, soft_cams: folders that later stages read; None where masks of the class names become the labels.
        masks: folder that later stages read.
        held_out: ids that no network is trained on, and that have no ground truth: the classifier is scored on them, and some
            of them are segmented in the end.
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

    def data_name(self, part: str) -> str:
        """For the titles of figures; the lists of a run are in its own folder, which names no data."""
        return f"{self.settings.voc.resolve().name if self.settings.voc else 'generated images'} {part}"

    @property
    def names(self) -> list[Argument]:
        return ["--class-names", self.class_names] if self.class_names else []

    @property
    def overwrite(self) -> list[Argument]:
        return ["--overwrite"] if self.settings.overwrite else []

    def extra(self, stage: str) -> list[Argument]:
        """Options that a stage's scripts get besides the shared ones."""
        return [*self.options.get(stage, []), *self.settings.extra.get(stage, [])]

    @property
    def tune_key(self) -> str:
        """Of what the choice of the CAM labels rests on."""
        ids = [] if self.tune is None else read_id_list(self.tune, self.images)
        given = [self.settings.labels, *filter(None, [self.settings.cams])]
        return choice.key_of(ids, self.gt, *given, self.extra("cam"), self.extra("labels"))

    def strategy_key(self) -> str:
        """Of what the choice of the strategy rests on."""
        labels = self.chosen_labels()
        return choice.key_of(self.tune_key, labels, self.settings.masks, self.settings.method, self.extra("merge"))

    def given(self, stage: str, option: str) -> bool:
        """Whether the user gave an option of a stage's scripts with ``--with``."""
        return any(word.partition("=")[0] == option for word in self.settings.extra.get(stage, []))

    def chosen_labels(self) -> dict | None:
        """What was chosen of the CAM labels, see `choice.best_labels`; None where nothing is."""
        makes_labels = self.cam_labels is not None and self.settings.labels is None
        is_open = self.tune is not None and makes_labels and not self.given("labels", "--bg-threshold")
        return choice.recorded(self.out, "labels", self.tune_key, "labels") if is_open else None

    def chosen_strategy(self) -> dict | None:
        """What was chosen of the strategies, see `choice.best_strategy`; None where nothing is."""
        return None if self.tune is None else choice.recorded(self.out, "strategy", self.strategy_key(), "merge")

    def chosen(self) -> str:
        """The strategy that DeepLabV3+ is trained on, or `choice.INPUT`: as asked, chosen on the tune list, or recommended."""
        if self.settings.method:
            return self.settings.method
        if self.cam_labels is None:
            return FROM_TAGS
        if self.settings.dry_run and self.tune:
            return "BEST"
        found = self.chosen_strategy()
        return found["name"] if found else RECOMMENDED

    def shown(self) -> str:
        """The strategy whose label maps are shown: the chosen one, or the recommended one where no strategy is chosen."""
        chosen = self.chosen()
        return RECOMMENDED if chosen == choice.INPUT else chosen

    @property
    def merged(self) -> Path:
        """The labels of the strategy that is shown."""
        return self.out / "merge" / self.shown()

    @property
    def enhanced(self) -> Path:
        """The labels that DeepLabV3+ is trained on: those that the chosen strategy makes, or the CAM labels."""
        if self.cam_labels is not None and self.chosen() == choice.INPUT:
            return self.cam_labels
        return self.merged

    @property
    def has_scores(self) -> bool:
        """Whether DeepLabV3+ can be scored on held-out images."""
        return self.val is not None and self.gt is not None

    @property
    def held_out_sheet(self) -> Path:
        """Where held-out images without ground truth are shown."""
        return self.out / "held_out.png"

    @property
    def has_baseline(self) -> bool:
        """Whether a second network is trained, on the CAM labels, unless they are what is chosen."""
        wanted = self.settings.baseline if self.settings.baseline is not None else self.val is not None
        return wanted and self.cam_labels is not None

    def trainings(self) -> dict[str, Path]:
        """Name of a DeepLabV3+ -> the labels that it is trained on."""
        labels = self.enhanced
        baseline = (
            {"cam_labels": self.cam_labels} if self.has_baseline and self.cam_labels not in (None, labels) else {}
        )
        return {**baseline, "enhanced": labels}


def needs(path: Path, stage: str, what: str) -> Path:
    """Return ``path``, which an earlier stage wrote.

    Raises:
        InputError: if it is not there.
    """
    if not path.exists():
        raise InputError(f"{path}: {what} is missing; run the stage {stage} first (leave it out of --skip)")
    return path
