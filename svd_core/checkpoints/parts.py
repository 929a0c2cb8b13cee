"""Which tensors of a checkpoint make which network, under which module names; what is left over and why.

Works on shapes alone; values are fetched when a part's tensor is asked for.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .names import Shape, image_encoder_from_folder, unet_from_folder, vae_from_folder
from .source import TensorSource

UNET_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "unet.", "")
UNET_TOPS = ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.")
UNET_FOLDER_TOPS = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out.", "conv_norm_out.",
                    "time_embedding.", "add_embedding.")  # fmt: skip
TOWER = re.compile(r"conditioner\.embedders\.\d+\.open_clip\.model\.visual\.(.+)")
TEXT = re.compile(
    r"conditioner\.embedders\.\d+\.open_clip\.model\."
    r"(positional_embedding|text_projection|logit_scale|token_embedding\.weight|ln_final\.(weight|bias)|transformer\..+)"
)
VAE_PARTS = r"((?:encoder|decoder|quant_conv|post_quant_conv)\..+)"
CONDITIONER = re.compile(r"conditioner\.embedders\.\d+\.encoder\." + VAE_PARTS)
FIRST_STAGE = re.compile(r"(?:first_stage_model\.|vae\.)?" + VAE_PARTS)
FOLDER_TOWER = re.compile(r"(?:image_encoder\.)?((?:vision_model|visual_projection)\..+)")
NEVER_USED = re.compile(r"model_ema\..+|vision_model\.embeddings\.position_ids")


@dataclass(frozen=True)
class Recipe:
    """How one module tensor is made: its shape and the stored tensors, joined along axis 0 if there are several."""

    shape: Shape
    keys: tuple[str, ...]
    transpose: bool = False


class Part(Mapping[str, Tensor]):
    """State dict of one network in module naming; each tensor is fetched, joined or reshaped when asked for.

    Give it to `load_state_dict`, or make it a plain dictionary with `dict(part)`. `shapes` costs nothing.
    """

    def __init__(self, tensors: Mapping[str, Tensor], recipes: Mapping[str, Recipe]) -> None:
        self._recipes = {key: (tensors, recipe) for key, recipe in recipes.items()}

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of every tensor, without fetching any."""
        return {key: recipe.shape for key, (_, recipe) in self._recipes.items()}

    def sources(self) -> list[str]:
        """Names of the stored tensors that this part is made of."""
        return [key for _, recipe in self._recipes.values() for key in recipe.keys]

    def stored_types(self) -> dict[str, str]:
        """Safetensors type name of every tensor of a part that was read from disk, without fetching any."""
        known = {id(tensors): tensors.dtypes for tensors, _ in self._recipes.values()}
        return {key: known[id(tensors)][recipe.keys[0]] for key, (tensors, recipe) in self._recipes.items()}

    def joined(self, other: "Part") -> "Part":
        """This part with the tensors of `other` that it lacks."""
        part = Part({}, {})
        part._recipes = {**other._recipes, **self._recipes}
        return part

    def without(self, starts: tuple[str, ...]) -> "Part":
        """This part less the tensors whose names begin with one of `starts`."""
        part = Part({}, {})
        part._recipes = {key: value for key, value in self._recipes.items() if not key.startswith(starts)}
        return part

    def fetch(self, key: str, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """One tensor on `device` as `dtype` (None = as stored); no copy where the stored one already fits."""
        tensors, recipe = self._recipes[key]
        if isinstance(tensors, TensorSource):
            pieces = [tensors.fetch(name, device, dtype) for name in recipe.keys]
        else:
            pieces = [tensors[name].to(device=device, dtype=dtype) for name in recipe.keys]
        tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return (tensor.t().contiguous() if recipe.transpose else tensor).reshape(recipe.shape)

    def __getitem__(self, key: str) -> Tensor:
        return self.fetch(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)


@dataclass
class Sorted:
    """Stored tensors by what they are; the networks already under module names, everything else under stored names."""

    unet: dict[str, Recipe] = field(default_factory=dict)
    first_stage: dict[str, Recipe] = field(default_factory=dict)
    conditioner: dict[str, Recipe] = field(default_factory=dict)
    tower: dict[str, Recipe] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)
    stray: list[str] = field(default_factory=list)
    folder_naming: bool = False

    def drop(self, why: str, recipes: Mapping[str, Recipe]) -> None:
        """Count the stored tensors behind `recipes` as unused."""
        if recipes:
            self.unused.setdefault(why, []).extend(key for recipe in recipes.values() for key in recipe.keys)


