"""Merge SAM masks into pseudo labels, score the result, compare strategies, draw pictures.

    python main.py --mode all --method grow \\
        --pseudo-path pseudo_labels/transcam --sam-path sam_masks --image-list ImageSets/Segmentation/train.txt \\
        --gt-dir SegmentationClassAug --images-path JPEGImages --out runs/merge

Modes:
    merge     labels + masks -> OUT/METHOD/<id>.png
    eval      OUT/METHOD against --gt-dir -> OUT/METHOD.metrics.json, OUT/METHOD.per_image.csv
    vis       pictures of chosen images -> OUT/vis/METHOD/<id>.png
    all       merge, eval and vis of one method
    compare   merge and eval of several --methods, ranked, with paired 95 % intervals of every difference
              -> OUT/compare.json, compare.csv, compare_classes.csv, compare.png
              --split-half SEED   choose parameters on one half of the images, report on the other, both ways round
              --sensitivity NAME  sweep a parameter, draw the curve

What is up to date is not made again; an edited strategy, a changed option or a changed input is.
"""

from pathlib import Path

from merge import RECOMMENDED
from util.data.classes import classes_of
from util.runtime.cli import Parser, class_indices, run


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument("--mode", choices=("merge", "eval", "compare", "vis", "all"), default="all")
    parser.add_argument(
        "--method", default=RECOMMENDED, metavar="NAME", help="strategy (default: %(default)s, the recommended)"
    )
    parser.add_argument("--methods", default="all", metavar="NAME,...", help="strategies to compare, or all")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="set a strategy's parameter")
    parser.add_argument("--baseline", default="max_iou_imp2", metavar="NAME", help="compare: tell differences to this "
                        "method as well, when it is compared (default: %(default)s)")  # fmt: skip
    parser.add_argument("--split-half", type=int, metavar="SEED", help="compare: choose parameters on one random half of "
                        "the list, report on the other, both ways round")  # fmt: skip
    parser.add_argument(
        "--sensitivity", action="append", default=[], metavar="NAME", help="compare: sweep this parameter"
    )
    parser.add_argument("--values", action="append", default=[], metavar="NAME=V,V,...", help="compare: values that a "
                        "parameter takes (default: those that the strategy's file lists)")  # fmt: skip
    parser.add_argument("--pseudo-path", type=Path, required=True, metavar="DIR", help="pseudo labels, <id>.png")
    parser.add_argument(
        "--sam-path", type=Path, metavar="DIR", help="SAM masks: <id>.json, <id>.json.gz, or folders <id>/*.png"
    )
    parser.add_argument("--image-list", type=Path, required=True, metavar="FILE", help="id list, one image id a line")
    parser.add_argument("--gt-dir", type=Path, metavar="DIR", help="ground truth, for scores")
    parser.add_argument("--images-path", type=Path, metavar="DIR", help="pictures, for vis")
    parser.add_argument("--cam-path", type=Path, metavar="DIR", help="soft CAMs <id>.npy, for strategies that use them")
    parser.add_argument("--number-class", type=int, metavar="N", help="number of classes with background (default: 21)")
    parser.add_common(
        "image-labels", "class-names", "out", "classes", "workers", "overwrite", "seed", required=("out",)
    )
    parser.add_argument("--vis-sample", nargs="+", default=[], metavar="ID", help="draw these images")
    for which in ("best", "worst"):
        help_text = f"draw the N (10) images with the {which} change in mIoU"
        parser.add_argument(f"--vis-{which}", nargs="?", type=int, const=10, default=0, metavar="N", help=help_text)
    parser.add_argument("--vis-random", type=int, default=0, metavar="N", help="draw N random images, see --seed")
    return parser.parse_args()


def main():
    args = parse_arguments()
    from util.runtime.files import make_folder
    from util.runtime.locking import lock_folder

    job = Job(args)
    with lock_folder(make_folder(args.out)):
        return run_mode(args, job)


