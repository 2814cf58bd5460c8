import pytest

from longleaf.retrieval.columns import named_cells


@pytest.mark.parametrize(
    ("row", "names", "expected"),
    [
        ("Sales  120  110", "2024  2023", "Sales: 2024 120; 2023 110"),
        ("Total net sales  $  192,052 $  163,220", "2021 2020", "Total net sales: 2021 $192,052; 2020 $163,220"),
        ("Engineering  34  35  1", "Department  2022  2023  Vacant", "Engineering: 2022 34; 2023 35; Vacant 1"),
        ("Tier 1: to 6 ccf  2.20  4.8", "2022  Rise (%)", "Tier 1: to 6 ccf: 2022 2.20; Rise (%) 4.8"),
        ("Loss (1,137) —", "2021 2020", "Loss: 2021 (1,137); 2020 —"),
        ("Sales  120  110", "2024  2023  2022  2021", None),
        ("Sales rose to 120 from 110 in all.", "2024  2023", None),
        ("120  110", "2024  2023", None),
        ("Sales  120", "2024", None),
        ("", "", None),
    ],
)  # fmt: skip
def test_figures_are_paired_with_their_columns_or_not_at_all(row: str, names: str, expected: str | None) -> None:
    assert named_cells(row, names) == expected
