"""The harness of the attacks, on a checkout whose one step does what it is told."""

import signal
import textwrap
from pathlib import Path

import pytest

from tests.attack.trying import KILL, Case, Outcome, Target

STEP = '''
    """Does what its first word says."""
    import sys, time
    from pathlib import Path

    match sys.argv[1:]:
        case ["write", text]:
            Path("made").mkdir(exist_ok=True)
            for name in ("one", "two"):
                Path("made", name).write_text(text)
            Path("made", "two").rename("made/three")
        case ["copy"]:
            Path("copy").write_text(Path("kept").read_text())
        case ["refuse", *lines]:
            print("step refused: 3 is odd: give 4.", *lines, sep="\\n", file=sys.stderr)
            sys.exit(2)
        case ["fail", code]:
            sys.exit(int(code))
        case ["raise"]:
            raise OSError("disk")
        case ["wait"]:
            time.sleep(60)
'''


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    code = tmp_path_factory.mktemp("code")
    for package in ("shared", "components", "components/step"):
        (code / package).mkdir()
        (code / package / "__init__.py").touch()
    (code / "components" / "step" / "__main__.py").write_text(textwrap.dedent(STEP))
    with Target.at(code) as target:
        target.night.mkdir()
        (target.night / "kept").write_text("as it was")
        yield target


def attempt(target: Target, *commands: list[str], kept: str = "as it was", **options) -> Outcome:
    """The outcome of commands, where `kept` has been changed."""

    def prepare(folder: Path) -> None:
        (folder / "kept").write_text(kept)

    words = [["step", *command] for command in commands]
    return target.attempt(Case("a case", prepare, words, **options)).outcome


COPY = dict(results=["copy"])


@pytest.mark.parametrize(
    ("command", "options", "outcome"),
    [
        (["refuse"], COPY, Outcome.SENTENCE),
        (["refuse", "step failed: again."], COPY, Outcome.WORDLESS),
        (["refuse", "Traceback (most recent call last)"], COPY, Outcome.TRACEBACK),
        (["fail", "2"], COPY, Outcome.WORDLESS),
        (["fail", "3"], COPY, Outcome.WORDLESS),
        (["raise"], COPY, Outcome.TRACEBACK),
        (["wait"], COPY | dict(limit_s=0.3), Outcome.HANG),
        (["copy"], COPY, Outcome.SAME),
        (["copy"], COPY | dict(kept="damaged"), Outcome.OTHER),
        (["copy"], COPY | dict(then=lambda target, ended: (Outcome.LOST, "")), Outcome.LOST),
        (["copy"], dict(then=lambda target, ended: (Outcome.BROKEN_INTO, "")), Outcome.BROKEN_INTO),
    ],
)
def test_an_outcome_is_recognised(target, command, options, outcome):
    assert attempt(target, command, **options) == outcome


def test_of_several_commands_the_worst_counts(target):
    assert attempt(target, ["copy"], ["refuse"]) == Outcome.SENTENCE
    assert attempt(target, ["refuse"], ["raise"], ["copy"]) == Outcome.TRACEBACK


def test_every_place_where_files_change_is_counted_and_can_be_killed_at(target):
    log = target.place / "log"
    events = ["mkdir made", "open made/one", "open made/two", "rename made/three"]
    for number in range(len(events) + 1):
        log.unlink(missing_ok=True)
        target.fresh()
        at = dict(KILL_LOG=str(log), KILL_AT=str(number))
        ended = target.run(["step", "write", "text"], at, KILL)
        assert ended.code == (-signal.SIGKILL if number else 0)
        assert log.read_text().split() == " ".join(events[: number or None]).split()
        made = sorted(path.name for path in (target.folder / "made").glob("*"))
        assert made == [["one", "three"], [], [], ["one"], ["one", "two"]][number]


def test_a_kill_within_a_write_leaves_a_part_of_the_file(target):
    target.fresh()
    at = dict(KILL_LOG=str(target.place / "cut"), KILL_AT="3", KILL_CUT="3")
    assert target.run(["step", "write", "text"], at, KILL).code == -signal.SIGXFSZ
    made = target.folder / "made"
    assert ((made / "one").read_text(), (made / "two").read_text()) == ("text", "tex")
