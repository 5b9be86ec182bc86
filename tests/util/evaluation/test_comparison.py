"""Intervals of differences, the choice on one half, and what is reported about classes."""

import numpy as np
import pytest

from util.data.voc import load_classes
from util.evaluation import bootstrap, report
from util.evaluation.comparison import SUMMARY_COLUMNS, compare_labels, comparison_rows, summary
from util.evaluation.metrics import Evaluation

CLASSES = load_classes()


def evaluation(counts_by_id):
    """From id -> {(true, predicted): pixels}; predicted 21 is void."""
    cells = {}
    for image_id, entries in counts_by_id.items():
        counts = np.zeros((21, 22), np.int64)
        for place, pixels in entries.items():
            counts[place] = pixels
        cells[image_id] = np.flatnonzero(counts), counts[counts > 0]
    return Evaluation(CLASSES, cells, {})


def population(accuracy, seed, count=40):
    """Images of two classes of which a share is labelled right."""
    rng = np.random.default_rng(seed)
    found = {}
    for n in range(count):
        right = int(np.clip(rng.normal(accuracy, 0.05), 0, 1) * 1000)
        found[f"i{n}"] = {(0, 0): 1000, (8, 8): right, (8, 0): 1000 - right}
    return evaluation(found)


def test_bootstrap_agrees_with_drawing_sets_by_hand():
    one, two = population(0.8, 0), population(0.7, 1)
    drawn = bootstrap.bootstrap_miou({"one": one, "two": two}, samples=50, seed=3)
    ids = list(one.cells)
    draws = np.random.default_rng(3).multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size=50)
    for sample in (0, 17, 49):
        for name, side in (("one", one), ("two", two)):
            total = sum(times * side.image_counts(i) for times, i in zip(draws[sample], ids))
            hit, there, predicted = np.diagonal(total), total.sum(1), total[:, :21].sum(0)
            present = there > 0
            expected = (hit[present] / (there + predicted - hit)[present]).mean()
            assert drawn[name][sample] == pytest.approx(expected)


def test_the_interval_holds_the_difference_and_excludes_zero_only_for_a_real_one():
    good, same, poor = population(0.8, 0), population(0.8, 5), population(0.7, 1)
    drawn = bootstrap.bootstrap_miou({"good": good, "same": same, "poor": poor})
    low, high = bootstrap.interval(drawn["good"], drawn["poor"])
    assert 0 < low < good.scores["miou"] - poor.scores["miou"] < high
    low, high = bootstrap.interval(drawn["good"], drawn["same"])
    assert low < 0 < high


@pytest.mark.filterwarnings("error")
def test_draws_without_the_chosen_class_are_left_out():
    one = {f"i{n}": {(0, 0): 1000} for n in range(5)} | {"cat": {(0, 0): 500, (8, 8): 400, (8, 0): 100}}
    other = one | {"cat": {(0, 0): 500, (8, 8): 300, (8, 0): 200}}
    sides = {name: Evaluation(CLASSES, evaluation(cells).cells, {}, [8]) for name, cells in (("a", one), ("b", other))}
    drawn = bootstrap.bootstrap_miou(sides)
    assert np.isnan(drawn["a"]).any()
    assert bootstrap.interval(drawn["a"], drawn["b"]) == pytest.approx((0.2, 0.2))


def test_a_paired_bootstrap_refuses_other_images():
    with pytest.raises(ValueError, match="same images"):
        bootstrap.bootstrap_miou({"a": population(0.8, 0), "b": population(0.8, 0, count=10)})


def test_void_counts_as_wrong_or_is_left_out():
    side = evaluation({f"i{n}": {(0, 0): 100, (8, 8): 60, (8, 21): 40} for n in range(5)})
    wrong = bootstrap.bootstrap_miou({"s": side}, samples=5)["s"]
    kept = bootstrap.bootstrap_miou({"s": side}, samples=5, void_left_out=True)["s"]
    assert wrong == pytest.approx(0.8) and kept == pytest.approx(1.0)


