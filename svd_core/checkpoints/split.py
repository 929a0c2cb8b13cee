"""Split a state dict into networks: parts under module names, their sizes, and a report of what does not fit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..networks.config import SVDConfig, VAEConfig
from ..networks.image_encoder import ImageEncoder
from ..networks.unet import UNet
from ..networks.vae import VAE
from ..networks.variants import CONTROL_SCALE, NATIVE
from .adapters import shapes_of
from .detect import (
    CONTROLNET,
    LORA,
    REMEDY,
    guess_variant,
    has_temporal_layers,
    image_model,
    is_controlnet,
    is_lora,
    is_sdxl_vae,
    other_model,
    read_hints,
)
from .family import not_a_model
from .names import Shape
from .parts import Part, Recipe, SortedTensors, sort_tensors
from .quantised import read_codings
from .sizes import decoder_config, encoder_config, image_encoder_config, unet_config
from .skeleton import skeleton, weights_of
from .source import FLOAT_TYPES, CheckpointError, TensorSource, some

FOLDED = ("decoder.conv_in", "post_quant_conv")  # a convolution and the 1x1 convolution before it
FOLD_LIMIT = 1e-3  # relative difference below which SV3D's two decoders count as one
NETWORKS = {"unet": UNet, "vae": VAE, "image_encoder": ImageEncoder}
LABELS = {"unet": "UNet", "vae": "VAE", "image_encoder": "image encoder"}


@dataclass(frozen=True)
class Report:
    """What was found: the layout, the stored tensors that no network uses by reason, and problems as sentences."""

    layout: str
    unused: dict[str, list[str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parts:
    """State dicts of the networks under module names (None = absent), their configuration, and the report.

    The state dicts are mappings whose tensors are fetched when asked for; `dict(parts.unet)` makes a plain dictionary.
    skeletons: the networks on the meta device that the tensors were compared with.
    """

    unet: Part | None
    vae: Part | None
    image_encoder: Part | None
    config: SVDConfig
    report: Report
    skeletons: dict[str, nn.Module] = field(default_factory=dict, repr=False, compare=False)

    def present(self) -> dict[str, Part]:
        """Return the networks that the checkpoint has, by name."""
        return {name: part for name in NETWORKS if (part := getattr(self, name)) is not None}


def split_state_dict(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, name: str = "", strict: bool = True
) -> Parts:
    """Split a checkpoint of any layout of spec section 1.4 into its networks.

    tensors: real, meta or lazily mapped (`read_state_dict`) tensors; values are not touched. metadata: the file's
    (`svd.*` keys; None = that of `tensors` if it was read from disk). name: of the file or folder; identifies variants
    where shapes cannot. Unless `strict` is off, tensors that are missing, unexpected, misshapen or not float
    raise CheckpointError; otherwise they are listed in `report.problems`.
    """
    shapes = shapes_of(tensors)
    if isinstance(tensors, TensorSource):
        metadata, name = tensors.metadata if metadata is None else metadata, name or tensors.name
    layers, wrong = read_codings(shapes, metadata or {}, tensors)
    found = sort_tensors(shapes, layers)
    found.problems += wrong
    _reject_other_models(found, shapes, name)
    encoder = None
    with _errors_name(name):
        hints = read_hints(metadata or {})
        unet = unet_config(_shapes(found.unet), hints.head_channels) if found.unet else None
        vae, vae_recipes = _vae(found, tensors)
        if found.image_encoder:
            encoder = image_encoder_config(_shapes(found.image_encoder), hints.clip_head_channels)
    variant = hints.variant or "custom"
    if unet and not hints.variant:
        variant = guess_variant(name, unet.vector_channels, hints.frames, unet.model_channels == 320)
    frames, width, height = NATIVE[variant]
    config = SVDConfig(
        unet,
        vae,
        encoder,
        variant,
        hints.frames or frames,
        hints.width or width,
        hints.height or height,
        hints.control_scale or CONTROL_SCALE.get(variant, 1.0),
    )
    if unet is None and vae is not None and vae.decoder is not None and not vae.temporal and is_sdxl_vae(name):
        raise CheckpointError(f"{name} is the VAE of SDXL, whose latents are not those of SVD; use SVD's own VAE")
    recipes = {"unet": found.unet, "vae": vae_recipes, "image_encoder": found.image_encoder}
    parts = {key: Part(tensors, value) if value else None for key, value in recipes.items()}
    layout = "folder" if found.folder_naming else "single file"
    if list(filter(parts.get, parts)) == ["unet"]:
        layout = f"UNet only, {layout} naming"
    skeletons = {key: skeleton(NETWORKS[key], getattr(config, key)) for key, part in parts.items() if part is not None}
    problems = [*part_problems(skeletons, parts), *_stray(found.stray, shapes), *_types(tensors, parts)]
    problems += found.problems
    if unet and encoder and unet.context_channels != encoder.output_channels:
        problems.append(token_mismatch(unet.context_channels, encoder.output_channels))
    if strict and problems:
        raise CheckpointError(f"{name or 'the model'}: " + "; ".join(problems))
    return Parts(**parts, config=config, report=Report(layout, found.unused, tuple(problems)), skeletons=skeletons)


def no_unet(name: str, parts: Parts) -> str:
    """Return the sentence for a file that holds other networks of a model, but not its UNet."""
    held = " and ".join(LABELS[key] for key in parts.present()) or "nothing"
    return f"{name} holds {held} but no UNet; it can only complete another model, as complete_from, so {REMEDY}"


def complete(parts: Parts, base_checkpoint: Parts, name: str) -> Parts:
    """Return `parts` with the networks, or halves of the VAE, that it lacks taken from another checkpoint.

    name: of that checkpoint, for errors. Raises CheckpointError where it lacks them too, or does not fit the UNet.
    """
    config, mine = parts.config, parts.config.vae
    vae, vae_config = parts.vae, mine
    if base_checkpoint.vae is not None and base_checkpoint.config.vae is not None:
        other = base_checkpoint.config.vae
        vae_config = other if mine is None else replace(
            mine,
            encoder=mine.encoder or other.encoder,
            quant_conv=mine.quant_conv if mine.encoder else other.quant_conv,
            decoder=mine.decoder or other.decoder,
            temporal=mine.temporal if mine.decoder else other.temporal,
            post_quant_conv=mine.post_quant_conv if mine.decoder else other.post_quant_conv,
        )  # fmt: skip
        vae = base_checkpoint.vae if vae is None else vae.joined(_missing_half(base_checkpoint.vae, mine))
    encoder, encoder_config = parts.image_encoder, config.image_encoder
    if encoder is None:
        encoder, encoder_config = base_checkpoint.image_encoder, base_checkpoint.config.image_encoder
    lacking = [LABELS[key] for key, part in (("vae", vae), ("image_encoder", encoder)) if part is None]
    if lacking:
        raise CheckpointError(f"{name} has no {' and no '.join(lacking)} to complete the model with; {REMEDY}")
    if config.unet and encoder_config and config.unet.context_channels != encoder_config.output_channels:
        raise CheckpointError(f"{name}: {token_mismatch(config.unet.context_channels, encoder_config.output_channels)}")
    config = replace(config, vae=vae_config, image_encoder=encoder_config)
    return replace(parts, vae=vae, image_encoder=encoder, config=config)


def _missing_half(part: Part, mine: VAEConfig | None) -> Part:
    """Return the half of another checkpoint's VAE that `mine` lacks."""
    present: tuple[str, ...] = ()
    if mine is not None and mine.encoder:
        present += ("encoder.", "quant_conv.")
    if mine is not None and mine.decoder:
        present += ("decoder.", "post_quant_conv.")
    return part.without(present)


