"""A graphics device that is only said to be one: tensors carry its name while their numbers lie in main memory.

Inside `simulated`, every function of torch passes through one place. It checks that tensors meet on one device and that
nothing is float64 where the device has none, and counts what makes a real device wait: numbers read back (`item`,
`bool`, `nonzero`), and copies in both directions. So code runs as on the device, with real numbers, on any machine.
What it cannot show: kernels of the device, their rounding, their speed.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

READS = {
    "item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy", "nonzero", "argwhere", "unique",
    "masked_select", "equal", "allclose", "is_nonzero",
}  # fmt: skip
"""Functions whose result the host needs: the device is waited for."""

MIXES = {
    "copy_",
    "to",
    "__get__",
    "__set__",
    "__getitem__",
    "__setitem__",
    "index_put_",
    "type_as",
    "_has_compatible_shallow_copy_type",
}
"""Functions that take tensors of two devices; indices may lie on the CPU."""


def place(tensor: Tensor, device: torch.device | None) -> Tensor:
    """Say that a tensor lies on a device; None is the CPU."""
    tensor._simulated = device
    return tensor


def place_of(tensor: Tensor) -> torch.device | None:
    return getattr(tensor, "_simulated", None)


class Simulation(TorchFunctionMode):
    """Counts of one simulated device, by kind: "reads", "to the host", "to the device", "float64"."""

    def __init__(self, kind: str):
        super().__init__()
        self.device = torch.device(kind, 0)
        self.counts: Counter[str] = Counter()
        self.names: Counter[str] = Counter()

    def count(self, kind: str, name: str) -> None:
        self.counts[kind] += 1
        self.names[f"{kind}: {name}"] += 1

    def named(self, device: Any) -> torch.device | None:
        """Return the simulated device that a device, its name or its number means; None for another."""
        kind = device if isinstance(device, str) else getattr(device, "type", "")
        return self.device if str(kind).split(":")[0] == self.device.type else None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, Tensor)]
        places = {place_of(one) for one in tensors if one.ndim or place_of(one)}
        here = next((place for place in places if place is not None), None)
        if function is torch.device or name == "_parse_to":
            return function(*args, **kwargs)
        if name == "__get__":
            return self._attribute(function, here, args, kwargs)
        if len(places) > 1 and name not in MIXES:
            raise RuntimeError(f"expected all tensors on one device, but {name} got {sorted(map(str, places))}")
        target, args, kwargs = self._target(name, here, args, kwargs)
        if here is not None and (name in READS or self._reads_mask(name, args)):
            self.count("reads", name)
        moves = tensors and here != target and name in ("to", "cpu", "cuda", "as_tensor", "tensor")
        if moves and (tensors[0].numel() > 1 or target is None):
            self.count("to the device" if target else "to the host", name)
        result = function(*args, **kwargs)
        if name == "__set__" and len(args) > 1 and isinstance(args[1], Tensor):
            place(args[0], place_of(args[1]))  # parameter.data = ...
        return tree_map(lambda one: self._made(one, target, name, args) if isinstance(one, Tensor) else one, result)

    def _attribute(self, function, here, args, kwargs):
        attribute = getattr(getattr(function, "__self__", None), "__name__", "")
        if here is not None and attribute == "device":
            return here
        if here is not None and attribute in ("is_cuda", "is_cpu", "is_mps"):
            return attribute == f"is_{here.type}"
        result = function(*args, **kwargs)
        return place(result, here) if isinstance(result, Tensor) else result

    def _target(self, name, here, args, kwargs):
        """Return where the result lies, and the arguments with devices that exist."""
        target = here
        if name in ("cpu", "numpy", "tolist"):
            target = None
        elif name == "cuda":
            target = self.device
        elif name == "to":
            for one in args[1:]:
                if isinstance(one, Tensor):
                    target = place_of(one)
                elif isinstance(one, torch.device) or (isinstance(one, str) and one):
                    target = self.named(one)
        if kwargs.get("device") is not None:
            target = self.named(kwargs["device"])
            kwargs["device"] = torch.device("cpu") if target else kwargs["device"]
        elif not any(isinstance(one, Tensor) for one in tree_flatten((args, kwargs))[0]):
            target = None
        if name != "__set__":
            args = tuple(torch.device("cpu") if self.named(one) else one for one in args)
        return target, args, kwargs

    def _reads_mask(self, name, args) -> bool:
        """Return whether a tensor is indexed by a mask of a device, whose number of true values must be known."""
        if name not in ("__getitem__",) or len(args) < 2:
            return False
        return any(isinstance(one, Tensor) and one.dtype == torch.bool for one in tree_flatten(args[1])[0])

    def _made(self, result: Tensor, target, name, args) -> Tensor:
        if any(result is one for one in args) and name not in ("to", "cpu", "cuda"):
            return result  # in place
        if target is not None and result.dtype == torch.float64:
            self.count("float64", name)
            if target.type == "mps":
                raise TypeError(f"MPS has no float64 ({name})")
        if target != place_of(result) and any(result is one for one in args):
            result = result.clone()  # other memory, as on another device
        return place(result, target)


@contextmanager
def simulated(kind: str, monkeypatch) -> Iterator[Simulation]:
    """Run the block with a simulated device of a kind, "cuda" or "mps", with 16 GiB of memory."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**34, 2**34))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device=None: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=None: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 6))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 2**34)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 0)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    plain = torch.nn.Parameter.__new__

    def parameter(cls, data=None, requires_grad=True):
        return place(plain(cls, data, requires_grad), None if data is None else place_of(data))

    monkeypatch.setattr(torch.nn.Parameter, "__new__", staticmethod(parameter))
    with Simulation(kind) as simulation:
        yield simulation
