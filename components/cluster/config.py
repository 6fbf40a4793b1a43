"""Config of the cluster step; the defaults are pix2pixHD's."""

from typing import ClassVar

from pydantic import Field

from shared.bounds import BatchSize, Seed
from shared.command import CardOptions, CheckOptions, StepConfig
from shared.contracts.clusters import ClusterTable
from shared.device_names import DeviceName, PrecisionName
from shared.networks.chosen import WeightsOptions


class ClusterConfig(CardOptions, CheckOptions, WeightsOptions, StepConfig):
    STEP: ClassVar[str] = "cluster"
    OUTPUT: ClassVar[str] = "clusters"
    MADE: ClassVar[tuple[str, ...]] = (
        *(ClusterTable.FEATURES, "features.npy", "features_clustered_*.npy"),
    )
    WRITES: ClassVar[tuple[str, ...]] = (ClusterTable.FILE, ClusterTable.FEATURES)

    n_clusters: int = Field(10, ge=1, le=10_000)
    """Centres per label; fewer where a label has fewer distinct instances."""
    min_area: float = Field(1 / 64, ge=0, lt=1)
    """Share of the image that an instance must exceed to take part."""
    seed: Seed = 0
    """Seed of k-means."""
    batch_size: BatchSize = 1
    """Photos of one size that are encoded at a time: more for a GPU or small photos; a CPU is best
    with one large."""
    reference_files: bool = False
    """Also write features.npy and features_clustered_<n_clusters>.npy, as pix2pixHD's own code
    reads them."""
    device: DeviceName = "auto"
    """auto takes an NPU, else a GPU, else the CPU."""
    precision: PrecisionName = "auto"
    """Arithmetic of the encoder; auto: fp32 on CPU, bf16 on GPU, fp16 on NPU."""
