"""Whatever a server answers, whoever asks it comes to an end: with a sentence, and soon."""

import threading
import time
import urllib.request

import pytest
import requests

from components.prepare.fetch import stores
from components.prepare.fetch.remote import fetch
from shared import servers
from shared.errors import InputError
from shared.pipeline.images import registry as images
from shared.pipeline.server.client import connect
from shared.pipeline.server.runs import get_run
from shared.pipeline.submitting import ServerOptions
from shared.published import download, files
from shared.scorers.onnx_file import OnnxFile
from shared.servers import said, within
from tests.asking import one_sentence, refusal
from tests.loopback import FAULTS, serving

PATIENCE_S = 0.3
SOON_S = 30.0  # a few tries of a few times the patience, on a busy machine
FINAL = ("400", "401", "403", "404", "405", "410")  # another try cannot change them
FILES = ("HTML", "truncated JSON", "another object", "a list", "nothing", "no text")
WEIGHTS = files.WeightFile("w.pth", "", "0" * 64, 5000)


@pytest.fixture
def faulty(monkeypatch, tmp_path):
    """A server with a file, that is still to get its fault."""
    monkeypatch.setenv(servers.PATIENCE, str(PATIENCE_S))
    monkeypatch.setattr(servers, "MOST_BYTES", 2**20)
    for module in (stores, download):
        monkeypatch.setattr(module, "RETRY_PAUSES", (0.001, 0.001))
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", PATIENCE_S)
    monkeypatch.setattr(images, "TIMEOUT_SECONDS", PATIENCE_S)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serving(**{"a.zip": bytes(5000), "w.pth": bytes(5000)}) as there:
        monkeypatch.setenv("WEIGHTS_MIRROR", there.url)
        yield there


def raw_data(there, folder):
    fetch(f"{there.url}/a.zip", folder)


def weights(_there, _folder):
    download.fetch(WEIGHTS, "--vgg-weights auto")


def kfp(there, _folder):
    with connect(ServerOptions(host=there.url)) as server:
        get_run(server, "x")


def ended(call, there, folder) -> str:
    """The sentence of a reader, which comes soon."""
    began = time.monotonic()
    sentence = refusal(call, there, folder)
    assert time.monotonic() - began < SOON_S
    assert "\x1b" not in sentence and len(sentence) < 600
    return sentence


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", [raw_data, weights, kfp])
def test_whatever_a_server_answers_the_reader_ends_with_a_sentence(call, fault, faulty, tmp_path):
    if call is raw_data and fault in FILES:
        return  # whatever it holds
    faulty.fault = fault
    ended(call, faulty, tmp_path)
    if fault in FINAL and call is not kfp:
        assert len(faulty.asked) <= 2, "a look and a try, not again and again"


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_a_registry_answers_its_image_is_in_or_unknown(fault, faulty):
    faulty.fault = fault
    began = time.monotonic()
    _, unknown = images.check_images({"train": faulty.url.removeprefix("http://") + "/train:1"})
    assert time.monotonic() - began < SOON_S
    assert all("\x1b" not in sentence and len(sentence) < 500 for sentence in unknown)


def test_a_name_that_nobody_has_is_not_asked_again(faulty, monkeypatch, tmp_path):
    import socket

    asked = []

    def unknown(*arguments, **_):
        asked.append(arguments)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("WEIGHTS_MIRROR", "http://no.such.name.example")
    assert "Name or service not known" in refusal(weights, faulty, tmp_path)
    assert len(asked) == 1


# What they share.


@pytest.mark.parametrize("fault", ["has no end", "unpacks to no end"])
def test_an_answer_without_end_takes_no_memory(fault, faulty):
    servers.bound_requests()
    faulty.fault = fault
    with pytest.raises(requests.RequestException, match="longer than 1 MiB"):
        requests.get(faulty.url, timeout=5)


@pytest.mark.parametrize("fault", ["drips", "drips in its headers", "says 100 for ever"])
def test_what_comes_too_slowly_ends_as_silence_does(fault, faulty):
    servers.bound()
    faulty.fault = fault
    began = time.monotonic()
    with pytest.raises((OSError, Exception)) as error:
        urllib.request.urlopen(faulty.url, timeout=5).read()
    assert time.monotonic() - began < 3
    assert "bytes came in" in str(error.value) or "interim" in str(error.value)


def test_a_large_file_at_a_fair_pace_is_never_too_slow(faulty):
    servers.bound()
    faulty.content["/large"] = bytes(40_000)
    faulty.pause = 0.02  # 50 kB/s, for longer than the patience
    assert len(urllib.request.urlopen(f"{faulty.url}/large", timeout=5).read()) == 40_000


def test_a_call_is_waited_for_while_it_gets_on():
    steps = []

    def slow():
        for number in range(5):
            time.sleep(0.15)
            steps.append(number)
        return "done"

    assert within(0.6, slow, lambda: len(steps)) == "done"
    with pytest.raises(TimeoutError, match=r"no answer in 0\.1 s"):
        within(0.1, threading.Event().wait)
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)


@pytest.mark.parametrize("given", ["soon", "0", "nan", "-1", "1e9"])
def test_a_patience_that_is_no_number_of_seconds_is_refused(given, monkeypatch):
    monkeypatch.setenv(servers.PATIENCE, given)
    assert f"{servers.PATIENCE}={given}" in refusal(servers.patience_s)


def test_what_a_server_says_is_fit_to_be_shown():
    text = "\x1b]0;title\x07\x1b[31mno\x9b2J\x00 rights\u202e for https://u:pa55word@h/\nsecond"
    assert said(text) == "0;titleno2J rights for https://***@h/"
    assert len(said("x" * 10**7)) == 300 and said("") == said("\n") == ""


def test_a_measuring_network_that_never_ends_is_refused(tmp_path, monkeypatch):
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    monkeypatch.setenv(servers.PATIENCE, "0.1")
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Abs", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["", "true", "picture"], ["out"], body=body)
    shape = [1, 3, "h", "w"]
    graph = helper.make_graph(
        [loop],
        "endless",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(True), "true")],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "endless.onnx")
    network = OnnxFile("--fid-network", str(tmp_path / "endless.onnx"), 1, (8, 8), "cpu")
    with pytest.raises(InputError) as refused:
        network.try_out()
    assert "gives no answer in 1 s" in one_sentence(str(refused.value))