def sort_tensors(shapes: Mapping[str, Shape]) -> Sorted:
    """Sort the tensors of a checkpoint in any of the layouts of spec section 1.4 by the network they belong to."""
    result = Sorted()
    prefix, folder_unet = _unet_prefix(shapes)
    tops = UNET_FOLDER_TOPS if folder_unet else UNET_TOPS
    unet: dict[str, str] = {}
    first: dict[str, str] = {}
    tower: dict[str, str] = {}
    for key, shape in shapes.items():
        rest = key[len(prefix) :] if prefix is not None and key.startswith(prefix) else ""
        if rest and (prefix or rest.startswith(tops)):
            unet[rest] = key
        elif match := TOWER.fullmatch(key):
            result.tower[match[1]] = Recipe(shape, (key,))
        elif TEXT.fullmatch(key):
            result.unused.setdefault("leftovers of the text tower", []).append(key)
        elif NEVER_USED.fullmatch(key):
            result.unused.setdefault("training state", []).append(key)
        elif match := CONDITIONER.fullmatch(key):
            result.conditioner[match[1]] = _recipe(match[1], shape, key)
        elif match := FIRST_STAGE.fullmatch(key):
            first[match[1]] = key
        elif match := FOLDER_TOWER.fullmatch(key):
            tower[match[1]] = key
        else:
            result.stray.append(key)
    _add_unet(result, unet, shapes, folder_unet)
    _add_first_stage(result, first, shapes)
    _add_folder_tower(result, tower, shapes)
    return result


def _unet_prefix(shapes: Mapping[str, Shape]) -> tuple[str | None, bool]:
    for prefix in UNET_PREFIXES:
        for folder, top in ((False, "input_blocks."), (True, "down_blocks.")):
            if any(key.startswith(prefix + top) for key in shapes):
                return prefix, folder
    return None, False


def _recipe(name: str, shape: Shape, key: str) -> Recipe:
    if name.endswith("mix_factor") and shape == ():
        shape = (1,)  # some tools save the blend factors without their axis
    if ".mid.attn_1." in name and name.endswith(".weight") and len(shape) == 2:
        shape = (*shape, 1, 1)  # linear in the folder layout, a 1x1 convolution here
    return Recipe(shape, (key,))


def _add_unet(result: Sorted, found: dict[str, str], shapes: Mapping[str, Shape], folder: bool) -> None:
    if not folder:
        result.unet = {name: _recipe(name, shapes[key], key) for name, key in found.items()}
        return
    result.folder_naming = True
    layers = [int(match[1]) for key in found if (match := re.match(r"down_blocks\.0\.resnets\.(\d+)\.", key))]
    ups = frozenset(int(match[1]) for key in found if (match := re.match(r"up_blocks\.(\d+)\.attentions\.", key)))
    for rest, key in found.items():
        name = unet_from_folder(rest, max(layers, default=1) + 1, ups)
        if name is None:
            result.stray.append(key)
        else:
            result.unet[name] = _recipe(name, shapes[key], key)


def _add_first_stage(result: Sorted, found: dict[str, str], shapes: Mapping[str, Shape]) -> None:
    folder = any(".mid_block." in key or "_blocks." in key for key in found)
    result.folder_naming |= folder
    levels = 1 + max((int(m[1]) for key in found if (m := re.match(r"decoder\.up_blocks\.(\d+)\.", key))), default=3)
    for rest, key in found.items():
        name = vae_from_folder(rest, levels) if folder else rest
        if name is None:
            result.stray.append(key)
        else:
            result.first_stage[name] = _recipe(name, shapes[key], key)


def _add_folder_tower(result: Sorted, found: dict[str, str], shapes: Mapping[str, Shape]) -> None:
    fused: dict[str, dict[int, str]] = {}
    for rest, key in found.items():
        place = image_encoder_from_folder(rest)
        if place is None:
            result.stray.append(key)
        else:
            fused.setdefault(place[0], {})[place[1]] = key
    result.folder_naming |= bool(found)
    for name, places in fused.items():
        keys = tuple(places[index] for index in sorted(places))
        shape = shapes[keys[0]]
        if len(keys) > 1:
            shape = (sum(shapes[key][0] for key in keys), *shape[1:])
        result.tower[name] = Recipe(shape[::-1], keys, True) if name == "proj" else Recipe(shape, keys)
