"""Published weight files come whole and checked, once, or one sentence says why not: against a real
web server on this machine."""

import dataclasses
import hashlib
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch.hub

from shared.published import download
from shared.published.download import fetch, look_for
from shared.published.files import WeightFile, hub_folder, published_in
from tests.asking import refusal
from tests.loopback import serving

BODY = bytes(range(256)) * 40  # 10,240 bytes


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "CHUNK", 1000)
    monkeypatch.setattr(download, "RETRY_PAUSES", (0.001, 0.001))
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(download, "ASKING_SECONDS", 0.5)
    monkeypatch.delenv("WEIGHTS_MIRROR")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))


@pytest.fixture
def server():
    with serving(**{"weights.pth": BODY}) as files:
        yield files


def weights(server, content: bytes = BODY, path: str = "weights.pth") -> WeightFile:
    """A file that was published with this content."""
    digest = hashlib.sha256(content).hexdigest()
    return WeightFile("weights-12345678.pth", f"{server.url}/{path}", digest, len(content))


def folder(tmp_path) -> list[str]:
    """What lies in the cache, but for the lock."""
    return sorted(
        path.name
        for path in (tmp_path / "cache" / "hub" / "checkpoints").glob("*")
        if path.suffix != ".lock"
    )


def refused(file: WeightFile, function=fetch) -> str:
    sentence = refusal(function, file, "--weights auto")
    assert sentence.startswith("--weights auto needs ")
    return sentence


# Where it lies.


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"TORCH_HOME": "/a/torch"},
        {"TORCH_HOME": "~/b"},
        {"XDG_CACHE_HOME": "/c"},
        {"XDG_CACHE_HOME": "~/d"},
        {"TORCH_HOME": "/e", "XDG_CACHE_HOME": "/f"},
        {"XDG_CACHE_HOME": ""},
    ],
)
def test_the_folder_is_that_of_torch_hub(variables, monkeypatch):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_folder() == Path(torch.hub.get_dir(), "checkpoints")


def test_it_is_downloaded_once_whole_and_under_its_name(server, tmp_path, capsys):
    file = weights(server)
    assert look_for(file, "--weights auto") == "weights-12345678.pth will be downloaded"
    assert not (tmp_path / "cache").exists()
    place = fetch(file, "--weights auto")
    assert place == tmp_path / "cache" / "hub" / "checkpoints" / "weights-12345678.pth"
    assert place.read_bytes() == BODY and folder(tmp_path) == [place.name]
    said = capsys.readouterr().out
    assert f"from {file.url} to {place.parent}" in said
    asked = len(server.asked)
    assert fetch(file, "--weights auto") == place
    assert look_for(file, "--weights auto") == "weights-12345678.pth"
    assert len(server.asked) == asked and capsys.readouterr().out == ""


def test_what_torch_hub_downloaded_is_taken_and_ours_is_what_torch_hub_takes(server, tmp_path):
    name = f"weights-{hashlib.sha256(BODY).hexdigest()[:8]}.pth"
    server.content[f"/{name}"] = BODY
    file = WeightFile(name, f"{server.url}/{name}", hashlib.sha256(BODY).hexdigest(), len(BODY))
    file.place.parent.mkdir(parents=True)
    torch.hub.download_url_to_file(file.url, str(file.place), progress=False)
    asked = len(server.asked)
    assert fetch(file, "--weights auto").read_bytes() == BODY and len(server.asked) == asked


def test_a_mirror_holds_the_files_under_their_names(server, monkeypatch):
    server.content["/inside/weights-12345678.pth"] = BODY
    monkeypatch.setenv("WEIGHTS_MIRROR", f"{server.url}/inside/")
    elsewhere = dataclasses.replace(weights(server), url="http://127.0.0.1:9/weights.pth")
    assert fetch(elsewhere, "--weights auto").read_bytes() == BODY
    assert [path for path, _ in server.asked] == ["/inside/weights-12345678.pth"]


def test_a_redirect_is_followed(server):
    server.moved["/latest.pth"] = "/weights.pth"
    file = weights(server, path="latest.pth")
    assert look_for(file, "--weights auto") and fetch(file, "--weights auto").read_bytes() == BODY


