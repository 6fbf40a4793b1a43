"""What a person sees of a run in MLflow: the text on its page, and its tags."""

from pathlib import Path

from tabulate import tabulate

from shared.contracts.measured import BenchmarkReport
from shared.pipeline.runs import Run, continue_command

NOTE = "mlflow.note.content"  # the tag that MLflow shows as a run's description
MOST_FIGURES = 16


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
