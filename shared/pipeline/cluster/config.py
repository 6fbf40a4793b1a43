"""What a cluster has: one YAML file for all pipelines that run on it."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class Cluster(BaseModel):
    """A cluster as the graph sees it; without a file, one of which nothing is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Mapping[str, str] = {}
    """Image of every component, such as train: registry.example/pix2pixhd-train:cuda-1a2b3c."""


ANY = Cluster()
