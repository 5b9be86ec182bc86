"""Runs the stages one after the other."""

from __future__ import annotations

from dataclasses import asdict, replace

from pipeline import downloads, recipes
from pipeline.checks import check_run
from pipeline.estimate import LONG, Clock, clock, in_words, rough_total
from pipeline.options import Settings
from pipeline.plan import Plan, needs
from pipeline.planning import make_plan
from pipeline.report import NO_CAM_LABELS, write_report
from pipeline.stages import STAGES, Stage, sam_options, stages_to_run
from util.runtime.cli import EXIT_FAILED_IMAGES
from util.runtime.locking import lock_folder
from util.runtime.provenance import write_run_json


def run(settings: Settings) -> int:
    """Run the pipeline, or with ``--dry-run`` print what it would run; the exit code.

    Raises:
        InputError: if something that it needs is missing, or a script refuses its input.
    """
    if settings.download:
        downloads.announce(settings)
    if settings.dry_run:
        return _show(make_plan(settings))
    with lock_folder(settings.out):
        plan = make_plan(settings)
        todo = stages_to_run(plan)
        check_run(plan, todo)
        options = {name: value for name, value in asdict(settings).items() if name not in ("overwrite", "dry_run")}
        announce(plan, todo)
        write_run_json(settings.out / "run.json", options)
        time = Clock(plan, todo)
        code = 0
        for number, stage in enumerate(todo):
            print(f"\n[{number + 1}/{len(todo)}] {stage.name}: {stage.what}{time.note(number)}", flush=True)
            code = max(code, _run_stage(stage, plan))
            if stage.name == "data" and settings.download:
                plan = time.plan = make_plan(settings)  # the lists are there now
        if todo[-1] is _last_possible(plan):
            write_report(plan, clock(time.passed))
        else:
            names = ", ".join(stage.name for stage in todo)
            print(f"\n{names} done in {clock(time.passed)}; results are in {plan.out}")
        return code


def announce(plan: Plan, todo: list[Stage]) -> None:
    """Say what a run goes without and downloads; on a person's images how to get better masks, and how long it takes."""
    if plan.cam_labels is None:
        print(NO_CAM_LABELS)
    if not plan.settings.download:  # which has said it already
        downloads.announce(plan.settings)
    if not plan.is_real:
        return
    if any(stage.name == "masks" for stage in todo) and "regions" in sam_options(plan):
        print("masks: graph regions, which need no weights; --sam-model vit_b downloads a SAM, whose masks are better")
    total = rough_total(plan, todo)
    if total < LONG:
        return
    print(f"about {in_words(total)} in all on this processor", end="")
    if plan.settings.quick:
        print()
        return
    faster = replace(
        plan, options=recipes.real(replace(plan.settings, quick=True), recipes.extent_of(plan.train, plan.images))
    )
    print(f"; --quick gives a first result in about {in_words(rough_total(faster, todo))}")


def _run_stage(stage: Stage, plan: Plan) -> int:
    for path, maker, what in stage.needs:
        needs(plan.out / path, maker, what)
    failed = [step.run() for step in stage.steps(plan)]
    return EXIT_FAILED_IMAGES if any(failed) else 0


def _last_possible(plan: Plan) -> Stage:
    """The stage that a whole run ends with: held-out images, or the networks where there are none."""
    return STAGES[-1] if plan.has_scores or plan.held_out is not None else STAGES[-2]


def _show(plan: Plan) -> int:
    """Print the stages that would run, with their commands."""
    todo = stages_to_run(plan)
    check_run(plan, todo)
    announce(plan, todo)
    time = Clock(plan, todo)
    for number, stage in enumerate(todo):
        rough = time.note(number) if plan.is_real else ""
        print(f"\n[{number + 1}/{len(todo)}] {stage.name}: {stage.what}{rough}")
        print(f"  makes {', '.join(str(plan.out / name) for name in stage.makes)}")
        for step in stage.steps(plan):
            print(f"  {step.shown}")
    print("\nThis was a dry run; leave --dry-run out to run it.")
    return 0
