"""What people read: a plain-text table and a self-contained page."""

from pathlib import Path

import jinja2

from components.benchmark.pictures import Shown, data_uri
from shared.contracts import BenchmarkReport, Quality, write_atomically

PAGE = "report.html"
TABLE = "table.txt"
COLUMNS = ("runtime", "device", "precision", "batch", "images/s", "p50 ms", "p90 ms", "p99 ms", "peak MB")


def speed_cells(report: BenchmarkReport) -> list[tuple[str, ...]]:
    """One tuple of COLUMNS per row."""
    return [
        (
            row.runtime,
            row.device,
            row.precision,
            str(row.batch_size),
            f"{row.images_per_second:.2f}",
            f"{row.latency_ms_p50:.1f}",
            f"{row.latency_ms_p90:.1f}",
            f"{row.latency_ms_p99:.1f}",
            f"{row.peak_memory_mb:.0f}",
        )
        for row in report.speed
    ]


def text_table(report: BenchmarkReport) -> str:
    """Speed, parity and quality in aligned columns; names to the left, numbers to the right."""
    lines = [COLUMNS, *speed_cells(report)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join(
        [
            *aligned,
            f"parity   {parity_text(report)}",
            f"test     {quality_text(report.quality)}",
            f"train    {quality_text(report.train_quality)}",
        ]
    )


def parity_text(report: BenchmarkReport) -> str:
    parity = report.parity
    return (
        f"max abs error {parity.max_abs_error:.1e}, mean {parity.mean_abs_error:.1e} of pictures in [-1, 1] "
        f"(limit {parity.limit:g}, {parity.samples} samples)"
    )


def quality_text(quality: Quality) -> str:
    if not quality.pairs:
        return "no pairs with a photo"
    plural = "" if quality.pairs == 1 else "s"
    return f"PSNR {quality.psnr_db:.2f} dB, SSIM {quality.ssim:.3f} (mean of {quality.pairs} pair{plural})"


def write_page(folder: Path, report: BenchmarkReport, shown: list[Shown]) -> None:
    """report.html with all pictures inside: it can be mailed, and opened without a network."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    fastest = max(report.speed, key=lambda row: row.images_per_second)
    page = environment.get_template("report.html.j2").render(
        report=report,
        columns=COLUMNS,
        rows=list(zip(report.speed, speed_cells(report), strict=True)),
        fastest=fastest,
        qualities=[("test", report.quality), ("training", report.train_quality)],
        shown=shown,
        data_uri=data_uri,
    )
    write_atomically(folder / PAGE, page.encode())
