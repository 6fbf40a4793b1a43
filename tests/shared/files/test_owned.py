"""One writer per folder, and places that are tried before work."""

import contextlib
import errno
import fcntl
import json
import os
import subprocess
import sys
import time

import pytest

from shared.errors import InputError
from shared.files import owned
from shared.files.owned import LOCK, Held, only_writer, refuse_unwritable, writer_of
from tests.asking import refusal

WRITER = """
import sys
from pathlib import Path
from shared.files.owned import only_writer
with only_writer(Path(sys.argv[1]), "--out", appears_whole=sys.argv[2] == "True"):
    print("in", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_writer(folder, appears_whole=False):
    """Another process that writes to a folder."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    command = [sys.executable, "-c", WRITER, str(folder), str(appears_whole)]
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()
        yield process
        process.kill()


def write(folder, **options):
    with only_writer(folder, "--out", **options):
        return sorted(os.listdir(folder)) if folder.is_dir() else None


@pytest.fixture
def out(tmp_path):
    return tmp_path / "deep" / "out"


# --- one writer


def test_the_second_writer_is_refused_and_told_by_whom(out):
    with another_writer(out) as first:
        (out / "a").write_text("a")
        sentence = refusal(write, out)
        assert sentence.startswith(f"--out {out} is being written by process {first.pid} of ")
        assert sentence.endswith(": wait for it to end, or give another place.")
        assert (out / "a").read_text() == "a"
        first.stdin.close()
        first.wait()
    assert write(out) == [LOCK, "a"] and os.listdir(out) == ["a"]


def test_readers_can_tell_who_writes(out):
    out.mkdir(parents=True)
    assert writer_of(out) == writer_of(out / "none") == ""
    with another_writer(out) as first:
        assert writer_of(out).startswith(f"process {first.pid} of ")
        first.kill()
        first.wait()
        assert writer_of(out) == ""


def test_two_places_of_one_folder_are_one(out, tmp_path):
    out.mkdir(parents=True)
    (tmp_path / "link").symlink_to(out)
    with only_writer(out, "--out"), pytest.raises(Held):
        write(tmp_path / "link")


def test_a_folder_that_appears_whole_is_owned_before_it_is_there(out):
    with another_writer(out, appears_whole=True):
        assert not out.exists()
        assert "is being written by process" in refusal(write, out, appears_whole=True)
    with only_writer(out, "--out", appears_whole=True):
        os.replace(out.with_name(".out.partial"), out)
        assert os.listdir(out) == [LOCK]
    assert os.listdir(out) == []


def test_a_killed_writer_bars_nobody(out):
    with another_writer(out) as first:
        first.kill()
        first.wait()
        assert os.listdir(out) == [LOCK]
        assert write(out) == [LOCK]


def test_what_a_killed_writer_has_left_is_waited_for(out, capfd):
    """A worker that was forked has the lock too, until it ends."""
    out.mkdir(parents=True)
    program = f"""
import os, sys, time
from pathlib import Path
from shared.files.owned import only_writer
with only_writer(Path({str(out)!r}), "--out"):
    if not os.fork():
        print("forked", flush=True)
        time.sleep(1)
        os._exit(0)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as first:
        first.stdout.readline()
        first.kill()
        first.wait()
        start = time.monotonic()
        assert write(out) == [LOCK]
    assert 0.2 < time.monotonic() - start < 10
    assert f"waiting for the end of what process {first.pid}" in capfd.readouterr().err


def test_many_at_once_are_one_at_a_time(out):
    """Each makes the folder, or finds it removed again: no two are ever in it."""
    program = """
import os, sys, time
from pathlib import Path
from shared.files.owned import Held, only_writer
done = 0
while done < 40:
    try:
        with only_writer(Path(sys.argv[1]), "--out"):
            os.close(os.open(f"{sys.argv[1]}/one", os.O_CREAT | os.O_EXCL))
            os.unlink(f"{sys.argv[1]}/one")
            done += 1
    except Held:
        pass
"""
    processes = [subprocess.Popen([sys.executable, "-c", program, str(out)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert not (out / LOCK).exists()


def test_who_waits_is_told_for_whom(out):
    """And comes in when the first has ended, into a folder that is made again."""
    program = """
