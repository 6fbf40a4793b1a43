"""The figures of an epoch, as the model card, the curves and people read them."""

from dataclasses import dataclass, field

from components.train.validation import Best


@dataclass
class EpochFigures:
    """What was measured in and after one epoch."""

    losses: dict[str, float]  # means over its steps; G_* and D_*
    sample_l1: float | None = None  # of the sample pictures, in [0, 1]
    validation: dict[str, float] = field(default_factory=dict)  # val/* of the test pairs

    def _of_training(self) -> dict[str, float]:
        sample = {} if self.sample_l1 is None else {"sample_L1": self.sample_l1}
        return self.losses | sample

    def metrics(self) -> dict[str, float]:
        """All of them, under the names of the model card."""
        return self._of_training() | self.validation

    def curves(self) -> dict[str, float]:
        """All of them, under the names of the curves in MLflow."""
        renamed = {f"epoch_loss/{name}": value for name, value in self._of_training().items()}
        return renamed | self.validation

    def line(self) -> str:
        """All of them in one line."""
        return "  ".join(f"{name} {value:.3f}" for name, value in self.metrics().items())


def final_table(figures: EpochFigures, epoch: int, best: Best | None = None) -> str:
    """Mean losses of the last epoch, its validation, and the best epoch, in aligned columns."""
    validation = {name.removeprefix("val/"): value for name, value in figures.validation.items()}
    width = max(map(len, figures.losses | validation), default=0)

    def rows(values: dict[str, float]) -> list[str]:
        return [f"  {name:{width}}  {value:10.4f}" for name, value in values.items()]

    lines = [f"mean losses of epoch {epoch}", *rows(figures.losses)]
    if validation:
        lines += [f"validation after epoch {epoch}", *rows(validation)]
    if best and best.epoch:
        name = best.metric.removeprefix("val/")
        lines.append(f"best {name} {best.value:.4f} after epoch {best.epoch}")
    return "\n".join(lines)
