"""A disk that loses power: what a folder may hold after a crash at any moment of a command.

The model is the weakest that POSIX allows, as in ALICE (Pillai et al., All File Systems Are Not
Created Equal, OSDI 2014). Content that was not synced since it was written is lost: the file is
empty, or cut in half. Names of files that were made, renamed, linked or removed, and not synced
since with their folder, are kept all, or none, or any one alone. What was synced stays.

It is recorded in this process, by the calls of `os` that sync and that change names; a crash is
tried before and after each."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.files import writing

CHANGES = ("replace", "rename", "link", "unlink", "mkdir", "rmdir", "truncate")
FEW = 6  # files of which each is spoiled alone

Names = dict[str, int]  # of files below the folder, and their inodes


@dataclass
class Disk:
    """The disk below a folder."""

    folder: Path
    kept: dict[int, bytes] = field(default_factory=dict)  # content that was synced, by inode
    names: Names = field(default_factory=dict)  # that were synced
    # What may be left, by its digest.
    crashes: dict[str, dict[str, bytes]] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)  # descriptors: no inode is used twice

    def record(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Watch what this process does from here on; what is there is on the disk."""
        self.sync_all()
        for name in CHANGES:
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))
        fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._watched(fsync, self._sync))
        monkeypatch.setattr(
            writing, "_syncfs", self._watched(lambda _: None, lambda _: self.sync_all())
        )

    def _watched(self, call, then=lambda *_: None):
        def watched(*arguments, **options):
            self.crash()
            result = call(*arguments, **options)
            then(*arguments)
            self.crash()
            return result

        return watched

    def look(self) -> tuple[Names, dict[int, bytes]]:
        """Names and contents as they are, for who has power."""
        names, contents = {}, {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                number = path.stat().st_ino
                names[str(path.relative_to(self.folder))] = number
                contents[number] = path.read_bytes()
                if number not in self.held:
                    self.held[number] = os.open(path, os.O_RDONLY)
        return names, contents

    def sync_all(self) -> None:
        self.names, contents = self.look()
        self.kept |= contents

    def _sync(self, descriptor: int) -> None:
        number = os.fstat(descriptor).st_ino
        names, contents = self.look()
        if number in contents:
            self.kept[number] = contents[number]
            return
        for folder in (self.folder, *self.folder.rglob("*")):
            if folder.is_dir() and folder.stat().st_ino == number:
                at = "" if folder == self.folder else f"{folder.relative_to(self.folder)}/"
                self.names = {name: no for name, no in self.names.items() if not _is_in(name, at)}
                self.names |= {name: no for name, no in names.items() if _is_in(name, at)}

    def crash(self) -> None:
        """Note all that may be left if power is lost now."""
        names, contents = self.look()
        dirty = {number for number in contents if self.kept.get(number) != contents[number]}
        changed = {
            name for name in names.keys() | self.names.keys()
            if names.get(name) != self.names.get(name)
        }  # fmt: skip

        # Which names.
        sets = [names, self.names]
        for name in changed if len(changed) <= FEW else ():
            one = {key: number for key, number in self.names.items() if key != name}
            sets.append(one | ({name: names[name]} if name in names else {}))

        # Which contents.
        some = [{number} for number in sorted(dirty)[:FEW]]
        for left in sets:
            for spoiled in [set(), dirty, *some]:
                for share in (0, 2):
                    self._note(
                        {
                            name: _cut(contents.get(number, b""), share)
                            if number in spoiled
                            else contents.get(number, self.kept.get(number, b""))
                            for name, number in left.items()
                        }
                    )

    def _note(self, files: dict[str, bytes]) -> None:
        sha = hashlib.sha256()
        for name, content in sorted(files.items()):
            sha.update(f"{name} {len(content)} ".encode() + hashlib.sha256(content).digest())
        self.crashes.setdefault(sha.hexdigest(), files)

    def after_crashes(self, every: int = 1) -> Iterator[dict[str, bytes]]:
        """Put the folder into each state that a crash may leave, or each so many-th."""
        for descriptor in self.held.values():
            os.close(descriptor)
        self.held.clear()
        for files in list(self.crashes.values())[::every]:
            for path in sorted(self.folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            for name, content in files.items():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(content)
            yield files


def _is_in(name: str, folder: str) -> bool:
    return name.startswith(folder) and "/" not in name[len(folder) :]


def _cut(content: bytes, share: int) -> bytes:
    return content[: len(content) // share] if share else b""
