"""Files that are not a whole SVD model: each is refused in one sentence with value, limit and remedy."""

import json
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from svd_core.checkpoints import CheckpointError, inspect_checkpoint, load_model, split_state_dict
from tests.helpers.checkpoint_files import SMALL_METADATA, UNET, only_unet, small_tensors, write_folder, write_hollow


def raw(content: bytes, name: str = "model.safetensors") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "model.safetensors", "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 64)
    return folder / "model.safetensors"


def cut(keep: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    return lambda folder: raw(keep(save(only_unet(small_tensors()), SMALL_METADATA)))(folder)


def with_header(header: object) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


NOT_WEIGHTS = [
    (
        "pickle by name",
        raw(b"\x80\x02}q\x00.", "svd.ckpt"),
        r'is a pickle.*svd_core convert "svd\.ckpt" "svd\.safetensors"',
    ),
    ("torch zip by name", raw(b"PK\3\4" + b"x" * 60, "svd.pt"), "is a pickle"),
    ("pickle inside", raw(pickle.dumps({"a": list(range(99))})), "is a pickle.*convert it once"),
    ("torch zip inside", zipped, "is a pickle.*svd_core convert"),
    (
        "git-lfs pointer",
        raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9559625980\n"),
        "git lfs pull",
    ),
    ("web page", raw(b"\n<!DOCTYPE html><html><body>Access denied</body></html>"), "is a web page.*download"),
    ("GGUF", raw(b"GGUF\3\0\0\0" + b"\0" * 60), "is a GGUF file"),
    ("JSON", raw(b'{"_class_name": "UNetSpatioTemporalConditionModel"}'), "is a JSON text"),
    ("other bytes", raw(b"MZ\x90" + b"\xff" * 90), "not a safetensors file"),
    ("empty file", raw(b""), "truncated: 0 bytes"),
    ("hole", raw(b"\0" * 100), "truncated: 100 bytes without a header"),
    ("cut in the data", cut(lambda b: b[:-1000]), r"truncated: [\d,]+ bytes of [\d,]+ are there; download it again"),
    ("cut in the header", cut(lambda b: b[:500]), r"truncated: 500 bytes of [\d,]+ are there"),
    ("longer than described", cut(lambda b: b + b"\0" * 9), r"[\d,]+ bytes but its header describes"),
    ("broken header", raw(with_header(b'{"a": {"dtype": }}')), "header of .* is damaged"),
    (
        "wrong tensor size",
        raw(with_header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}) + b"\0" * 8),
        r"F32 \[3\] does not fill 8 bytes",
    ),
    ("header that is a list", raw(with_header(b"{}")[:8] + b"[]"), "not a safetensors file|damaged"),
    ("no tensors", raw(with_header({})), r"not a known model \(0 tensors"),
]


