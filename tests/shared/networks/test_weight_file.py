"""What weight files are taken, and what is said of a file that is none."""

import argparse
import copy
import gzip
import io
import json
import os
import struct
import tarfile
import zipfile

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from components.train.networks.partial import load_what_fits
from shared.networks.checkpoint import load_generator, load_strictly, read_model
from shared.networks.weight_file import load_state, load_tensors
from tests import tiny
from tests.asking import refusal

CONV = nn.Conv2d(2, 3, 3)
STATE = CONV.state_dict()
OLD = dict(_use_new_zipfile_serialization=False)


def torch_bytes(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zip_bytes(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_bytes():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("latest_net_G.pth"))
    return buffer.getvalue()


def numpy_bytes(save, *args, **kwargs):
    buffer = io.BytesIO()
    save(buffer, *args, **kwargs)
    return buffer.getvalue()


def safetensors_bytes():
    header = {"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


def onnx_bytes():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def field(number, content):
    """A field of protobuf: a number as varint, bytes with their length."""
    if isinstance(content, int):
        return bytes([number << 3]) + varint(content)
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(number):
    low = [number >> shift & 127 for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([part | 128 for part in low[:-1]] + low[-1:])


def mindspore_bytes():
    """By mindspore's checkpoint.proto: Checkpoint.value {tag, tensor {dims, tensor_type,
    tensor_content}}."""
    dims = b"".join(field(1, side) for side in (64, 36, 7, 7))
    tensor = dims + field(2, b"Float32") + field(3, bytes(4 * 64 * 36 * 49))
    return field(1, field(1, b"netG.model.1.weight") + field(2, tensor))


def tensorflow_graph_bytes():
    """By tensorflow's graph.proto: GraphDef.node {name, op}."""
    return field(1, field(1, b"generator/conv") + field(2, b"Conv2D"))


class Own(nn.Conv2d):
    """A network that is pickled whole."""


WHOLE = f"holds one whole object of class {__name__}.Own, as torch.save(network, PATH) writes it"
CUT = "copy or download it again"
# Bytes, and what must be said of them.
KINDS = {
    "empty": (b"", f"is empty: {CUT}"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 730000000\n",
        "is a Git LFS pointer to a file of 730 MB: say `git lfs pull`",
    ),
    "page": (
        b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan\nwarning</title></head>",
        "is a web page called 'Google Drive - Virus scan warning', not the file behind it",
    ),
    "page_without_title": (b"<html><body>404</body></html>", "is a web page, not the file"),
    "xml": (b'<?xml version="1.0"?><Error/>', "is an answer of a web server in XML"),
    "json": (b'{"error": "not found"}', "is JSON"),
    "text": (b"Entry not found", "is text, which begins with 'Entry not found'"),
    "cut": (torch_bytes(STATE)[:-200], f"is cut, a zip file without its end: {CUT}"),
    "cut_old": (torch_bytes(STATE, **OLD)[:-100], f"is cut or damaged: {CUT}"),
    "cut_in_old_pickle": (torch_bytes(STATE, **OLD)[:150], f"is cut or damaged: {CUT}"),
    "whole": (torch_bytes(Own(1, 1, 1)), WHOLE),
    "whole_old": (torch_bytes(Own(1, 1, 1), **OLD), WHOLE),
    "class_inside": (
        torch_bytes({"state_dict": STATE, "opt": argparse.Namespace(ngf=64)}),
        "holds an object of class argparse.Namespace beside its tensors",
    ),
    "script": (
        zip_bytes(**{"G/data.pkl": b"", "G/constants.pkl": b"", "G/version": "3"}),
        "is a program of TorchScript",
    ),
    "pickle": (b"\x80\x04]\x94.", "is a pickle that is not torch.save's"),
    "npy": (numpy_bytes(np.save, np.zeros(3)), "is an array of NumPy"),
    "npz": (numpy_bytes(np.savez, a=np.zeros(3)), "is an archive of NumPy arrays (.npz)"),
    "zip": (zip_bytes(readme="hello", data="1"), "is a zip archive of 2 other files: unpack it"),
    "tar": (tar_bytes(), "is a tar archive: unpack it"),
    "gzip": (gzip.compress(torch_bytes(STATE)), "is compressed with gzip: unpack it"),
    "safetensors": (safetensors_bytes(), "is a safetensors file: convert it with torch.save("),
    "onnx": (onnx_bytes(), "is an ONNX file: give the weights that it was exported from"),
    "mindspore": (
        mindspore_bytes(),
        "is a checkpoint of MindSpore, whose pix2pixHD pads with zeros where PyTorch's reflects",
    ),
    "tensorflow_graph": (tensorflow_graph_bytes(), "is of no known kind"),
    "tensorflow_index": (
        bytes(40) + bytes.fromhex("57fb808b247547db"),
        "is the index of a TensorFlow checkpoint",
    ),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(8), "is an HDF5 file"),
    "noise": (bytes(range(255, 0, -1)), "is of no known kind"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_sentence_says_what_a_file_is_that_holds_no_tensors(kind, tmp_path):
    content, wanted = KINDS[kind]
    path = tmp_path / "latest_net_G.pth"
    path.write_bytes(content)
    said = refusal(load_tensors, path)
    assert said.startswith(f"{path} {wanted}") and ": " in said  # found: to do
    assert "weights_only" not in said and "Unpickl" not in said


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    assert refusal(load_tensors, tmp_path).startswith(f"{tmp_path} is a folder: give the file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize("has_card", [True, False])
def test_files_that_may_not_be_read_are_refused(has_card, tmp_path):
    tiny.model(tmp_path, tiny.architecture())
    path = tmp_path / "latest_net_G.pth"
    path.chmod(0)
    if not has_card:
        (tmp_path / "model.json").unlink()
    assert refusal(load_generator, tmp_path).startswith(
        f"{path} cannot be read (Permission denied): give yourself the right to"
    )


def test_what_a_file_is_goes_before_its_digest(tmp_path):
    tiny.model(tmp_path, tiny.architecture())
    path = tmp_path / "latest_net_G.pth"
    path.write_bytes(KINDS["lfs"][0])
    assert refusal(load_generator, tmp_path).startswith(f"{path} is a Git LFS pointer to")


def test_weights_of_another_name_or_kind_are_named(tmp_path):
    torch.save(STATE, tmp_path / "pix2pixHD.pth")
    wanted = "should be a folder with latest_net_G.pth, but pix2pixHD.pth was found: put it there"
    for model in (tmp_path, tmp_path / "pix2pixHD.pth"):
        assert refusal(read_model, model).startswith(f"--model {model} {wanted}")
    path = tmp_path / "netG_200.ckpt"
    path.write_bytes(mindspore_bytes())
    assert refusal(read_model, tmp_path).startswith(f"{path} is a checkpoint of MindSpore, whose")


@pytest.mark.parametrize("place", ["state_dict", "netG", "model"])
def test_the_one_state_dict_in_a_file_is_taken_and_said(place, tmp_path, capsys):
    path, other = tmp_path / "latest_net_G.pth", nn.Conv2d(2, 3, 3)
    trained = copy.deepcopy(CONV)
    optimizer = torch.optim.Adam(trained.parameters())
    trained(torch.ones(1, 2, 3, 3)).sum().backward()
    optimizer.step()
    moments = optimizer.state_dict()
    assert moments["state"]
    torch.save({"epoch": 7, place: STATE, "optimizer": moments, "netD": {}}, path)
    load_strictly(other, path)
    assert torch.equal(other.weight, CONV.weight)
    assert capsys.readouterr().out == f"latest_net_G.pth: its tensors stand under [{place!r}]\n"


@pytest.mark.parametrize(
    "content, wanted",
    [
        ([torch.zeros(1)], "holds a list and no state dict: save it again with"),
        ({"epoch": 3}, "holds a dict of 'epoch' and no state dict"),
        ({}, "holds a dict and no state dict"),
        (torch.zeros(1), "holds a Tensor and no state dict"),
        (
            {"netG": STATE, "netD": STATE},
            "holds several state dicts (['netG'], ['netD']): save",
        ),
        (STATE | {"epoch": 7}, "holds 'epoch', which is no tensor, among its tensors"),
    ],
)
def test_files_without_one_state_dict_are_refused(content, wanted, tmp_path):
    path = tmp_path / "latest_net_G.pth"
    torch.save(content, path)
    assert refusal(load_state, path).startswith(f"{path} {wanted}")


def changed(key, value):
    return {name: tensor.clone() for name, tensor in STATE.items()} | {key: value}


def with_values(*values):
    tensor = STATE["weight"].clone()
    tensor.view(-1)[: len(values)] = torch.tensor(values)
    return tensor


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "state, wanted",
    [
        (changed("bias", STATE["bias"].to(torch.int8)), ": bias is of int8, not of floats"),
        (changed("bias", STATE["bias"].to(torch.complex64)), ": bias is of complex64, not of"),
        (changed("bias", STATE["bias"].to_sparse()), ": bias is sparse, not of floats"),
        (changed("bias", STATE["bias"].to("meta")), ": bias is without values"),
        (changed("weight", with_values(NAN)), ", as 1 of 54 values of weight are not finite: take"),
        (changed("weight", with_values(INF, -INF, 1)), ", as 2 of 54 values of weight are not"),
        (
            changed("bias", torch.full((3,), NAN)) | {"weight": with_values(NAN)},
            ", as 1 of 54 values of weight are not finite, as of 1 more tensor: take the weights",
        ),
        # float32 ends at 3.4e38.
        (changed("bias", torch.full((3,), 1e300, dtype=torch.float64)), ", as 3 of 3 values of b"),
    ],
)
@pytest.mark.parametrize("load", [load_strictly, load_what_fits])
def test_tensors_that_no_network_computes_with_are_refused(load, state, wanted, tmp_path):
    path, network = tmp_path / "latest_net_G.pth", nn.Conv2d(2, 3, 3)
    torch.save(state, path)
    before = network.weight.clone()
    said = refusal(load, network, path)
    assert said.startswith(str(path)) and wanted in said
    assert torch.equal(network.weight, before)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_tensors_are_refused(tmp_path):
    path, network = tmp_path / "latest_net_G.pth", nn.Conv2d(2, 3, 3)
    weight = torch.quantize_per_tensor(STATE["weight"], 0.1, 0, torch.qint8)
    torch.save(changed("weight", weight), path)
    assert refusal(load_strictly, network, path).startswith(
        f"{path}: weight is quantised, not of floats: save plain floats with"
    )


@pytest.mark.parametrize(
    "convert",
    [
        torch.Tensor.half,
        torch.Tensor.double,
        torch.Tensor.bfloat16,
        nn.Parameter,
        # The sum of finite values may be above all floats.
        lambda tensor: tensor.sign() * 2e38,
    ],
)
def test_floats_of_any_width_are_taken_as_they_are(convert, tmp_path):
    path, network = tmp_path / "latest_net_G.pth", nn.Conv2d(2, 3, 3)
    state = {key: convert(tensor) for key, tensor in STATE.items()}
    torch.save(state, path)
    load_strictly(network, path)
    assert all(torch.equal(network.state_dict()[key], state[key].float()) for key in STATE)


@pytest.mark.parametrize("options", [{}, OLD])
def test_tensors_of_a_gpu_load_without_one(options, tmp_path, monkeypatch):
    path = tmp_path / "latest_net_G.pth"
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
    torch.save(STATE, path, **options)
    assert torch.equal(load_state(path)["weight"], STATE["weight"])
