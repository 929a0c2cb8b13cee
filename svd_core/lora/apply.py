"""LoRAs meet a model: which layers they mean, what is added to each, and a model with the sums in its weights.

The model as it was loaded is never written to. A model with LoRAs shares every weight that they leave alone and has
its own copy of the others, so taking a LoRA away is to go back to the old model, bit for bit.
"""

import copy
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import nn

from ..model.model import SVDModel
from ..networks.config import UNetConfig
from ..networks.joined_weights import join_weights, joined_view
from ..networks.unet import UNet
from .delta import LoraError, Term, kept_dtype, merged, problem
from .names import family, foreign, is_temporal, layer_table, stem
from .read import Lora
from .report import LoraReport

log = logging.getLogger("svd_reel")
Shape = tuple[int, ...]
Terms = dict[str, tuple[Term, ...]]
"""Module path -> what is added to its weight."""


def layer_shapes(unet: nn.Module) -> dict[str, Shape]:
    """Module path -> shape of its weight, for every layer that a LoRA can adapt."""
    return {
        name.removesuffix(".weight"): tuple(weight.shape)
        for name, weight in unet.state_dict().items()
        if name.endswith(".weight") and weight.ndim > 1
    }


def match_lora(
    lora: Lora, shapes: Mapping[str, Shape], config: UNetConfig, spatial: float = 1.0, temporal: float = 1.0
) -> tuple[Terms, LoraReport]:
    """What a LoRA adds to the layers `shapes` (module path -> shape of weight) of a UNet, and a report.

    spatial, temporal: strengths of layers that see one frame and of those that see several; any number, negative
    ones do the opposite, and layers of strength 0 are left out. Raises LoraError where no tensor matches, or where
    the names belong to another model (SDXL, AnimateDiff and the like) even if some happen to match.
    """
    other = foreign([*lora.layers, *(stem(key) for keys in lora.skipped.values() for key in keys)])
    if other:
        raise LoraError(f"{lora.name} is a LoRA for {other}, not for SVD; take one that was trained on SVD")
    table = layer_table(shapes, config)
    terms: Terms = {}
    matched: dict[str, list[str]] = {}
    layers: dict[str, int] = {}
    unmatched: dict[str, list[str]] = {}
    for name, stored in lora.layers.items():
        path = table.get(name)
        wrong = stored.problem
        if path is None:
            wrong = f"under {_outline(stored.name)}"
        elif stored.layer is not None:
            misfit = problem(stored.layer, shapes[path])
            wrong = f"of another size ({misfit})" if misfit else ""
        if wrong:
            unmatched.setdefault(wrong, []).extend(stored.keys)
            continue
        kind = family(path)
        matched.setdefault(kind, []).extend(stored.keys)
        layers[kind] = layers.get(kind, 0) + 1
        strength = temporal if is_temporal(path) else spatial
        if strength != 0:
            terms[path] = (*terms.get(path, ()), (stored.layer, strength))
    groups = [{why: tuple(keys) for why, keys in found.items()} for found in (matched, unmatched, lora.skipped)]
    report = LoraReport(lora.name, lora.ranks, groups[0], layers, *groups[1:])
    if not matched:
        raise LoraError(_nothing(report))
    return terms, report


def _nothing(report: LoraReport) -> str:
    why = report.warning() or ""
    return (
        f"{report.name} is not for this model: none of its {report.total} tensors means one of its layers "
        f"({why.partition('; ')[2]}); take a LoRA that was trained on this kind of SVD model"
    )


def _outline(name: str) -> str:
    """The beginning of a name, up to its first number, by which unknown names are counted."""
    return re.split(r"[._]?\d", name, maxsplit=1)[0]


def match_loras(
    loras: Sequence[tuple[Lora, float, float]], unet: nn.Module, config: UNetConfig
) -> tuple[Terms, list[LoraReport]]:
    """What several LoRAs (each with its spatial and its temporal strength) add together, and a report of each.

    What does not fit is logged as a warning with examples.
    """
    shapes = layer_shapes(unet)
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
    """The sums of both."""
    return {path: (*one.get(path, ()), *other.get(path, ())) for path in chain(one, other.keys() - one.keys())}


def apply_loras(model: SVDModel, loras: Sequence[tuple[Lora, float, float]]) -> SVDModel:
    """A model with LoRAs, each with a strength for spatial and one for temporal layers; `model` stays as it is.

    Give the model as it was loaded and all LoRAs that are to be in force; without any, or with strengths of 0, the
    model itself comes back. Weights of 8 bits that a LoRA changes become float16. Raises LoraError as `match_lora`.
    """
    terms, _ = match_loras(loras, model.part("unet"), model.config.unet)
    return replace(model, unet=with_terms(model.unet, terms)) if terms else model


@torch.no_grad()
def with_terms(unet: UNet, terms: Terms) -> UNet:
    """A network like `unet` with the sums in its weights; the memory of all weights that stay is shared."""
    # What the memo holds is not copied. Parameters of its own, so that moving one network leaves the other in place.
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in unet.parameters()}
    twin = copy.deepcopy(unet, shared | {id(buffer): buffer for buffer in unet.buffers()})
    for path, added in terms.items():
        layer = twin.get_submodule(path)
        weight = layer.weight
        new = merged(weight, added).to(kept_dtype(weight.dtype))
        layer.weight = nn.Parameter(new, requires_grad=weight.requires_grad)
    for before, after in zip(unet.joinable(), twin.joinable(), strict=True):
        if joined_view(before) is not None and len({weight.dtype for weight in after}) == 1:
            join_weights(after)
    return twin
