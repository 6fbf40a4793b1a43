"""Raw data from a store: copied once, resumed, checked, or one sentence that says why not.

Folders come from fsspec's memory://, single files from a real HTTP server that can be told to
misbehave."""

import hashlib
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from components.prepare.fetch import remote, stores
from components.prepare.fetch.remote import fetch, is_remote
from tests.asking import refusal

BODY = bytes(range(256)) * 40  # 10,240 bytes: eleven chunks of the test's size
# 4 MiB, more than what connections buffer.
LARGE = b"".join(i.to_bytes(4, "big") for i in range(2**20))


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    monkeypatch.setattr(stores, "CHUNK", 1000)
    monkeypatch.setattr(stores, "RETRY_PAUSES", (0.001, 0.001))


def refused(url, into):
    sentence = refusal(fetch, url, into)
    assert sentence.startswith("--raw-data")
    return sentence


def tree(folder):
    """Relative name -> bytes of all files that are not hidden."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def hidden(folder):
    return sorted(path.name for path in folder.rglob(".*"))


def ledger(folder):
    return [json.loads(line) for line in (folder / ".remote.jsonl").read_text().split("\n") if line]


# --- a store in memory


class CountingStore(MemoryFileSystem):
    """counted://: remembers what was read; a failure in `failures` is raised once for its path."""

    protocol = "counted"
    store, pseudo_dirs = {}, [""]
    reads, failures, extra = [], {}, {}

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("counted://"))

    def cat_file(self, path, version_id=None, start=None, end=None):  # as s3fs has it
        assert version_id is None
        self.reads.append((path, start, end))
        if failures := self.failures.get((path, start)):
            raise failures.pop()
        return super().cat_file(path, start=start, end=end)

    def find(self, path, **kwargs):
        if failures := self.failures.get("find"):
            raise failures.pop()
        return {
            name: info | self.extra.get(name, {})
            for name, info in super().find(path, **kwargs).items()
        }


@pytest.fixture
def store():
    fsspec.register_implementation("counted", CountingStore, clobber=True)
    store = fsspec.filesystem("counted")
    yield store
    CountingStore.store.clear()
    CountingStore.pseudo_dirs[:] = [""]
    CountingStore.reads.clear()
    CountingStore.failures.clear()
    CountingStore.extra.clear()


@pytest.fixture
def memory():
    memory = fsspec.filesystem("memory")
    yield memory
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


# --- what is remote


@pytest.mark.parametrize(
    "source",
    [
        "s3://bucket/x",
        "gs://b",
        "https://host/a.zip",
        "http://host",
        "memory://a",
        "file:///data",
        "S3A://b",
    ],
)
def test_urls_are_remote(source):
    assert is_remote(source)


@pytest.mark.parametrize(
    "source", ["/data/raw", "raw", "./raw", "C:\\raw", "C:/raw", "c://raw", "a b://c", "", "x:y"]
)
def test_paths_are_not(source):
    assert not is_remote(source)


# --- folders


def test_a_folder_is_copied_with_its_tree_but_without_hidden_files(memory, tmp_path):
    files = {
        "a.png": b"one",
        "train/b.png": b"",
        "train/deep/c.png": BODY,
        "names with ünïcode #1.png": b"x",
    }
    for name, content in files.items():
        memory.pipe_file(f"/data/set/{name}", content)
    memory.pipe_file("/data/set/.DS_Store", b"hidden")
    memory.pipe_file("/data/set/.git/config", b"hidden")
    memory.pipe_file("/data/settings.txt", b"outside, though its name begins alike")

    copy = fetch("memory://data/set/", tmp_path / "into")

    assert copy.parent == tmp_path / "into"
    assert re.fullmatch(r"memory-data-set-[0-9a-f]{10}", copy.name)
    assert tree(copy) == files
    assert hidden(copy) == [".remote.jsonl"]
    *records, last = ledger(copy)
    assert last == {"complete": "folder"}
    assert {r["file"]: (r["size"], r["sha256"]) for r in records} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()
    }
    assert fetch("MEMORY://data/set", tmp_path / "into") == copy


