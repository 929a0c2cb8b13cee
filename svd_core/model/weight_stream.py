"""Weight streaming: the UNet's weights stay in main memory and are copied block by block, ahead of the computation.

A pass over a full clip takes longer than copying all weights over the bus, so the copies run in the background. The
results are those of a UNet on the device. On a CPU the same code runs with plain copies.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.joined_weights import ALIGNMENT, joined_view, packed_order
from ..networks.unet import UNet, VideoResidualBlock

CACHE_LINE = 64  # bytes; torch allocates memory at multiples of it


class _Unit:
    """The weights of one layer, consecutive in main memory."""

    def __init__(self, module: nn.Module, kept_out: set[int], groups: list[list[nn.Parameter]], device: torch.device):
        parameters = [p for p in module.parameters() if id(p) not in kept_out]
        self.parameters = packed_order(parameters, groups)
        inside = {id(p) for group in groups for p in group[1:]}
        self.offsets, end = [], 0
        for parameter in self.parameters:
            if id(parameter) not in inside:
                # At least some bytes of distance, so that only weights that were joined before are joined here.
                end = (end // ALIGNMENT + 1) * ALIGNMENT + (shift(parameter) if device.type == "cpu" else 0)
            self.offsets.append(end)
            end += parameter.numel() * parameter.element_size()
        self.home = torch.empty(end, dtype=torch.uint8, pin_memory=device.type == "cuda")
        for parameter, place in zip(self.parameters, self.views(self.home), strict=True):
            place.copy_(parameter)

    def views(self, memory: Tensor) -> Iterator[Tensor]:
        """Yield the weights as tensors in memory that is laid out like `home`."""
        for parameter, offset in zip(self.parameters, self.offsets, strict=True):
            size = parameter.numel() * parameter.element_size()
            yield memory[offset : offset + size].view(parameter.dtype).view(parameter.shape)

    def live_in(self, memory: Tensor) -> None:
        """Make the layer use the weights in `memory`."""
        for parameter, place in zip(self.parameters, self.views(memory), strict=True):
            parameter.data = place


def shift(parameter: Tensor) -> int:
    """Return how far a weight in main memory lies behind an address that is a multiple of 64 bytes.

    Weights that are mapped from a file lie where its header ends, and products of one row with a matrix round
    otherwise there. Copies that lie alike give the same bits.
    """
    return parameter.data_ptr() % CACHE_LINE


class WeightStream:
    """Keep the weights of a UNet's blocks in main memory and copy each block to `device` before it runs.

    First and last layers and the projections of the embedding, which all blocks use, stay on the device and are joined
    there. `close` returns every layer's weights to main memory.
    """

    @torch.no_grad()
    def __init__(self, unet: UNet, device: torch.device | str, *, queues: Any = None):
        """Start streaming. `queues` has the streams and events of torch.cuda; None takes torch.cuda on a GPU."""
        self.device = torch.device(device)
        self.unet = unet
        on_gpu = self.device.type == "cuda"
        self._queues = torch.cuda if queues is None and on_gpu else queues
        layers = [layer for block in (*unet.input_blocks, unet.middle_block, *unet.output_blocks) for layer in block]
        kept_out = {
            id(p)
            for layer in layers
            if isinstance(layer, VideoResidualBlock)
            for projection, convolution in layer.embedding_pairs()
            for p in (projection.weight, projection.bias, convolution.bias)
        }
        groups = [group for group in unet.joinable() if id(group[0]) not in kept_out and joined_view(group) is not None]
        blocks = [layer for layer in layers if any(id(p) not in kept_out for p in layer.parameters())]
        self.units = [_Unit(block, kept_out, groups, self.device) for block in blocks]
        for unit in self.units:
            unit.live_in(unit.home)
        streamed = {id(p) for unit in self.units for p in unit.parameters}
        self._rest = [p for p in unet.parameters() if id(p) not in streamed]
        for parameter in self._rest:
            parameter.data = parameter.data.to(self.device)
        size = max(unit.home.numel() for unit in self.units)
        self._slots = [torch.empty(size, dtype=torch.uint8, device=self.device) for _ in range(2)]
        self._coming: tuple[int, int] | None = None  # unit, slot
        self._used = 1
        if self._queues is not None:
            self._copies = self._queues.Stream(self.device)
            # Work that is still queued may read and write the memory of the slots.
            self._copies.wait_stream(self._queues.current_stream(self.device))
            if on_gpu:
                # Dropped without `close`, the slots' memory is not reused before the last copy into them is done.
                for slot in self._slots:
                    slot.record_stream(self._copies)
            self._ready, self._free = ([self._queues.Event() for _ in range(2)] for _ in range(2))
        self._hooks = [
            block.register_forward_pre_hook(lambda module, given, index=index: self._enter(index))
            for index, block in enumerate(blocks)
        ]

    @property
    def device_bytes(self) -> int:
        """Bytes of weights on the device."""
        rest = sum(p.numel() * p.element_size() for p in self._rest)
        return rest + sum(slot.numel() for slot in self._slots)

    def close(self) -> None:
        """End streaming; all weights are in main memory afterwards."""
        for hook in self._hooks:
            hook.remove()
        if self._queues is not None:
            self._queues.synchronize(self.device)
        for unit in self.units:
            unit.live_in(unit.home)
        for parameter in self._rest:
            parameter.data = parameter.data.cpu()
        self._hooks, self._slots, self._coming = [], [], None

    @torch.no_grad()
    def _enter(self, index: int) -> None:
        """Make unit `index` ready to run, and start copying the next one."""
        if self._coming is None or self._coming[0] != index:
            self._fetch(index, 1 - self._used)
        slot = self._coming[1]
        if self._queues is not None:
            computing = self._queues.current_stream(self.device)
            computing.wait_event(self._ready[slot])
            # All work of the previous unit is queued by now; its memory is free once that work is done.
            self._free[1 - slot].record(computing)
        unit = self.units[index]
        unit.live_in(self._slots[slot][: unit.home.numel()])
        self._used = slot
        self._fetch((index + 1) % len(self.units), 1 - slot)

    def _fetch(self, index: int, slot: int) -> None:
        home = self.units[index].home
        place = self._slots[slot][: home.numel()]
        self._coming = (index, slot)
        if self._queues is None:
            place.copy_(home)
            return
        with self._queues.stream(self._copies):
            self._copies.wait_event(self._free[slot])
            place.copy_(home, non_blocking=True)
            self._ready[slot].record(self._copies)
