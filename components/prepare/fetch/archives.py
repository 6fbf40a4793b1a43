"""Unpacks archives that nobody vouches for: everything is checked before the first file is
written.

tarfile's own "data" filter is no help: it takes links inside the folder, makes /etc/x into etc/x,
knows no Windows paths, and zip files have none. One check of our own serves both kinds.
"""

import contextlib
import gzip
import hashlib
import os
import re
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from components.prepare.fetch.paths import why_no_path
from components.prepare.layouts.known import belongs_to_a_layout
from components.prepare.layouts.listing import is_picture
from components.prepare.stamps import file_stamp
from shared.data.names import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from shared.errors import InputError
from shared.files.owned import only_writer
from shared.files.writing import partial_of, put_in_place, sync_all, write_atomically
from shared.terminal.progress import Progress

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_MEMBER_BYTES = 2**30
# An archive may unpack to more, but then not to more than MAX_RATIO times its size.
MAX_TOTAL_BYTES = 2**30
MAX_RATIO = 100
MAX_HEADER_BYTES = 2**20  # between two members of a tar file
MARKER = ".complete"  # holds the path from the unpacked folder to the one with the layout
SKIPPED = ".skipped"  # holds the line that tells what was not unpacked
COLOURED_LABELS = "_gtFine_color.png"  # of Cityscapes: the labels again