def test_the_empty_objects_that_mark_folders_are_no_files(store, tmp_path):
    store.pipe_file("/set/sub/a", b"a")
    store.pipe_file("/empty", b"")
    for mark in ("/set/", "/set/sub/"):  # s3fs lists them so
        CountingStore.store[mark] = CountingStore.store["/empty"]
    assert tree(fetch("counted://set", tmp_path)) == {"sub/a": b"a"}


def test_a_file_url_and_a_single_object(tmp_path, memory):
    (tmp_path / "raw" / "sub").mkdir(parents=True)
    (tmp_path / "raw" / "sub" / "a.txt").write_bytes(b"local")
    assert tree(fetch(f"file://{tmp_path}/raw", tmp_path / "into")) == {"sub/a.txt": b"local"}

    memory.pipe_file("/data/maps.tar", BODY)
    copy = fetch("memory://data/maps.tar", tmp_path / "into")
    assert copy.name == "maps.tar" and copy.read_bytes() == BODY


def test_many_files_are_copied_and_the_last_line_says_so(memory, tmp_path, capsys):
    files = {f"{i % 7}/{i}.bin": i.to_bytes(2, "big") * i for i in range(300)}
    for name, content in files.items():
        memory.pipe_file(f"/many/{name}", content)

    assert tree(fetch("memory://many", tmp_path)) == files
    # 2 * (0 + .. + 299) = 89,700
    assert capsys.readouterr().out == "prepare: copied 300 of 300 files, 0.1 of 0.1 MB\n"


