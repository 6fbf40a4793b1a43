"""What starts things on a machine: stand-ins of crontab and systemctl, and little else on PATH."""

import os
import shutil
import sys
from pathlib import Path

import pytest

CRONTAB = """\
#!/bin/sh
# As Debian's: `-l` fails where there is none, `-` takes standard input.
case "$1" in
  -l) cat "{file}" 2>/dev/null || {{ echo "no crontab for you" >&2; exit 1; }} ;;
  -) cat > "{file}" ;;
esac
"""
SYSTEMCTL = """\
#!/bin/sh
# Notes what it was asked; enabling makes the link, as systemd's own does.
echo "$@" >> "{log}"
wants="$XDG_CONFIG_HOME/systemd/user/timers.target.wants"
case "$2" in
  enable) mkdir -p "$wants" && ln -sf "../$3" "$wants/$3" ;;
  disable) rm -f "$wants/$4" ;;
esac
"""


class Machine:
    """A machine of a user: which programs it has, and what they were told."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.programs = folder / "bin"
        self.crontab = folder / "crontab"
        self.log = folder / "systemctl.log"
        self.units = folder / "config" / "systemd" / "user"
        self.programs.mkdir()
        for name in ("cat", "rm", "mkdir", "ln"):
            (self.programs / name).symlink_to(shutil.which(name))

    def has(self, *names: str) -> None:
        texts = {
            "crontab": CRONTAB.format(file=self.crontab),
            "systemctl": SYSTEMCTL.format(log=self.log),
        }
        for name in names:
            (self.programs / name).write_text(texts[name])
            (self.programs / name).chmod(0o755)

    def lacks(self, name: str) -> None:
        (self.programs / name).unlink()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine on which nothing starts anything yet; the working directory has a space."""
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(machine.programs))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    work = tmp_path / "my work 100%"
    work.mkdir()
    monkeypatch.chdir(work)
    assert os.access(sys.executable, os.X_OK)
    return machine
