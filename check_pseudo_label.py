"""Are these label maps fit to train on?

    python check_pseudo_label.py --labels runs/merge/grow --images JPEGImages \\
        --list ImageSets/Segmentation/train.txt --image-labels cls_labels.npy --out runs/check

Errors (missing, unreadable, of another size than the picture, values of no class) give exit code 1. The rest are
warnings: surplus files, empty and near-empty labels, classes that the image-level labels exclude or that are missing
though tagged. With --gt, scores that tell partial activation (recall) from false activation (1 - precision).
"""

from util.runtime.cli import Parser, class_indices, run


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_common("labels", "list", "images", "gt", "image-labels", required=("labels", "list"))
    parser.add_common("num-classes", "class-names", "classes", "workers", "out")
    empty = "a label with less foreground than this share is near-empty (default: %(default)s)"
    parser.add_argument("--near-empty", type=float, default=0.005, metavar="SHARE", help=empty)
    args = parser.parse_args()
    if not 0 <= args.near_empty <= 1:
        parser.error("--near-empty is a share, 0 to 1")
    return args


def main():
    args = parse_arguments()
    from contextlib import nullcontext

    from util.runtime.files import make_folder
    from util.runtime.locking import lock_folder

    with lock_folder(make_folder(args.out)) if args.out else nullcontext():
        return check(args)


def check(args):
    import processor
    from util.data.classes import classes_of
    from util.data.ids import read_id_list
    from util.evaluation.label_check import check_labels, report_text
    from util.evaluation.metrics import score_table
    from util.runtime.files import write_json

    ids = read_id_list(args.list, args.labels)
    places = (args.labels, args.gt, args.image_labels, args.images)
    classes = classes_of(places, args.class_names, args.num_classes, ids)
    tags = processor.load_image_labels(args.image_labels, classes, ids)
    report = check_labels(args.labels, ids, classes, args.images, tags, args.near_empty, args.workers)
    print(report_text(report))
    if args.gt:
        readable = [i for i in ids if i not in report["errors"]]
        only = class_indices(args.classes, classes)
        result = processor.evaluate_labels(args.labels, args.gt, readable, classes, workers=args.workers, only=only)
        report["scores"] = result.scores
        print("\nrecall is low where activation is partial, precision is low where it is false")
        print(score_table(result.scores))
    if args.out:
        write_json(args.out / "check.json", report)
    return 1 if report["errors"] else 0


if __name__ == "__main__":
    run(main)
