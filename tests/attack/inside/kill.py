"""Kill -9 to all processes of a command just before the N-th thing that it does to files below its
folder: opens for writing, renames, removes, makes. To be run in it as a `Case.inside`.

KILL_LOG: file that gets a line for each, padded to LINE bytes, of all processes of the command.
KILL_AT: N, 0 = never. KILL_NAME: count only what happens to a file of this name. KILL_CUT: do not
kill at once, but within the write that takes a file over so many bytes.
"""

import os
import resource
import signal
import sys
from pathlib import Path

LINE = 120
EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watch(log: int, at: int, name: str, cut: int) -> None:
    here, is_cut = os.getcwd(), False
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores

    def hook(event: str, arguments: tuple) -> None:
        nonlocal is_cut
        if is_cut or event not in EVENTS and not (event == "open" and arguments[2] & WRITING):
            return
        place = arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0]
        if not isinstance(place, str | os.PathLike):
            return
        path = os.path.abspath(place)
        if not path.startswith(f"{here}/") or name not in ("", Path(path).name):
            return
        if event in ("os.mkdir", "os.remove") and os.path.lexists(path) == (event == "os.mkdir"):
            return  # it changes nothing
        line = f"{event.removeprefix('os.')} {os.path.relpath(path, here)}"
        os.write(log, f"{line[: LINE - 1]:{LINE - 1}}\n".encode())
        if os.lseek(log, 0, os.SEEK_CUR) == at * LINE:
            if not cut:
                os.killpg(0, signal.SIGKILL)
            is_cut = True
            resource.setrlimit(resource.RLIMIT_FSIZE, (cut, cut))

    sys.addaudithook(hook)


if "KILL_LOG" in os.environ:
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
    log = os.open(os.environ["KILL_LOG"], flags)
    at, cut = (int(os.environ.get(name, "0")) for name in ("KILL_AT", "KILL_CUT"))
    watch(log, at, os.environ.get("KILL_NAME", ""), cut)
