"""The published numbers that are part of the package."""

import pandas as pd
import pytest

from runner.reporting.published import FOLDER, published_files, published_heads, published_values


def test_every_file_but_table_1_has_sparsities_for_rows() -> None:
    assert {path.stem for path in FOLDER.glob("*.csv")} - set(published_files()) == {"paper1"}


@pytest.mark.parametrize("file", published_files())
def test_every_column_is_numbers_by_sparsity(file: str) -> None:
    for head in published_heads(file):
        values = published_values(file, head, in_percent=True)
        assert values.index.is_unique
        assert values.index.to_series().between(0, 1).all()
        assert values["mean"].between(0, 1).all()


def test_values_of_the_paper() -> None:
    unit = published_values("paper2_unit", "targeted a=0.90 g=0.75", in_percent=True)
    assert unit.loc[0.7, "mean"] == pytest.approx(0.9003)
    assert unit.loc[0.8, "mean"] == pytest.approx(0.3418)
    assert unit["std"].isna().all()
    assert published_values("paper5_bleu", "none", in_percent=False).loc[0.0, "mean"] == 26.01
    assert published_values("paper6_weight_right", "ramp targ a=0.99 g=0.99", True).loc[0.985, "mean"] == 0.8903


def test_deviations_of_table_7c() -> None:
    values = published_values("paper7_vgg16_unit", "Ramping TD", in_percent=True)
    expected = pd.Series([0.0061, 0.0010, 0.0083, 0.0172], index=[0.75, 0.85, 0.9, 0.95])
    assert list(values["std"]) == pytest.approx(list(expected))
    assert published_heads("paper7_vgg16_unit") == ["Random-prune", "Ramping TD"]
