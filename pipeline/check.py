"""The check of label maps before training, as `check_pseudo_label.py` prints it."""

from __future__ import annotations

import argparse

from util.data.classes import classes_of
from util.data.ids import read_id_list
from util.data.image_labels import read_image_labels
from util.evaluation.evaluate import evaluate_labels
from util.evaluation.label_check import check_foreground, check_labels, check_tags_fit, report_text
from util.evaluation.report import score_table
from util.runtime.cli import class_indices
from util.runtime.files import write_json
from util.runtime.locking import lock_if


def run(args: argparse.Namespace) -> int:
    """Do what the command asks for; the exit code, 1 for labels that training would fail on."""
    with lock_if(args.out is not None, args.out):
        return check(args)


def check(args: argparse.Namespace) -> int:
    ids = read_id_list(args.list, args.labels)
    places = (args.labels, args.gt, args.image_labels, args.images)
    classes = classes_of(places, args.class_names, args.num_classes, ids)
    tags = None if args.image_labels is None else read_image_labels(args.image_labels, classes, ids)
    report = check_labels(args.labels, ids, classes, args.images, tags, args.near_empty, args.workers)
    print(report_text(report))
    readable = [i for i in ids if i not in report["errors"]]
    if args.gt and readable:
        only = class_indices(args.classes, classes)
        result = evaluate_labels(args.labels, args.gt, readable, classes, workers=args.workers, only=only)
        report["scores"] = result.scores
        print("\nrecall is low where activation is partial, precision is low where it is false")
        print(score_table(result.scores))
    if args.out:
        write_json(args.out / "check.json", report)
    check_foreground(args.labels, readable)
    if tags is not None:
        check_tags_fit(args.labels, readable, tags, classes)
    return 1 if report["errors"] else 0