def token_mismatch(context: int, output: int) -> str:
    """Return the sentence for an image encoder whose token does not fit the UNet."""
    return f"the image encoder's token has {output} numbers, the UNet takes {context}; use parts of one model"


def part_problems(skeletons: Mapping[str, nn.Module], parts: Mapping[str, Part | None]) -> list[str]:
    """Return sentences on tensors that are missing, unexpected or misshapen for the networks of the same names."""
    problems = []
    for name, module in skeletons.items():
        part = parts[name]
        # The networks have no buffers, and `state_dict` takes three times as long.
        wanted = {name: tuple(layer._parameters[key].shape) for layer, key, name in weights_of(module)}
        have = part.shapes
        absent, extra = wanted.keys() - have.keys(), have.keys() - wanted.keys()
        other = {key for key in wanted.keys() & have.keys() if wanted[key] != have[key]}
        label = LABELS[name]
        if absent:
            count = f"{len(absent)} of {len(wanted)}"
            problems.append(f"the {label} lacks {count} tensors ({some(absent)}); download the file again")
        if extra:
            kind = other_model(extra)
            problems.append(
                f"the {label} has {len(extra)} tensors that SVD does not have ({some(extra)})"
                f"{f': {kind}' if kind else ''}; use the plain SVD model, this one needs its own code"
            )
        if other:
            key = min(other)
            problems.append(
                f"{len(other)} tensors of the {label} have unexpected shapes ({some(other)}: {list(have[key])} instead "
                f"of {list(wanted[key])}); the file mixes models, use an unmodified one"
            )
    return problems


