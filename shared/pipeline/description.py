"""What a person sees of a run: on the terminal at its start and end, and on its page in MLflow."""

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from shared import tracking
from shared.contracts.measured import BenchmarkReport
from shared.errors import nearby
from shared.pipeline.runs import Run, continue_command

NOTE = "mlflow.note.content"  # the tag that MLflow shows as a run's description
MOST_FIGURES = 16


# On the terminal.


def head_lines(run: Run) -> list[str]:
    """What a run is, before its first step."""
    record = run.record
    facts = {"folder": nearby(run.folder), "recipe": record.recipe}
    facts |= {"raw data": nearby_data(record.raw_data), "steps": ", ".join(record.steps)}
    facts["MLflow"] = record.mlflow or tracking.ui_command(run.folder.parent)
    return [f"run {record.name}", *(f"{name:10}{fact}" for name, fact in facts.items())]


def nearby_data(raw_data: str) -> str:
    """Raw data as `nearby` has paths; a URL as it is."""
    return raw_data if "://" in raw_data else nearby(Path(raw_data))


def result_lines(run: Run, columns: int | None) -> list[str]:
    """What a finished run has come to, for a terminal of so many columns, and where all is."""
    # The benchmark's table; where it does not fit, with the columns that matter most.
    report = BenchmarkReport.read(run.report)
    table = (run.report / BenchmarkReport.TABLE).read_text().splitlines()
    speed, rest = table[: len(report.speed) + 1], table[len(report.speed) + 1 :]
    if columns and max(map(len, speed)) > columns:
        heads = ("runtime", "precision", "batch", "img/s", "p50 ms", "x torch")
        fields = ("runtime", "precision", "batch_size", "images_per_second")
        fields += ("latency_ms_p50", "speedup")
        rows = [[getattr(row, name) for name in fields] for row in report.speed]
        speed = narrow_table(heads, rows)
        speed[1:] = [
            f"{line}  {row.problem}".rstrip()
            for line, row in zip(speed[1:], report.speed, strict=True)
        ]

    # The comparison with the champion, likewise.
    compared = report.verdict.figures if report.verdict else []
    if compared and columns and max(map(len, rest[-len(compared) :])) > columns:
        rows = [[one.name, one.champion, one.tonight, one.judgement] for one in compared]
        heads = ("figure", "champion", "tonight", "judgement")
        rest = rest[: -len(compared) - 1] + narrow_table(heads, rows)

    # Files and pages.
    places = {"report": nearby(run.report / BenchmarkReport.PAGE), "log": nearby(run.log)}
    places["MLflow"] = run.record.mlflow or "has not taken the run yet"
    places["shown by"] = tracking.ui_command(run.folder.parent)
    return [*speed, *rest, "", *(f"{name:10}{place}" for name, place in places.items())]


def narrow_table(heads: Sequence[str], rows: list[list]) -> list[str]:
    """Lines of a table: names to the left, figures in four digits to the right, "-" for None."""
    cells = [list(heads)]
    for row in rows:
        cells.append([f"{one:.4g}" if isinstance(one, float) else str(one or "-") for one in row])
    align = ["left" if isinstance(one, str) else "right" for one in rows[0]]
    text = tabulate(cells, tablefmt="plain", disable_numparse=True, colalign=align)
    return text.splitlines()


# In MLflow.


def tags_of(run: Run, report: BenchmarkReport | None) -> dict[str, str]:
    """The tags of a run that has ended, with its description.

    Args:
        report: Of its benchmark; None where it did not come so far.
    """
    record = run.record
    found = {NOTE: describe(run, report), "host": record.host, "raw_data": record.raw_data}
    if report:
        found |= {"device": report.environment.get("device", ""), "verdict": record.verdict}
        found |= {"dataset.digest": report.dataset_digest, "model.digest": report.model_digest}
    if record.reason:
        found |= {"failed_step": failed_step(run), "reason": record.reason}
    return {name: value for name, value in found.items() if value}


def failed_step(run: Run) -> str:
    """The step in which a run has failed or was stopped; "" where it ended between two."""
    states = run.record.steps
    return next((step for step in states if states[step].state in ("failed", "running")), "")


def describe(run: Run, report: BenchmarkReport | None) -> str:
    """A run in a few lines of Markdown: its end, its verdict, its figures, and where it is."""
    record = run.record
    parts = []

    # How it ended.
    if record.reason:
        log = [line for line in run.log.read_text(errors="replace").splitlines()[-12:] if line]
        parts.append(f"**{record.state}**: {record.reason}\n\n```\n" + "\n".join(log) + "\n```")
    elif report and report.verdict:
        verdict = report.verdict
        champion = f", champion {verdict.source}" if verdict.source else ""
        parts.append(f"**{verdict.outcome}**{champion}. {' '.join(verdict.reasons)}".strip())

    # Its figures, beside the champion's where it was compared.
    if report and report.verdict and report.verdict.figures:
        rows = [
            (one.name, one.tonight, one.champion, f"{one.change:+.3g}", one.judgement)
            for one in report.verdict.figures[:MOST_FIGURES]
        ]
        heads = ("figure", "this run", "champion", "change", "judgement")
        parts.append(tabulate(rows, heads, tablefmt="github", floatfmt=".4g"))
    elif report:
        rows = sorted(report.headline().items())[:MOST_FIGURES]
        parts.append(tabulate(rows, ("figure", "this run"), tablefmt="github", floatfmt=".4g"))

    # What was asked, and where everything is.
    taken = {step: state.reused_from for step, state in record.steps.items() if state.reused_from}
    facts = [f"data: {Path(record.raw_data).name} ({record.raw_data})"]
    facts += [f"{step}: taken over from {source}" for step, source in taken.items()]
    facts += [f"folder: {run.folder} on {record.host}"]
    facts += ["report: report.html, below Artifacts"] if report else []
    if record.state != "finished":
        facts.append(f"goes on with: {continue_command(run)}")
    parts.append("\n".join(f"- {fact}" for fact in facts))
    return "\n\n".join(parts) + "\n"
