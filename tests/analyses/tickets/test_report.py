"""The table of metrics and costs of masked trainings."""

from dataclasses import replace

import pytest

from runner.analyses.tickets.report import METHODS, Outcome, markdown, table
from runner.tasks.metrics import by_name


def outcome(method="ticket", seed=0, value=0.5, norms=("kept", "recalibrated"), column="none"):
    values = {(split, norm): value for split in ("test", "validation") for norm in norms}
    return Outcome(column, method, seed, 2.0, 10.0 + seed, 4.0, 20.0 + seed, 0.9, values)


def test_seeds_become_mean_and_deviation():
    rows = table([outcome(seed=0, value=0.5), outcome(seed=2, value=0.7)], by_name("accuracy"), "weight", 0.9)
    assert len(rows) == 4
    row = rows[(rows["split"] == "test") & (rows["batch_norm"] == "kept")].iloc[0]
    assert (row["mean"], row["std"], row["n"]) == (pytest.approx(0.6), pytest.approx(0.02**0.5), 2)
    assert row[["epochs", "total_epochs", "seconds", "total_seconds"]].tolist() == [2, 4, 11, 21]
    assert (row["metric"], row["granularity"], row["sparsity"]) == ("accuracy", "weight", 0.9)


def test_lines_stand_in_the_order_of_the_outcomes():
    outcomes = [outcome("ticket"), outcome("dense"), outcome("ticket", column="targeted", value=0.75)]
    text = markdown(
        table(outcomes, by_name("accuracy"), "weight", 0.9), by_name("accuracy"), "digits", ["left out: a copy"]
    )
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert lines[0] == [
        *("run", "then", "test accuracy (%)", "recalibrated", "validation", "zero (%)"),
        *("epochs", "total epochs", "seconds", "total seconds", "seeds"),
    ]
    assert [line[:2] for line in lines[2:]] == [["none", "ticket"], ["none", "dense"], ["targeted", "ticket"]]
    assert lines[4][2:] == ["75.00", "75.00", "75.00", "90.00", "2", "4", "10.0", "20.0", "1"]
    assert text.startswith("## digits\n")
    assert f"- ticket: {METHODS['ticket']}.\n- left out: a copy\n" in text
    assert "fresh" not in text


def test_what_is_saved_is_of_iterative_prunings_total():
    iterative = replace(outcome("iterative"), total_epochs=16.0, total_seconds=50.0)
    rows = table([outcome("pruned", column="targeted"), iterative], by_name("accuracy"), "weight", 0.9)
    assert rows["saved_epochs"].tolist() == [0.75] * 4 + [0] * 4
    assert rows["saved_seconds"].tolist() == pytest.approx([0.6] * 4 + [0] * 4)
    lines = markdown(rows, by_name("accuracy"), "digits").splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[-4:-1]] == ["epochs saved (%)", "seconds saved (%)", "seeds"]
    assert [cell.strip() for cell in lines[4].split("|")[-4:-1]] == ["75", "60", "1"]
    # With two loops, it is unclear which one the savings refer to.
    two = table([outcome("iterative"), outcome("iterative", column="other")], by_name("accuracy"), "weight", 0.9)
    assert not {"saved_epochs", "saved_seconds"} & set(two)


def test_a_model_without_batch_norm_has_one_column_a_split():
    text = markdown(table([outcome(norms=("none",))], by_name("bleu"), "unit", 0.5), by_name("bleu"), "words")
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[3:6]] == ["test BLEU", "validation", "zero (%)"]