@contextmanager
def _errors_name(file: str) -> Iterator[None]:
    """Put the name of a file before errors about its sizes, which do not know it."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{file or 'the model'}: {error}") from None


def _shapes(recipes: Mapping[str, Recipe]) -> dict[str, Shape]:
    return {key: recipe.shape for key, recipe in recipes.items()}


def _vae(found: SortedTensors, tensors: Mapping[str, Tensor]) -> tuple[VAEConfig | None, dict[str, Recipe]]:
    """Choose encoder and decoder where a file has several (spec sections 6.1 and 6.3); count the others as unused."""

    def half(source: Mapping[str, Recipe], *starts: str) -> dict[str, Recipe]:
        return {key: recipe for key, recipe in source.items() if key.startswith(starts)}

    first, conditioner = found.first_stage, found.conditioner
    mine, theirs = half(first, "encoder.", "quant_conv."), half(conditioner, "encoder.", "quant_conv.")
    if "encoder.conv_in.weight" in theirs:
        encoder = theirs  # what the official sampler conditions with
        found.drop("second copy of the VAE encoder", mine)
    else:
        encoder = mine
        found.drop("rest of the conditioner's VAE encoder", theirs)
    frame = half(conditioner, "decoder.", "post_quant_conv.")
    decoder = half(first, "decoder.", "post_quant_conv.")
    temporal = any(key.endswith(".mix_factor") for key in decoder)
    without_map = bool(decoder) and not temporal and "post_quant_conv.weight" not in decoder
    whole_frame = all(f"{name}.{kind}" in frame for name in FOLDED for kind in ("weight", "bias"))
    if without_map and whole_frame and not _is_folded(tensors, decoder, frame):
        found.drop("conditioner's decoder, unlike the first stage's own, which the official SV3D script uses", frame)
    elif (without_map or not decoder) and whole_frame:
        found.drop("VAE decoder without its 1x1 convolution", decoder)
        decoder, temporal = frame, False
    else:
        found.drop("decoder half of the conditioner's autoencoder", frame)
    chosen = {**encoder, **decoder}
    if not chosen:
        return None, {}
    shapes = _shapes(chosen)
    return VAEConfig(
        encoder=encoder_config(shapes) if encoder else None,
        decoder=decoder_config(shapes) if decoder else None,
        temporal=temporal,
        quant_conv="quant_conv.weight" in chosen,
        post_quant_conv="post_quant_conv.weight" in chosen,
    ), chosen


def _is_folded(tensors: Mapping[str, Tensor], first: Mapping[str, Recipe], frame: Mapping[str, Recipe]) -> bool:
    """Return whether the first stage's `conv_in` is the conditioner's with its 1x1 convolution folded in.

    Both decoders then give the same frames. True on the meta device, where there are no values to compare.
    """
    names = [f"decoder.conv_in.{kind}" for kind in ("weight", "bias")]
    inner = frame["post_quant_conv.bias"].shape
    if any(name not in first or first[name].shape != frame[name].shape for name in names):
        return False
    if frame["post_quant_conv.weight"].shape != (*inner, *inner, 1, 1) or frame[names[0]].shape[1:2] != inner:
        return False
    first_part, frame_part = Part(tensors, first), Part(tensors, frame)
    mine, theirs, one = (
        [part.fetch(f"{name}.{kind}", dtype=torch.float32) for kind in ("weight", "bias")]
        for part, name in ((first_part, FOLDED[0]), (frame_part, FOLDED[0]), (frame_part, FOLDED[1]))
    )
    if any(tensor.is_meta for tensor in (*mine, *theirs, *one)):
        return True
    kernel = torch.einsum("oiyx,ic->ocyx", theirs[0], one[0].flatten(1))
    bias = theirs[1] + torch.einsum("oiyx,i->o", theirs[0], one[1])
    differences = ((mine[0] - kernel).norm() / kernel.norm(), (mine[1] - bias).norm() / bias.norm())
    return max(map(float, differences)) < FOLD_LIMIT


def _reject_other_models(found: SortedTensors, shapes: Mapping[str, Shape], name: str) -> None:
    """Raise CheckpointError for a model that is not SVD, or SVD under names that are not known."""
    what = not_a_model(shapes)
    if what is not None:
        raise CheckpointError(f"{name or 'the model'} is {what}")
    if shapes and is_lora(shapes):
        raise CheckpointError(f"{name or 'the model'} is {LORA}, for Load SVD LoRA or --lora; {REMEDY}")
    temporal = has_temporal_layers(found.unet)
    if temporal and not is_controlnet(shapes):
        return
    if not found.unet and (found.first_stage or found.image_encoder) and not found.stray:
        return
    kind = other_model(shapes)
    if temporal:
        what = f"{CONTROLNET} for SVD, not a whole model"
    elif found.unet:
        first = found.unet.get("input_blocks.0.0.weight")
        width = f" and takes {first.shape[1]} channels instead of 8" if first and len(first.shape) == 4 else ""
        what = f"{kind or image_model(shapes)}: its UNet has no temporal layers{width}"
    elif kind is None and has_temporal_layers(shapes):
        what = f"perhaps SVD, but its UNet has unknown names ({len(shapes)} tensors: {some(shapes)})"
    else:
        what = kind or f"not a known model ({len(shapes)} tensors: {some(shapes)})"
    raise CheckpointError(f"{name or 'the model'} is {what}; {REMEDY}")


def _stray(keys: list[str], shapes: Mapping[str, Shape]) -> list[str]:
    if not keys:
        return []
    kind = other_model(keys)
    return [
        f"{len(keys)} of {len(shapes)} tensors belong to no part of SVD ({some(keys)}){f': {kind}' if kind else ''}; "
        "use an unmodified SVD file, or save it again without these"
    ]


def _types(tensors: Mapping[str, Tensor], parts: Mapping[str, Part | None]) -> list[str]:
    """Return a sentence on used tensors that are not float, in a list, or an empty list."""
    keys = [key for part in parts.values() if part is not None for key in part.plain_sources()]
    if isinstance(tensors, TensorSource):
        dtypes = tensors.dtypes
        wrong = {key: dtypes[key] for key in keys if dtypes[key] not in FLOAT_TYPES}
    else:
        wrong = {key: str(tensors[key].dtype) for key in keys if not tensors[key].dtype.is_floating_point}
    if not wrong:
        return []
    return [
        f"{len(wrong)} tensors are stored as {some(set(wrong.values()))} ({some(wrong)}); only float types are read "
        "(float32, float16, bfloat16, float8), so use a file without other quantisation"
    ]
