"""The order of copies and computation under weight streaming, proven without a GPU.

A GPU runs its queues side by side, in any order that their events allow. So it is not enough that the numbers come out
right here: the machine below notes for every operation which operations of the other queue are sure to be done, and
calls it a race when one touches memory that another may still write or read.
"""

from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from svd_core.model.weight_stream import WeightStream
from svd_core.networks.config import UNetConfig
from svd_core.networks.unet import UNet

CONFIG = UNetConfig(model_channels=32, channel_mult=(1,), attention_levels=(0,), head_channels=16, context_channels=24)
COMPUTING, COPYING = "computing", "copying"


class Event:
    """What is sure to be done once it has happened; nothing if it was never recorded, as on a GPU."""

    def __init__(self):
        self.known = Counter()

    def record(self, queue):
        self.known = Counter(queue.known)


class Queue:
    """Operations by queue that are sure to be done when the next one of this queue begins: `known`."""

    def __init__(self, name):
        self.name, self.known = name, Counter()

    def wait_event(self, event):
        self.known |= event.known

    def wait_stream(self, queue):
        self.known |= queue.known


@dataclass
class Copy:
    """One copy of weights: its source, the work queued at its request, and its first use."""

    source: int
    asked: int
    used: int | None = None


@dataclass
class Memory:
    """Who wrote it last, and the last use of each queue."""

    writer: tuple[str, int] | None = None
    uses: Counter = field(default_factory=Counter)
    copy: Copy | None = None


@cache
def views(func) -> bool:
    """Whether an operation only looks at memory in another way."""
    aliases = [argument.alias_info for argument in func._schema.arguments]
    return any(alias is not None and not alias.is_write for alias in aliases)


class Machine(TorchDispatchMode):
    """Two queues with the names that torch.cuda gives them, over plain tensors, watched for races."""

    Event = Event

    def __init__(self):
        super().__init__()
        self.computing, self.copying = Queue(COMPUTING), Queue(COPYING)
        self._current = self.computing
        self.memory: dict[int, Memory] = defaultdict(Memory)
        self.copies: list[Copy] = []

    def Stream(self, device):  # noqa: N802, torch's name
        return self.copying

    def current_stream(self, device):
        return self._current

    @contextmanager
    def stream(self, queue):
        before, self._current = self._current, queue
        yield
        self._current = before

    def synchronize(self, device):
        for queue in (self.computing, self.copying):
            queue.known = self.computing.known | self.copying.known

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if views(func):
            return result
        self._current.known[self._current.name] += 1
        if self._current is self.copying:
            self._copied(*args[:2])
            return result
        now = self.computing.known[COMPUTING]
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self._read(self.memory[tensor.untyped_storage().data_ptr()], now)
        if func is torch.ops.aten.empty.memory_format:
            # The allocator gives what earlier work, still queued perhaps, has used.
            self.memory[result.untyped_storage().data_ptr()] = Memory(uses=Counter({COMPUTING: now}))
        return result

    def _copied(self, place, home):
        memory = self.memory[place.untyped_storage().data_ptr()]
        if memory.uses[COMPUTING] > self.copying.known[COMPUTING]:
            raise AssertionError("race: weights are overwritten while computation may still read them")
        memory.writer = (COPYING, self.copying.known[COPYING])
        memory.copy = Copy(home.untyped_storage().data_ptr(), self.computing.known[COMPUTING])
        self.copies.append(memory.copy)

    def _read(self, memory, now):
        if memory.writer is not None and memory.writer[1] > self.computing.known[memory.writer[0]]:
            raise AssertionError("race: weights are used that may not have come yet")
        memory.uses[COMPUTING] = now
        if memory.copy is not None and memory.copy.used is None:
            memory.copy.used = now


@pytest.fixture
def unet() -> UNet:
    torch.manual_seed(5)
    return UNet(CONFIG).requires_grad_(False)


def mapped(unet: UNet, start: int) -> UNet:
    """The weights as a file has them: one after the other, `start` bytes behind a multiple of 64."""
    memory = torch.empty(64 + sum(p.numel() for p in unet.parameters()) * 4, dtype=torch.uint8)
    end = -memory.data_ptr() % 64 + start
    for parameter in unet.parameters():
        place = memory[end : end + parameter.numel() * 4].view(torch.float32).view(parameter.shape)
        parameter.data = place.copy_(parameter)
        end += parameter.numel() * 4
    return unet


def one_pass(unet: UNet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x, token = torch.randn(2, 8, 8, 8, generator=generator), torch.randn(1, 1, 24, generator=generator)
    vector = torch.randn(1, 768, generator=generator)
    return unet(x, torch.full((2,), 0.3), token.expand(2, -1, -1), vector.expand(2, -1), 2)


def test_weights_are_there_before_their_block_and_the_next_come_while_it_computes(unet):
    whole = one_pass(unet)
    with Machine() as machine:
        torch.ones(8) + 1  # earlier work, still queued when the streaming begins
        stream = WeightStream(unet, "cpu", queues=machine)
        assert torch.equal(one_pass(unet), whole) and torch.equal(one_pass(unet), whole)
    homes = [unit.home.untyped_storage().data_ptr() for unit in stream.units]
    copies = machine.copies
    # Every block once in a pass, and the first of a third pass ahead of it.
    assert [copy.source for copy in copies] == [*homes, *homes, homes[0]]
    assert copies[-1].used is None and None not in [copy.used for copy in copies[:-1]]
    late = [index for index in range(1, len(copies)) if not copies[index].asked < copies[index - 1].used]
    assert late == [], "these copies were asked for when the block before had begun"


def test_the_end_waits_for_what_was_fetched_ahead_and_gives_all_weights_back(unet):
    whole, weights = one_pass(unet), {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    with Machine() as machine:
        stream = WeightStream(unet, "cpu", queues=machine)
        one_pass(unet)
        stream.close()  # its memory may be given to others now
    assert machine.computing.known[COPYING] == machine.copying.known[COPYING] == len(machine.copies)
    for name, tensor in unet.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert torch.equal(one_pass(unet), whole)
    assert not any(module._forward_pre_hooks for module in unet.modules())


@pytest.mark.parametrize("start", [0, 4, 8, 40])
def test_weights_of_a_file_give_the_same_bits_wherever_its_header_ends(unet, start):
    whole = one_pass(mapped(unet, start))
    places = {name: parameter.data_ptr() % 64 for name, parameter in unet.named_parameters()}
    assert len(set(places.values())) > 1 or start == 0
    stream = WeightStream(unet, "cpu")
    assert torch.equal(one_pass(unet), whole)
    assert {name: parameter.data_ptr() % 64 for name, parameter in unet.named_parameters()} == places
    stream.close()
    assert torch.equal(one_pass(unet), whole)


@pytest.mark.parametrize("broken", [0, 3, -1])
def test_an_error_within_a_block_leaves_the_network_usable(unet, monkeypatch, broken):
    whole, blocks = one_pass(unet), [layer for block in unet.output_blocks for layer in block]
    with Machine() as machine:
        stream = WeightStream(unet, "cpu", queues=machine)
        with monkeypatch.context() as patch, pytest.raises(torch.cuda.OutOfMemoryError):
            patch.setattr(blocks[broken], "forward", failing)
            one_pass(unet)
        assert torch.equal(one_pass(unet), whole)
        stream.close()
    assert torch.equal(one_pass(unet), whole)


def failing(*args, **options):
    raise torch.cuda.OutOfMemoryError("injected")
