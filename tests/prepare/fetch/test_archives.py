"""Unpacking archives: what comes out, that it continues, and that no bad archive writes a single
file."""

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile

import pytest

from components.prepare.fetch import archives
from components.prepare.fetch.archives import archives_in, extract, not_unpacked
from tests.asking import refusal

NOISE = os.urandom(3000)  # does not compress


def zip_file(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tar_file(path, members):
    """members: name -> content, or a TarInfo for what is no plain file."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


def any_file(path, members):
    return (zip_file if path.suffix == ".zip" else tar_file)(path, members)


def unpacked(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(archive, into, leaves=()):
    """The sentence of a refusal. `leaves`: the files that are there afterwards, besides the
    archives."""
    top = into.parent
    before = {path for path in top.rglob("*") if not path.is_dir()}
    sentence = refusal(extract, archive if isinstance(archive, list) else [archive], into)
    after = {path for path in top.rglob("*") if not path.is_dir()}
    assert {path.name for path in after - before} == set(leaves)
    return sentence


@pytest.fixture(params=["x.zip", "x.tar", "x.tar.gz"])
def archive(request, tmp_path):
    return tmp_path / request.param


@pytest.fixture
def into(tmp_path):
    return tmp_path / "unpacked"


# --- what comes out


def test_archives_are_found(tmp_path):
    for name in ("b.ZIP", "a.tar.gz", "c.tgz", "d.tar", "e.rar", ".hidden.zip", "x.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.zip").mkdir()
    assert archives_in(tmp_path) == [
        tmp_path / name for name in ("a.tar.gz", "b.ZIP", "c.tgz", "d.tar")
    ]
    assert archives_in(tmp_path / "c.tgz") == [tmp_path / "c.tgz"]
    assert archives_in(tmp_path / "x.png") == archives_in(tmp_path / "nowhere") == []


def test_an_archive_elsewhere_is_taken_through_a_link_by_the_name_of_the_link(tmp_path):
    """As the Hugging Face hub keeps files: the content has no suffix."""
    (tmp_path / "0a1b").touch()
    (tmp_path / "root").mkdir()
    link = tmp_path / "root" / "b.zip"
    link.symlink_to(tmp_path / "0a1b")
    assert archives_in(tmp_path / "root") == archives_in(link) == [link]
    (tmp_path / "0a1b").unlink()
    sentence = refusal(archives_in, tmp_path / "root")
    assert f"{link} is a link to {tmp_path}/0a1b, which is missing: fetch it" in sentence


def test_cityscapes_comes_in_two(tmp_path, into):
    labels = zip_file(
        tmp_path / "gtFine_trainvaltest.zip",
        {
            "README": b"1",
            "gtFine/train/ulm/ulm_1_gtFine_labelIds.png": b"labels",
            "gtFine/train/ulm/ulm_1_gtFine_color.png": b"unused",
            "gtFine/train/ulm/ulm_1_gtFine_polygons.json": b"unused",
        },
    )
    photos = zip_file(
        tmp_path / "leftImg8bit_trainvaltest.zip",
        {
            "README": b"1",
            "leftImg8bit/train/ulm/ulm_1_leftImg8bit.png": b"photo",
            "__MACOSX/._a.png": b"",
            ".b.png": b"",
        },
    )
    folder = extract([labels, photos], into)
    assert unpacked(folder) == {
        "gtFine/train/ulm/ulm_1_gtFine_labelIds.png": b"labels",
        "leftImg8bit/train/ulm/ulm_1_leftImg8bit.png": b"photo",
        ".complete": b"",
        ".skipped": b"not unpacked: 2 without ending, 1 _gtFine_color.png, 1 .json",
    }
    assert not_unpacked(folder) == "not unpacked: 2 without ending, 1 _gtFine_color.png, 1 .json"
    assert folder.parent == into


@pytest.mark.parametrize(
    ("members", "inner"),
    [
        (["facades/train/1.jpg", "facades/val/1.jpg", "README"], "facades"),
        (["./data/facades/train/1.jpg", "data//facades/train/2.jpg"], "data/facades"),
        (["train/1.jpg", "val/1.jpg"], ""),
        (["train_img/1.png"], ""),
        (["gtFine/train/ulm/1.png"], ""),
        (["pictures/1.png"], "pictures"),
        (["pictures/1.png", "2.png"], ""),
        (["maps\\A\\1.png"], "maps"),  # as some archivers of Windows write it
    ],
)
def test_the_folder_with_the_layout_is_returned(archive, into, members, inner):
    folder = extract([any_file(archive, {name: name.encode() for name in members})], into)
    assert folder.relative_to(into).parts[1:] == tuple(inner.split("/") if inner else ())
    contents = [name.encode() for name in members if name != "README"]
    assert sorted(path.read_bytes() for path in folder.rglob("*.*g")) == sorted(contents)


def test_the_second_time_nothing_is_read_and_a_changed_archive_is_another(
    archive, into, capsys, monkeypatch
):
    folder = extract([any_file(archive, {"facades/train/1.png": b"1"})], into)
    assert capsys.readouterr().out == "prepare: unpacked 1 of 1 files\n"
    with monkeypatch.context() as patched:
        patched.setattr(archives, "_members", None)
        assert extract([archive], into) == folder
    assert capsys.readouterr().out == ""

    status = archive.stat()
    any_file(archive, {"facades/train/1.png": b"22"})
    os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns))  # as some tools do
    other = extract([archive], into)
    assert other != folder
    assert (other / "train" / "1.png").read_bytes() == b"22" and (
        folder / "train" / "1.png"
    ).read_bytes() == b"1"


def test_a_tar_that_lost_its_compression_but_kept_its_name(tmp_path, into):
    path = tar_file(tmp_path / "x.tar", {"train/1.png": b"1"}).rename(tmp_path / "x.tar.gz")
    assert (extract([path], into) / "train" / "1.png").read_bytes() == b"1"


def test_it_continues_where_it_was_interrupted(archive, into, monkeypatch):
    members = {f"train/{number}.png": NOISE + bytes([number]) for number in range(4)}
    any_file(archive, members)

    def copy(source, target, length):
        if len(list(into.rglob("*.png"))) == 2:
            target.write(source.read(1000))
            raise KeyboardInterrupt
        target.write(source.read())

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archives.shutil, "copyfileobj", copy)
        extract([archive], into)
    left = {path: path.stat().st_mtime_ns for path in into.rglob("*") if path.is_file()}
    assert sorted(path.name for path in left) == ["0.png", "1.png"]

    truncated = next(path for path in left if path.name == "1.png")
    truncated.write_bytes(b"another program was here")
    folder = extract([archive], into)
    assert unpacked(folder) == {**members, ".complete": b""}
    kept = next(path for path in left if path.name == "0.png")
    assert kept.stat().st_mtime_ns == left[kept]


# --- refusals: nothing is written by any of them


@pytest.mark.parametrize(
    "name",
    [
        "../1.png",
        "train/../../1.png",
        "/tmp/1.png",
        "..\\1.png",
        "\\1.png",
        "C:\\1.png",
        "../notes.txt",
    ],
)
def test_members_that_lead_outside(archive, into, name):
    sentence = refused(any_file(archive, {"train/1.png": b"1", name: b"2"}), into)
    found = f"--raw-data {archive} holds {name!r}, which leads out of the folder "
    assert f"{found}it is unpacked into" in sentence


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"9"],
)
def test_links_and_devices_in_a_tar(tmp_path, into, kind):
    special = tarfile.TarInfo("train/2.png")
    special.type, special.linkname = kind, "/etc/passwd"
    path = tar_file(tmp_path / "x.tgz", {"train/1.png": b"1", "special": special})
    found = f"{path} holds 'train/2.png', which is no plain file or folder (a link, a device): "
    assert f"{found}unpack it yourself" in refused(path, into)


def test_a_sparse_file_in_a_tar(tmp_path, into):
    """Its map of holes comes from the archive: a forged one keeps tarfile busy for ever."""
    info = tarfile.TarInfo("train/1.png")
    info.pax_headers = {"GNU.sparse.map": "5,1", "GNU.sparse.size": "10"}
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info)
    assert "holds 'train/1.png', which is no plain file or folder" in refused(path, into)


def test_a_link_in_a_zip(tmp_path, into):
    link = zipfile.ZipInfo("train/2.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("train/1.png", b"1")
        file.writestr(link, "/etc/passwd")
    assert "holds 'train/2.png', which is no plain file or folder" in refused(
        tmp_path / "x.zip", into
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_method_of_compression(tmp_path, into, method):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as file:
        file.writestr("train/1.png", b"1")
    assert "holds 'train/1.png', which is not compressed by the usual method: pack" in refused(
        tmp_path / "x.zip", into
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["train/1.png", "train//1.png", "./train/1.png"])
def test_members_that_come_twice(tmp_path, into, again):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("train/1.png", b"1")
        file.writestr(again, b"2")
    sentence = refused(tmp_path / "x.zip", into)
    assert sentence == (
        f"--raw-data {tmp_path}/x.zip holds 'train/1.png', which {tmp_path}/x.zip holds too: "
        "remove one."
    )

    one = tar_file(tmp_path / "1.tar", {"train/1.png": b"1"})
    two = tar_file(tmp_path / "2.tar", {again: b"2"})
    assert f"{two} holds 'train/1.png', which {one} holds too" in refused([one, two], into)


def test_a_member_that_is_too_large(archive, into, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 2999)
    any_file(archive, {"train/1.png": b"1", "film.mp4": NOISE})
    assert (
        "holds 'film.mp4', which has 3,000 bytes: leave out what is over 2,999 bytes."
        in refused(archive, into)
    )


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_a_bomb(tmp_path, into, name, monkeypatch):
    """20,000 zeros take some 200 bytes: over 10 times the archive's size, and over the limit below
    it."""
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 15000)
    monkeypatch.setattr(archives, "MAX_RATIO", 10)
    path = any_file(tmp_path / name, {"train/1.png": bytes(10000), "zeros": bytes(10000)})
    assert f"{path} unpacks to more than 15,000 bytes, which is over 10 times its size" in refused(
        path, into
    )

    monkeypatch.setattr(archives, "MAX_RATIO", 1000)  # either limit may be passed alone
    extract([path], into)


def test_a_bomb_of_headers(tmp_path, into, monkeypatch):
    """Empty members, and metadata of one member, add nothing to the sizes that the headers tell."""
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 100_000)
    monkeypatch.setattr(archives, "MAX_RATIO", 1)
    monkeypatch.setattr(archives, "MAX_HEADER_BYTES", 10_000)
    empty = tar_file(tmp_path / "empty.tgz", {f"{number}": b"" for number in range(500)})
    assert f"{empty} is no whole archive (a header asks for too much): fetch it again." in refused(
        empty, into
    )

    info = tarfile.TarInfo("train/1.png")
    info.pax_headers = {"comment": "0" * 20_000}
    with tarfile.open(tmp_path / "x.tgz", "w:gz", format=tarfile.PAX_FORMAT) as file:
        file.addfile(info)
    assert "is no whole archive (a header asks for too much)" in refused(tmp_path / "x.tgz", into)


def test_more_than_the_disk_holds(archive, into, monkeypatch):
    any_file(archive, {"train/1.png": NOISE, "train/2.png": b"1", "notes.txt": NOISE})
    free = archives.shutil.disk_usage(archive.parent)._replace(free=3000)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: free)
    sentence = refused(archive, into)
    assert f"{archive} unpacks to 3,001 bytes but {into} has room for 3,000: make room" in sentence
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: free._replace(free=3001))
    extract([archive], into)


def test_a_disk_that_cannot_be_written(archive, into):
    into.write_text("in the way")
    assert f"cannot be written ({into} is a file): give a place you can write to" in refused(
        any_file(archive, {"train/1.png": b"1"}), into
    )


def test_archives_that_end_early(archive, into):
    whole = any_file(archive, {"train/1.png": NOISE, "train/2.png": NOISE}).read_bytes()
    data_ends = 2 * (512 + 3072) if archive.name == "x.tar" else len(whole) - 1
    for length in (
        0,
        1,
        300,
        600,
        data_ends - 3584 if archive.name == "x.tar" else 2000,
        data_ends - 100,
        data_ends,
    ):
        archive.write_bytes(whole[:length])
        assert f"--raw-data {archive} is no whole archive (" in refused(archive, into), length
    archive.write_bytes(whole)
    extract([archive], into)


def test_something_else_under_the_name(archive, into):
    archive.write_bytes(b"<html>404 Not Found</html>" * 100)
    assert f"--raw-data {archive} is no whole archive (" in refused(archive, into)


def test_an_archive_without_images(archive, into):
    assert f"{archive} holds no images: give" in refused(
        any_file(archive, {"notes.txt": b"1"}), into
    )


def test_an_encrypted_member(tmp_path, into):
    path = zip_file(tmp_path / "x.zip", {"train/1.png": b"1", "train/2.png": b"2"})
    with zipfile.ZipFile(path) as file:
        entry = file.start_dir + 46 + len("train/1.png")
    damaged = bytearray(path.read_bytes())
    damaged[entry + 8] |= 1  # the second entry's flags
    path.write_bytes(damaged)
    assert f"{path} holds 'train/2.png', which is encrypted: unpack it" in refused(path, into)


def test_a_damaged_member_of_a_zip_is_not_left_behind(tmp_path, into):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:  # stored, so that only the CRC can tell
        file.writestr("train/1.png", b"1")
        file.writestr("train/2.png", NOISE)
        start = file.getinfo("train/2.png").header_offset + 30 + len("train/2.png")
    damaged = bytearray(path.read_bytes())
    damaged[start + 1000] ^= 1
    path.write_bytes(damaged)
    sentence = refused(path, into, leaves=["1.png"])
    assert (
        f"{path} holds 'train/2.png', which is damaged (Bad CRC-32 for file 'train/2.png'): fetch"
        in sentence
    )


def test_a_damaged_tar_gz_is_noticed_before_anything_is_written(tmp_path, into):
    path = tar_file(tmp_path / "x.tar.gz", {"train/1.png": NOISE})
    damaged = bytearray(path.read_bytes())
    damaged[-8:-4] = struct.pack("<I", struct.unpack("<I", damaged[-8:-4])[0] ^ 1)
    path.write_bytes(damaged)
    assert "is no whole archive (CRC check failed" in refused(path, into)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path, into):
    path = tar_file(tmp_path / "x.tar", {"train/1.png": b"1", "train/2.png": b"2"})
    damaged = bytearray(path.read_bytes())
    damaged[1024] ^= 1  # the first byte of the second header
    path.write_bytes(gzip.compress(damaged))
    assert "is no whole archive (it ends early)" in refused(path, into)
