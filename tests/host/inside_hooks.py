"""Part of inside.py: every patch of a MODEL on the host's own SVD network and on ours, with the same weights.

For each row both networks run one pass with both guidance passes in one batch. Recorded are the effect of the patch on
the host's network and the difference between the two patched results, both relative to the result's deviation.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

FRAMES, SIDE = 3, 16
Options = dict[str, Any]


def compare_hooks(model, theirs, results: dict) -> None:
    """Fill `results` with {row: [effect, difference]}."""
    ours = model.unet.model.diffusion_model
    native = theirs.model.diffusion_model
    given = _inputs(model.config.unet.context_channels, model.config.unet.vector_channels)
    plain = _run(native, given, {})
    results["hooks"] = {"unpatched": [0.0, _difference(_run(ours, given, {}), plain)]}
    for name, make in ROWS.items():
        expected = _run(native, given, make(model))
        actual = _run(ours, given, make(model))
        results["hooks"][name] = [_difference(expected, plain), _difference(actual, expected)]
    results["hooks after"] = _difference(_run(ours, given, {}), plain)


def _inputs(context: int, vector: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(7)
    rows = 2 * FRAMES
    return {
        "x": torch.randn(rows, 8, SIDE, SIDE, generator=random),
        "timesteps": torch.full((rows,), 0.4),
        "context": torch.randn(2, 1, context, generator=random).repeat_interleave(FRAMES, 0),
        "y": torch.randn(1, vector, generator=random).repeat(rows, 1),
    }


def _run(network, given: dict[str, Tensor], change: Options) -> Tensor:
    """One pass with the transformer options of a sampling; `change` may also hold control and time_context."""
    change = dict(change)
    more = {name: change.pop(name) for name in ("control", "time_context") if name in change}
    options = {
        "cond_or_uncond": [1, 0],
        "sigmas": torch.full((FRAMES,), 5.0),
        "wrappers": {},
        "callbacks": {},
        **change,
    }
    torch.manual_seed(11)  # HyperTile and ToMe draw from the global generator
    inputs = {name: value.clone() for name, value in given.items()}
    x, timesteps = inputs.pop("x"), inputs.pop("timesteps")
    return network(x, timesteps, **inputs, transformer_options=options, num_video_frames=FRAMES, **more)


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).pow(2).mean().sqrt() / other.std())


def _patches(**patches: Callable) -> Callable:
    return lambda model: {"patches": {name: [patch] for name, patch in patches.items()}}


def _replace(name: str, key: tuple, function: Callable) -> Callable:
    return lambda model: {"patches_replace": {name: {key: function}}}


def _scaled(n, context, value, extra):
    return n * 1.5, context * 0.5, value * 2


def _more_tokens(n, context, value, extra):
    both = torch.cat([context, context.flip(-1)], 1)
    return n, both, both


def _freeu(h, skip, options):
    half = h.shape[1] // 2
    h[:, :half] *= 1.4
    return h, skip * 0.6


def _shrink(h, options):
    if options["block"] == ("input", 3):
        return torch.nn.functional.interpolate(h, scale_factor=0.5, mode="bilinear")
    return h


def _grow(h, skip, options):
    if h.shape[-1] != skip.shape[-1]:
        h = torch.nn.functional.interpolate(h, size=skip.shape[-2:], mode="bilinear")
    return h, skip


def _control(model) -> Options:
    config = model.config.unet
    random = torch.Generator().manual_seed(3)
    widths, side = [], SIDE
    for level, mult in enumerate(config.channel_mult):
        widths += [(config.model_channels * mult, side)] * config.num_res_blocks
        if level < len(config.channel_mult) - 1:
            side //= 2
            widths.append((config.model_channels * mult, side))
    shapes = [(config.model_channels, SIDE), *widths]
    output = [torch.randn(2 * FRAMES, c, s, s, generator=random) for c, s in shapes]
    output[4] = None
    return {
        "control": {
            "output": output,
            "middle": [torch.randn(2 * FRAMES, *(shapes[-1][0], side, side), generator=random)],
        }
    }


def _time_context(model) -> Options:
    random = torch.Generator().manual_seed(5)
    return {"time_context": torch.randn(2 * FRAMES, 1, model.config.unet.context_channels, generator=random)}


def _hypertile(model) -> Options:
    """Tiles of the queries alone: keys and values keep their rows, and every attention cuts them to the queries'."""

    def tile(q, k, v, extra):
        if q.shape[-2] == SIDE * SIDE:
            n, length, channels = q.shape
            q = q.reshape(n * 4, length // 4, channels)
        return q, k, v

    def untile(out, extra):
        if out.shape[-2] == SIDE * SIDE // 4 and len(out) == 8 * FRAMES:
            out = out.reshape(len(out) // 4, -1, out.shape[-1])
        return out

    return {"patches": {"attn1_patch": [tile], "attn1_output_patch": [untile]}}


def _couple(model) -> Options:
    """Rows doubled before the second attention and folded after it, with a note in the extra options."""

    def double(n, context, value, extra):
        extra["rows of the test"] = len(n)
        return torch.cat([n, n]), torch.cat([context, context * 0.5]), torch.cat([value, value * 1.5])

    def fold(out, extra):
        rows = extra["rows of the test"]
        return (out[:rows] + out[rows:]) / 2

    return {"patches": {"attn2_patch": [double], "attn2_output_patch": [fold]}}


def _override(function, q, k, v, heads, **options):
    return function(q * 2, k, v, heads, **{**options, "transformer_options": {}})


def _by_place(h, options):
    h += 0.1 * (options["block"][1] + 1)
    return h


def _middle(x, extra):
    return x * (1 + 0.2 * extra["transformer_index"] + extra["block_index"])


ROWS: dict[str, Callable] = {
    "attn1_patch": _patches(attn1_patch=_scaled),
    "two attn1 patches": lambda model: {
        "patches": {"attn1_patch": [_scaled, lambda n, c, v, e: (n + 0.3, c, v)]},
    },
    "attn1_output_patch": _patches(attn1_output_patch=lambda n, extra: n * 1.7),
    "attn2_patch": _patches(attn2_patch=lambda n, c, v, extra: (n, c, v * 2)),
    "attn2_patch with more tokens": _patches(attn2_patch=_more_tokens),
    "attn2_output_patch": _patches(attn2_output_patch=lambda n, extra: n * (1 + extra["n_heads"])),
    "middle_patch": _patches(middle_patch=_middle),
    "attn1 replaced in the middle (PAG)": _replace("attn1", ("middle", 0), lambda q, k, v, extra: v),
    "attn1 replaced at one input": _replace("attn1", ("input", 1, 0), lambda q, k, v, extra: torch.zeros_like(v)),
    "attn2 replaced at one output": _replace("attn2", ("output", 5), lambda q, k, v, extra: q * 0.5),
    "input_block_patch": _patches(input_block_patch=_by_place),
    "input_block_patch_after_skip": _patches(input_block_patch_after_skip=_by_place),
    "output_block_patch (FreeU)": _patches(output_block_patch=_freeu),
    "emb_patch": _patches(emb_patch=lambda emb, channels, options: emb * 1.3 + channels * 1e-3),
    "Deep Shrink": _patches(input_block_patch=_shrink, output_block_patch=_grow),
    "Deep Shrink after the skip": _patches(input_block_patch_after_skip=_shrink, output_block_patch=_grow),
    "HyperTile": _hypertile,
    "attention couple": _couple,
    "attention override": lambda model: {"optimized_attention_override": _override},
    "ControlNet residuals": _control,
    "time_context": _time_context,
    "FreeU with a replaced attention": lambda model: {
        "patches": {"output_block_patch": [_freeu]},
        "patches_replace": {"attn1": {("middle", 0, 0): lambda q, k, v, extra: v}},
    },
}
