"""What people read: a plain-text table and a self-contained page."""

from collections import defaultdict
from pathlib import Path

from markupsafe import Markup

from components.benchmark.page import published as seeds
from components.benchmark.page.charts import Line, line_chart
from components.benchmark.page.history import EarlierRun, Past
from components.benchmark.page.pictures import Shown
from components.benchmark.page.templates import template
from shared.contracts.exported import Parity
from shared.contracts.folder import write_atomically
from shared.contracts.measured import BenchmarkReport, LabelStyles, Quality, SpeedRow
from shared.quality import METRICS, Metric

PAGE = "report.html"
TABLE = "table.txt"
NAMES = ("runtime", "device", "precision", "batch")
RATES = {  # images per second, by how much is within the clock
    "device_images_per_second": ("device img/s", "maps and pictures stay on the device: no copies"),
    "images_per_second": (
        "img/s",
        "integer maps in host memory to pictures in host memory: copies count",
    ),
    "end_to_end_images_per_second": (
        "end-to-end img/s",
        "map files to PNG files: reading, encoding, copies, writing",
    ),
}
COLUMNS = (
    *NAMES,
    *(name for name, _ in RATES.values()),
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "peak MB",
    "x torch fp32",
)
FORMATS = ("{:.2f}",) * 3 + ("{:.1f}",) * 3 + ("{:.0f}", "{:.2f}")  # of the columns after the names
ARROWS = {"higher": "↑", "lower": "↓"}  # which direction of a metric is better


# The table.


def text_table(report: BenchmarkReport) -> str:
    """Speed in aligned columns, names to the left and numbers to the right; then parity, quality,
    styles."""
    rows = [(name_cells(row), row.problem or figure_cells(row)) for row in report.speed]
    aligned = [COLUMNS, *(names + figures for names, figures in rows if isinstance(figures, tuple))]
    aligned += [names for names, _ in rows]
    widths = [max(len(line[i]) for line in aligned if i < len(line)) for i in range(len(COLUMNS))]

    def align(cells: tuple[str, ...]) -> str:
        return "  ".join(
            cell.ljust(widths[i]) if i < 3 else cell.rjust(widths[i])
            for i, cell in enumerate(cells)
        )

    lines = [align(COLUMNS)]
    for names, figures in rows:
        lines.append(
            align(names + figures) if isinstance(figures, tuple) else f"{align(names)}  {figures}"
        )
    lines += [f"parity   {parity_text(parity)}" for parity in report.parity]
    for split, quality in (("test", report.quality), ("train", report.train_quality)):
        lines.append(f"{split:8} {quality_text(quality)}")
        lines += [f"{'':8} caution: {caveat}" for caveat in quality.caveats]
    return "\n".join(lines + [f"style    {style_text(style)}" for style in report.styles])


def name_cells(row: SpeedRow) -> tuple[str, ...]:
    return row.runtime, row.device, row.precision, str(row.batch_size)


def figure_cells(row: SpeedRow) -> tuple[str, ...]:
    """What follows the names of a row; "-" for what was not measured."""
    figures = [getattr(row, name) for name in RATES]
    figures += [
        row.latency_ms_p50,
        row.latency_ms_p90,
        row.latency_ms_p99,
        row.peak_memory_mb,
        row.speedup,
    ]
    return tuple(
        "-" if value is None else text.format(value)
        for value, text in zip(figures, FORMATS, strict=True)
    )


def parity_text(parity: Parity) -> str:
    return (
        f"{parity.runtime} {parity.device} {parity.precision}: max abs error "
        f"{parity.max_abs_error:.1e}, "
        f"mean {parity.mean_abs_error:.1e} of pictures in [-1, 1], cosine {parity.cosine:.6f}, "
        f"PSNR {parity.psnr_db:.2f} dB (limit {parity.limit:g}, "
        f"{counted(parity.samples, 'sample')})"
    )


def quality_text(quality: Quality) -> str:
    if not quality.pairs:
        return "no pairs with a photo"
    return f"{figures_text(quality)} ({counted(quality.pairs, 'pair')})"


def figures_text(quality: Quality) -> str:
    return ", ".join(f"{title} {text}" for title, text in quality_figures(quality))


def quality_figures(quality: Quality) -> list[tuple[str, str]]:
    """Title and text of those that were measured."""
    return [
        (metric.title, metric.text.format(getattr(quality, metric.name)))
        for metric in measured(quality)
    ]


def measured(quality: Quality) -> list[Metric]:
    """The metrics of which there is a figure."""
    return [metric for metric in METRICS if getattr(quality, metric.name) is not None]


def style_text(style: LabelStyles) -> str:
    centres, instances = counted(style.centres, "centre"), counted(style.instances, "instance")
    if style.fallback:
        which = "that is too small" if style.instances == 1 else "that are all too small"
        return f"label {style.label}: {centres}, the mean of {instances} {which}"
    explained = (
        "" if style.explained is None else f", explain {style.explained:.0%} of the variance"
    )
    differ = (
        ""
        if style.picture_difference is None
        else f", pictures differ by {style.picture_difference:.1f} levels"
    )
    return f"label {style.label}: {centres} of {instances}{explained}{differ}"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# The page.


