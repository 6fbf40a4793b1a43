"""A process of a checkout that has imported all that the steps need, and forks for each command: a
command costs tenths of a second. Started by its path; it knows nothing of these tests.

Over a Unix socket, its argument, each connection asks for one command: a line of JSON, see
`become`. The answers are its process id, and its exit code (minus the signal that killed it), a
line each.
"""

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socketserver
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

LEFT_OUT = {"component", "__main__"}  # faces of KFP, and what is run


def load(code: Path) -> None:
    """Import all of a checkout that its steps may need, and nothing of another one."""
    for package in ("shared", "components"):
        found = importlib.import_module(package)
        assert Path(found.__file__).is_relative_to(code), f"{found.__file__} is not of {code}"
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if module.name.rpartition(".")[2] not in LEFT_OUT:
                importlib.import_module(module.name)


def become(request: dict) -> NoReturn:
    """Be the process of a command, to its end.

    request: `argv`: a step and its words, or pipeline.py and its words; `folder` to work in;
    `environment`, None removes a variable; `out`, `err`: files for what is said; `inside`: a Python
    file that is run first, "" for none."""
    os.setsid()
    os.chdir(request["folder"])
    for name, value in request["environment"].items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())

    # As the interpreter runs a program, and takes itself apart.
    code = 1
    try:
        if request["inside"]:
            runpy.run_path(request["inside"])
        run_program(*request["argv"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            traceback.print_exc()
        os._exit(code)


def run_program(name: str, *words: str) -> None:
    path = str(Path.cwd())
    sys.path.insert(0, path)  # of `python -m`
    if name.endswith(".py"):
        program = str(CODE / name)
        sys.argv = [program, *words]
        sys.orig_argv = ["python", *sys.argv]
        runpy.run_path(program, run_name="__main__")
    else:
        sys.argv = [name, *words]
        sys.orig_argv = ["python", "-m", f"components.{name}", *words]
        runpy.run_module(f"components.{name}", run_name="__main__", alter_sys=True)


class Command(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        if (pid := os.fork()) == 0:
            become(request)
        self.wfile.write(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        self.wfile.write(f"{os.waitstatus_to_exitcode(status)}\n".encode())


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = 100
    parent = os.getppid()

    def service_actions(self) -> None:
        """End with the attack, however that ends."""
        super().service_actions()
        if os.getppid() != self.parent:
            sys.exit()


if __name__ == "__main__":
    CODE = Path.cwd()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    load(CODE)
    with Server(sys.argv[1], Command) as server:
        print("ready", flush=True)
        server.serve_forever()