@pytest.mark.parametrize(("what", "write", "message"), NOT_WEIGHTS, ids=[case[0] for case in NOT_WEIGHTS])
def test_files_without_weights_are_refused(tmp_path, what, write, message):
    path = write(tmp_path)
    for read in (load_model, inspect_checkpoint):
        with pytest.raises(CheckpointError, match=message) as error:
            read(path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("length", [0x280, 0x20480, 0x4B50, 0x3C, 0x7B])
def test_header_lengths_that_look_like_other_magic_are_not_mistaken(tmp_path, length):
    # The first bytes of these lengths read as pickle, zip, "<" or "{".
    text = json.dumps({"__metadata__": {"x": ""}}).encode().ljust(length)
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", length) + text)
    with pytest.raises(CheckpointError, match="0 tensors"):
        load_model(tmp_path / "x.safetensors")


def test_missing_file_says_what_is_there(tmp_path):
    for name in ("svd_xt.safetensors", "svd.safetensors", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(
        CheckpointError, match=r"no model at .*holds svd\.safetensors, svd_xt\.safetensors; did you mean svd_xt"
    ):
        load_model(tmp_path / "svd_xt.safetensor")
    with pytest.raises(CheckpointError, match=f"nearest folder that exists is {re.escape(str(tmp_path))}"):
        load_model(tmp_path / "models" / "deep" / "x.safetensors")
    with pytest.raises(CheckpointError, match="no model at svdxt"):
        load_model("svdxt")


def test_folders_without_one_model_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no \.safetensors file; give one"):
        load_model(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        save_file(only_unet(small_tensors()), tmp_path / name, SMALL_METADATA)
    with pytest.raises(
        CheckpointError, match=r"holds 2 models \(a\.safetensors, b\.safetensors\); give the path of one"
    ):
        load_model(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    assert load_model(tmp_path).unet is not None  # one file is unambiguous
    pickles = tmp_path / "pickles" / "unet"
    pickles.mkdir(parents=True)
    (pickles / "diffusion_pytorch_model.bin").write_bytes(b"PK\3\4")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_model(tmp_path / "pickles")
    other = tmp_path / "flux"
    write_folder(other, {"vae": {"x": torch.zeros(1)}})
    (other / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(CheckpointError, match="is a FluxPipeline without a unet/ folder"):
        load_model(other)


def test_shards_outside_the_folder_are_not_followed(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../secret.safetensors"}}')
    with pytest.raises(CheckpointError, match="points outside its folder"):
        load_model(index)


def shapes_of(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {key.replace("__", "."): torch.empty(shape, device="meta") for key, shape in shapes.items()}


CONV, LINEAR = (320, 4, 3, 3), (320, 320)
OTHER_MODELS = [
    (
        "Stable Diffusion",
        shapes_of(model__diffusion_model__input_blocks__0__0__weight=CONV, cond_stage_model__x=(1,)),
        "a Stable Diffusion image checkpoint: its UNet has no temporal layers and takes 4 channels instead of 8",
    ),
    (
        "SDXL",
        shapes_of(model__diffusion_model__input_blocks__0__0__weight=CONV, conditioner__embedders__1__model__x=(1,)),
        "an SDXL checkpoint: its UNet has no temporal layers",
    ),
    (
        "diffusers image UNet",
        shapes_of(conv_in__weight=CONV, down_blocks__0__resnets__0__conv1__weight=CONV),
        "no temporal layers|belong to no part",
    ),
    (
        "AnimateDiff",
        shapes_of(down_blocks__0__motion_modules__0__temporal_transformer__x=LINEAR),
        "AnimateDiff motion module",
    ),
    ("LoRA", shapes_of(unet__down_blocks__0__attentions__0__attn1__to_q__lora_A__weight=(4, 320)), "is a LoRA"),
    ("ControlNet", shapes_of(control_model__input_hint_block__0__weight=CONV), "a ControlNet"),
    ("Flux", shapes_of(double_blocks__0__img_attn__qkv__weight=LINEAR), "a diffusion transformer"),
    ("unknown", shapes_of(layer__weight=LINEAR), r"not a known model \(1 tensors: layer\.weight\)"),
]


@pytest.mark.parametrize(("what", "tensors", "message"), OTHER_MODELS, ids=[case[0] for case in OTHER_MODELS])
def test_other_models_are_named(what, tensors, message):
    with pytest.raises(CheckpointError, match=message):
        split_state_dict(tensors, {}, name="file.safetensors")


def changed(change: Callable[[dict[str, Tensor]], None], metadata: dict[str, str] | None = None) -> None:
    tensors = {key: value.to("meta") for key, value in small_tensors().items()}
    change(tensors)
    split_state_dict(tensors, SMALL_METADATA if metadata is None else metadata, name="file.safetensors")


def replace(name: str, *shape: int) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        key = next(key for key in tensors if key.endswith(name))
        tensors[key] = torch.empty(shape or tensors[key].shape, device="meta")

    return change


def add(*names: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({name: torch.empty(3, device="meta") for name in names})


def drop(pattern: str) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if re.search(pattern, key)]:
            del tensors[key]

    return change


TIME = UNET + "input_blocks.1.1.time_stack.0."
DAMAGED = [
    ("four channels", replace("input_blocks.0.0.weight", 32, 4, 3, 3), r"takes 4 channels and gives 4; SVD takes 8"),
    ("twelve channels", replace("input_blocks.0.0.weight", 32, 12, 3, 3), r"a second picture or map.*not supported"),
    (
        "missing",
        drop(r"diffusion_model\.output_blocks\.0\."),
        r"UNet lacks \d+ of \d+ tensors \(output_blocks\.0\.0.* and \d+ more",
    ),
    (
        "missing in the VAE",
        drop(r"first_stage_model\.decoder\.mid\.attn"),
        r"VAE lacks 10 of \d+ tensors \(decoder\.mid\.attn_1",
    ),
    ("missing in the tower", drop(r"visual\.ln_p"), r"image encoder lacks 4 of \d+ tensors \(ln_post\.bias"),
    (
        "one that sizes hang on",
        drop(r"label_emb\.0\.0\.weight"),
        r"UNet lacks 'label_emb\.0\.0\.weight', without which",
    ),
    ("camera layers", add(TIME + "cc_projection.weight"), r"is MotionCtrl-SVD camera weights, for Load Camera Weights"),
    (
        "pose layers",
        add("pose_encoder.a.weight", "pose_encoder.b.weight"),
        r"2 of \d+ tensors belong to no part of SVD.*added pose",
    ),
    ("strangers", add("a", "b", "c", "d"), r"4 of \d+ tensors belong to no part of SVD \(a, b, c and 1 more\)"),
    (
        "another shape",
        replace("middle_block.0.in_layers.0.weight", 64),
        r"1 tensors of the UNet have unexpected shapes.*\[64\] instead of \[96\]",
    ),
    (
        "uneven width",
        replace("input_blocks.0.0.weight", 48, 8, 3, 3),
        r"levels are \[32, 96\] channels wide on a base of 48",
    ),
    ("another token", replace("visual.proj", 32, 48), r"token has 48 numbers, the UNet takes 24"),
    (
        "latent of 16",
        replace("encoder.encoder.conv_out.weight", 32, 64, 3, 3),
        "VAE encoder has 16 latent channels; SVD's has 4",
    ),
    ("patches", replace("visual.positional_embedding", 20, 32), "20 positions make no square picture"),
]


@pytest.mark.parametrize(("what", "change", "message"), DAMAGED, ids=[case[0] for case in DAMAGED])
def test_damage_is_counted_and_exemplified(what, change, message):
    with pytest.raises(CheckpointError, match=message):
        changed(change)


def test_the_small_model_is_whole():
    changed(lambda tensors: None)  # else the table above would prove nothing


METADATA = [
    ({}, "heads of 64 channels do not divide UNet level 0's 32 channels; .* svd.head_channels"),
    ({"svd.head_channels": "7"}, "heads of 7 channels do not divide"),
    ({"svd.head_channels": "8"}, "heads of 80 channels do not divide the image encoder's 32; .*svd.clip_head_channels"),
    ({"svd.head_channels": "sixteen"}, "svd.head_channels is 'sixteen'; it must be a whole number"),
    ({"svd.frames": "0"}, "svd.frames is '0'"),
    ({"svd.width": "100"}, "svd.width is 100; pixel sizes are multiples of 8"),
    ({"svd.variant": "svd_xxl"}, "svd.variant is 'svd_xxl'; it must be one of svd, svd_xt"),
]


@pytest.mark.parametrize(("metadata", "message"), METADATA)
def test_metadata_that_makes_no_sense_is_refused(metadata, message):
    with pytest.raises(CheckpointError, match=message):
        changed(lambda tensors: None, metadata)


def test_integer_weights_are_refused(tmp_path):
    tensors = only_unet(small_tensors()) | {UNET + "out.2.weight": torch.zeros(4, 32, 3, 3, dtype=torch.int8)}
    save_file(tensors, tmp_path / "int8.safetensors", SMALL_METADATA)
    with pytest.raises(CheckpointError, match=r"1 tensors are stored as I8 .*only float types"):
        load_model(tmp_path / "int8.safetensors")
    with pytest.raises(CheckpointError, match=r"1 tensors are stored as torch.int8"):
        split_state_dict(tensors, SMALL_METADATA)


def test_model_without_unet_is_refused(tmp_path):
    tensors = {key: value for key, value in small_tensors().items() if not key.startswith(UNET)}
    save_file(tensors, tmp_path / "vae.safetensors", SMALL_METADATA)
    with pytest.raises(CheckpointError, match="holds VAE and image encoder but no UNet;.*give an SVD file"):
        load_model(tmp_path / "vae.safetensors")
    assert split_state_dict(tensors, SMALL_METADATA).present().keys() == {"vae", "image_encoder"}


def test_tensors_stored_twice_are_refused(tmp_path):
    unet = {"unet": only_unet(small_tensors(), ""), "vae": {"out.2.bias": torch.zeros(4)}}
    with pytest.raises(
        CheckpointError, match=r"holds 1 tensors twice \(out\.2\.bias\), last in diffusion_pytorch_model"
    ):
        load_model(write_folder(tmp_path, unet))


def test_folder_with_uneven_heads_is_refused(tmp_path):
    folder = write_folder(tmp_path, {"unet": only_unet(small_tensors(), "")})
    config = {"block_out_channels": [32, 96], "num_attention_heads": [4, 4]}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"makes heads \[8, 24\] wide; SVD's UNet has one head width"):
        load_model(folder)


def test_cast_to_integers_is_refused(tmp_path):
    write_hollow(
        tmp_path / "x.safetensors", {key: value.shape for key, value in small_tensors().items()}, "F16", SMALL_METADATA
    )
    with pytest.raises(CheckpointError, match="cannot be cast to torch.int8; use torch.float32"):
        load_model(tmp_path / "x.safetensors", dtype=torch.int8)