import os, sys
from pathlib import Path
from shared.files.owned import only_writer
with only_writer(Path(sys.argv[1]), "--out", doing="it is unpacked"):
    print(os.listdir(sys.argv[1]))
"""
    command = [sys.executable, "-uc", program, str(out)]
    with another_writer(out) as first:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
            said = second.stdout.readline()
            assert said.startswith(f"it is unpacked by process {first.pid} of ")
            first.stdin.close()
            assert second.stdout.read() == f"['{LOCK}']\n"
    assert not (out / LOCK).exists()


def test_a_disk_without_locks_is_said_once(out, monkeypatch, capfd):
    def none(_file, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    owned._warn_of_no_locks.cache_clear()
    assert write(out) == write(out) == [LOCK]
    assert capfd.readouterr().err.count("warning: this disk knows no locks") == 1


def test_a_lock_that_somebody_else_put_there(out):
    """No link is followed, and what cannot be a holder's words is not believed."""
    out.mkdir(parents=True)
    (out.parent / "mine").write_text("mine")
    (out / LOCK).symlink_to(out.parent / "mine")
    assert "cannot be written" in refusal(write, out)
    assert (out.parent / "mine").read_text() == "mine"
    (out / LOCK).unlink()
    for content in ("[1, 2]", '{"pid": 1}', "\0" * 100, json.dumps({"a": "b"}) * 1000):
        (out / LOCK).write_text(content)
        assert write(out) == [LOCK]


# --- places


def test_nothing_stays_of_a_writer_that_wrote_nothing(out, tmp_path):
    with pytest.raises(RuntimeError), only_writer(out, "--out"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda out: out.write_text(""), "({out} is a file)"),
        (lambda out: (out.rmdir(), out.parent.rmdir(), out.parent.write_text(""))[0], ""),
        (lambda out: out.symlink_to("gone"), "({out} is a link to gone, which is not there)"),
        (lambda out: (out / "a.json").mkdir(parents=True), "(it is a folder: {out}/a.json)"),
        (lambda out: (out.mkdir(), (out / "state").write_text("")), "({out}/state is a file)"),
        (
            lambda out: (out.mkdir(), (out / "state").symlink_to("gone")),
            "({out}/state is a link to gone, which is not there)",
        ),
    ],
)
def test_what_is_in_the_way_is_named(tmp_path, make, reason):
    out = tmp_path / "out"
    if "is a file" not in reason and not reason:
        (tmp_path / "file").write_text("")
        out, reason = tmp_path / "file" / "out", f"({tmp_path / 'file'} is a file)"
    else:
        make(out)
    before = sorted(tmp_path.rglob("*"))
    sentence = refusal(write, out, files=["a.json", "state/b.pt"])
    reason = reason.format(out=out)
    assert sentence == f"--out {out} cannot be written {reason}: give a place you can write to."
    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_are_too_long(tmp_path):
    assert "cannot be written (File name too long" in refusal(write, tmp_path / ("n" * 300))
    deep = tmp_path.joinpath(*["n" * 200] * 25)
    assert "cannot be written (File name too long" in refusal(write, deep)
    # Also of the file that stands there until the whole one takes its place.
    assert "File name too long" in refusal(write, tmp_path / "out", files=["n" * 250])
    assert "File name too long" in refusal(write, tmp_path / ("n" * 250), appears_whole=True)
    assert os.listdir(tmp_path) == []


def test_a_file_alone_is_tried_too(tmp_path):
    refuse_unwritable(tmp_path / "deep" / "a.yaml", "--output")
    (tmp_path / "a.yaml").mkdir()
    with pytest.raises(InputError, match="--output .*a.yaml cannot be written .it is a folder"):
        refuse_unwritable(tmp_path / "a.yaml", "--output")
    (tmp_path / "b.yaml").write_text("before")
    refuse_unwritable(tmp_path / "b.yaml", "--output")
    assert (tmp_path / "b.yaml").read_text() == "before"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing(out, monkeypatch, number):
    """No room, no quota, a disk for reading, no permission: root too is refused."""

    def nothing(_file, _content, _offset):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", nothing)
    sentence = refusal(write, out)
    assert os.strerror(number) in sentence
    assert ("make room" in sentence) == (number in (errno.ENOSPC, errno.EDQUOT))
