"""What people read: a page that holds all it shows."""

from collections import defaultdict
from pathlib import Path

from markupsafe import Markup

from components.benchmark.page.charts import Line, line_chart
from components.benchmark.page.gallery import INDEX
from components.benchmark.page.history import EarlierRun, Past
from components.benchmark.page.legend import legend_of
from components.benchmark.page.pictures import Shown, equal_pictures
from components.benchmark.page.published import INFERENCE, TRAINING
from components.benchmark.page.subject import Subject
from components.benchmark.page.table import (
    FIGURES,
    NAMES,
    RATES,
    counted,
    figures_text,
    measured,
    quality_figures,
)
from components.benchmark.page.templates import template
from components.benchmark.wording import ARROWS, OUTCOMES, comparison_table
from shared.contracts.measured import BenchmarkReport, SpeedRow
from shared.deployed.script import python_script, usage
from shared.files.writing import write_atomically


def page_in(report: str | Path) -> Path:
    """The page of a report folder."""
    return Path(report, BenchmarkReport.PAGE)


def write_page(
    folder: Path,
    report: BenchmarkReport,
    subject: Subject,
    shown: list[Shown],
    past: Past | None = None,
    styles_html: str = "",
    gallery_pairs: int = 0,
) -> None:
    """Write report.html with all pictures inside: it can be mailed, and opened without a network.

    Args:
        past: What MLflow knows of the time before.
        styles_html: Goes in as it is.
        gallery_pairs: How many pairs the gallery beside the page shows; 0 = there is none.
    """
    past = past or Past()

    # What the head of the page shows of all rows.
    timed = [row for row in report.speed if row.images_per_second is not None]
    fastest = max(timed, key=lambda row: row.images_per_second, default=None)
    with_limit = [each for each in report.parity if not each.least_psnr_db]
    worst = max(with_limit, key=lambda each: each.max_abs_error / each.limit, default=None)

    qualities = [("test", report.quality), ("training", report.train_quality)]
    if report.int8_quality:
        qualities.insert(1, ("test (int8 file)", report.int8_quality))

    page = template("report.html.j2").render(
        # The head.
        report=report,
        subject=subject,
        contents=[],  # the template notes its sections here
        fastest=fastest,
        worst_parity=worst,
        qualities=qualities,
        outcomes=OUTCOMES,
        compared=comparison_table(report.verdict.figures) if report.verdict else [],
        # Pictures and styles, and the file that makes them.
        shown=shown,
        legend=legend_of((i for row in shown for i in row.labels), subject.labels),
        gallery=f"{BenchmarkReport.GALLERY}/{INDEX}",
        gallery_pairs=gallery_pairs,
        equal_pictures=equal_pictures(shown),
        styles_html=Markup(styles_html),
        command=usage(subject.export),
        script=python_script(subject.export),
        # Tables and charts.
        names=NAMES,
        figures=FIGURES,
        rates=RATES,
        speed_charts=speed_charts(report),
        loss_charts=loss_charts(past.losses),
        history=history_table(report, past.runs),
        history_charts=history_charts(report, past.runs),
        published=[("Inference", INFERENCE), ("Training", TRAINING)],
        # How figures are written.
        quality_figures=quality_figures,
        figures_text=figures_text,
        counted=counted,
        addressed=lambda pictures: [(picture, picture.data_uri()) for picture in pictures],
    )
    write_atomically(page_in(folder), page.encode())


# Charts.


def by_runtime(report: BenchmarkReport) -> dict[str, list[SpeedRow]]:
    """The rows of the speed table by runtime, device and precision."""
    groups = defaultdict(list)
    for row in report.speed:
        groups[f"{row.runtime} {row.device} {row.precision}"].append(row)
    return groups


