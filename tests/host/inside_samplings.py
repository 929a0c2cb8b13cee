"""Part of inside.py: whole samplings with the host's own patch nodes, on its SVD network and on our exported MODEL.

Each node of the host patches both; three to eight steps of its sampler follow, with the same weights, noise and
conditioning. Recorded are the effect of the patch on the host's own network and the difference between both results,
relative to the result, or the error, which must then be the same on both.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SIZE = {"width": 128, "height": 128}


def compare_samplings(model, theirs, run: Callable, results: dict) -> None:
    """Fill `results["samplings"]` with {row: [effect, difference]}, or {row: error} where both raise the same."""
    results["samplings"] = {}
    given = {frames: _inputs(model, run, frames) for frames in (4, 6)}
    plains: dict[str, Tensor] = {}
    for name, (steps, patch, more) in ROWS.items():
        inputs = given[more.get("frames", 4)]
        sigmas = run("SVDReelSchedule", steps=steps)[0]
        made = [_attempt(patcher, inputs, sigmas, patch, more) for patcher in (theirs, model.unet)]
        kind = f"{steps} {more}"
        if kind not in plains:
            plains[kind] = _attempt(theirs, inputs, sigmas, _nothing, more)
        plain = plains[kind]
        if any(isinstance(one, str) for one in made):
            shown = [one if isinstance(one, str) else "a clip" for one in made]
            results["samplings"][name] = shown[0] if shown[0] == shown[1] else " | ".join(shown)
        else:
            results["samplings"][name] = [_difference(made[0], plain), _difference(made[1], made[0])]


def _inputs(model, run: Callable, frames: int) -> tuple:
    """Positive, negative and latent of a picture, and the positive of another."""
    made = []
    for seed in (2, 3):
        picture = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(seed))
        made.append(run("SVDReelCondition", model=model, image=picture, frames=frames, **SIZE))
    return (*made[0], made[1][0])


def _attempt(patcher, inputs: tuple, sigmas: Tensor, patch: Callable, more: dict) -> Tensor | str:
    """The sampled latents of a patched network, or the error."""
    import comfy.sample
    import comfy.samplers

    positive, negative, latent, other = inputs
    noise = comfy.sample.prepare_noise(latent["samples"], 23)
    torch.manual_seed(5)  # HyperTile and ToMe draw from the global generator
    try:
        patched = patch(patcher, other)
    except MissingNode as error:
        return str(error)
    mask = None if "mask" not in more else _gradient(len(noise))
    try:
        return comfy.sample.sample_custom(
            patched,
            noise,
            2.5,
            comfy.samplers.sampler_object("euler"),
            sigmas,
            positive,
            negative,
            latent["samples"],
            noise_mask=mask,
            disable_pbar=True,
            seed=23,
        )
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


class MissingNode(Exception):
    """The host is too old for a node."""


def node(module: str, name: str, **inputs: Any) -> Callable:
    """Return a patch that calls a node of the host's comfy_extras, of its first or its third interface."""

    def patch(patcher, other):
        try:
            cls = getattr(importlib.import_module(f"comfy_extras.nodes_{module}"), name)
        except (ImportError, AttributeError):
            raise MissingNode(f"no node {name}") from None
        given = {key: other if value is OTHER else value for key, value in inputs.items()}
        if hasattr(cls, "define_schema"):
            known = inspect.signature(cls.execute).parameters  # older hosts have fewer inputs
            made = cls.execute(patcher, **{key: value for key, value in given.items() if key in known})
            return (made.result if hasattr(made, "result") else made)[0]
        return getattr(cls(), cls.FUNCTION)(patcher, **given)[0]

    return patch


def _nothing(patcher, other):
    return patcher


