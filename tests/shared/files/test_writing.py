"""Files that appear together."""

from shared.files.writing import written_together


def test_a_link_that_is_there_already_leaves_nothing_beside_it(tmp_path):
    """A rename onto another link of the same file does nothing (POSIX), and keeps both."""
    last, before = tmp_path / "last", tmp_path / "before"
    last.write_bytes(b"state")
    before.hardlink_to(last)
    with written_together() as write:
        write(before, last)
        write(last, b"next")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "last": b"next",
        "before": b"state",
    }
