"""Sort the tensors of a checkpoint into networks, under the names of our modules.

Names differ between programs: prefixes of whole files, wrappers of `torch.compile` and of parallel training, the two
layouts of spec section 1.4, and the naming that ComfyUI saves. Everything here works on names and shapes; values are
fetched when a tensor of a part is asked for, and weights in 8 or 4 bits are then decoded.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..files import printable
from . import quantised
from .names import Shape, image_encoder_from_folder, unet_from_folder, vae_from_folder
from .source import CheckpointError, TensorSource, some

UNET_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "unet.", "")
UNET_TOPS = ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.")
UNET_FOLDER_TOPS = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out.", "conv_norm_out.",
                    "time_embedding.", "add_embedding.")  # fmt: skip
FIRST_BLOCKS = re.compile(r"(.+?\.)(?:input_blocks\.\d|down_blocks\.\d+\.\w+\.\d+\.(?:temporal|spatial)_)")
# Segments that torch.compile, DataParallel, FSDP and activation checkpointing put into names.
WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
AVERAGED = re.compile(r"(?:model_ema|ema_model|ema)\.(.+)")
IMAGE_ENCODER = re.compile(r"conditioner\.embedders\.\d+\.open_clip\.model\.visual\.(.+)")
FOLDER_IMAGE_ENCODER = re.compile(r"(?:image_encoder\.)?((?:vision_model|visual_projection)\..+)")
TEXT_ENCODER = re.compile(
    r"conditioner\.embedders\.\d+\.open_clip\.model\."
    r"(positional_embedding|text_projection|logit_scale|token_embedding\.weight|ln_final\.(weight|bias)|transformer\..+)"
)
VAE_PARTS = r"((?:encoder|decoder|quant_conv|post_quant_conv)\..+)"
CONDITIONER = re.compile(r"conditioner\.embedders\.\d+\.encoder\." + VAE_PARTS)
FIRST_STAGE = re.compile(r"(?:first_stage_model\.|vae\.)?" + VAE_PARTS)
# Noise schedules, and what trainers and ComfyUI's save nodes store beside the weights.
TRAINING_STATE = re.compile(
    r"(?:model\.)?(?:betas|alphas_cumprod(?:_prev)?|sqrt_\w+|log_one_minus_\w+|posterior_\w+|lvlb_weights|logvar"
    r"|scale_factor|global_step|epoch|iteration|step|v_pred|ztsnr)"
    r"|edm_vpred\.sigma_(?:max|min)|denoiser\.[\w.]*sigmas?|loss_fn\..+|first_stage_model\.loss\..+"
    r"|(?:optimizer|lr_scheduler|scheduler)(?:_states?|s)?\..+|(?:.+\.)?embeddings\.position_ids"
)
POSE_NETWORK = "MimicMotion's pose network, which Load Pose Network (SVD) and --pose-network load"
# What ComfyUI stores beside weights in 8 or 4 bits, and decoding does not need.
CODING_SETTINGS = frozenset({"scaled_fp8", quantised.MARK, "scale_input", "input_scale"})


class Recipe(NamedTuple):
    """How one module tensor is made: its shape, and the stored tensors, joined along axis 0 if there are several.

    codings: how each of `keys` is stored in 8 or 4 bits, None for a plain one; empty where all are plain.
    """

    shape: Shape
    keys: tuple[str, ...]
    transpose: bool = False
    codings: tuple[quantised.Coding | None, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all stored tensors that are read."""
        return (*self.keys, *(name for coding in self.codings if coding for name in coding.scales.values()))


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
        """Return the names of the stored tensors that this part is made of."""
        return [key for _, recipe in self._recipes.values() for key in recipe.sources]

    def plain_sources(self) -> list[str]:
        """Return the names of the stored tensors of this part that are no weights in 8 or 4 bits with scales."""
        return [key for _, recipe in self._recipes.values() if not any(recipe.codings) for key in recipe.keys]

    def stored_types(self) -> dict[str, str]:
        """Return the safetensors type of every tensor of a part that was read from disk, without fetching any.

        Weights in 8 or 4 bits with scales count as F16, the type that `fetch` gives them.
        """
        types = {id(tensors): tensors.dtypes for tensors, _ in self._recipes.values()}
        return {
            key: "F16" if any(recipe.codings) else types[id(tensors)][recipe.keys[0]]
            for key, (tensors, recipe) in self._recipes.items()
        }

    def joined(self, other: "Part") -> "Part":
        """Return this part with the tensors of `other` that it lacks."""
        part = Part({}, {})
        part._recipes = {**other._recipes, **self._recipes}
        return part

    def without(self, starts: tuple[str, ...]) -> "Part":
        """Return this part without the tensors whose names begin with one of `starts`."""
        part = Part({}, {})
        part._recipes = {key: value for key, value in self._recipes.items() if not key.startswith(starts)}
        return part

    def fetch(self, key: str, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """Return one tensor on `device` as `dtype`; no copy where the stored one already fits.

        dtype None: as stored, and float16 for weights in 8 or 4 bits with scales, which are decoded.
        """
        tensors, recipe = self._recipes[key]
        if len(recipe.keys) == 1 and not (recipe.codings or recipe.transpose):
            tensor = _fetched(tensors, recipe.keys[0], device, dtype)
            return tensor if tensor.shape == recipe.shape else tensor.reshape(recipe.shape)
        codings = recipe.codings or (None,) * len(recipe.keys)
        stored = [_stored(tensors, *one, device, dtype) for one in zip(recipe.keys, codings, strict=True)]
        tensor = stored[0] if len(stored) == 1 else torch.cat(stored)
        return (tensor.t().contiguous() if recipe.transpose else tensor).reshape(recipe.shape)

    def coded(self) -> dict[str, tuple[quantised.Coding, dict[str, Tensor]]]:
        """Return the weights that are stored in 8 or 4 bits with scales: name -> coding, and its tensors as stored.

        The tensors are `weight` and those that `coding.scales` and `coding.extra` name.
        """
        found = {}
        for key, (tensors, recipe) in self._recipes.items():
            coding = recipe.codings[0] if len(recipe.codings) == 1 and not recipe.transpose else None
            if coding is not None:
                names = {"weight": recipe.keys[0], **coding.scales, **coding.extra}
                found[key] = coding, {word: tensors[name] for word, name in names.items()}
        return found

    def __getitem__(self, key: str) -> Tensor:
        return self.fetch(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)


def _stored(
    tensors: Mapping[str, Tensor],
    key: str,
    coding: quantised.Coding | None,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> Tensor:
    if coding is None:
        return _fetched(tensors, key, device, dtype)
    scales = {word: _fetched(tensors, name, device, None) for word, name in coding.scales.items()}
    return coding.decode(_fetched(tensors, key, device, None), scales).to(dtype or torch.float16)


def _fetched(
    tensors: Mapping[str, Tensor], key: str, device: torch.device | str | None, dtype: torch.dtype | None
) -> Tensor:
    if isinstance(tensors, TensorSource):
        return tensors.fetch(key, device, dtype)
    return tensors[key].to(device=device, dtype=dtype)


@dataclass
class SortedTensors:
    """Recipes of the networks under module names, and the stored names of everything else.

    first_stage and conditioner: the two autoencoders of a single file. unused: reason -> stored names. stray: names
    that belong to no part of SVD. problems: sentences.
    """

    unet: dict[str, Recipe] = field(default_factory=dict)
    first_stage: dict[str, Recipe] = field(default_factory=dict)
    conditioner: dict[str, Recipe] = field(default_factory=dict)
    image_encoder: dict[str, Recipe] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)
    stray: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    folder_naming: bool = False

    def drop(self, reason: str, recipes: Mapping[str, Recipe]) -> None:
        """Count the stored tensors behind `recipes` as unused."""
        if recipes:
            self.unused.setdefault(reason, []).extend(key for recipe in recipes.values() for key in recipe.sources)


def sort_tensors(stored: Mapping[str, Shape], layers: Mapping[str, Mapping[str, Any]] | None = None) -> SortedTensors:
    """Sort the tensors of a checkpoint (stored name -> shape) by the network they belong to.

    layers: settings of layers in 8 or 4 bits, as `quantised.read_codings` returns them.
    """
    result = SortedTensors()
    names, prefix = _plain_names(stored)
    folder_unet = prefix is not None and not any(name.startswith(f"{prefix}input_blocks.") for name in names)
    tops = UNET_FOLDER_TOPS if folder_unet else UNET_TOPS
    unet: dict[str, str] = {}
    first: dict[str, str] = {}
    folder_encoder: dict[str, str] = {}
    coded: dict[str, dict[str, str]] = {}
    for name, key in names.items():
        rest = name[len(prefix) :] if prefix is not None and name.startswith(prefix) else ""
        layer, _, last = name.rpartition(".")
        if last in quantised.SCALES:
            coded.setdefault(f"{layer}.weight", {})[last] = key
        elif last in CODING_SETTINGS:
            result.unused.setdefault("settings of 8-bit products", []).append(key)
            if last == "input_scale":
                coded.setdefault(f"{layer}.weight", {})[last] = key
        elif rest and (prefix or rest.startswith(tops)):
            unet[rest] = key
        elif TRAINING_STATE.fullmatch(name) or AVERAGED.fullmatch(name):
            result.unused.setdefault("training state", []).append(key)
        elif match := FOLDER_IMAGE_ENCODER.fullmatch(IMAGE_ENCODER.sub(r"\1", name)):
            folder_encoder[match[1]] = key
        elif match := IMAGE_ENCODER.fullmatch(name):
            result.image_encoder[match[1]] = Recipe(stored[key], (key,))
        elif name.startswith("pose_net."):
            result.unused.setdefault(POSE_NETWORK, []).append(key)
        elif TEXT_ENCODER.fullmatch(name):
            result.unused.setdefault("leftovers of the text encoder", []).append(key)
        elif match := CONDITIONER.fullmatch(name):
            result.conditioner[match[1]] = _recipe(match[1], stored[key], key)
        elif match := FIRST_STAGE.fullmatch(name):
            first[match[1]] = key
        else:
            result.stray.append(key)
    _add_unet(result, unet, stored, folder_unet)
    _add_first_stage(result, first, stored)
    _add_folder_image_encoder(result, folder_encoder, stored)
    if coded:
        _add_codings(result, {names.get(name, ""): found for name, found in coded.items()}, layers or {}, stored)
    return result


def _plain_names(stored: Mapping[str, Shape]) -> tuple[dict[str, str], str | None]:
    """Return plain name -> stored name, and the prefix of the UNet's names (None where there is no UNet).

    Plain names have no wrappers, no `state_dict.` and no prefix around the whole file. Averaged weights (EMA) stand in
    where there are no others.
    """
    names: dict[str, str] = {}
    for key in stored:
        segments = key.split(".")
        name = key if WRAPPERS.isdisjoint(segments) else ".".join(part for part in segments if part not in WRAPPERS)
        while name.startswith("state_dict."):
            name = name.removeprefix("state_dict.")
        if name in names:
            raise CheckpointError(f"{some([names[name], key])} are two copies of one tensor; keep only one of them")
        names[name] = key
    averaged = {match[1]: key for name, key in names.items() if (match := AVERAGED.fullmatch(name))}
    trained = {name: key for name, key in names.items() if not AVERAGED.fullmatch(name)}
    for candidates in (trained, averaged):
        found = _unet_prefix(candidates)
        if found is not None:
            outer = next(found.removesuffix(known) for known in UNET_PREFIXES if found.endswith(known))
            if candidates is averaged:
                names = {**{name: key for name, key in trained.items() if name not in averaged}, **averaged}
            plain = {name.removeprefix(outer): key for name, key in names.items()}
            if len(plain) < len(names):
                raise CheckpointError(
                    f"{len(names) - len(plain)} tensors are there with the prefix '{printable(outer)}' and without it; "
                    "keep only one copy of the weights"
                )
            return plain, found.removeprefix(outer)
    return names, None


def _unet_prefix(names: Mapping[str, str]) -> str | None:
    """Return the prefix of the UNet's names: a known one, or the most common one before its first blocks."""
    for prefix in UNET_PREFIXES:
        if any(name.startswith((f"{prefix}input_blocks.", f"{prefix}down_blocks.")) for name in names):
            return prefix
    found: Counter[str] = Counter()
    for name in names:
        if match := FIRST_BLOCKS.match(name):
            found[match[1]] += 1
    return found.most_common(1)[0][0] if found else None


def _recipe(name: str, shape: Shape, key: str) -> Recipe:
    if name.endswith("mix_factor") and shape == ():
        shape = (1,)  # some tools save the blend factors without their axis
    if ".mid.attn_1." in name and name.endswith(".weight") and len(shape) == 2:
        shape = (*shape, 1, 1)  # linear in the folder layout, a 1x1 convolution here
    return Recipe(shape, (key,))


def _add_unet(result: SortedTensors, found: dict[str, str], stored: Mapping[str, Shape], folder: bool) -> None:
    if not folder:
        result.unet = {name: _recipe(name, stored[key], key) for name, key in found.items()}
        return
    result.folder_naming = True
    layers = [int(match[1]) for key in found if (match := re.match(r"down_blocks\.0\.resnets\.(\d{1,4})\.", key))]
    ups = frozenset(int(match[1]) for key in found if (match := re.match(r"up_blocks\.(\d{1,4})\.attentions\.", key)))
    for rest, key in found.items():
        name = unet_from_folder(rest, max(layers, default=1) + 1, ups)
        if name is None:
            result.stray.append(key)
        else:
            result.unet[name] = _recipe(name, stored[key], key)


def _add_first_stage(result: SortedTensors, found: dict[str, str], stored: Mapping[str, Shape]) -> None:
    folder = any(".mid_block." in key or "_blocks." in key for key in found)
    result.folder_naming |= folder
    ups = [int(match[1]) for key in found if (match := re.match(r"decoder\.up_blocks\.(\d{1,4})\.", key))]
    for rest, key in found.items():
        name = vae_from_folder(rest, 1 + max(ups, default=3)) if folder else rest
        if name is None:
            result.stray.append(key)
        else:
            result.first_stage[name] = _recipe(name, stored[key], key)


def _add_folder_image_encoder(result: SortedTensors, found: dict[str, str], stored: Mapping[str, Shape]) -> None:
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
        shape = stored[keys[0]]
        if len(keys) > 1:
            shape = (sum(math.prod(stored[key][:1]) for key in keys), *shape[1:])
        if name == "proj":
            result.image_encoder[name] = Recipe(shape[::-1], keys, transpose=True)
        else:
            result.image_encoder[name] = Recipe(shape, keys)


def _add_codings(
    result: SortedTensors,
    coded: Mapping[str, Mapping[str, str]],
    layers: Mapping[str, Mapping[str, Any]],
    stored: Mapping[str, Shape],
) -> None:
    """Give recipes the codings of their weights: `coded` maps stored names of weights to their scales by last word."""
    codings = {key: quantised.coding_of(_settings(layers, key), found) for key, found in coded.items()}
    used = set()
    for recipes in (result.unet, result.first_stage, result.conditioner, result.image_encoder):
        for name, recipe in recipes.items():
            if any(key in codings for key in recipe.keys):
                mine = tuple(codings.get(key) for key in recipe.keys)
                # Recipes of several keys belong to plain formats only, whose shapes are those of their bytes.
                shape = mine[0].shape(recipe.shape) if len(mine) == 1 and mine[0] else recipe.shape
                recipes[name] = recipe._replace(shape=shape, codings=mine)
                used |= {key for key in recipe.keys if key in codings}
    result.problems += quantised.coding_problems(
        (key, codings[key], stored[key], {word: stored[scale] for word, scale in codings[key].scales.items()})
        for key in sorted(used)
    )
    unused = [name for key, coding in codings.items() if key not in used for name in coding.scales.values()]
    if unused:
        result.unused.setdefault("scales of unused weights", []).extend(unused)


def _settings(layers: Mapping[str, Mapping[str, Any]], key: str) -> Mapping[str, Any] | None:
    """Return the settings of the layer of a stored weight; metadata may name it without the prefix of the UNet."""
    layer = key.removesuffix(".weight")
    names = (layer, *(layer.removeprefix(prefix) for prefix in UNET_PREFIXES if layer.startswith(prefix)))
    return next((layers[name] for name in names if name in layers), None)
