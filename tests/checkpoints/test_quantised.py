"""Weights in 8 and 4 bits as ComfyUI stores them, decoded without it.

tests/data/quantised.safetensors was written by comfy-kitchen 0.2.31: a random matrix of 160 x 160 in every format, and
every seventeenth row as comfy-kitchen decodes it.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from svd_core.checkpoints import CheckpointError, read_state_dict, split_state_dict
from svd_core.checkpoints.quantised import METADATA, STORED, coding_of
from tests.helpers.checkpoint_files import SMALL_METADATA, UNET, small_tensors
from tests.project.test_project import ROOT

Tensors = dict[str, Tensor]
KINDS = ("float8_e4m3fn", "float8_e5m2", "int8", "int8_rows", "int8_rotated", "nvfp4", "mxfp8")
PLACES = ("attn1.to_q.weight", "ff.net.0.proj.weight", "attn2.to_k.weight")


@pytest.fixture(scope="module")
def stored() -> Tensors:
    return load_file(ROOT / "tests" / "data" / "quantised.safetensors")


def mark(**settings: object) -> Tensor:
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


def coded(format: str, **settings: object) -> tuple[Tensors, Tensors, dict[str, dict]]:
    """The small checkpoint with some matrices of random bytes, what they decode to, and the settings of the layers."""
    rng = torch.Generator().manual_seed(1)
    tensors, wanted, layers = dict(small_tensors()), dict(small_tensors()), {}
    for key in [key for key in tensors if key.startswith(UNET) and key.endswith(PLACES)]:
        layer, (rows, columns) = key.removesuffix(".weight"), tensors[key].shape
        if columns % 32:
            continue  # blocks have up to 32 columns, as all matrices of the real model do
        scales = {"weight_scale": torch.rand(rows, 1, generator=rng)}
        if format in ("nvfp4", "mxfp8"):
            columns = columns // 2 if format == "nvfp4" else columns
            blocks = tensors[key].shape[1] // (16 if format == "nvfp4" else 32)
            scale = torch.full((-(-rows // 128) * 128, -(-blocks // 4) * 4), 0.5)
            scales["weight_scale"] = scale.to(torch.float8_e4m3fn if format == "nvfp4" else torch.float8_e8m0fnu)
        if format == "nvfp4":
            scales["weight_scale_2"] = torch.rand((), generator=rng)
        codes = torch.randint(0, 120, (rows, columns), generator=rng, dtype=torch.uint8).view(STORED[format])
        tensors[key] = codes
        tensors |= {f"{layer}.{word}": scale for word, scale in scales.items()}
        layers[layer] = {"format": format, **settings}
        wanted[key] = coding_of(layers[layer], {word: word for word in scales}).decode(codes, scales)
    return tensors, wanted, layers


def marked(tensors: Tensors, layers: dict[str, dict]) -> Tensors:
    return tensors | {f"{layer}.comfy_quant": mark(**settings) for layer, settings in layers.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_decodes_to_the_numbers_of_comfy_kitchen(kind: str, stored: Tensors) -> None:
    settings = json.loads(bytes(stored[f"{kind}.comfy_quant"].tolist()))
    scales = {
        word: stored[f"{kind}.{word}"] for word in ("weight_scale", "weight_scale_2") if f"{kind}.{word}" in stored
    }
    weight, coding = stored[f"{kind}.weight"], coding_of(settings, {word: word for word in scales})
    assert coding.problem(tuple(weight.shape), {word: tuple(scale.shape) for word, scale in scales.items()}) is None
    assert weight.dtype == STORED[settings["format"]]
    found = coding.decode(weight, scales)
    assert found.shape == coding.shape(tuple(weight.shape)) == (160, 160)
    # Products of three float32 numbers in another order, and the rotation's sums of 16.
    torch.testing.assert_close(found[::17], stored[f"{kind}.decoded"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("format", "block"), [("mxfp8", 32), ("nvfp4", 16)])
def test_only_rows_need_whole_blocks(format: str, block: int) -> None:
    coding = coding_of({"format": format}, {"weight_scale": "weight_scale"})
    packed = 2 if format == "nvfp4" else 1  # numbers in a byte
    whole = (block + 8, 2 * block // packed)
    broken = (2 * block, (block + 8) // packed)
    assert "no blocks" not in str(coding.problem(whole, {}))
    assert f"no blocks of {block}" in str(coding.problem(broken, {}))


@pytest.mark.parametrize(
    ("format", "place"),
    [("int8_tensorwise", "metadata without prefix"), ("nvfp4", "marks"), ("mxfp8", "metadata")],
)
def test_a_checkpoint_with_coded_matrices_is_decoded(format: str, place: str, tmp_path: Path) -> None:
    tensors, wanted, layers = coded(format)
    metadata = dict(SMALL_METADATA)
    if place == "marks":
        tensors = marked(tensors, layers)
    else:
        cut = UNET if place.endswith("prefix") else ""
        metadata[METADATA] = json.dumps({"layers": {key.removeprefix(cut): value for key, value in layers.items()}})
    save_file(tensors, tmp_path / "coded.safetensors", metadata=metadata)
    parts = split_state_dict(read_state_dict(tmp_path / "coded.safetensors"))
    plain = split_state_dict(wanted, SMALL_METADATA).unet
    assert layers and all(torch.equal(parts.unet.fetch(key, dtype=torch.float32), plain[key]) for key in plain)
    assert {key for key, kind in parts.unet.stored_types().items() if kind == "F16"} == set(parts.unet.coded())


def test_scales_of_blocks_may_be_stored_as_bytes() -> None:
    tensors, wanted, layers = coded("nvfp4")
    bytes_ = {key: value.view(torch.uint8) for key, value in tensors.items() if key.endswith(".weight_scale")}
    unet = split_state_dict(marked(tensors | bytes_, layers), SMALL_METADATA).unet
    plain = split_state_dict(wanted, SMALL_METADATA).unet
    assert bytes_ and all(torch.equal(unet.fetch(key, dtype=torch.float32), plain[key]) for key in plain)


@pytest.mark.parametrize(
    ("format", "settings", "change", "said"),
    [
        ("int8_tensorwise", {"format": "convrot_w4a4"}, {}, "the format convrot_w4a4, which is not known"),
        ("int8_tensorwise", {"convrot": True, "convrot_groupsize": 24}, {}, "rotated groups of 24"),
        ("int8_tensorwise", {"convrot": True, "convrot_groupsize": 256}, {}, "rotated groups of 256"),
        ("int8_tensorwise", {"convrot": True, "convrot_groupsize": "x"}, {}, "rotated groups of x"),
        ("int8_tensorwise", {}, {"weight_scale": torch.ones(7)}, r"scales \[7\], neither one number nor one for each"),
        ("nvfp4", {}, {"weight_scale": torch.ones(3, 3)}, r"scales \[3, 3\] instead of 512 for its blocks of 16"),
        ("nvfp4", {}, {"weight_scale_2": torch.ones(2)}, "no single weight_scale_2"),
        ("mxfp8", {}, {"weight_scale": torch.ones(1)}, r"scales \[1\] instead of 512"),
    ],
)
def test_what_cannot_be_decoded_is_said_with_its_numbers(
    format: str, settings: dict, change: Tensors, said: str
) -> None:
    tensors, _, layers = coded(format)
    for layer in layers:
        tensors |= {f"{layer}.{word}": tensor for word, tensor in change.items()}
    layers = {layer: {**given, **settings} for layer, given in layers.items()}
    with pytest.raises(CheckpointError, match=f"weights in 8 or 4 bits .* have {said}.*use a file with fp8, int8"):
        split_state_dict(marked(tensors, layers), SMALL_METADATA)


@pytest.mark.parametrize(
    "bad",
    [b"", b"[1]", b"nothing", b'{"format": ', b"x" * 5000, b'{"format": {"format": "nvfp4"}}'],
    ids=["empty", "list", "word", "cut off", "long", "nested"],
)
def test_marks_that_are_no_settings_are_refused(bad: bytes) -> None:
    tensors, _, layers = coded("int8_tensorwise")
    marks = {f"{layer}.comfy_quant": torch.tensor(list(bad), dtype=torch.uint8) for layer in layers}
    with pytest.raises(CheckpointError, match="weights in 8 or 4 bits .* have (no settings in JSON|the format)"):
        split_state_dict(tensors | marks, SMALL_METADATA)


@pytest.mark.parametrize("text", ["{}", "[]", '{"layers": []}', '{"layers": {"a": 1}}', "{"])
def test_metadata_that_lists_no_layers_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match=f"metadata {METADATA} lists no layers"):
        split_state_dict(dict(small_tensors()), SMALL_METADATA | {METADATA: text})


def test_integers_without_settings_are_refused() -> None:
    tensors, _, _ = coded("int8_tensorwise")
    tensors = {key: value for key, value in tensors.items() if not key.endswith("weight_scale")}
    with pytest.raises(CheckpointError, match="stored as torch.int8"):
        split_state_dict(tensors, SMALL_METADATA)
