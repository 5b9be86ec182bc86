"""Runs the stages one after the other."""

from __future__ import annotations

from dataclasses import asdict, replace

from pipeline import downloads, recipes
from pipeline.estimate import LONG, Clock, clock, in_words, masks_note, rough_total
from pipeline.kept import kept_shares
from pipeline.options import Settings
from pipeline.plan import Plan, needs
from pipeline.planning import make_plan
from pipeline.preflight import check_run
from pipeline.report import NO_CAM_LABELS, write_report
from pipeline.stages import STAGES, Stage, sam_options, stages_to_run
from pipeline.steps import Command
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
        time = Clock(plan, todo, kept_shares(plan, todo))
        announce(time)
        write_run_json(settings.out / "run.json", options)
        code = 0
        for number, stage in enumerate(todo):
            print(f"\n[{number + 1}/{len(todo)}] {stage.name}: {stage.what}{time.note(number)}", flush=True)
            code = max(code, _run_stage(stage, plan))
            if stage.name == "data" and settings.download:
                plan = time.plan = make_plan(settings)  # the lists are there now
                time.kept = kept_shares(plan, todo)
        if todo[-1] is _last_possible(plan):
            write_report(plan, clock(time.passed))
        else:
            names = ", ".join(stage.name for stage in todo)
            print(f"\n{names} done in {clock(time.passed)}; results are in {plan.out}")
        return code


def announce(time: Clock) -> None:
    """Say what a run goes without, keeps and downloads; on a person's images also how to get better masks, and how long."""
    plan, todo = time.plan, time.todo
    kept = [stage.name for stage in todo if time.kept.get(stage.name) == 1]
    if plan.cam_labels is None:
        print(NO_CAM_LABELS)
    if kept:
        print(f"kept, made with the same options before: {', '.join(kept)}")
    if not plan.settings.download:  # which has said it already
        downloads.announce(replace(plan.settings, skip=[*plan.settings.skip, *kept]))
    if not plan.settings.dry_run:
        print("commands are shortened below; --dry-run prints them in full")
    if not plan.is_real:
        return
    if any(stage.name == "masks" for stage in todo) and "regions" in sam_options(plan):
        print("masks: graph regions, which need no weights; --sam-model vit_b downloads a SAM, whose masks are better")
    total = rough_total(plan, todo, time.kept)
    note = masks_note(plan, todo, time.kept)
    if note:
        print(note)
    if total < LONG:
        return
    print(f"about {in_words(total)} {'for all else' if note else 'in all'} on this processor", end="")
    quick = replace(plan.settings, quick=True)
    faster = replace(plan, options=recipes.real(quick, recipes.extent_of(plan.train, plan.images)))
    if plan.settings.quick or (seconds := rough_total(faster, todo)) >= total:
        print()
    else:
        print(f"; --quick gives a first result in about {in_words(seconds)}")


def _run_stage(stage: Stage, plan: Plan) -> int:
    for path, maker, what in stage.needed(plan):
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
    time = Clock(plan, todo, kept_shares(plan, todo))
    announce(time)
    for number, stage in enumerate(todo):
        print(f"\n[{number + 1}/{len(todo)}] {stage.name}: {stage.what}{time.note(number)}")
        steps = list(stage.steps(plan))
        makes = dict.fromkeys(str(step.out) for step in steps if isinstance(step, Command))
        if makes:
            print(f"  {'keeps' if time.kept.get(stage.name) == 1 else 'makes'} {', '.join(makes)}")
        for step in steps:
            print(f"  {step.shown}")
    print("\nThis was a dry run; leave --dry-run out to run it.")
    return 0