def speed_charts(report: BenchmarkReport) -> list[Markup]:
    """Images per second against batch size, a chart for each clock; they share their axes."""
    # Batch sizes stand at equal distances.
    sizes = sorted({row.batch_size for row in report.speed})
    places = {size: float(place) for place, size in enumerate(sizes)}
    ticks = {place: str(size) for size, place in places.items()}

    # A line for each runtime; what was not measured is no point of it.
    charts = {}
    for rate in RATES:
        charts[rate.title] = lines = []
        for name, rows in by_runtime(report).items():
            points = [(places[row.batch_size], getattr(row, rate.field)) for row in rows]
            lines.append(Line(name, [(x, y) for x, y in points if y is not None]))

    # A clock that no runtime has gets no chart.
    found = [y for lines in charts.values() for line in lines for _, y in line.points]
    axis = (0.0, max(found, default=1.0))
    return [
        line_chart(title, lines, "batch size", "img/s", ticks, axis)
        for title, lines in charts.items()
        if any(line.points for line in lines)
    ]


def loss_charts(losses: dict[str, list[Line]]) -> list[Markup]:
    """A chart of the generator's losses and one of the discriminator's, for each training step."""
    charts = []
    for step, lines in losses.items():
        for network, prefix in (("generator", "G_"), ("discriminator", "D_")):
            if chosen := [line for line in lines if line.name.startswith(prefix)]:
                title = f"{step}, {network}"
                charts.append(line_chart(title, chosen, "images seen", "", y_includes=(0.0,)))
    return charts


# Earlier runs.


def history_columns(report: BenchmarkReport) -> dict[str, tuple[str, str]]:
    """Figure of the headline -> (title, format) of what is compared with earlier runs."""
    columns = {}

    # Speed, at the smallest batch, which fits everywhere.
    for rows in by_runtime(report).values():
        timed = [row for row in rows if row.images_per_second is not None]
        if timed:
            row = min(timed, key=lambda row: row.batch_size)
            name = f"fps/{row.runtime}_{row.precision}/batch_{row.batch_size}"
            title = f"{row.runtime} {row.precision}, batch\N{NO-BREAK SPACE}{row.batch_size}"
            columns[name] = (title, "{:.2f}")

    # Quality, of the training pairs where no test pair has a photo.
    split, quality = "test", report.quality
    if not quality.pairs:
        split, quality = "train", report.train_quality
    for metric in measured(quality):
        title = f"{metric.title}\N{NO-BREAK SPACE}{ARROWS[metric.better]}"
        columns[f"{split}/{metric.name}"] = (title, metric.text)
    return columns


def history_table(report: BenchmarkReport, runs: list[EarlierRun]) -> list[list[str]]:
    """Titles, this report, earlier runs with one of its figures; nothing where there are none."""
    columns = history_columns(report)
    runs = [run for run in runs if columns.keys() & run.figures.keys()]
    if not runs:
        return []

    lines = [(report.environment["measured"], "this report", report.headline())]
    for run in runs:
        lines.append((f"{run.started:%Y-%m-%d %H:%M} UTC", run.commit[:7] or "-", run.figures))

    table = [["measured", "commit", *(title for title, _ in columns.values())]]
    for measured_at, commit, figures in lines:
        cells = [
            text.format(figures[name]) if name in figures else "-"
            for name, (_, text) in columns.items()
        ]
        table.append([measured_at, commit, *cells])
    return table


def history_charts(report: BenchmarkReport, runs: list[EarlierRun]) -> list[Markup]:
    """All speeds in one chart and every figure of quality in its own, this report to the right; of
    what an earlier run has too."""
    columns = history_columns(report)
    runs = [run for run in reversed(runs) if columns.keys() & run.figures.keys()]  # oldest first
    known = {name for run in runs for name in run.figures}
    columns = {name: column for name, column in columns.items() if name in known}
    if not columns:
        return []

    # A line for each figure; a run that lacks it is no point of the line.
    figures = [*(run.figures for run in runs), report.headline()]
    lines = {
        name: Line(title, [(float(x), at[name]) for x, at in enumerate(figures) if name in at])
        for name, (title, _) in columns.items()
    }

    ticks = {0.0: f"{runs[0].started:%Y-%m-%d}", float(len(runs)): "now"}
    speed = [line for name, line in lines.items() if name.startswith("fps/")]
    quality = [line for name, line in lines.items() if not name.startswith("fps/")]
    charts = [line_chart("img/s", speed, "", "img/s", ticks, (0.0,))] if speed else []
    return charts + [line_chart(line.name, [line], "", "", ticks) for line in quality]
