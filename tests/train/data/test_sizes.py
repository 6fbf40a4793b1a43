"""What is trained on, what the model is for, and what its padding costs."""

import pytest
import torch

from components.train.config import TrainConfig
from components.train.data.sizes import deployed_size, describe_sizes, padding_remark
from shared.contracts.dataset import DatasetManifest, Pair
from shared.networks.build import build_generator
from tests import tiny


def asked(size="", crop="", frames=((286, 286),), **architecture):
    """Options, networks and a data set of frames that are not there."""
    options = TrainConfig.check(dict(size=size, crop=crop))
    a = tiny.architecture(**dict(num_labels=0, input_nc=3, use_instances=False) | architecture)
    pairs = [Pair(str(number), *frame, True, 0) for number, frame in enumerate(frames)]
    return options, a, DatasetManifest.model_construct(train=pairs, test=[])


@pytest.mark.parametrize(
    ("size", "crop", "frames", "wanted", "one_size"),
    [
        # As junyanz tests: load_size = crop_size.
        ("286x286", "256x256", [(600, 400)], (256, 256), True),
        ("", "256x256", [(286, 286)] * 2, (256, 256), True),
        ("286x572", "256x512", [(9, 9)], (256, 512), True),
        ("512x512", "256x256", [(9, 9)], (256, 256), True),
        ("300x400", "256x340", [(9, 9)], (256, 340), True),  # within 5 %: 341 by the height
        # Of another shape: made smaller by as much, to where the crop takes a side.
        ("286x572", "256x256", [(9, 9)], (256, 512), True),
        ("400x300", "200x200", [(9, 9)], (267, 200), True),
        # Nothing to follow: no crop, a crop of a whole side, patches, scales of all kinds.
        ("286x286", "", [(9, 9)], (286, 286), True),
        ("256x512", "256x256", [(9, 9)], (256, 512), True),
        ("286x286", "300x300", [(9, 9)], (286, 286), True),
        ("1024x1024", "256x256", [(9, 9)], (1024, 1024), True),
        ("", "256x256", [(286, 286), (286, 286), (300, 286)], (286, 286), False),
    ],
)
def test_pix2pix_is_for_the_size_of_its_crops(size, crop, frames, wanted, one_size):
    for netG in ("unet_256", "resnet_9blocks"):
        options, a, manifest = asked(size, crop, frames, netG=netG)
        assert deployed_size(options, a, manifest) == (wanted, one_size)


@pytest.mark.parametrize("netG", ["global", "local"])
def test_pix2pixhd_is_for_whole_frames(netG):
    options, a, manifest = asked("286x286", "256x256", netG=netG)
    assert deployed_size(options, a, manifest) == ((286, 286), True)
    options, a, manifest = asked("", "256x256", netG=netG)
    assert deployed_size(options, a, manifest) == ((286, 286), False)


def test_sizes_in_words():
    options, _, manifest = asked("286x286", "256x256")
    words = "286x286 in crops of 256x256, for whole pictures at 256x256"
    assert describe_sizes(options, manifest, (256, 256)) == words
    options, _, manifest = asked("", "300x300")
    assert describe_sizes(options, manifest, (286, 286)) == "286x286"


@pytest.mark.parametrize("netG", ["global", "local", "unet_128", "unet_256", "resnet_6blocks"])
@pytest.mark.parametrize("size", [(2, 70), (64, 64), (129, 33)])
def test_the_padded_size_is_what_the_layers_see(netG, size):
    a = tiny.architecture(netG=netG, ngf=1)
    generator, seen = build_generator(a).eval(), []
    kind = torch.nn.Conv2d if netG.startswith("unet") else torch.nn.ReflectionPad2d
    for layer in generator.modules():
        if isinstance(layer, kind):
            layer.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape[-2:])))
    with torch.inference_mode():
        generator(torch.zeros(1, 36, *size))
    assert max(seen) == a.padded_size(*size)


@pytest.mark.parametrize(
    ("network", "size", "crop", "sentence"),
    [
        (
            dict(netG="unet_256"),
            "64x64",
            "",
            "unet_256 pads 64x64 to 256x256, 16 times the pixels: --netG unet_128 pads to 128x128, "
            "and sides in multiples of 256 are not padded.",
        ),
        (
            dict(netG="unet_256"),
            "128x256",
            "64x128",
            "unet_256 pads 64x128 to 256x256, 8 times the pixels: --netG unet_128 pads to 128x128, "
            "and sides in multiples of 256 are not padded.",
        ),
        (
            dict(netG="unet_128"),
            "64x64",
            "",
            "unet_128 pads 64x64 to 128x128, 4 times the pixels: sides in multiples of 128 are not "
            "padded.",
        ),
        (
            dict(netG="global", n_downsample_global=4),
            "33x33",
            "",
            "global pads 33x33 to 48x48, 2.1 times the pixels: --n-downsample-global 3 pads to "
            "40x40, and sides in multiples of 16 are not padded.",
        ),
        (
            dict(netG="local", n_downsample_global=4),
            "40x40",
            "",
            "local pads 40x40 to 64x64, 2.6 times the pixels: sides in multiples of 32 are not "
            "padded.",
        ),
        # At 256x256, twice the pixels, and whatever the frames are that are cut.
        (dict(netG="unet_256"), "256x256", "", ""),
        (dict(netG="unet_256"), "256x128", "", ""),
        (dict(netG="unet_256"), "286x286", "256x256", ""),
        (dict(netG="resnet_9blocks"), "17x17", "", ""),
    ],
)
def test_padding_of_more_than_twice_the_pixels_is_said_with_what_saves_it(
    network, size, crop, sentence
):
    options, a, manifest = asked(size, crop, **network)
    deployed, _ = deployed_size(options, a, manifest)
    assert padding_remark(options, a, manifest, deployed) == sentence


def test_whole_frames_that_are_padded_are_said_where_crops_are_not():
    """Patches of frames that are for 600x600."""
    options, a, manifest = asked("600x600", "256x256", netG="unet_256")
    deployed, _ = deployed_size(options, a, manifest)
    remark = padding_remark(options, a, manifest, deployed)
    # 768 * 768 / 600 / 600 = 1.64; unpadded crops.
    assert deployed == (600, 600) and remark == ""
    options, a, manifest = asked("520x520", "256x256", netG="unet_256")
    deployed, _ = deployed_size(options, a, manifest)
    assert deployed == (520, 520)
    assert padding_remark(options, a, manifest, deployed).startswith(
        "unet_256 pads 520x520 to 768x768, 2.2 times the pixels: --netG unet_128 pads to 640x640"
    )
