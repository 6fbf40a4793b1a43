"""Lists image files: fast enough for 100,000s of them, and never outside the root, whatever links
say."""

import os

from shared.data.names import is_image
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


def subfolders(root: str) -> set[str]:
    """Names of the folders directly in `root`, hidden ones left out."""
    return {
        entry.name for entry in entries(root) if entry.is_dir() and not entry.name.startswith(".")
    }


def has_images(folder: str) -> bool:
    """Whether images lie directly in the folder."""
    return any(is_image(entry.name) and entry.is_file() for entry in entries(folder))


def image_files(root: str, folder: str) -> list[str]:
    """Image files at any depth below `root`/`folder`, relative to it and sorted; [] where there is
    no such folder.

    Raises InputError for a link that leads out of `root` (a real path), to nothing, or to a folder
    that holds it.
    """
    top = os.path.join(root, folder)
    if not os.path.lexists(top):
        return []
    files = []

    # Relative and real path of a folder, and where the links lie that led to it.
    waiting: list[tuple[str, str, tuple[str, ...]]] = [("", real_path_inside(root, top), ())]
    while waiting:
        prefix, real, links_in = waiting.pop()
        for entry in entries(real):
            if entry.name.startswith("."):
                continue

            # A link is followed, but neither out of the root nor round and round.
            if entry.is_symlink():
                link = os.path.join(top, prefix + entry.name)
                target, through = real_path_inside(root, link), (*links_in, real)
                if any(_is_below(target, place) for place in through):
                    raise InputError(
                        f"--raw-data: {link} is a link to {target}, a folder that holds it: "
                        "remove it."
                    )
            else:
                target, through = f"{real}/{entry.name}", links_in

            if entry.is_dir():
                waiting.append((f"{prefix}{entry.name}/", target, through))
            elif is_image(entry.name) and entry.is_file():
                files.append(prefix + entry.name)
    return sorted(files)


def real_path_inside(root: str, path: str) -> str:
    """What a path leads to. Raises InputError where that is outside of `root`, a real path, or
    nothing at all."""
    target = os.path.realpath(path)
    if not _is_below(root, target):
        raise InputError(
            f"--raw-data: {path} is a link to {target}, outside of {root}: "
            "copy it, or give the folder that holds both."
        )
    if not os.path.exists(target):
        raise InputError(
            f"--raw-data: {path} is a link to {target}, which is missing: remove the link."
        )
    return target


def _is_below(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
