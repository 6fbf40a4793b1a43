"""Figures that others published for the same networks, measured elsewhere and in other ways than
here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """The figures of one system that were measured in one way."""

    system: str
    unit: str
    measured: str  # how
    source: str  # repository and place in it
    rows: list[tuple[str, str, str]]  # device, configuration, figure as published


INFERENCE = [
    Published(
        system="Ascend ModelZoo-PyTorch, Pix2PixHD for inference",
        unit="images/s",
        measured=(
            "1000 × batch / mean NPU compute ms of ais_bench over 20 loops: no copies, no "
            "pre- or post-processing"
        ),
        source="Ascend/ModelZoo-PyTorch, ACL_PyTorch/contrib/cv/gan/Pix2pixHD",
        rows=[
            ("Ascend 310P, CANN 6.0.RC1", "1024×2048, local, ngf 32, batch 1", "5.106"),
            ("Ascend 310P, CANN 6.0.RC1", "1024×2048, local, ngf 32, batch 4", "4.897"),
            ("Ascend 310P, CANN 6.0.RC1", "1024×2048, local, ngf 32, batch 8", "4.863"),
        ],
    ),
    Published(
        system="the same, an older README",
        unit="images/s",
        measured=(
            "Ascend 310: 4 × the figure of one chip; T4: 1 / mean seconds of the call, GPU "
            "not synchronised"
        ),
        source="Ascend/ModelZoo-PyTorch, ACL_PyTorch/contrib/cv/gan/Pix2pixHD, first commit",
        rows=[
            ("Ascend 310, 4 chips, CANN 5.0.1", "1024×2048, local, ngf 32, batch 1", "1.689"),
            ("NVIDIA T4, PyTorch", "1024×2048, local, ngf 32, batch 1", "1.914"),
        ],
    ),
]
TRAINING = [
    Published(
        system="Ascend ModelZoo-PyTorch, Pix2PixHD",
        unit="images/s",
        measured="cards / mean seconds of the last 10 steps, loading included, on the first card",
        source="Ascend/ModelZoo-PyTorch, PyTorch/contrib/cv/others/Pix2PixHD",
        rows=[
            ("1 GPU, not named", "512×1024, labels, batch 1, apex O1", "4.55"),
            ("1 Ascend 910", "512×1024, labels, batch 1, apex O1", "3.76"),
            ("8 GPUs, not named", "512×1024, labels, batch 8 × 1, apex O1", "19.14"),
            ("8 Ascend 910", "512×1024, labels, batch 8 × 1, apex O1", "13.79"),
        ],
    ),
    Published(
        system="MindSpore models, Pix2PixHD",
        unit="ms/step",
        measured="wall time of the call of a step, its batch loaded before",
        source="mindspore-ai/models, research/cv/Pix2PixHD",
        rows=[
            ("1 Ascend 910, MindSpore 1.8", "512×1024, labels, batch 1", "260"),
            ("8 Ascend 910, MindSpore 1.8", "512×1024, labels, batch 8 × 1", "300"),
            (
                "1 Ascend 910, MindSpore 1.8",
                "512×1024, labels and instance features, batch 1",
                "700",
            ),
            (
                "8 Ascend 910, MindSpore 1.8",
                "512×1024, labels and instance features, batch 8 × 1",
                "741",
            ),
            ("1 Ascend 910, MindSpore 1.8", "1024×2048, labels, batch 1", "820"),
            (
                "1 Ascend 910, MindSpore 1.8",
                "1024×2048, labels and instance features, batch 1",
                "850",
            ),
        ],
    ),
    Published(
        system="Cambricon gpu_golden_bench, pix2pix",
        unit="s/image",
        measured="iterations 100 and 400 of the last epoch in the log, loading excluded",
        source="junyanz/pytorch-CycleGAN-and-pix2pix at 003efc4",
        rows=[
            ("NVIDIA V100-PCIE-32GB", "facades 256×256, resnet_9blocks, batch 1, fp32", "0.043"),
            ("NVIDIA V100-PCIE-32GB", "facades 256×256, resnet_9blocks, batch 1, fp32", "0.680"),
        ],
    ),
]
