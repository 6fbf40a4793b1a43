"""Lists the files of raw data: fast enough for 100,000s of them, through links, never round and
round."""

import os
from collections.abc import Iterator

from components.prepare.problems import Problem
from shared.data.names import is_image, is_unread_image
from shared.errors import InputError


def entries(folder: str) -> list[os.DirEntry]:
    """What lies directly in a folder. Raises InputError where it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise InputError(
            f"--raw-data: {folder} cannot be listed ({error.strerror}): make it readable."
        ) from None


def subfolders(folder: str) -> set[str]:
    """Names of the folders directly in a folder, hidden ones left out."""
    return {
        entry.name for entry in entries(folder) if entry.is_dir() and not entry.name.startswith(".")
    }


def is_picture(file_name: str) -> bool:
    """Whether a file is an image by its suffix, be it of a format that is read or not."""
    return is_image(file_name) or is_unread_image(file_name)


def has_pictures(folder: str) -> bool:
    """Whether images lie directly in the folder."""
    return any(is_picture(entry.name) and entry.is_file() for entry in entries(folder))


class RawFolder:
    """A folder of raw data, and what was seen in it.

    `files` are the images by the folder that was looked at, `passed_over` what else lies there, and
    `problems` are of links.
    """

    def __init__(self, root: str, stays_inside: bool):
        """`root` is a real path; with `stays_inside` no link may lead out of it: nobody vouches for
        what came in an archive."""
        self.root, self.stays_inside = root, stays_inside
        self.problems: list[Problem] = []
        self.passed_over: list[str] = []
        self.files: dict[str, list[str]] = {}  # by the folder that was looked at

    def pictures(self, folder: str) -> list[str]:
        """Image files at any depth below a folder in the root, relative to it and sorted, also of
        formats that are not read; [] where there is no such folder."""
        if folder in self.files:
            return self.files[folder]
        files = self.files[folder] = []
        top = os.path.join(self.root, folder)
        if not os.path.lexists(top) or (real := self._target(top, ())) is None:
            return []

        # Relative and real path of a folder, and where the links lie that led to it.
        waiting: list[tuple[str, str, tuple[str, ...]]] = [("", real, ())]
        while waiting:
            prefix, real, links_in = waiting.pop()
            for entry in entries(real):
                if entry.name.startswith("."):
                    continue
                path, target, through = os.path.join(top, prefix + entry.name), entry.path, links_in

                # A link is followed; by its own name it is known.
                if entry.is_symlink():
                    through = (*links_in, real)
                    target = self._target(path, through)
                if target is None:
                    continue
                if entry.is_dir():
                    waiting.append((f"{prefix}{entry.name}/", target, through))
                elif is_picture(entry.name) and entry.is_file():
                    files.append(prefix + entry.name)
                else:
                    self.passed_over.append(path)
        files.sort()
        return files

    def _target(self, path: str, through: tuple[str, ...]) -> str | None:
        """What a path leads to; None, and a problem, where that is nothing, a folder that holds the
        path, or outside of a root that is not to be left.

        Args:
            through: The real folders in which the links lie that led there, its own too.
        """
        target = os.path.realpath(path)
        leads_to = f"is a link to {target}"
        name = os.path.basename(path)
        if not os.path.exists(path):
            # What is meant to be no picture may be missing.
            if is_picture(name) or not os.path.splitext(name)[1]:
                self.problems.append(Problem("broken link", path, f"{leads_to}, which is missing"))
            else:
                self.passed_over.append(path)
            return None
        if any(is_below(target, place) for place in through):
            found = f"{leads_to}, a folder that holds it"
            self.problems.append(Problem("broken link", path, found, "remove it"))
            return None
        if self.stays_inside and not is_below(self.root, target):
            found = f"{leads_to}, outside of {self.root}"
            self.problems.append(Problem("broken link", path, found, "give what it leads to"))
            return None
        return target

    def elsewhere(self) -> Iterator[str]:
        """Paths of the files in folders that were not looked at. No link to a folder is
        followed."""
        looked_at = {os.path.normpath(os.path.join(self.root, folder)) for folder in self.files}
        waiting = [self.root]
        while waiting:
            folder = waiting.pop()
            if folder in looked_at:
                continue
            try:
                found = entries(folder)
            except InputError:
                continue
            for entry in found:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.path not in looked_at:
                    yield entry.path


def is_below(folder: str, path: str) -> bool:
    """Whether a path is the folder's or of something in it, by its name."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")
