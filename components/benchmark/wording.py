"""How a comparison with the champion is written, for people."""

from shared.contracts.measured import Comparison
from shared.quality import METRICS

OUTCOMES = {
    "first": "first: there is no champion yet",
    "better": "better than the champion",
    "equal": "equal within noise and allowance",
    "worse": "worse than the champion: refused",
    "not comparable": "not comparable with the champion: refused",
}
JUDGEMENTS = {
    "better": "better",
    "equal": "equal",
    "loss": "worse, allowed",
    "worse": "worse: refused",
    "too busy": "not judged",
}
ARROWS = {"higher": "↑", "lower": "↓"}  # which direction of a figure is better
FORMATS = {f"test/{metric.name}": (metric.title, metric.text) for metric in METRICS}


def title(figure: Comparison) -> str:
    """PSNR, or such as "img/s, onnxruntime fp32, batch 1"."""
    if is_speed(figure):
        _, runtime, batch = figure.name.split("/")
        return f"img/s, {runtime.replace('_', ' ')}, {batch.replace('_', ' ')}"
    return FORMATS[figure.name][0]


def is_speed(figure: Comparison) -> bool:
    """Whether its changes are shares of the champion's value."""
    return figure.name.startswith("fps/")


def value_text(figure: Comparison, value: float) -> str:
    """The champion's value or tonight's, with its unit."""
    return f"{value:.2f}" if is_speed(figure) else FORMATS[figure.name][1].format(value)


def change_text(figure: Comparison, change: float) -> str:
    """A change with its sign and unit."""
    if is_speed(figure):
        return f"{100 * change:+.1f} %"
    return FORMATS[figure.name][1].replace("{:", "{:+").format(change)


def interval_text(figure: Comparison) -> str:
    """The interval of the change."""
    return f"{change_text(figure, figure.low)} to {change_text(figure, figure.high)}"


def broken_rule(figure: Comparison) -> str:
    """A sentence on a figure that is worse than the rules allow."""
    return (
        f"{title(figure)} changed by {change_text(figure, figure.change)} ("
        f"{interval_text(figure)}), {change_text(figure, figure.limit)} is allowed."
    )


def comparison_table(figures: list[Comparison]) -> list[list[str]]:
    """Titles, then a row for each figure; the first and the last column are words."""
    titles = "figure champion tonight change interval noise allowed judgement".split()
    return [titles] + [
        [
            f"{title(figure)} {ARROWS[figure.better]}",
            value_text(figure, figure.champion),
            value_text(figure, figure.tonight),
            change_text(figure, figure.change),
            interval_text(figure),
            change_text(figure, figure.noise).replace("+", "±"),
            change_text(figure, figure.limit),
            JUDGEMENTS[figure.judgement],
        ]
        for figure in figures
    ]
