"""What `compare-norms` recommends; tests/export/om/test_export_om tries the command itself."""

import pytest

from components.export.norm_choice import NormRow, recommend, table


def row(norm: str, ms: float, error: float = 0.01, spread: float = 0.1, batch: int = 1) -> NormRow:
    """A file whose times are ms, half of them within `spread` of it."""
    times = (ms - spread, ms, ms + spread)
    return NormRow(norm, batch, *times, max_abs_error=error, limit=0.05, passes=error <= 0.05)


def broken(norm: str) -> NormRow:
    return NormRow(norm, problem="atc did not compile it")


@pytest.mark.parametrize(
    ("precise", "native", "chosen", "reason"),
    [
        ([row("precise", 9)], [row("native", 5)], "native", "it is 1.80 times as fast as precise"),
        ([row("precise", 5)], [row("native", 9)], "precise", "native is 0.56 times as fast"),
        # 4.85 .. 4.95 and 4.9 .. 5.1 overlap.
        (
            [row("precise", 5)],
            [row("native", 4.9, spread=0.05)],
            "precise",
            "native is 1.02 times as fast as precise, no more than the noise",
        ),
        (
            [row("precise", 9), row("precise", 9, batch=8)],
            [row("native", 5), row("native", 12, batch=8)],
            "precise",
            "native is 0.75 times as fast",
        ),
        (
            [row("precise", 9)],
            [row("native", 5, error=0.06)],
            "precise",
            "native cannot be used: it differs from PyTorch by 0.06, above 0.05",
        ),
        ([broken("precise")], [row("native", 9)], "native", "precise cannot be used: atc did not"),
        (
            [broken("precise")],
            [row("native", 9, error=1.0)],
            "",
            "precise: atc did not compile it; native: it differs from PyTorch by 1, above 0.05",
        ),
    ],
)
def test_native_is_taken_where_it_is_equal_and_faster_beyond_the_noise(
    precise, native, chosen, reason
):
    found = recommend([*precise, *native])
    assert found[0] == chosen and found[1].startswith(reason), found


def test_the_table_has_rates_and_problems():
    lines = table([row("precise", 8, batch=4), broken("native")]).splitlines()
    assert lines[1].split() == ["precise", "4", "8.000", "7.900", "to", "8.100", "500.00", "0.01"]
    assert lines[2].split(maxsplit=1) == ["native", "atc did not compile it"]