def write_page(
    folder: Path,
    report: BenchmarkReport,
    shown: list[Shown],
    past: Past | None = None,
    styles_html: str = "",
) -> None:
    """report.html with all pictures inside: it can be mailed, and opened without a network.

    Args:
        past: What MLflow knows of the time before.
        styles_html: Goes in as it is.
    """
    past = past or Past()
    timed = [row for row in report.speed if row.images_per_second is not None]
    page = template("report.html.j2").render(
        report=report,
        columns=COLUMNS,
        rates=list(RATES.values()),
        rows=[(row, name_cells(row), figure_cells(row)) for row in report.speed],
        fastest=max(timed, key=lambda row: row.images_per_second, default=None),
        worst_parity=max(
            report.parity, key=lambda parity: parity.max_abs_error / parity.limit, default=None
        ),
        qualities=[("test", report.quality), ("training", report.train_quality)],
        quality_figures=quality_figures,
        figures_text=figures_text,
        counted=counted,
        speed_charts=speed_charts(report),
        shown=shown,
        styles_html=Markup(styles_html),
        loss_charts=loss_charts(past.losses),
        history=history_table(report, past.runs),
        history_charts=history_charts(report, past.runs),
        published=[("Inference", seeds.INFERENCE), ("Training", seeds.TRAINING)],
    )
    write_atomically(folder / PAGE, page.encode())


def runtimes(report: BenchmarkReport) -> dict[str, list[SpeedRow]]:
    """Rows by runtime, device and precision."""
    groups = defaultdict(list)
    for row in report.speed:
        groups[" ".join(name_cells(row)[:3])].append(row)
    return groups


def speed_charts(report: BenchmarkReport) -> list[Markup]:
    """Images per second against batch size, a chart for each clock; they share their axes."""
    sizes = sorted({row.batch_size for row in report.speed})
    places = {size: float(i) for i, size in enumerate(sizes)}
    charts = {}
    for field in RATES:
        charts[field] = [
            Line(
                name,
                [
                    (places[row.batch_size], y)
                    for row in rows
                    if (y := getattr(row, field)) is not None
                ],
            )
            for name, rows in runtimes(report).items()
        ]
    top = max(
        (y for lines in charts.values() for line in lines for _, y in line.points), default=1.0
    )
    return [
        line_chart(
            RATES[field][0],
            lines,
            "batch size",
            "img/s",
            {places[s]: str(s) for s in sizes},
            (0.0, top),
        )
        for field, lines in charts.items()
        if any(line.points for line in lines)
    ]


def loss_charts(losses: dict[str, list[Line]]) -> list[Markup]:
    """Of each training step the generator's losses, and the discriminator's."""
    charts = []
    for step, lines in losses.items():
        for network, prefix in (("generator", "G_"), ("discriminator", "D_")):
            if chosen := [line for line in lines if line.name.startswith(prefix)]:
                charts.append(
                    line_chart(f"{step}, {network}", chosen, "images seen", "", y_includes=(0.0,))
                )
    return charts


# Earlier runs.


def history_columns(report: BenchmarkReport) -> dict[str, tuple[str, str]]:
    """Figure of the headline -> (title, format): speed at the smallest batch, which fits
    everywhere, and quality."""
    columns = {}
    for rows in runtimes(report).values():
        if timed := [row for row in rows if row.images_per_second is not None]:
            row = min(timed, key=lambda row: row.batch_size)
            figure = f"fps/{row.runtime}_{row.precision}/batch_{row.batch_size}"
            columns[figure] = (
                f"{row.runtime} {row.precision}, batch\N{NO-BREAK SPACE}{row.batch_size}",
                "{:.2f}",
            )
    split, quality = (
        ("test", report.quality) if report.quality.pairs else ("train", report.train_quality)
    )
    for metric in measured(quality):
        title = f"{metric.title}\N{NO-BREAK SPACE}{ARROWS[metric.better]}"
        columns[f"{split}/{metric.name}"] = (title, metric.text)
    return columns


def history_table(report: BenchmarkReport, runs: list[EarlierRun]) -> list[list[str]]:
    """Titles, this report, earlier runs with one of its figures; nothing where there are none."""
    columns = history_columns(report)
    runs = [run for run in runs if columns.keys() & run.figures.keys()]
    lines = [(report.environment["measured"], "this report", report.headline())]
    lines += [
        (f"{run.started:%Y-%m-%d %H:%M} UTC", run.commit[:7] or "-", run.figures) for run in runs
    ]
    titles = ["measured", "commit", *(title for title, _ in columns.values())]
    cells = [
        [
            when,
            commit,
            *(
                text.format(figures[name]) if name in figures else "-"
                for name, (_, text) in columns.items()
            ),
        ]
        for when, commit, figures in lines
    ]
    return [titles, *cells] if runs else []


def history_charts(report: BenchmarkReport, runs: list[EarlierRun]) -> list[Markup]:
    """Oldest to the left, this report to the right: all speeds in one chart, every quality figure
    in its own."""
    columns = history_columns(report)
    runs = [run for run in reversed(runs) if columns.keys() & run.figures.keys()]
    if not runs:
        return []
    figures = [*(run.figures for run in runs), report.headline()]
    ticks = {0.0: f"{runs[0].started:%Y-%m-%d}", float(len(runs)): "now"}
    lines = {
        name: Line(title, [(float(x), at[name]) for x, at in enumerate(figures) if name in at])
        for name, (title, _) in columns.items()
    }
    speed = [line for name, line in lines.items() if name.startswith("fps/")]
    charts = [line_chart("img/s", speed, "", "img/s", ticks, (0.0,))] if speed else []
    quality = [line for name, line in lines.items() if not name.startswith("fps/")]
    return charts + [line_chart(line.name, [line], "", "", ticks) for line in quality]