def test_halves_are_a_partition_and_depend_on_the_seed_alone():
    ids = [f"i{n}" for n in range(11)]
    one, two = bootstrap.random_halves(ids, 4)
    assert sorted(one + two) == sorted(ids) and len(one) == 5 and not set(one) & set(two)
    assert bootstrap.random_halves(ids, 4) == (one, two) and bootstrap.random_halves(ids, 5) != (one, two)


def test_each_half_is_reported_with_what_the_other_half_chose():
    ids = [f"i{n}" for n in range(10)]
    first, second = bootstrap.random_halves(ids, 0)
    right, wrong = {(0, 0): 100, (8, 8): 100}, {(0, 0): 100, (8, 0): 100}
    only_first = evaluation({i: right if i in first else wrong for i in ids})
    only_second = evaluation({i: right if i in second else wrong for i in ids})
    chosen, pooled = bootstrap.choose_and_report([only_first, only_second], ids, 0)
    assert chosen == [0, 1]
    # What fits the first half is wrong on the second and the other way round: nothing of the choice leaks.
    assert pooled.scores["per_class"]["cat"]["recall"] == 0
    chosen, pooled = bootstrap.choose_and_report([evaluation(dict.fromkeys(ids, right)), only_first], ids, 0)
    assert chosen == [0, 0] and pooled.scores["miou"] == 1


def test_partial_and_false_activation_by_hand():
    before = evaluation({"a": {(0, 0): 80, (0, 8): 20, (8, 8): 60, (8, 0): 40}})
    header, *rows = report.activation_rows({"input": before.scores})
    assert header == ["class", "IoU input", "partial input", "false input"]
    assert ["cat", "50.00", "40.00", "25.00"] in rows


def test_an_interval_is_one_cell_in_a_table_and_two_numbers_in_a_csv_file():
    rows = [["method", "change", "95 %"], ["a", "+1.00", (0.005, 0.015)], ["input", "", None]]
    assert report.text_rows(rows) == [["method", "change", "95 %"], ["a", "+1.00", "+0.50 .. +1.50"], ["input", "", ""]]
    assert report.csv_rows(rows) == [
        ["method", "change", "95 %, low", "95 %, high"],
        ["a", "+1.00", "0.50", "1.50"],
        ["input", "", "", ""],
    ]


@pytest.mark.parametrize("seconds, void", [(0.01, 0), (float("nan"), 0), (float("nan"), 255)])
def test_the_terminals_table_has_no_column_that_says_nothing(seconds, void):
    before, after = population(0.7, seed=1), population(0.9, seed=2)
    result = compare_labels(before, {"one": after, "two": before}, {"one": seconds, "two": float("nan")}, "two")
    if void:
        result["methods"]["one"]["void"] = 0.25
    rows = list(comparison_rows(result))
    table, notes = summary(rows, SUMMARY_COLUMNS).split("\n\n")
    assert "group" in rows[0] and "group" not in table and "95 % interval" not in table
    assert " change (95 %) " in table.splitlines()[0] and "to two (95 %)" in table.splitlines()[0]
    gain = f"{100 * result['difference']['one']['miou']:+.2f} ({report.interval_text(result['difference']['one']['interval_95'])})"
    assert table.splitlines()[2].count(gain) == 2, "the input is the second method here"
    assert ("without void" in table) == ("void: " in notes) == (void > 0)
    assert ("  ms" in table) == ("ms: " in notes) == (seconds == 0.01)


def test_a_narrow_terminal_gets_fewer_columns_and_their_names():
    before, after = population(0.7, seed=1), population(0.9, seed=2)
    rows = list(
        comparison_rows(compare_labels(before, {"one": after, "two": before}, {"one": 0.01, "two": 0.01}, "two"))
    )
    whole = summary(rows, SUMMARY_COLUMNS)
    assert "left out" not in whole and summary(rows, SUMMARY_COLUMNS, 300) == whole
    table, notes = summary(rows, SUMMARY_COLUMNS, 80).split("\n\n")
    assert max(map(len, table.splitlines())) <= 80 and "mIoU" in table and "change (95 %)" in table
    assert "left out, as this terminal is narrow: ms, recall, precision" in notes
    assert summary(rows, SUMMARY_COLUMNS, 10).splitlines()[0].split() == ["method", "mIoU", "change", "(95", "%)"]