def test_progress_is_printed_while_a_copy_runs(memory, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("shared.terminal.progress.LINE_SECONDS", 0)
    for i in range(50):
        memory.pipe_file(f"/many/{i}", b"12345678")
    fetch("memory://many", tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1 and lines[-1] == "prepare: copied 50 of 50 files, 0.0 of 0.0 MB"
    shown = re.compile(r"prepare: copied \d+ of 50 files, 0.0 of 0.0 MB")
    assert all(map(shown.fullmatch, lines))


def test_the_second_call_reads_nothing_and_a_third_only_what_changed(store, tmp_path, capsys):
    for name in ("same", "changed", "longer", "damaged", "lost", "gone"):
        store.pipe_file(f"/set/sub/{name}", b"before")
    copy = fetch("counted://set", tmp_path)
    CountingStore.reads.clear()
    capsys.readouterr()

    assert fetch("counted://set", tmp_path) == copy
    assert CountingStore.reads == []
    assert capsys.readouterr().out == f"prepare: already copied: {copy}\n"

    store.pipe_file("/set/sub/changed", b"AFTER!")  # of the same length
    store.pipe_file("/set/sub/longer", b"longer than before")
    store.pipe_file("/set/new", b"new")
    store.rm_file("/set/sub/gone")
    (copy / "sub" / "damaged").write_bytes(b"bef")
    (copy / "sub" / "lost").unlink()
    fetch("counted://set", tmp_path)

    assert {path for path, *_ in CountingStore.reads} == {
        "/set/new", "/set/sub/changed", "/set/sub/longer", "/set/sub/damaged", "/set/sub/lost"
    }  # fmt: skip
    assert tree(copy) == {
        "new": b"new",
        "sub/same": b"before",
        "sub/changed": b"AFTER!",
        "sub/longer": b"longer than before",
        "sub/damaged": b"before",
        "sub/lost": b"before",
    }
    CountingStore.reads.clear()
    fetch("counted://set", tmp_path)
    assert CountingStore.reads == []


def test_a_ledger_that_was_cut_off_costs_one_file(store, tmp_path):
    store.pipe_file("/set/a", b"a")
    store.pipe_file("/set/b", b"b")
    copy = fetch("counted://set", tmp_path)
    lines = (copy / ".remote.jsonl").read_text().splitlines()
    killed = lines[2][:20]  # in the second record
    (copy / ".remote.jsonl").write_text("\n".join([*lines[:2], killed]))
    CountingStore.reads.clear()

    fetch("counted://set", tmp_path)
    fetch("counted://set", tmp_path)

    assert [path for path, *_ in CountingStore.reads] == ["/set/" + json.loads(lines[2])["file"]]
    assert (copy / ".remote.jsonl").read_text().splitlines()[-1] == '{"complete": "folder"}'


def test_a_lost_connection_goes_on_from_where_it_was(store, tmp_path):
    store.pipe_file("/set/large", BODY)
    CountingStore.failures[("/set/large", 3000)] = [ConnectionResetError(), TimeoutError()]

    assert tree(fetch("counted://set", tmp_path)) == {"large": BODY}
    starts = [start for _, start, _ in CountingStore.reads]
    assert starts == [0, 1000, 2000, 3000, 3000, 3000, *range(4000, 10240, 1000)]
    assert CountingStore.reads[-1] == ("/set/large", 10000, 10240)


def test_a_copy_that_failed_goes_on_in_the_next_call(store, tmp_path):
    store.pipe_file("/set/large", BODY)
    store.pipe_file("/set/small", b"small")
    CountingStore.failures[("/set/large", 3000)] = [ConnectionResetError() for _ in range(4)]
    sentence = refused("counted://set", tmp_path)
    assert re.fullmatch(
        r"--raw-data counted://set: connection lost \(ConnectionResetError\) after [01] of 2 "
        r"files: "
        r"the same command again goes on from there\.",
        sentence,
    )
    CountingStore.failures.clear()
    CountingStore.reads.clear()

    copy = fetch("counted://set", tmp_path)
    assert tree(copy) == {"large": BODY, "small": b"small"}
    assert min(start for path, start, _ in CountingStore.reads if path == "/set/large") == 3000
    assert hidden(copy) == [".remote.jsonl"]


def test_a_file_that_changed_meanwhile_starts_over(store, tmp_path):
    store.pipe_file("/set/large", BODY)
    CountingStore.failures[("/set/large", 3000)] = [ConnectionResetError() for _ in range(4)]
    refused("counted://set", tmp_path)
    CountingStore.failures.clear()
    store.pipe_file("/set/large", BODY[::-1])

    assert tree(fetch("counted://set", tmp_path)) == {"large": BODY[::-1]}


def test_a_file_that_changes_while_it_is_copied_is_refused(store, tmp_path, monkeypatch):
    store.pipe_file("/set/large", BODY)
    read = CountingStore.cat_file

    def read_and_change(self, path, start, end):
        if start == 5000:
            self.pipe_file(path, BODY[::-1])
        return read(self, path, start=start, end=end)

    monkeypatch.setattr(CountingStore, "cat_file", read_and_change)
    assert refused("counted://set", tmp_path) == (
        "--raw-data counted://set: large changed while it was copied: copy it again."
    )
    monkeypatch.undo()
    assert tree(fetch("counted://set", tmp_path)) == {"large": BODY[::-1]}


def test_a_complete_copy_serves_while_the_store_is_away(store, tmp_path, capsys):
    store.pipe_file("/set/a", b"a")
    copy = fetch("counted://set", tmp_path)
    capsys.readouterr()

    CountingStore.failures["find"] = [TimeoutError() for _ in range(3)]
    assert fetch("counted://set", tmp_path) == copy
    assert capsys.readouterr().out == (
        "prepare: warning: counted://set cannot be reached (TimeoutError), its copy is used: "
        f"{copy}\n"
    )

    (copy / "a").unlink()
    CountingStore.failures["find"] = [TimeoutError() for _ in range(3)]
    assert refused("counted://set", tmp_path) == (
        "--raw-data counted://set cannot be reached (TimeoutError): check the address and the "
        "network."
    )


def test_a_copy_that_is_not_complete_does_not_serve(store, tmp_path):
    store.pipe_file("/set/a", b"a")
    store.pipe_file("/set/b", b"b")
    CountingStore.failures[("/set/b", 0)] = [ConnectionResetError() for _ in range(3)]
    refused("counted://set", tmp_path)
    CountingStore.failures["find"] = [TimeoutError() for _ in range(3)]
    assert "cannot be reached (TimeoutError)" in refused("counted://set", tmp_path)


def test_a_listing_is_tried_again(store, tmp_path):
    store.pipe_file("/set/a", b"a")
    CountingStore.failures["find"] = [TimeoutError(), TimeoutError()]
    assert tree(fetch("counted://set", tmp_path)) == {"a": b"a"}


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "..", "a\\..\\evil", "/etc/evil", "a//b", "./a", "x\0y"]
)
def test_keys_that_lead_out_of_the_folder_are_refused_before_anything_is_copied(
    store, tmp_path, name
):
    store.pipe_file("/set/good", b"good")
    CountingStore.store[f"/set/{name}"] = CountingStore.store["/set/good"]
    assert refused("counted://set", tmp_path / "into") == (
        f"--raw-data counted://set has a file {name!r}, no path below a folder: rename it."
    )
    assert list(tmp_path.iterdir()) == [] and CountingStore.reads == []


