"""Load the networks that steer a clip by the names of their options: ControlNet, camera weights, backward motion."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from ..controls.between_weights import LoadedBackwardMotion
from ..model.model import SVDModel
from . import backward_motion, camera_weights, controlnet
from .adapters import expect_kind
from .backward_motion import load_backward_motion
from .camera_weights import load_camera_weights
from .controlnet import load_controlnet, local_controlnet
from .family import adapter_kind
from .load import read_state_dict

_loaded: WeakKeyDictionary[nn.Module, dict[str, tuple[tuple, Any]]] = WeakKeyDictionary()
"""The last network of each name, kept as long as the UNet it was loaded for, so that many clips share it."""


def _load_controlnet(path: str | PathLike, model: SVDModel) -> Any:
    return load_controlnet(path, dtype=model.dtype)  # the model moves it where it computes


def _load_camera_weights(path: str | PathLike, model: SVDModel) -> Any:
    return load_camera_weights(path, model.config.unet, device=model.device, dtype=model.dtype)


def _load_backward_motion(path: str | PathLike, model: SVDModel) -> Any:
    network = load_backward_motion(path, model.config.unet, device=model.device, dtype=model.dtype)
    return LoadedBackwardMotion(network, Path(path).name)


LOADERS = {
    "controlnet": _load_controlnet,
    "camera_weights": _load_camera_weights,
    "between_weights": _load_backward_motion,
}


EXPECTED = {
    "controlnet": (("controlnet",), controlnet.REMEDY),
    "camera_weights": (camera_weights.KINDS, camera_weights.REMEDY),
    "between_weights": (("backward_motion",), backward_motion.REMEDY),
}
"""The kinds of file (`family.KINDS`) that each name takes, and what to use for it."""


def check_networks(given: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a path that does not hold the network of its name, before a model is loaded."""
    for name, path in _paths(given).items():
        kinds, remedy = EXPECTED[name]
        expect_kind(kinds, read_state_dict(str(path)).shapes, path.name, remedy)


def adapter_names(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the networks at given paths are, by the names of `family.KINDS`, for a plan of the clip."""
    kinds = [adapter_kind(read_state_dict(str(path)).shapes) for path in _paths(given).values()]
    return tuple(kind.name for kind in kinds if kind is not None)


def load_networks(given: Mapping[str, Any], model: SVDModel) -> dict[str, Any]:
    """Return steering by name with the paths of networks (keys of LOADERS) loaded for a model; the rest is unchanged.

    A ControlNet may be "nano", the embedded one. Raises CheckpointError, saying what the file is, for a wrong one.
    """
    made = dict(given)
    for name, path in _paths(given).items():
        known = _loaded.setdefault(model.network, {})
        found = path.stat()
        stamp = (str(path), found.st_mtime_ns, found.st_size)
        if name not in known or known[name][0] != stamp:
            known[name] = (stamp, LOADERS[name](path, model))
        made[name] = known[name][1]
    return made


def _paths(given: Mapping[str, Any]) -> dict[str, Path]:
    found = {name: given[name] for name in LOADERS if isinstance(given.get(name), (str, PathLike)) and given[name]}
    return {name: local_controlnet(path) if name == "controlnet" else Path(path) for name, path in found.items()}
