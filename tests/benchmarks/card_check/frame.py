"""The frame of a check that an owner of a card runs once: parts, each in a process and with a time
of its own, that fail alone; a table and a JSON to send back.

Python's own library alone: it also works, and says what is missing, where no package is."""

import importlib.util
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
RAN, FAILED, LATE, LEFT_OUT = "ran", "failed", "took too long", "was left out"
END_SECONDS = 5  # for a part that is stopped to end itself
REASON_LETTERS = 300
COMMAND = [sys.executable, "-m", "tests.benchmarks.card_check.part"]  # of a part, and its name


@dataclass(frozen=True)
class Part:
    """What is tried in a process of its own."""

    name: str
    title: str
    limit_s: float
    needs: tuple[str, ...] = ()  # modules, without which it is left out
    may_fall_back: bool = True  # what an NPU lacks may run on the CPU, with torch_npu's warning


@dataclass(frozen=True)
class Row:
    """A figure of a part; `holds` is None where nothing was promised of it."""

    what: str
    value: float | str
    unit: str = ""
    wanted: str = ""
    holds: bool | None = None


@dataclass
class Outcome:
    """What came of a part."""

    name: str
    title: str
    ended: str  # RAN, FAILED, LATE or LEFT_OUT
    seconds: float = 0.0
    reason: str = ""  # why it did not run to its end
    rows: list[Row] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        return self.ended == RAN and all(row.holds is not False for row in self.rows)


def run_parts(
    name: str, parts: Iterable[Part], out: Path, flags: list[str], total_s: float
) -> Iterator[Outcome]:
    """Run one part after the other; no longer than `total_s` seconds all together.

    Rows are kept as they come: a part that is stopped has left those that it was done with. What it
    printed is in OUT/<part>.log."""
    parts, started = list(parts), time.monotonic()
    for number, part in enumerate(parts, 1):
        left = total_s - (time.monotonic() - started)
        limit = min(part.limit_s, left)
        missing = [module for module in part.needs if importlib.util.find_spec(module) is None]
        if missing:
            outcome = Outcome(part.name, part.title, LEFT_OUT, reason=how_to_install(missing))
        elif left < 1:
            reason = f"the {total_s:g} s of all parts were over"
            outcome = Outcome(part.name, part.title, LEFT_OUT, reason=reason)
        else:
            say(f"{name}: {number} of {len(parts)}, {part.title}: at most {limit:.0f} s")
            outcome = run_part(part, out, flags, limit)
        say(f"{name}: {part.title} {outcome.ended}{tail(outcome)}")
        yield outcome


def tail(outcome: Outcome) -> str:
    after = f" after {outcome.seconds:.0f} s" if outcome.seconds else ""
    return after + (f": {outcome.reason}" if outcome.reason else "")


def how_to_install(modules: list[str]) -> str:
    packages = " ".join({"PIL": "pillow", "yaml": "pyyaml"}.get(one, one) for one in modules)
    return (
        f"{Path(sys.executable).name} has no {', '.join(modules)}: "
        f"`{sys.executable} -m pip install -c constraints.txt {packages}`"
    )


def run_part(part: Part, out: Path, flags: list[str], limit_s: float) -> Outcome:
    """One part to its end, or until its time is over."""
    rows, log = out / f"{part.name}.jsonl", out / f"{part.name}.log"
    rows.unlink(missing_ok=True)
    shutil.rmtree(out / part.name, ignore_errors=True)  # of an earlier check
    command = [*COMMAND, part.name, "--rows", str(rows), "--work", str(out / part.name), *flags]
    started, ended = time.monotonic(), RAN
    variables = {} if part.may_fall_back else {"TORCH_NPU_FALLBACK_CPU_DISABLE": "1"}
    with log.open("wb") as words:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=variables | os.environ,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # compilers that it starts end with it
        )
        try:
            if process.wait(limit_s):
                ended = FAILED
        except subprocess.TimeoutExpired:
            ended = LATE
        finally:
            end_group(process)
    reason = {RAN: "", LATE: f"stopped after {limit_s:.0f} s"}.get(ended)
    if reason is None:
        reason = last_words(log, process.returncode)
    seconds = time.monotonic() - started
    return Outcome(part.name, part.title, ended, seconds, reason, read_rows(rows))


def end_group(process: subprocess.Popen) -> None:
    """End a part and all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(END_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    process.wait()


def last_words(log: Path, code: int) -> str:
    """Why a part failed: the last line that it said, else how it ended."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    said = lines[-1] if lines else ended
    return said if code > 0 and lines else f"{ended}; last it said: {said}"[:REASON_LETTERS]


def read_rows(file: Path) -> list[Row]:
    """The rows of a part; the last line is cut off where it was being written."""
    found = []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else ():
        try:
            found.append(Row(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return found


def say(line: str) -> None:
    print(line, flush=True)


# What is sent back.


def report(name: str, outcomes: list[Outcome], seconds: float, command: list[str]) -> dict:
    """All of it, for programs."""
    return {
        "check": name,
        "format": 2,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": shlex.join(command),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seconds": round(seconds, 1),
        "is_well": all(outcome.is_well for outcome in outcomes),
        "parts": [asdict(outcome) | {"is_well": outcome.is_well} for outcome in outcomes],
    }


def table(outcomes: list[Outcome]) -> str:
    """All of it, for people."""
    lines = [("part", "figure", "value", "wanted", "")]
    for outcome in outcomes:
        lines += [(outcome.title, "", outcome.ended, outcome.reason, "")]
        for row in outcome.rows:
            mark = {True: "holds", False: "DOES NOT HOLD", None: ""}[row.holds]
            lines.append(("", row.what, f"{shown(row.value)} {row.unit}".strip(), row.wanted, mark))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    padded = (
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), *line[3:]]
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in padded) + "\n"


def shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def page(found: dict) -> str:
    """The figures in Markdown, for a README, with the way they were obtained."""
    known = {row["what"]: row["value"] for part in found["parts"] for row in part["rows"]}
    device = known.get("device", "the device is not known: see the part `report`")
    lines = [f"`{found['command']}`, {found['date']}, {found['seconds']:.0f} s: {device}.", ""]
    lines += ["| figure | value | wanted |", "|---|---|---|"]
    for part in found["parts"]:
        if part["ended"] != RAN:
            lines.append(f"| {part['title']} {part['ended']} | {part['reason']} | |")
        for row in part["rows"] if part["name"] != "report" else ():
            wanted = row["wanted"] + (" (DOES NOT HOLD)" if row["holds"] is False else "")
            value = f"{shown(row['value'])} {row['unit']}".strip()
            lines.append(f"| {row['what']} | {value} | {wanted} |")
    return "\n".join(lines) + "\n"


def write(
    name: str, outcomes: list[Outcome], out: Path, seconds: float, command: list[str]
) -> None:
    """OUT/<check>.json, OUT/<check>.txt and OUT/<check>.md."""
    stem = name.replace("-", "_")
    found = report(name, outcomes, seconds, command)
    (out / f"{stem}.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / f"{stem}.txt").write_text(table(outcomes))
    (out / f"{stem}.md").write_text(page(found))


def say_all(name: str, outcomes: list[Outcome], out: Path) -> None:
    stem = name.replace("-", "_")
    say(table(outcomes))
    say(f"{name}: send {out / f'{stem}.json'} and {out / f'{stem}.txt'}")