def run_mode(args, job):
    if args.mode == "compare":
        return job.compare()
    code = 0
    if args.mode in ("merge", "all"):
        code = max(code, job.merge())
    if args.mode == "eval" or (args.mode == "all" and args.gt_dir):
        code = max(code, job.evaluate())
    if args.mode in ("vis", "all"):
        code = max(code, job.draw())
    return code


class Job:
    """The parsed command with its lists and classes read; one method a mode."""

    def __init__(self, args):
        import processor
        from merge import STRATEGIES
        from merge.merge_base import resolve_parameters, search_space
        from util.data.ids import read_id_list
        from util.runtime.errors import InputError
        from util.runtime.files import check_folder

        self.args, self.processor = args, processor
        names = list(STRATEGIES) if args.methods == "all" else args.methods.split(",")
        self.methods = names if args.mode == "compare" else [args.method]
        for name in self.methods:
            if name not in STRATEGIES:
                raise InputError(f"strategy {name!r} is unknown; there are {', '.join(STRATEGIES)}")
        if args.mode == "compare" and args.param and len(self.methods) > 1:
            raise InputError("--param goes with one strategy; name it with --methods NAME")
        if args.mode != "compare" and (args.sensitivity or args.values or args.split_half is not None):
            raise InputError("--split-half, --sensitivity and --values go with --mode compare")
        if args.mode != "eval" and args.sam_path is None:
            raise InputError("--sam-path is missing; give the folder of masks that generate_sam_masks.py wrote")
        if args.mode in ("eval", "compare") and args.gt_dir is None:
            raise InputError(f"--mode {args.mode} scores against ground truth; give --gt-dir")
        self.parameters = {name: resolve_parameters(name, STRATEGIES[name], args.param) for name in self.methods}
        self.search = search_space({name: STRATEGIES[name] for name in self.methods}, args.values)
        for name in args.sensitivity:
            if not any(name in space for space in self.search.values()):
                known = sorted({key for space in self.search.values() for key in space})
                raise InputError(f"--sensitivity {name}: no compared strategy lists values of it; there are "
                                 f"{', '.join(known) or 'none'}, others need --values {name}=V,V,...")  # fmt: skip
        if args.images_path is not None:
            check_folder(args.images_path, "pictures")
        if args.gt_dir is not None:
            check_folder(args.gt_dir, "ground truth")
        self.ids = read_id_list(args.image_list, args.pseudo_path)
        places = (args.pseudo_path, args.gt_dir, args.image_labels, args.images_path)
        self.classes = classes_of(places, args.class_names, args.number_class, self.ids)
        self.only = class_indices(args.classes, self.classes)
        tags = processor.load_image_labels(args.image_labels, self.classes, self.ids, args.pseudo_path)
        self.inputs = processor.Inputs(args.pseudo_path, args.sam_path, self.classes, tags, args.cam_path)

    def merge(self, method=None):
        method = method or self.args.method
        code, self.merge_report = self.processor.merge_labels(
            self.inputs, method, self.parameters[method], self.ids, self.args.out,
            workers=self.args.workers, overwrite=self.args.overwrite,
        )  # fmt: skip
        report = self.merge_report
        print(f"{method}: {report['done']} made, {report['current']} up to date, {report['failed']} failed")
        return code

    def score(self, folder):
        return self.processor.evaluate_labels(
            folder, self.args.gt_dir, self.ids, self.classes, workers=self.args.workers, only=self.only
        )

    def evaluate(self, method=None):
        method = method or self.args.method
        out = self.args.out
        before, after = self.score(self.args.pseudo_path), self.score(out / method)
        self.processor.write_evaluation(after, out / f"{method}.metrics.json", out / f"{method}.per_image.csv")
        from util.evaluation.metrics import score_table

        same = after.cells.keys() == before.cells.keys()
        print(f"\n{method} (change against the input labels)" if same else f"\n{method}")
        print(score_table(after.scores, before.scores if same else None))
        return 1 if after.failures or before.failures else 0

    def compare(self):
        before = self.score(self.args.pseudo_path)
        code = 1 if before.failures else 0
        evaluations, times = {}, {}
        for method in self.methods:
            code = max(code, self.merge(method))
            times[method] = self.merge_report["seconds_per_image"]
            evaluations[method] = self.score(self.args.out / method)
            code = max(code, 1 if evaluations[method].failures else 0)
        shared = set(before.cells).intersection(*(evaluation.cells for evaluation in evaluations.values()))
        for evaluation in (before, *evaluations.values()):
            evaluation.cells = {image_id: cells for image_id, cells in evaluation.cells.items() if image_id in shared}
        out = self.args.out
        baseline = self.args.baseline if self.args.baseline in self.methods else None
        comparison = self.processor.compare_labels(before, evaluations, times, baseline)
        print(f"\n{self.processor.write_comparison(comparison, out)}")
        print(f"\n{len(shared)} images; written: {out}/compare.json, compare.csv, compare_classes.csv, compare.png")
        if self.args.split_half is not None:
            code = max(code, self.split_half(before, baseline))
        for name in self.args.sensitivity:
            code = max(code, self.sensitivity(name, before, evaluations))
        return code

    def score_settings(self, settings, before):
        """Evaluations of many settings and of the input, over the images that all of them have."""
        found = self.processor.score_settings(
            self.inputs, settings, list(before.cells), self.args.gt_dir, workers=self.args.workers, only=self.only
        )
        return found, before.of(found[0].cells), 1 if found[0].failures else 0

    def split_half(self, before, baseline):
        from itertools import product

        settings = [
            (method, {**self.parameters[method], **dict(zip(self.search[method], values))})
            for method in self.methods
            for values in product(*self.search[method].values())
        ]
        found, before, code = self.score_settings(settings, before)
        searched = {name: [] for name in self.methods}
        for (method, parameters), evaluation in zip(settings, found):
            searched[method].append((parameters, evaluation))
        result = self.processor.split_half(before, searched, self.args.split_half, baseline)
        print(f"\nparameters chosen on one half, labels of the other half (seed {self.args.split_half})")
        print(self.processor.write_split_half(result, self.args.out))
        print(f"\nwritten: {self.args.out}/split_half.json, split_half.csv, split_half.png")
        return code

    def sensitivity(self, name, before, evaluations):
        code = 0
        for method in self.methods:
            if name not in self.search[method]:
                continue
            default = self.parameters[method][name]
            values = sorted({*self.search[method][name], default})
            settings = [(method, {**self.parameters[method], name: value}) for value in values]
            found, shared, failed = self.score_settings(settings, before)
            result = self.processor.sensitivity(shared, list(zip(values, found)), default)
            levels = {
                key: evaluation.scores["miou"] for key, evaluation in evaluations.items() if key == self.args.baseline
            }
            print(f"\n{method}\n{self.processor.write_sensitivity(method, name, result, levels, self.args.out)}")
            code = max(code, failed)
        return code

    def draw(self):
        args = self.args
        before = after = None
        if args.gt_dir is not None and (args.vis_best or args.vis_worst):
            before, after = self.score(args.pseudo_path), self.score(args.out / args.method)
        asked = args.vis_sample or args.vis_best or args.vis_worst or args.vis_random
        count = args.vis_random if asked else 4
        ids = args.vis_sample + self.processor.choose_ids(
            after, before, self.ids, best=args.vis_best, worst=args.vis_worst, random=count, seed=args.seed
        )
        failures = self.processor.draw_rows(
            self.inputs, args.method, ids, args.out, args.images_path, args.gt_dir
        )  # fmt: skip
        print(f"{len(ids) - len(failures)} pictures in {args.out}/vis/{args.method}/")
        return 1 if failures else 0


if __name__ == "__main__":
    run(main)