# What goes wrong.


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize("tells_length", [True, False])
def test_a_cut_connection_is_taken_up_where_it_broke(server, knows_ranges, tells_length):
    server.knows_ranges, server.tells_length = knows_ranges, tells_length
    server.cuts = [3000, 2500]
    assert fetch(weights(server), "--weights auto").read_bytes() == BODY
    begins = ["", "bytes=3000-", "bytes=5500-" if knows_ranges else "bytes=2500-"]
    assert [asked for _, asked in server.asked] == begins


def test_a_connection_that_breaks_again_and_again_ends_in_a_sentence(server, tmp_path):
    server.cuts = [10] * 10
    sentence = refused(weights(server))
    assert "cannot be downloaded (it broke off): get " in sentence and len(server.asked) == 3
    assert folder(tmp_path) == [".weights-12345678.pth.partial"]
    server.cuts = []
    assert fetch(weights(server), "--weights auto").read_bytes() == BODY
    assert server.asked[-1][1] == "bytes=30-" and len(folder(tmp_path)) == 1


def test_who_gets_on_is_given_all_tries_again(server):
    server.cuts = [2000] * 4
    assert fetch(weights(server), "--weights auto").read_bytes() == BODY


@pytest.mark.parametrize(
    "left, received", [(BODY[:5000], 5240), (b"other" * 1000, 5240 + 10240), (BODY + b"!", 10240)]
)
def test_what_an_earlier_call_left_is_gone_on_with_if_it_is_of_this_file(server, left, received):
    file = weights(server)
    file.place.parent.mkdir(parents=True)
    file.place.with_name(f".{file.name}.partial").write_bytes(left)
    assert fetch(file, "--weights auto").read_bytes() == BODY
    starts = [int(asked[6:-1] or 0) if asked else 0 for _, asked in server.asked]
    assert sum(len(BODY) - start for start in starts) == received


def test_other_bytes_are_refused_and_not_kept(server, tmp_path):
    file = weights(server)
    server.content["/weights.pth"] = BODY[::-1]
    found = hashlib.sha256(BODY[::-1]).hexdigest()
    sentence = refused(file)
    assert f"holds another file (SHA-256 {found} and not {file.sha256})" in sentence
    assert folder(tmp_path) == []


@pytest.mark.parametrize("length", [10, 10_239, 10_241, 0])
def test_a_page_of_another_length_is_refused_before_it_is_read(server, tmp_path, length):
    server.content["/weights.pth"] = bytes(length)
    for function in (look_for, fetch):
        sentence = refused(weights(server), function)
        assert f"what is there has {length:,} bytes and not 10,240" in sentence
    assert len(server.asked) == 2 and "weights-12345678.pth" not in folder(tmp_path)


def test_longer_content_of_untold_length_is_refused(server, tmp_path):
    server.tells_length = False
    server.content["/weights.pth"] = b"!" + BODY
    assert "holds another file" in refused(weights(server)) and folder(tmp_path) == []


@pytest.mark.parametrize("status, tries", [(404, 1), (403, 1), (503, 3)])
def test_a_refusing_server(server, status, tries):
    server.status = [status] * 5
    sentence = refused(weights(server), look_for)
    assert f"cannot be downloaded (HTTP {status}): get {server.url}/weights.pth and put" in sentence
    server.asked.clear()
    refused(weights(server))
    assert len(server.asked) == tries


def test_a_server_that_is_back_in_time(server):
    server.status = [503, 500]
    assert fetch(weights(server), "--weights auto").read_bytes() == BODY


def test_offline_one_sentence_has_the_address_and_the_place(server, tmp_path):
    file = WeightFile("vgg-1.pth", "http://127.0.0.1:9/vgg.pth", "00", 2_000_000)
    place = tmp_path / "cache" / "hub" / "checkpoints" / "vgg-1.pth"
    for function in (look_for, fetch):
        assert refused(file, function) == (
            "--weights auto needs vgg-1.pth (2 MB), which is not here and cannot be downloaded "
            f"(Connection refused): get http://127.0.0.1:9/vgg.pth and put it to {place}."
        )


