"""Published weight files that the project fetches by itself: where from, which, how large, and
where they lie.

They lie where torch.hub looks for them, so that a file is shared with whatever else uses it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.secrets import without_secrets

AUTO = "auto"  # of --vgg-weights: the published file
MIRROR = "WEIGHTS_MIRROR"  # variable: address of a folder that holds the files under their names

TORCHVISION = "https://download.pytorch.org/models"
LPIPS = (  # version 0.1 of its heads, at the last commit of the repository
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/"
    "082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1"
)
PYTORCH_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"


@dataclass(frozen=True)
class WeightFile:
    """A file with the SHA-256 that it was published under. Publishers put eight digits of it into
    the name; all are known from the files themselves."""

    name: str  # in torch.hub's folder
    url: str
    sha256: str
    size: int  # bytes

    @property
    def place(self) -> Path:
        """Where it lies, or will."""
        return hub_folder() / self.name

    @property
    def address(self) -> str:
        """Where it comes from."""
        mirror = os.environ.get(MIRROR, "").rstrip("/")
        return f"{mirror}/{self.name}" if mirror else self.url

    def __str__(self) -> str:
        """For people."""
        return f"{self.name} ({self.size / 1e6:,.0f} MB)" if self.size > 1e6 else self.name

    @property
    def shown_address(self) -> str:
        """The address without passwords."""
        return without_secrets(self.address)


VGG19 = WeightFile(
    "vgg19-dcbb9e9d.pth",
    f"{TORCHVISION}/vgg19-dcbb9e9d.pth",
    "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    574_673_361,
)
ALEXNET = WeightFile(
    "alexnet-owt-7be5be79.pth",
    f"{TORCHVISION}/alexnet-owt-7be5be79.pth",
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    244_408_911,
)
VGG16 = WeightFile(
    "vgg16-397923af.pth",
    f"{TORCHVISION}/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    553_433_881,
)
# Published as alex.pth and vgg.pth, as those of version 0.0 are.
LPIPS_ALEX = WeightFile(
    "lpips-alex-df73285e.pth",
    f"{LPIPS}/alex.pth",
    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    6_009,
)
LPIPS_VGG = WeightFile(
    "lpips-vgg-a78928a0.pth",
    f"{LPIPS}/vgg.pth",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    7_289,
)
INCEPTION = WeightFile(
    "pt_inception-2015-12-05-6726825d.pth",
    f"{PYTORCH_FID}/pt_inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    95_628_359,
)

# Networks that measure, by the names that options give them, and the files of each.
LPIPS_NETWORKS = {"alex": (ALEXNET, LPIPS_ALEX), "vgg": (VGG16, LPIPS_VGG)}
FID_NETWORKS = {"inception": (INCEPTION,)}


def hub_folder() -> Path:
    """The folder of torch.hub's downloads, by its rules (`torch.hub.get_dir`), without torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(os.path.expanduser(home), "hub", "checkpoints")


def published_in(options: Mapping[str, Any]) -> dict[str, tuple[WeightFile, ...]]:
    """The published files that a step's options name, by the name of the option; () where it names
    one that is not used."""
    found = {}
    if options.get("vgg_weights") == AUTO:
        found["vgg_weights"] = (VGG19,) if options["lambda_vgg"] else ()
    for name, networks in (("lpips_network", LPIPS_NETWORKS), ("fid_network", FID_NETWORKS)):
        if files := networks.get(options.get(name, "")):
            found[name] = files
    return found