DAMAGED = (  # what zipfile and tarfile raise for bytes that they do not understand
    OSError, EOFError, ValueError, OverflowError, RuntimeError, LookupError,
    struct.error, zlib.error, zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip


# What members are refused for.
LEADS_OUT = "leads out of the folder it is unpacked into: remove it from the archive."
ENCRYPTED = "is encrypted: unpack it and give the folder."
UNUSUAL_METHOD = (
    "is not compressed by the usual method: pack it again, or unpack it and give the folder."
)
NO_PLAIN_FILE = (
    "is no plain file or folder (a link, a device): "
    "unpack it yourself if you trust it, and give the folder."
)


class Member(NamedTuple):
    """A file in an archive."""

    name: str  # a path with /, below the archive's root once it is checked
    size: int  # bytes, as the archive says
    open: Callable[[], IO[bytes]]


def archives_in(root: Path) -> list[Path]:
    """`root` itself where it is an archive, else those directly in it, sorted; [] where there are
    none."""
    if root.is_file():
        return [root] if _is_archive(root.name) else []
    if not root.is_dir():
        return []
    archives = sorted(path for path in root.iterdir() if _is_archive(path.name) and path.is_file())
    for path in root.iterdir():
        if _is_archive(path.name) and not path.exists():
            raise InputError(
                f"--raw-data: {path} is a link to {os.path.realpath(path)}, which is missing: "
                "fetch it (git annex get, dvc pull), or remove the link."
            )
    return archives


def _is_archive(file_name: str) -> bool:
    return file_name.lower().endswith(ARCHIVE_SUFFIXES) and not file_name.startswith(".")


def extract(archives: list[Path], into: Path) -> Path:
    """Unpack the images of all archives into one new folder below `into`; returns the folder that
    holds the layout.

    The same archives are unpacked once; after an interruption the same call continues. Raises
    InputError for members that lead out of the folder, are links, come twice or encrypted, for more
    bytes than an honest archive holds or the disk has room for (all of that before a file is
    written), and for damage.
    """
    folder = _folder_for(archives, into)
    if unpacked := unpacked_before(archives, into):
        return unpacked
    doing = f"prepare: {_listed(archives)} is being unpacked"
    with only_writer(folder, "--copies", doing=doing):
        return unpacked_before(archives, into) or _extract(archives, folder)


def _extract(archives: list[Path], folder: Path) -> Path:
    # All that can be refused is refused before the first file is written.
    sizes, skipped = _check(archives)
    _check_room(archives, folder, sizes)

    # What an interrupted call has written stays.
    done, unpacked = 0, Progress("prepare: unpacked", len(sizes), "files", has_rate=False)
    for archive in archives:
        for member in filter(_is_wanted, _members(archive)):
            path = folder / member.name
            if not (path.is_file() and path.stat().st_size == member.size):
                _write(archive, member, path)
            done += 1
            unpacked.show(done)

    sync_all(folder)  # before the marker says that all is there
    inner = _layout_folder(list(sizes))
    if skipped:
        write_atomically(folder / SKIPPED, _told_of(skipped).encode())
    write_atomically(folder / MARKER, os.fsencode(inner))
    return folder / inner


def unpacked_before(archives: list[Path], into: Path) -> Path | None:
    """What an earlier `extract` returned; None where there was none that came to its end."""
    marker = _folder_for(archives, into) / MARKER
    return marker.parent / os.fsdecode(marker.read_bytes()) if marker.is_file() else None


def not_unpacked(folder: Path) -> str:
    """The line that tells what of archives is not in the folder that `extract` returned; '' for
    nothing."""
    place = next((place for place in (folder, *folder.parents) if (place / MARKER).is_file()), None)
    told = place and place / SKIPPED
    return told.read_text() if told and told.is_file() else ""


def _told_of(skipped: Counter[str]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common(8))
    return f"not unpacked: {kinds}"


def _folder_for(archives: list[Path], into: Path) -> Path:
    """The same archives have the same folder, as long as the same of them is unpacked."""
    sha = hashlib.sha256(repr((IMAGE_SUFFIXES, UNREAD_SUFFIXES)).encode())
    for archive in archives:
        sha.update(os.fsencode(f"{archive.name}\0{file_stamp(archive.stat())}\0"))
    return into / sha.hexdigest()[:16]


def check_head(archive: Path) -> None:
    """Raises InputError where an archive cannot be read, or its first image is not to be
    trusted."""
    next(filter(_is_wanted, _members(archive)), None)


def _check(archives: list[Path]) -> tuple[dict[str, int], Counter[str]]:
    """Sizes in bytes of all images, by name, and how many other files of each kind there are. Reads
    the archives to their ends."""
    sizes: dict[str, int] = {}
    skipped: Counter[str] = Counter()
    holders: dict[str, Path] = {}
    for archive in archives:
        for member in _members(archive):
            name, size, _ = member
            if not _is_wanted(member):
                is_coloured = name.endswith(COLOURED_LABELS)
                suffix = COLOURED_LABELS if is_coloured else os.path.splitext(name)[1].lower()
                skipped[suffix or "without ending"] += not _is_hidden(name)
                continue
            if name in sizes:
                raise _refusal(archive, name, f"{holders[name]} holds too: remove one.")
            sizes[name], holders[name] = size, archive
    if not sizes:
        raise InputError(
            f"--raw-data {_listed(archives)} holds no images: give archives of pictures."
        )
    return sizes, +skipped


def _is_wanted(member: Member) -> bool:
    """Whether it is an image, of whatever format, and of Cityscapes' none of labels as colours."""
    name = member.name
    return (
        not _is_hidden(name)
        and is_picture(os.path.basename(name))
        and (not name.endswith(COLOURED_LABELS))
    )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _check_room(archives: list[Path], folder: Path, sizes: dict[str, int]) -> None:
    """Refuse what the disk cannot hold besides the files that are there already."""
    needed = sum(size for name, size in sizes.items() if not (folder / name).is_file())
    existing = next(parent for parent in folder.absolute().parents if parent.is_dir())
    if needed > (free := shutil.disk_usage(existing).free):
        raise InputError(
            f"--raw-data {_listed(archives)} unpacks to {needed:,} bytes but {existing} has room "
            f"for {free:,}: make room, or unpack elsewhere and give the folder."
        )


def _listed(archives: list[Path]) -> str:
    return " and ".join(map(str, archives))


def _refusal(archive: Path, name: str, rest: str) -> InputError:
    """The sentence about one member; `rest` says what it is, and what to do."""
    return InputError(f"--raw-data {archive} holds {name!r}, which {rest}")


def _write(archive: Path, member: Member, path: Path) -> None:
    """Unpack one member; the file appears whole or not at all."""
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as content, open(partial, "wb") as file:
            shutil.copyfileobj(content, file, 2**20)  # checks the member's CRC at its end
        put_in_place(partial, path, synced=False)  # all of them: see `extract`
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno:  # of the disk, not of the archive
            rest = (
                f"cannot be written below {path.parent} ({error.strerror}): "
                "give the step a place with room that it may write to."
            )
        else:
            rest = f"is damaged ({error}): fetch the archive again."
        raise _refusal(archive, member.name, rest) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _layout_folder(names: list[str]) -> str:
    """The folder below which all files lie: 'facades' for facades/train/1.jpg and
    facades/val/1.jpg, '' for train/1.jpg."""
    inner = ""
    while True:
        tops = {name[len(inner) :].partition("/")[:2] for name in names}
        top, slash = tops.pop()
        if tops or not slash or belongs_to_a_layout(top):
            return inner.rstrip("/")
        inner += f"{top}/"


def _members(archive: Path) -> Iterator[Member]:
    """The files in an archive, in its order. Raises InputError at the first that is not to be
    trusted, be it an image or not."""
    total, most = 0, _most_bytes(archive)
    read = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    try:
        for name, size, opened in read(archive):
            # A name that stays inside, also where Windows wrote it.
            parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
            if re.match(r"[/\\]|[A-Za-z]:", name) or ".." in parts or "\0" in name:
                raise _refusal(archive, name, LEADS_OUT)

            # As many bytes as an honest archive holds.
            if not 0 <= size <= MAX_MEMBER_BYTES:
                at_most = f"leave out what is over {MAX_MEMBER_BYTES:,} bytes."
                raise _refusal(archive, name, f"has {size:,} bytes: {at_most}")
            total += size
            if total > most:
                raise InputError(
                    f"--raw-data {archive} unpacks to more than {most:,} bytes, which is over "
                    f"{MAX_RATIO} times its size: "
                    "unpack it yourself if you trust it, and give the folder."
                )

            if not parts:
                continue
            if reason := why_no_path(path := "/".join(parts)):
                raise _refusal(archive, name[:300], f"{reason} in a part of its path: rename it.")
            yield Member(path, size, opened)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            f"--raw-data {archive} is no whole archive ({error}): fetch it again."
        ) from None