def test_a_name_that_is_a_file_and_a_folder_is_refused(store, tmp_path):
    store.pipe_file("/set/a/b", b"b")
    CountingStore.store["/set/a"] = CountingStore.store["/set/a/b"]
    sentence = refused("counted://set", tmp_path)
    assert sentence.startswith("--raw-data counted://set cannot be copied to ")


def test_more_than_the_disk_holds_is_refused(memory, tmp_path, monkeypatch):
    memory.pipe_file("/set/a", bytes(2_500_000))
    usage = remote.shutil.disk_usage(tmp_path)._replace(free=1_200_000)
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda path: usage)
    sentence = refused("memory://set", tmp_path)
    assert re.fullmatch(
        r"--raw-data memory://set needs 2.5 MB but \S+ has 1.2 MB free: free space or give "
        r"another disk\.",
        sentence,
    )
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    "promise",
    [
        {"md5Hash": "CY9rzUYh03PK3k6DJie09g=="},  # GCS: base64 of md5(b"test")
        {"ETag": '"098f6bcd4621d373cade4e832627b4f6"'},  # S3: the same in hexadecimal
    ],
)
def test_the_md5_of_a_store_is_checked(store, tmp_path, promise):
    store.pipe_file("/set/a", b"test")
    CountingStore.extra["/set/a"] = promise
    copy = fetch("counted://set", tmp_path)
    assert tree(copy) == {"a": b"test"}
    assert ledger(copy)[0]["version"] == " ".join(*promise.items())

    store.pipe_file("/set/b", b"test")
    CountingStore.extra["/set/b"] = promise
    CountingStore.failures[("/set/b", 0)] = [ConnectionResetError()]
    fetch("counted://set", tmp_path)
    assert tree(copy) == {"a": b"test", "b": b"test"}


def test_bytes_with_another_md5_are_removed(store, tmp_path):
    store.pipe_file("/set/a", b"tset")
    CountingStore.extra["/set/a"] = {"md5Hash": "CY9rzUYh03PK3k6DJie09g=="}
    assert refused("counted://set", tmp_path) == (
        "--raw-data counted://set: a arrived with another MD5 than the store tells (the copy is "
        "removed): "
        "say the same command again."
    )
    assert tree(tmp_path) == {} and hidden(tmp_path) == [".remote.jsonl"]


