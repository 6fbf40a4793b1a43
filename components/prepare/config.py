"""Options of the prepare step: one field per flag."""

from typing import ClassVar

from pydantic import Field, field_validator

from shared.contracts import parse_size
from shared.errors import InputError
from shared.step import StepConfig

STRIDE = 32  # the local generator halves the picture five times


class PrepareConfig(StepConfig):
    STEP: ClassVar[str] = "prepare"

    size: str = "512x1024"
    """HEIGHTxWIDTH of the prepared images in pixels; both are multiples of 32."""
    num_labels: int = Field(35, ge=1, le=256)
    """Number of labels, 1..256: label ids are 0 .. num_labels - 1 (Cityscapes: 35)."""
    use_instances: bool = True
    """Prepare the instance maps too; without them models get neither edges nor instance features."""
    max_images: int = Field(0, ge=0)
    """Number of pairs taken per split, the first by name; 0 takes all."""

    @field_validator("size")
    @classmethod
    def _is_multiple_of_stride(cls, size: str) -> str:
        try:
            height, width = parse_size(size)
        except InputError:
            raise ValueError("should be HEIGHTxWIDTH, for example 128x256") from None
        if height % STRIDE or width % STRIDE:
            near = "x".join(str(max(STRIDE, round(side / STRIDE) * STRIDE)) for side in (height, width))
            raise ValueError(f"both sides should be multiples of {STRIDE}, the generators' stride, for example {near}")
        return f"{height}x{width}"