def _gradient(frames: int) -> Tensor:
    return torch.linspace(0, 1, 16).expand(frames, 1, 16, 16).clone()


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def _override(patcher, other):
    patcher = patcher.clone()
    options = patcher.model_options["transformer_options"] = dict(patcher.model_options["transformer_options"])
    options["optimized_attention_override"] = lambda function, q, k, v, heads, **more: function(
        q * 1.5, k, v, heads, **{**more, "transformer_options": {}}
    )
    return patcher


def _calls(patcher, other):
    """A wrapper around the network, as caching packs add it."""
    import comfy.patcher_extension

    def wrapper(executor, *args, **kwargs):
        return executor(*args, **kwargs) * 0.9

    patcher = patcher.clone()
    patcher.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "test", wrapper)
    return patcher


OTHER = object()
SHRINK = {
    "block_number": 3,
    "downscale_factor": 2.0,
    "start_percent": 0.0,
    "end_percent": 0.9,
    "downscale_method": "bilinear",
    "upscale_method": "bilinear",
}
WINDOW = {
    "context_length": 4,
    "context_overlap": 2,
    "context_schedule": "standard_static",
    "context_stride": 1,
    "closed_loop": False,
    "fuse_method": "pyramid",
    "dim": 0,
}
WINDOWS_OF_NOW = {
    "freenoise": False,
    "cond_retain_index_list": "",
    "split_conds_to_windows": False,
    "latent_retain_index_list": "",
    "causal_window_fix": False,
}
CACHE = {"start_percent": 0.0, "end_percent": 1.0, "verbose": False}

ROWS: dict[str, tuple[int, Callable, dict]] = {
    "FreeU": (3, node("freelunch", "FreeU", b1=1.1, b2=1.2, s1=0.9, s2=0.2), {}),
    "FreeU_V2": (3, node("freelunch", "FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2), {}),
    "PAG": (3, node("pag", "PerturbedAttentionGuidance", scale=3.0), {}),
    "SAG": (3, node("sag", "SelfAttentionGuidance", scale=0.5, blur_sigma=2.0), {}),
    "HyperTile": (3, node("hypertile", "HyperTile", tile_size=64, swap_size=2, max_depth=2, scale_depth=True), {}),
    "ToMe": (3, node("tomesd", "TomePatchModel", ratio=0.3), {}),
    "Deep Shrink": (3, node("model_downscale", "PatchModelAddDownscale", downscale_after_skip=True, **SHRINK), {}),
    "Deep Shrink before the skip": (
        3,
        node("model_downscale", "PatchModelAddDownscale", downscale_after_skip=False, **SHRINK),
        {},
    ),
    "RescaleCFG": (3, node("model_advanced", "RescaleCFG", multiplier=0.7), {}),
    "PerpNeg": (3, node("perpneg", "PerpNeg", empty_conditioning=OTHER, neg_scale=1.0), {}),
    "EasyCache": (8, node("easycache", "EasyCacheNode", reuse_threshold=3.0, **CACHE), {}),
    "LazyCache": (8, node("easycache", "LazyCacheNode", reuse_threshold=3.0, **CACHE), {}),
    "APG": (3, node("apg", "APG", eta=0.5, norm_threshold=2.0, momentum=0.3), {}),
    "TCFG": (3, node("tcfg", "TCFG"), {}),
    "Mahiro": (3, node("mahiro", "Mahiro"), {}),
    "FreSca": (3, node("fresca", "FreSca", scale_low=1.0, scale_high=1.5, freq_cutoff=4), {}),
    "Epsilon Scaling": (3, node("eps", "EpsilonScaling", scaling_factor=1.05), {}),
    "NAG": (3, node("nag", "NAGuidance", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5), {}),
    "Differential Diffusion": (
        3,
        node("differential_diffusion", "DifferentialDiffusion", strength=0.8),
        {"mask": True},
    ),
    "context windows": (
        3,
        node("context_windows", "ContextWindowsManualNode", **WINDOW, **WINDOWS_OF_NOW),
        {"frames": 6},
    ),
    "attention override": (3, _override, {}),
    "wrapper of the network": (3, _calls, {}),
}
