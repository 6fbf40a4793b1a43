"""The new takes the place of the old when it is whole, all of it or nothing that a reader takes."""

import os

import pytest

from shared.files.exchanged import exchanged

MADE = ("*.onnx*", "pictures")
OLD = {"card.json": "old", "a.onnx": "old", "a.onnx.data": "old", "pictures/old.png": "old"}
NEW = {"card.json": "new", "a.onnx": "new", "pictures/new.png": "new"}


def texts(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def make(folder):
    with exchanged(folder, "card.json", MADE) as work:
        write(work, NEW)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, OLD | {"notes.txt": "mine"})
    return tmp_path


def test_nothing_old_stays_beside_the_new(folder):
    make(folder)
    assert texts(folder) == NEW | {"notes.txt": "mine"}
    assert sorted(os.listdir(folder)) == ["a.onnx", "card.json", "notes.txt", "pictures"]


def test_what_fails_leaves_the_old(folder):
    with pytest.raises(RuntimeError), exchanged(folder, "card.json", MADE) as work:
        write(work, NEW)
        raise RuntimeError
    assert texts(folder) == OLD | {"notes.txt": "mine"}


def test_a_kill_at_any_rename_leaves_one_or_no_card(folder, monkeypatch):
    """In a fork that ends there; the same again mends it."""
    rename, mixtures = os.replace, 0
    for number in range(20):
        write(folder, OLD)
        if not (pid := os.fork()):
            left = [number]

            def replace(source, target, left=left):
                if not left[0]:
                    os._exit(9)
                left[0] -= 1
                rename(source, target)

            os.replace = replace
            make(folder)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        left = {name: text for name, text in texts(folder).items() if not name.startswith(".work")}
        of_card = {name: text for name, text in left.items() if name != "notes.txt"}
        if "card.json" in left:
            assert of_card in (OLD, NEW)
        else:
            mixtures += 1
        make(folder)
        assert texts(folder) == NEW | {"notes.txt": "mine"}
        if not code:
            break
    assert code == 0 and mixtures == len(OLD) + len(NEW) - 1
