"""Apply LoRAs to a model: which layers they adapt, what is added to each, and a model with the sums in its weights.

The model as it was loaded is never written to. A model with LoRAs shares every parameter that they do not change and
has its own copy of the others, so removing a LoRA means going back to the old model, bit for bit.
"""

import copy
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import nn

from ..model.model import SVDModel
from ..networks.config import UNetConfig
from ..networks.joined_weights import join_weights, joined_view
from ..networks.unet import UNet
from .delta import LoraError, LoraLayer, Term, kept_dtype, merged, problem
from .names import family, is_temporal, layer_table, other_lora, stem
from .read import Lora, StoredLayer
from .report import LoraReport

log = logging.getLogger("svd_reel")
Shape = tuple[int, ...]
Terms = dict[str, tuple[Term, ...]]
"""Name of a parameter -> what is added to it."""


def parameter_shapes(unet: nn.Module) -> dict[str, Shape]:
    """Return name -> shape of every parameter of a UNet."""
    return {name: tuple(parameter.shape) for name, parameter in unet.named_parameters()}


def match_lora(
    lora: Lora, shapes: Mapping[str, Shape], config: UNetConfig, spatial: float = 1.0, temporal: float = 1.0
) -> tuple[Terms, LoraReport]:
    """Return what a LoRA adds to the parameters `shapes` (name -> shape) of a UNet, and a report.

    spatial, temporal: strengths of layers that see one frame and of those that mix frames. Any number is allowed;
    negative ones reverse the effect, and layers of strength 0 are left out. Raises LoraError where no tensor matches,
    or where the names belong to another model (SDXL, AnimateDiff and others) even if some happen to match.
    """
    other = other_lora([*lora.layers, *(stem(key) for keys in lora.skipped.values() for key in keys)])
    if other:
        raise LoraError(f"{lora.name} is a LoRA for {other}, not for SVD; use one that was trained on SVD")
    table = layer_table((name.removesuffix(".weight") for name in shapes if name.endswith(".weight")), config)
    terms: Terms = {}
    matched: dict[str, list[str]] = {}
    layers: dict[str, int] = {}
    unmatched: dict[str, list[str]] = {}
    for name, stored in lora.layers.items():
        path = table.get(name)
        wrong = f"under {_outline(stored.name)}" if path is None else stored.problem or _misfit(stored, path, shapes)
        if wrong:
            unmatched.setdefault(wrong, []).extend(stored.keys)
            continue
        kind = family(path)
        matched.setdefault(kind, []).extend(stored.keys)
        layers[kind] = layers.get(kind, 0) + 1
        strength = temporal if is_temporal(path) else spatial
        if strength != 0:
            for parameter, layer in _changes(stored, path):
                terms[parameter] = (*terms.get(parameter, ()), (layer, strength))
    groups = [{reason: tuple(keys) for reason, keys in found.items()} for found in (matched, unmatched, lora.skipped)]
    report = LoraReport(lora.name, lora.ranks, groups[0], layers, *groups[1:])
    if not matched:
        raise LoraError(_nothing(report))
    return terms, report


def _changes(stored: StoredLayer, path: str) -> Iterator[tuple[str, LoraLayer]]:
    """Yield the parameters that a layer changes."""
    for ending, layer in (("weight", stored.layer), ("weight", stored.weight_diff), ("bias", stored.bias_diff)):
        if layer is not None:
            yield f"{path}.{ending}", layer


def _misfit(stored: StoredLayer, path: str, shapes: Mapping[str, Shape]) -> str:
    for parameter, layer in _changes(stored, path):
        if parameter not in shapes:
            return "for a bias that the layer does not have"
        if misfit := problem(layer, shapes[parameter]):
            return f"of another size ({misfit})"
    return ""


def _nothing(report: LoraReport) -> str:
    why = report.warning() or ""
    return (
        f"{report.name} is not for this model: none of its {report.total} tensors fits one of its layers "
        f"({why.partition('; ')[2]}); use a LoRA that was trained on this kind of SVD model"
    )


def _outline(name: str) -> str:
    """Return the beginning of a name up to its first number, by which unknown names are counted."""
    return re.split(r"[._]?\d", name, maxsplit=1)[0]


def match_loras(
    loras: Sequence[tuple[Lora, float, float]], unet: nn.Module, config: UNetConfig
) -> tuple[Terms, list[LoraReport]]:
    """Return what several LoRAs (each with its spatial and its temporal strength) add together, and their reports.

    What does not fit is logged as a warning with examples.
    """
    shapes = parameter_shapes(unet)
    together: Terms = {}
    reports = []
    for lora, spatial, temporal in loras:
        terms, report = match_lora(lora, shapes, config, spatial, temporal)
        together = joined(together, terms)
        reports.append(report)
        if warning := report.warning():
            log.warning(warning)
    return together, reports


def joined(one: Terms, other: Terms) -> Terms:
    """Return the terms of both."""
    return {name: (*one.get(name, ()), *other.get(name, ())) for name in chain(one, other.keys() - one.keys())}


def apply_loras(model: SVDModel, loras: Sequence[tuple[Lora, float, float]]) -> SVDModel:
    """Return a model with LoRAs, each with a strength for spatial and one for temporal layers; `model` is unchanged.

    Give the model as it was loaded and all LoRAs together. Without any, or with strengths of 0, the model itself is
    returned. Weights of 8 bits that a LoRA changes become float16. Raises LoraError as `match_lora` does, and where
    the sums are not finite.
    """
    terms, _ = match_loras(loras, model.part("unet"), model.config.unet)
    return replace(model, unet=with_terms(model.unet, terms)) if terms else model


@torch.no_grad()
def with_terms(unet: UNet, terms: Terms) -> UNet:
    """Return a network like `unet` with the terms in its parameters; all other memory is shared."""
    # What the memo holds is not copied. Parameters of its own, so that moving one network leaves the other in place.
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in unet.parameters()}
    twin = copy.deepcopy(unet, shared | {id(buffer): buffer for buffer in unet.buffers()})
    for name, added in terms.items():
        path, _, attribute = name.rpartition(".")
        layer = twin.get_submodule(path)
        old = getattr(layer, attribute)
        new = merged(old, added).to(kept_dtype(old.dtype))
        if not torch.isfinite(new).all():
            raise LoraError(f"the LoRAs make {name} overflow {new.dtype}; lower their strength, or use other LoRAs")
        setattr(layer, attribute, nn.Parameter(new, requires_grad=old.requires_grad))
    for before, after in zip(unet.joinable(), twin.joinable(), strict=True):
        if joined_view(before) is not None and len({weight.dtype for weight in after}) == 1:
            join_weights(after)
    return twin