def _zip_members(archive: Path) -> Iterator[Member]:
    """All files of a zip file, of which names and sizes are not checked."""
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if info.flag_bits & 1:
                raise _refusal(archive, info.filename, ENCRYPTED)
            # The other methods take memory at will.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _refusal(archive, info.filename, UNUSUAL_METHOD)
            # The upper half is the file's mode where Unix wrote the archive, else 0.
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refusal(archive, info.filename, NO_PLAIN_FILE)
            if not info.is_dir():
                yield Member(info.filename, info.file_size, lambda info=info: file.open(info))


def _tar_members(archive: Path) -> Iterator[Member]:
    """All files of a tar file, of which names and sizes are not checked."""
    with open(archive, "rb") as raw:
        # Browsers unzip, but keep the suffix.
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = _Rationed(gzip.open(raw) if zipped else raw, limit=_most_bytes(archive))

        with tarfile.open(fileobj=stream, mode="r:") as file:
            while (info := _next_header(file, stream)) is not None:
                if not (info.isreg() or info.isdir()) or info.issparse():
                    raise _refusal(archive, info.name, NO_PLAIN_FILE)
                if not info.isdir():
                    stream.ration = info.size
                    yield Member(info.name, info.size, lambda info=info: file.extractfile(info))

            # tarfile takes a header that is cut off for the end, which is a block of zeros.
            stream.seek(file.offset)
            stream.ration = sys.maxsize  # the limit is enough here
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends early")

            # gzip checks its CRC at the very end.
            while stream.read(2**20):
                pass


def _next_header(file: tarfile.TarFile, stream: "_Rationed") -> tarfile.TarInfo | None:
    stream.ration = MAX_HEADER_BYTES
    file.members.clear()  # else it keeps a kilobyte for each
    return file.next()


class _Rationed:
    """What tarfile needs of a file, but forged headers can neither fill the memory nor go on for
    ever."""

    def __init__(self, stream: IO[bytes], limit: int):
        self.seek, self.tell, self._read = stream.seek, stream.tell, stream.read
        self.limit = limit  # last position that is read from
        self.ration = MAX_HEADER_BYTES  # bytes that may be read until it is set again

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.ration or self.tell() > self.limit:
            raise tarfile.ReadError("a header asks for too much")
        data = self._read(size)
        self.ration -= len(data)
        return data


def _most_bytes(archive: Path) -> int:
    return max(MAX_TOTAL_BYTES, MAX_RATIO * archive.stat().st_size)
