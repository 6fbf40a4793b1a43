"""The report as a table of plain text, and how its figures are written, on the page too."""

from dataclasses import dataclass
from typing import Literal

from tabulate import tabulate

from components.benchmark.wording import OUTCOMES, comparison_table
from shared.contracts.exported import Parity
from shared.contracts.measured import BenchmarkReport, LabelStyles, Quality, SpeedRow, Verdict
from shared.deployed.parity import limit_text
from shared.quality import METRICS, Metric


@dataclass(frozen=True)
class Column:
    """A column of the speed table.

    Args:
        title: Stands over the column.
        field: Of SpeedRow, what the column shows.
        text: How a value is written.
        align: Names stand to the left, numbers to the right.
        clock: What is within the clock, of a column of images per second; "" of another.
    """

    title: str
    field: str
    text: str = "{}"
    align: Literal["left", "right"] = "right"
    clock: str = ""

    def cell(self, row: SpeedRow) -> str:
        """The value as it is written, "-" for what was not measured."""
        value = getattr(row, self.field)
        return "-" if value is None else self.text.format(value)


NAMES = (
    Column("runtime", "runtime", align="left"),
    Column("device", "device", align="left"),
    Column("precision", "precision", align="left"),
    Column("batch", "batch_size"),
)
FIGURES = (
    Column(
        "device img/s",
        "device_images_per_second",
        "{:.2f}",
        clock="maps and pictures stay on the device: no copies; on a CPU the call itself",
    ),
    Column(
        "img/s",
        "images_per_second",
        "{:.2f}",
        clock="integer maps in host memory to pictures in host memory: copies count",
    ),
    Column(
        "end-to-end img/s",
        "end_to_end_images_per_second",
        "{:.2f}",
        clock="map files to PNG files: reading, encoding, copies, writing",
    ),
    Column("p50 ms", "latency_ms_p50", "{:.1f}"),
    Column("p90 ms", "latency_ms_p90", "{:.1f}"),
    Column("p99 ms", "latency_ms_p99", "{:.1f}"),
    Column("peak MB", "peak_memory_mb", "{:.0f}"),
    Column("x torch fp32", "speedup", "{:.2f}"),
)
RATES = tuple(column for column in FIGURES if column.clock)  # images per second, by their clocks


def text_table(report: BenchmarkReport) -> str:
    """Speed in aligned columns, then parity, quality and styles, a line each, then the verdict."""
    # Speed; a row without figures ends with the reason.
    columns = NAMES + FIGURES
    cells = [[column.title for column in columns]]
    for row in report.speed:
        figures = ["" if row.problem else column.cell(row) for column in FIGURES]
        cells.append([*(column.cell(row) for column in NAMES), *figures])
    align = [column.align for column in columns]
    lines = tabulate(cells, tablefmt="plain", disable_numparse=True, colalign=align).split("\n")
    for number, row in enumerate(report.speed, start=1):
        if row.problem:
            lines[number] += f"  {row.problem}"

    # What the figures are worth.
    lines += [f"parity   {parity_text(parity)}" for parity in report.parity]
    qualities = [("test", report.quality), ("train", report.train_quality)]
    if report.int8_quality:
        qualities.insert(1, ("int8", report.int8_quality))
    for split, quality in qualities:
        lines.append(f"{split:8} {quality_text(quality)}")
        lines += [f"{'':8} caution: {caveat}" for caveat in quality.caveats]
    lines += [f"style    {style_text(style)}" for style in report.styles]
    if report.verdict:
        lines += ["", *verdict_lines(report.verdict)]
    return "\n".join(lines)


def parity_text(parity: Parity) -> str:
    """The differences of a runtime from PyTorch, in a line."""
    return (
        f"{parity.runtime} {parity.device} {parity.precision}: "
        f"max abs error {parity.max_abs_error:.1e}, mean {parity.mean_abs_error:.1e} "
        f"of pictures in [-1, 1], cosine {parity.cosine:.6f}, PSNR {parity.psnr_db:.2f} dB "
        f"({limit_text(parity)}, {counted(parity.samples, 'sample')})"
    )


def quality_text(quality: Quality) -> str:
    """The figures of quality, and of how many pairs they are."""
    if not quality.pairs:
        return "no pairs with a photo"
    return f"{figures_text(quality)} ({counted(quality.pairs, 'pair')})"


def figures_text(quality: Quality) -> str:
    """The figures of quality, each with its name before it."""
    return ", ".join(f"{title} {text}" for title, text in quality_figures(quality))


def quality_figures(quality: Quality) -> list[tuple[str, str]]:
    """Title and text of each figure that was measured."""
    return [
        (metric.title, metric.text.format(getattr(quality, metric.name)))
        for metric in measured(quality)
    ]


def measured(quality: Quality) -> list[Metric]:
    """The metrics of which there is a figure."""
    return [metric for metric in METRICS if getattr(quality, metric.name) is not None]


def style_text(style: LabelStyles) -> str:
    """What the styles of a label are worth, in a line."""
    centres, instances = counted(style.centres, "centre"), counted(style.instances, "instance")
    label = f"label {style.label}" + f" ({style.name})" * bool(style.name)
    if style.fallback:
        which = "that is too small" if style.instances == 1 else "that are all too small"
        return f"{label}: {centres}, the mean of {instances} {which}"
    text = f"{label}: {centres} of {instances}"
    if style.explained is not None:
        text += f", explain {style.explained:.0%} of the variance"
    if style.picture_difference is not None:
        text += f", pictures differ by {style.picture_difference:.1f} levels"
    return text


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict, its reasons, and the figures that were compared in aligned columns."""
    reasons = [f"{'':8} {reason}" for reason in verdict.reasons]
    lines = [f"verdict  {OUTCOMES[verdict.outcome]}", *reasons]
    if verdict.figures:
        rows = comparison_table(verdict.figures)
        align = ["left", *["right"] * (len(rows[0]) - 2), "left"]
        text = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=align)
        lines += text.split("\n")
    return lines


def counted(number: int, noun: str) -> str:
    """Such as "1 pair" and "1200 pairs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