def test_a_silent_server_is_waited_for_but_not_for_ever(server):
    server.silence = threading.Event()
    began = time.monotonic()
    assert "(nothing came in 0.5 s)" in refused(weights(server), look_for)
    assert "(nothing came in 0.5 s)" in refused(weights(server))
    assert time.monotonic() - began < 5


def test_a_trickle_is_lost_like_silence(server, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(download, "CHUNK", 5000)
    server.pause = 0.06
    assert "(under 5,000 bytes came in 0.1 s)" in refused(weights(server))
    server.pause = 0.001
    assert fetch(weights(server), "--weights auto").read_bytes() == BODY


def test_another_file_in_its_place_is_refused_and_left_alone(server):
    file = weights(server)
    file.place.parent.mkdir(parents=True)
    file.place.write_bytes(BODY[:-1])
    for function in (look_for, fetch):
        sentence = refused(file, function)
        assert "as it was published, but this file has SHA-256 " in sentence
        assert sentence.endswith("remove it, and it is downloaded anew.")
    assert file.place.read_bytes() == BODY[:-1] and server.asked == []


def test_a_folder_that_takes_no_file(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for home in (tmp_path / "file" / "torch", Path("/proc/none")):
        monkeypatch.setenv("TORCH_HOME", str(home))
        for function in (look_for, fetch):
            sentence = refused(weights(server), function)
            assert f"but {home}/hub/checkpoints cannot take it (" in sentence
            assert sentence.endswith("name another folder in TORCH_HOME.")
    assert server.asked == []


def test_a_disk_without_room(server, monkeypatch):
    small = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: small)
    assert "cannot take it (0 MB are free there)" in refused(weights(server), look_for)


# Several processes.


def fetch_elsewhere(file: WeightFile, results) -> None:
    results.put(fetch(file, "--weights auto").read_bytes() == BODY)


def started(file: WeightFile, count: int):
    """So many processes that fetch the file, and the queue of what they find."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [
        context.Process(target=fetch_elsewhere, args=(file, results)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    return processes, results


def test_of_several_processes_one_downloads(server, tmp_path):
    server.pause = 0.02
    processes, results = started(weights(server), 4)
    assert [results.get() for _ in processes] == [True] * 4
    for process in processes:
        process.join()
    assert len(server.asked) == 1 and folder(tmp_path) == ["weights-12345678.pth"]


def test_a_killed_download_is_not_taken_and_the_next_one_goes_on(server, tmp_path):
    file = weights(server)
    server.pause = 0.05
    (process,), _ = started(file, 1)
    partial = file.place.with_name(f".{file.name}.partial")
    while not (partial.is_file() and partial.stat().st_size >= 3000):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert folder(tmp_path) == [partial.name]
    server.pause = 0
    assert look_for(file, "--weights auto").endswith(" will be downloaded")
    assert fetch(file, "--weights auto").read_bytes() == BODY
    assert server.asked[-1][1].startswith("bytes=") and folder(tmp_path) == [file.name]


# Which files options ask for.


def test_options_ask_for_the_files_of_their_networks():
    asked = published_in(
        dict(vgg_weights="auto", lambda_vgg=10.0, lpips_network="alex", fid_network="inception")
    )
    assert {name: [file.name for file in files] for name, files in asked.items()} == {
        "vgg_weights": ["vgg19-dcbb9e9d.pth"],
        "lpips_network": ["alexnet-owt-7be5be79.pth", "lpips-alex-df73285e.pth"],
        "fid_network": ["pt_inception-2015-12-05-6726825d.pth"],
    }
    files = [file for files in asked.values() for file in files]
    assert all(file.sha256[:8] == file.name[-12:-4] and len(file.sha256) == 64 for file in files)
    unused = dict(vgg_weights="auto", lambda_vgg=0.0, lpips_network="my.onnx")
    assert published_in(unused) == {"vgg_weights": ()}
    assert published_in(dict(vgg_weights="vgg.pth", lambda_vgg=1.0, fid_network="")) == {}
