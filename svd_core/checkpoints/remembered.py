"""What is loaded already is not loaded again: a second model of the same files shares the memory of the first.

Nothing is kept alive here, and nothing is shared that is no longer as it was read. Only a write to a weight's `.data`,
which torch does not count, would go unnoticed.
"""

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from ..model.model import SVDModel
from .diffusers_folder import COMPONENTS
from .skeleton import fill, skeleton
from .split import NETWORKS


@dataclass(frozen=True)
class Files:
    """A path that was asked for, and of every file that may be read there: name, real place, bytes, time of change.

    The names count beside the places, for a link's own name can tell which variant a file is.
    """

    path: Path
    states: tuple[tuple[str, Path, int, int], ...]


@dataclass(frozen=True)
class Request:
    """What was asked of the loader; equal requests give equal weights. `lender` is the file that completes a model."""

    files: Files
    lender: Files | None
    device: torch.device
    dtype: torch.dtype | None


def request(
    path: Path, device: torch.device | str, dtype: torch.dtype | None, complete_from: Path | None
) -> Request | None:
    """What is asked for, with the state of the files as they are now; None where there is no file."""
    try:
        lender = None if complete_from is None else _files(complete_from.expanduser())
        # A tensor there says which device is meant where none is named by its number.
        return Request(_files(path.expanduser()), lender, torch.empty(0, device=device).device, dtype)
    except OSError:
        return None


def _files(path: Path) -> Files:
    if path.is_dir():
        asked = folder = path.resolve()
    else:
        asked, folder = path.parent.resolve() / path.name, path.parent
    found = [path]
    if path.is_dir() or path.suffix == ".json":  # an index of shards, or a folder of parts
        folders = [folder, *(folder / name for name in COMPONENTS if (folder / name).is_dir())]
        files = [file for each in folders for file in each.iterdir()]
        found = sorted(file for file in files if file.suffix in (".safetensors", ".json"))
    states = [(str(file), file.resolve(), file.stat()) for file in found]
    return Files(asked, tuple((name, place, stat.st_size, stat.st_mtime_ns) for name, place, stat in states))


class _Loaded:
    """A model that was loaded, without keeping it alive, and how each of its weights lay in memory then."""

    def __init__(self, model: SVDModel) -> None:
        networks = {name: network for name in NETWORKS if (network := getattr(model, name)) is not None}
        weights = {name: _weights(network) for name, network in networks.items()}
        self.config = model.config
        self.networks = {name: weakref.ref(network) for name, network in networks.items()}
        self.traces = {name: _traces(weights[name]) for name in networks}
        # As long as these are held, no other memory can get the address by which a trace knows its own.
        self.memories = [StorageWeakRef(p.untyped_storage()) for part in weights.values() for p in part.values()]

    def pristine(self) -> dict[str, dict[str, nn.Parameter]] | None:
        """Weights of the networks if all are alive and no weight was written, moved, replaced or wants its gradient."""
        weights = {}
        for name, reference in self.networks.items():
            network = reference()
            if network is None:
                return None
            weights[name] = _weights(network)
            if _traces(weights[name]) != self.traces[name]:
                return None
        return weights


def _weights(network: nn.Module) -> dict[str, nn.Parameter]:
    return dict(network.named_parameters(remove_duplicate=False))


def _traces(weights: Mapping[str, nn.Parameter]) -> list[tuple] | None:
    """Where and what each weight is, and how often it was written; None where torch does not count that."""
    if any(type(p) is not nn.Parameter or p.is_inference() for p in weights.values()):
        return None
    return [
        (name, p.untyped_storage()._cdata, p.data_ptr(), p._version, p.shape, p.stride(), p.dtype, p.requires_grad)
        for name, p in weights.items()
    ]


_loaded: dict[Request, list[_Loaded]] = {}
_lock = threading.Lock()


def remember(asked: Request, model: SVDModel) -> None:
    """Let later requests of the same kind share the weights of a model that has just been loaded."""
    loaded = _Loaded(model)
    with _lock:
        for known, models in list(_loaded.items()):
            models[:] = [one for one in models if all(network() is not None for network in one.networks.values())]
            if not models:
                del _loaded[known]
        if None not in loaded.traces.values():
            _loaded.setdefault(asked, []).append(loaded)


def shared(asked: Request) -> SVDModel | None:
    """A model on the weights of one that was loaded by such a request, is still in use and still as it was loaded.

    Its networks and parameters are its own, so that hooks, layers and devices of either do not show in the other.
    """
    with _lock:
        models = list(_loaded.get(asked, ()))
    for loaded in models:
        weights = loaded.pristine()
        if weights is not None:
            parts: dict[str, nn.Module | None] = dict.fromkeys(NETWORKS)
            for name, part in weights.items():
                empty = skeleton(NETWORKS[name], getattr(loaded.config, name))
                parts[name] = fill(empty, {key: weight.detach() for key, weight in part.items()})
            return SVDModel(**parts, config=loaded.config)
    return None
