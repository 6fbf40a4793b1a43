"""What is said where a disk or the memory is full: by errors as the libraries raise them, and by
real ones."""

import errno
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest
import torch

from shared.errors import InputError, WorkFailed
from shared.files import room
from shared.files.writing import NoRoom, write_atomically
from tests.asking import one_sentence
from tests.places import ROOT


def sentence(error: Exception, **options) -> str:
    with pytest.raises(WorkFailed) as failure, room.said(options):
        raise error
    return one_sentence(str(failure.value))


def test_a_full_disk_is_said_with_what_is_needed_where(tmp_path):
    error = NoRoom(errno.ENOSPC, "No space left on device", str(tmp_path / "model" / "x.pth"))
    error.needed = 1_234_567_890
    said = sentence(error, model=tmp_path / "model", batch_size=2)
    assert said.startswith(f"--model {tmp_path}/model/x.pth needs 1.2 GB, but its disk has ")
    assert "make room there and say the same command again; what was finished before is" in said


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room in your quota"),
        (errno.EFBIG, "raise the limit of a file's size (`ulimit -f`)"),
        (errno.EROFS, "mount it to be written to, or give another --out"),
        (errno.EIO, "look for the disk's fault in the system's log"),
    ],
)
def test_each_fault_of_a_disk_has_its_remedy(number, remedy, tmp_path):
    """Also where the error, as that of a write, names no file: a folder of the command is named."""
    said = sentence(OSError(number, os.strerror(number)), out=tmp_path)
    assert f"({os.strerror(number)}): {remedy}" in said
    assert (" free (" in said) == (number not in (errno.EROFS, errno.EIO))


def test_the_hidden_folder_beside_an_output_has_its_flag(tmp_path):
    error = OSError(errno.EROFS, "Read-only file system", str(tmp_path / ".ds.partial" / "a.png"))
    said = sentence(error, raw_data=str(tmp_path), dataset=tmp_path / "ds")
    assert said.startswith(
        f"--dataset {tmp_path}/.ds.partial/a.png is to be written, but its disk is read-only ("
    )
    assert "give another --dataset and say" in said and "TMPDIR" not in said


@pytest.mark.parametrize(
    "words",
    [
        # torch.save to a file; SQLAlchemy of MLflow's store; a worker's error told as text.
        "[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file "
        "data/0: file write failed",
        "(sqlite3.OperationalError) database or disk is full",
        "rank 0 failed, and all were ended:\nOSError: [Errno 28] No space left on device",
    ],
)
def test_libraries_that_tell_no_number_are_understood(words, tmp_path):
    assert "(No space left on device): make room there" in sentence(RuntimeError(words))


def test_what_torch_and_numpy_raise_for_want_of_memory_names_what_to_lower():
    options = dict(batch_size=4, crop="", workers=2, cache="memory", activation_checkpointing=False)
    lower = (
        "give a smaller --batch-size, a smaller --crop, --activation-checkpointing, fewer "
        "--workers, --cache off, or take a machine with more and say the same command again; "
    )
    for allocate in (lambda: torch.empty(2**50), lambda: np.empty(2**50)):
        with pytest.raises((MemoryError, RuntimeError)) as real:
            allocate()
        said = sentence(real.value, **options)
        assert "this machine is out of memory" in said and lower in said, said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a"), (
            "the device is out of memory (2.00 GiB more were asked for): give a smaller "
            "--batch-size, "
        )),
        (RuntimeError("NPU out of memory. Tried to allocate 512.00 MiB (NPU 0; 32.00 GiB"), (
            "the device is out of memory (512.00 MiB more were asked for): "
        )),
        (RuntimeError("Failed to allocate memory for requested buffer of size 10"), (
            "this machine is out of memory: "
        )),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "this machine is out of memory: "),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), (
            "a worker process was killed, most likely by the system for want of memory: "
        )),
        (BrokenProcessPool("A process in the process pool was terminated abruptly while the"), (
            "a worker process was killed, most likely by the system for want of memory: "
        )),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>: Success (0)"), (
            "shared memory, /dev/shm, is full, through which worker processes hand over batches: "
        )),
    ],
)  # fmt: skip
def test_memory_is_understood_in_every_library_s_words(error, said):
    assert sentence(error, batch_size=8, workers=2).startswith(said)


def test_what_is_at_its_least_is_not_to_be_lowered():
    said = sentence(MemoryError(), batch_size=1, workers=0, cache="off")
    assert said.startswith("this machine is out of memory: end other programs that hold some, or")


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), OSError(errno.ENOENT, "no such file"), InputError("refused.")]
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as same, room.said({}):
        raise error
    assert same.value is error


def test_a_limit_of_the_size_of_files_is_one_sentence_of_a_command(tmp_path):
    """RLIMIT_FSIZE stops a real write within a real command."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "from components.prepare.__main__ import main; main(sys.argv[1:])"
    )
    words = ["demo", "--out", tmp_path / "demo", "--train", "1", "--test", "1", "--size", "64x128"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.startswith("demo failed: ") and ended.stderr.count("\n") == 1
    assert " kB, but its disk has 2.0 kB for a file (File too large): raise the" in ended.stderr
    assert not (tmp_path / "demo").exists()


def test_a_file_that_does_not_fit_leaves_the_one_before(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, b"before")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
        with pytest.raises(NoRoom) as full:
            write_atomically(file, bytes(200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert full.value.needed == 200 and full.value.filename == str(file)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"before"}