def test_an_etag_that_only_looks_like_an_md5_costs_a_second_read_of_one_file(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(remote, "THREADS", 1)
    for name in "abc":
        store.pipe_file(f"/set/{name}", name.encode())
        CountingStore.extra[f"/set/{name}"] = {"ETag": f'"{name * 32}"'}
    assert tree(fetch("counted://set", tmp_path)) == {"a": b"a", "b": b"b", "c": b"c"}
    assert len(CountingStore.reads) == 4


def test_bytes_that_come_differently_twice_do_not_match_their_etag(store, tmp_path, monkeypatch):
    store.pipe_file("/set/a", b"test")
    CountingStore.extra["/set/a"] = {"ETag": '"098f6bcd4621d373cade4e832627b4f6"'}
    damaged = iter([b"tEst", b"teSt"])
    monkeypatch.setattr(CountingStore, "cat_file", lambda self, path, start, end: next(damaged))
    assert "a arrived with another MD5 than the store tells" in refused("counted://set", tmp_path)
    assert tree(tmp_path) == {} and hidden(tmp_path) == [".remote.jsonl"]


@pytest.mark.parametrize(
    "error",
    [
        PermissionError("no"),
        OSError("Forbidden: bucket"),
        type("NoCredentialsError", (Exception,), {})(),
    ],
)
def test_denied_access_is_refused_at_once(store, tmp_path, error):
    store.pipe_file("/set/a", b"a")
    CountingStore.failures["find"] = [error]
    assert refused("counted://set", tmp_path) == (
        "--raw-data counted://set: access denied: check the credentials."
    )


# --- single files over HTTP


@dataclass
class Site:
    """What the server holds, how it behaves, and the requests that it saw."""

    url: str
    body: bytes = BODY
    headers: dict = field(default_factory=lambda: {"ETag": '"v1"'})
    statuses: dict = field(default_factory=dict)  # by method, 200 without
    has_ranges: bool = True
    has_length: bool = True
    cuts: list = field(default_factory=list)  # bytes of the next answers to GET, which break off
    requests: list = field(default_factory=list)  # (method, Range header)

    def ranges(self):
        """Of all GET requests so far, which are forgotten."""
        found = [value for method, value in self.requests if method == "GET"]
        self.requests.clear()
        return found


@pytest.fixture
def site():
    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            wanted = self.headers.get("Range")
            site.requests.append((self.command, wanted))
            body, status = site.body, site.statuses.get(self.command, 200)
            if wanted and site.has_ranges and status == 200:
                body, status = body[int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) :], 206
            self.send_response(status)
            for name, value in site.headers.items():
                self.send_header(name, value)
            if site.has_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: site.cuts.pop(0)] if site.cuts else body)

        do_GET = do_HEAD = answer

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}/data/facades.tar.gz")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.stop = lambda: (server.shutdown(), server.server_close(), thread.join())
    yield site
    site.stop()


def test_a_file_is_copied_once(site, tmp_path):
    copy = fetch(site.url, tmp_path)
    assert copy.name == "facades.tar.gz" and copy.read_bytes() == BODY
    assert re.fullmatch(r"http-127.0.0.1-\d+-data-facades.tar.gz-[0-9a-f]{10}", copy.parent.name)
    assert site.ranges() == [None]
    assert hidden(copy.parent) == [".remote.jsonl"]
    assert ledger(copy.parent) == [
        {
            "file": "facades.tar.gz",
            "size": 10240,
            "version": 'ETag "v1"',
            "sha256": hashlib.sha256(BODY).hexdigest(),
        },
        {"complete": "file"},
    ]

    assert fetch(site.url, tmp_path) == copy
    assert [method for method, _ in site.requests] == ["HEAD"]


def test_a_new_etag_is_copied_again(site, tmp_path):
    copy = fetch(site.url, tmp_path)
    site.body, site.headers = BODY[::-1], {"ETag": '"v2"'}
    fetch(site.url, tmp_path)
    assert copy.read_bytes() == BODY[::-1]


