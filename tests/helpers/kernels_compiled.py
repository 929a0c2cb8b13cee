"""Compile every Triton kernel for cards that need not be present, with the constants that real launches use.

What the interpreter cannot show is found here: types, shapes of tiles, sizes of 1 (which Triton turns into constants).
Prints one JSON line per kernel and card.
"""

import json

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from svd_core.networks.kernels import triton_source

CARDS = (80, 90)
EIGHT_BITS_FROM = 89
POINTERS = {
    "x": "*bf16", "y": "*bf16", "update": "*bf16", "total": "*bf16", "weight": "*bf16", "bias": "*bf16",
    "means": "*fp32", "variances": "*fp32", "squares": "*fp32", "out_means": "*fp32", "out_variances": "*fp32",
    "scales": "*fp32",
}  # fmt: skip
ONES = dict.fromkeys(("groups", "group_channels", "pixels", "splits", "parts", "channels", "clip_frames"), 1)
VARIANTS = {
    # name: kernel, arguments that a launch turns into constants
    "moments": (triton_source.moments, {"pixel_stride": 1, "BLOCK_C": 8, "BLOCK_P": 256}),
    "moments, channels last": (triton_source.moments, {"channel_stride": 1, "BLOCK_C": 8, "BLOCK_P": 256}),
    "moments of one number": (
        triton_source.moments,
        {**ONES, "frame_stride": 1, "channel_stride": 1, "pixel_stride": 1, "BLOCK_C": 1, "BLOCK_P": 16},
    ),
    "combine": (triton_source.combine, {"BLOCK": 32}),
    "combine of one": (triton_source.combine, {**ONES, "BLOCK": 1}),
    "apply": (triton_source.apply, {"x_pixel": 1, "y_pixel": 1, "BLOCK_C": 16, "BLOCK_P": 128}),
    "apply to tokens": (triton_source.apply, {"x_pixel": 1, "y_channel": 1, "BLOCK_C": 64, "BLOCK_P": 32}),
    "apply, channels last": (triton_source.apply, {"x_channel": 1, "y_channel": 1, "BLOCK_C": 128, "BLOCK_P": 16}),
    "apply to one number": (triton_source.apply, {**ONES, "x_pixel": 1, "y_pixel": 1, "BLOCK_C": 1, "BLOCK_P": 64}),
    "add and LayerNorm": (triton_source.add_layer_norm, {"every": 1, "BLOCK_R": 4, "BLOCK_C": 512}),
    "add and LayerNorm, a bias": (
        triton_source.add_layer_norm,
        {"every": 1, "period": 1, "rows": 1, "BLOCK_R": 1, "BLOCK_C": 2048},
    ),
    "GEGLU": (triton_source.gate, {"BLOCK_R": 8, "BLOCK_C": 256}),
    "GEGLU of one row": (triton_source.gate, {"rows": 1, "hidden": 1, "y_row": 1, "BLOCK_R": 8, "BLOCK_C": 256}),
    "fp8": (triton_source.quantise, {"BLOCK": 1024}),
}
SWITCHES = ("AFFINE", "SILU", "UPDATE", "BIAS")


UNALIGNED = ("group_channels", "groups", "splits", "parts", "every", "period")


def compiled(kernel, constants: dict, card: int) -> dict:
    """Return the bytes of machine code of one kernel for one card, and its number of 16-byte reads.

    Sizes are multiples of 16, as all those of the real networks are.
    """
    names = list(kernel.arg_names)
    constants = {name: value for name, value in constants.items() if name in names}
    constants |= dict.fromkeys((name for name in SWITCHES if name in names), True)
    types = {"eps": "fp32", **POINTERS}
    if kernel is triton_source.quantise:
        types["y"] = "*fp8e4nv"
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in names}
    sizes = [name for name in names if signature[name] == "i32" and name not in UNALIGNED]
    aligned = [i for i, name in enumerate(names) if signature[name].startswith("*") or name in sizes]
    attributes = {(i,): [["tt.divisibility", 16]] for i in aligned}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    made = triton.compile(source, target=GPUTarget("cuda", card, 32)).asm
    return {"bytes": len(made["cubin"]), "wide reads": made["ptx"].count("ld.global.v4")}


def main() -> None:
    """Compile every variant for every card."""
    for name, (kernel, constants) in VARIANTS.items():
        for card in CARDS:
            if kernel is triton_source.quantise and card < EIGHT_BITS_FROM:
                continue
            print(json.dumps({"case": f"{name}, {card}", **compiled(kernel, constants, card)}), flush=True)


if __name__ == "__main__":
    main()
