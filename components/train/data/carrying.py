"""Batches on their way to the device."""

from components.train.data.batches import Batch
from shared.device import Runtime


class Carrier:
    """Moves batches to the device on a stream of its own, beside the kernels of the step before,
    which the host has launched and not waited for; on a CPU as they are."""

    def __init__(self, runtime: Runtime):
        self.device, self.streams = runtime.torch_device, runtime.streams()
        self.stream = self.streams.Stream() if self.streams else None

    def carry(self, batch: Batch) -> Batch:
        """The batch on the device, for the kernels that are launched from now on."""
        if self.stream is None or batch.inputs.device.type == self.device.type:
            return batch.to(self.device)
        with self.streams.stream(self.stream):
            carried = batch.to(self.device)
        computing = self.streams.current_stream()
        computing.wait_stream(self.stream)
        # Its memory is of the other stream, which would use it again while a kernel here reads it.
        for tensor in carried.tensors():
            tensor.record_stream(computing)
        return carried