def test_a_cut_connection_asks_for_the_rest(site, tmp_path):
    site.body, site.cuts = LARGE, [len(LARGE) // 4] * 3
    assert fetch(site.url, tmp_path).read_bytes() == LARGE
    first, *others = site.ranges()
    starts = [int(re.fullmatch(r"bytes=(\d+)-", value)[1]) for value in others]
    # What the client still had in its buffers (some 400 kB, over 500 where it is slow) when the
    # connection broke is asked for again.
    assert first is None and len(starts) >= 3 and starts == sorted(set(starts))
    assert 2**18 < starts[0] <= 2**20


def test_the_next_call_asks_for_the_rest(site, tmp_path):
    site.body, site.cuts = LARGE, [2**20, 0, 0, 0]
    assert "connection lost (ClientPayloadError) after 0 of 1 files" in refused(site.url, tmp_path)
    first, *others = site.ranges()
    assert first is None and len(others) == 2 and len(set(others)) == 1
    [partial] = tmp_path.glob("*/.facades.tar.gz.partial")
    assert others[0] == f"bytes={partial.stat().st_size}-"
    assert LARGE.startswith(partial.read_bytes())

    site.cuts = []
    assert fetch(site.url, tmp_path).read_bytes() == LARGE
    assert site.ranges() == others[:1]
    assert hidden(tmp_path) == [".remote.jsonl"]


def test_the_rest_of_another_version_is_not_asked_for(site, tmp_path):
    site.body, site.cuts = LARGE, [2**20, 0, 0, 0]
    refused(site.url, tmp_path)
    site.ranges()
    site.cuts, site.body, site.headers = [], LARGE[::-1], {"ETag": '"v2"'}
    assert fetch(site.url, tmp_path).read_bytes() == LARGE[::-1]
    assert site.ranges() == [None]


def test_a_server_that_tells_no_version_starts_over(site, tmp_path):
    site.body, site.headers, site.cuts = LARGE, {}, [2**20]
    assert fetch(site.url, tmp_path).read_bytes() == LARGE
    assert site.ranges() == [None, None]
    site.body = LARGE[::-1]  # its size alone does not tell
    assert fetch(site.url, tmp_path).read_bytes() == LARGE[::-1]


def test_a_server_without_ranges_starts_over(site, tmp_path):
    site.body, site.has_ranges, site.cuts = LARGE, False, [2**20]
    assert fetch(site.url, tmp_path).read_bytes() == LARGE
    first, second = site.ranges()
    assert first is None and second.startswith("bytes=")


def test_a_server_without_head_requests_is_good_enough(site, tmp_path):
    site.statuses = {"HEAD": 403}  # as an S3 URL that is signed for GET
    assert fetch(site.url, tmp_path).read_bytes() == BODY


def test_a_copied_file_serves_while_the_server_is_away(site, tmp_path, capsys):
    copy = fetch(site.url, tmp_path)
    capsys.readouterr()
    site.stop()
    assert fetch(site.url, tmp_path) == copy
    assert "cannot be reached (ClientConnectorError), its copy is used" in capsys.readouterr().out


def test_checksum_in_the_url(site, tmp_path):
    digest = hashlib.sha256(BODY).hexdigest()
    copy = fetch(f"{site.url}#sha256={digest.upper()}", tmp_path)
    assert copy.read_bytes() == BODY and fetch(site.url, tmp_path) == copy

    copy.write_bytes(BODY[::-1])  # damaged, and of the same length
    assert refused(f"{site.url}#sha256={digest}", tmp_path) == (
        f"--raw-data {site.url} has SHA-256 {hashlib.sha256(BODY[::-1]).hexdigest()} and not "
        f"{digest} as its URL says (the copy is removed): "
        "correct the URL or get the right file."
    )
    assert not copy.exists()
    assert fetch(f"{site.url}#sha256={digest}", tmp_path).read_bytes() == BODY


def test_md5_in_the_headers(site, tmp_path):
    site.headers = {"Content-MD5": "CY9rzUYh03PK3k6DJie09g=="}
    assert "facades.tar.gz arrived with another MD5 than the store tells" in refused(
        site.url, tmp_path
    )
    site.body = b"test"
    assert fetch(site.url, tmp_path).read_bytes() == b"test"


def test_an_etag_of_a_web_server_is_no_md5(site, tmp_path):
    site.headers = {"ETag": '"098f6bcd4621d373cade4e832627b4f6"'}
    assert fetch(site.url, tmp_path).read_bytes() == BODY
    assert site.ranges() == [None]


def test_escaped_names(site, tmp_path):
    assert fetch(site.url.replace("facades", "two%20words"), tmp_path).name == "two words.tar.gz"
    assert "has a file '..', no path below a folder" in refused(site.url + "/%2e%2e", tmp_path)


def test_a_password_and_a_signature_go_nowhere_but_to_the_server(site, tmp_path, capsys):
    secret = site.url.replace("http://", "http://zaphod:pa55word@") + "?X-Amz-Signature=5ecret"
    fetch(secret, tmp_path)
    fetch(secret.replace("5ecret", "another5ecret"), tmp_path)
    assert site.ranges() == [None]  # a new signature, but the same file
    site.statuses = {"HEAD": 403, "GET": 403}
    printed = refused(secret, tmp_path)
    site.statuses = {"HEAD": 500, "GET": 500}
    fetch(secret, tmp_path)
    site.stop()
    fetch(secret, tmp_path)
    printed += refused(secret, tmp_path / "new")
    printed += refused(secret + "#md5=5ecret", tmp_path)
    printed += refused(secret.replace("http:", "htpt:"), tmp_path)
    printed += refused(secret.replace("http:", "s3:"), tmp_path)
    printed += refused("zip://*.png::" + secret, tmp_path)
    for sign in "/?#[":
        printed += refused(secret.replace("pa55", f"pa55{sign}"), tmp_path)
    printed += "".join(capsys.readouterr())
    printed += "".join(
        f"{path} {path.read_text('latin1')}" for path in tmp_path.rglob("*") if path.is_file()
    )
    for word in ("zaphod", "pa55", "word@", "X-Amz", "5ecret"):
        assert word not in printed


def test_a_variable_may_hold_the_url(site, tmp_path, monkeypatch):
    monkeypatch.setenv("RAW_URL", site.url.replace("http://", "http://zaphod:pa55word@"))
    assert fetch("env://RAW_URL", tmp_path).read_bytes() == BODY
    assert refused("env://NO_URL", tmp_path) == (
        "--raw-data env://NO_URL: the environment has no variable NO_URL that holds a URL: set it "
        "where the step runs."
    )


def test_refusals_of_a_server(site, tmp_path):
    for status in (401, 403):
        site.statuses = {"HEAD": status, "GET": status}
        sentence = f"--raw-data {site.url}: access denied: check the credentials."
        assert refused(site.url, tmp_path) == sentence
    site.statuses = {"HEAD": 404, "GET": 404}
    sentence = f"--raw-data {site.url}: nothing found there: check the address."
    assert refused(site.url, tmp_path) == sentence
    site.statuses = {"HEAD": 503, "GET": 503}
    assert refused(site.url, tmp_path) == (
        f"--raw-data {site.url} cannot be reached (HTTP 503): check the address and the network."
    )
    site.statuses, site.headers = {}, {"Content-Type": "text/html; charset=utf-8"}
    for url in (site.url, site.url.removesuffix("/data/facades.tar.gz")):
        assert refused(url, tmp_path) == (
            f"--raw-data {url} is a web page: give the address of a file, such as an archive."
        )
    site.headers, site.has_length = {}, False
    assert refused(site.url, tmp_path) == (
        f"--raw-data {site.url} does not tell its length: give the address of a stored file."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url, sentence",
    [
        ("nothing://x/y", "nothing://x/y has an unknown scheme: give s3://, gs:// or https://."),
        ("memory://no/such", "memory://no/such: nothing found there: check the address."),
        (
            "memory://a#sha256=12",
            "memory://a has a # but no checksum behind it: write #sha256=<64 hex digits>.",
        ),
        (
            "memory://a#top",
            "memory://a has a # but no checksum behind it: write #sha256=<64 hex digits>.",
        ),
        (
            "zip://a::s3://b/c",
            "is a chain of URLs (::): give the URL of the folder or of the archive alone.",
        ),
        ("http://[abc/d", "has no readable host: write special characters of a password as %XX."),
        ("s3://bucket/x", "s3://bucket/x needs s3fs: pip install s3fs."),
        ("gs://bucket/x", "gs://bucket/x needs gcsfs: pip install gcsfs."),
    ],
)
def test_refusals_of_a_url(tmp_path, memory, url, sentence, monkeypatch):
    for package in ("s3fs", "gcsfs"):  # none of them can be imported, also where they are installed
        monkeypatch.setitem(sys.modules, package, None)
    assert refused(url, tmp_path) == f"--raw-data {sentence}"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_no_checksum(memory, tmp_path):
    memory.pipe_file("/set/a", b"a")
    assert refused(f"memory://set#sha256={'0' * 64}", tmp_path) == (
        "--raw-data memory://set is a folder but #sha256 belongs to one file: leave it out."
    )
    assert list(tmp_path.iterdir()) == []  # refused before anything was copied


def test_a_folder_of_hidden_files_holds_nothing(memory, tmp_path):
    memory.pipe_file("/set/.hidden", b"a")
    sentence = "--raw-data memory://set: nothing found there: check the address."
    assert refused("memory://set", tmp_path) == sentence


def test_a_place_that_cannot_be_written_is_refused(memory, tmp_path):
    memory.pipe_file("/set/a", b"a")
    (tmp_path / "file").write_text("")
    sentence = refusal(fetch, "memory://set", tmp_path / "file")
    assert f"({tmp_path / 'file'} is a file): give a place you can write to." in sentence
