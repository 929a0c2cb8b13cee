"""Checkpoints as other programs save them: ComfyUI, trainers, torch.compile, 8-bit converters, download caches."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from svd_core.checkpoints import CheckpointError, Parts, inspect_checkpoint, load_model, split_state_dict
from tests.helpers.checkpoint_files import (
    CONDITIONER,
    FIRST_STAGE,
    SMALL,
    SMALL_METADATA,
    TOWER,
    UNET,
    folder_tensors,
    only_unet,
    small_tensors,
    tiny_tensors,
    write_folder,
)

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def plain() -> Parts:
    return split_state_dict(small_tensors(), SMALL_METADATA)


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + key: value for key, value in tensors.items()}


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key.replace(old, new): value for key, value in tensors.items()}


def with_more(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: torch.ones(1) for name in names}


WHOLE_FILES = {
    "state_dict": prefixed("state_dict."),
    "two state_dicts": prefixed("state_dict.state_dict."),
    "DataParallel": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "compiled UNet": renamed(UNET, UNET + "_orig_mod."),
    "compiled blocks": renamed("input_blocks.1.", "input_blocks.1._orig_mod."),
    "FSDP": renamed(UNET, UNET + "_fsdp_wrapped_module."),
    "unknown prefix": prefixed("my_trainer.network."),
    "saved by ComfyUI": with_more("edm_vpred.sigma_max", "edm_vpred.sigma_min"),
    "schedule": with_more("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_one_minus_alphas_cumprod"),
    "denoiser": with_more("denoiser.sigmas", "global_step", "model.logvar", "scale_factor"),
    "optimizer": with_more("optimizer_states.0.exp_avg", "lr_schedulers.0.step"),
    "discriminator": with_more("first_stage_model.loss.discriminator.main.0.weight"),
    "EMA beside it": lambda tensors: tensors | prefixed("model_ema.")(only_unet(tensors, "diffusion_model.")),
    "EMA alone": lambda tensors: {("ema." + k if k.startswith(UNET) else k): v for k, v in tensors.items()},
}


@pytest.mark.parametrize("what", WHOLE_FILES)
def test_names_around_the_weights_are_understood(what: str, plain: Parts) -> None:
    parts = split_state_dict(WHOLE_FILES[what](dict(small_tensors())), SMALL_METADATA)
    assert parts.config == plain.config
    for name, part in plain.present().items():
        found = parts.present()[name]
        assert found.shapes == part.shapes
        assert all(torch.equal(found[key], part[key]) for key in list(part)[::40])


def test_what_is_left_over_is_counted_as_training_state(plain: Parts) -> None:
    parts = split_state_dict(WHOLE_FILES["denoiser"](dict(small_tensors())), SMALL_METADATA)
    assert len(parts.report.unused["training state"]) == 4


def test_two_copies_of_a_tensor_are_refused() -> None:
    tensors = dict(small_tensors()) | prefixed("module.")(only_unet(small_tensors()))
    with pytest.raises(CheckpointError, match="two copies of one tensor; keep only one"):
        split_state_dict(tensors, SMALL_METADATA)


def test_the_image_encoder_as_comfyui_saves_it_is_read(plain: Parts) -> None:
    """ComfyUI keeps its own prefix and transformers' names behind it."""
    tensors = {key: value for key, value in tiny_tensors().items() if not key.startswith(TOWER)}
    theirs = {TOWER + key: value for key, value in folder_tensors(tiny_tensors())["image_encoder"].items()}
    metadata = {"svd.head_channels": "16", "svd.clip_head_channels": "16"}
    parts, wanted = (split_state_dict(given, metadata) for given in (tensors | theirs, tiny_tensors()))
    assert all(torch.equal(parts.image_encoder[key], wanted.image_encoder[key]) for key in wanted.image_encoder)


def scaled(tensors: Tensors, weight: str, scale: str, rows: bool = False) -> tuple[Tensors, Tensors]:
    """The UNet's matrices in float8 with scales under these names, and the values that they encode."""
    stored, wanted = dict(tensors), dict(tensors)
    for key, value in tensors.items():
        if key.startswith(UNET) and value.ndim == 2 and ".proj_in." in key:
            factor = value.abs().amax(dim=1) / 400 if rows else value.abs().max() / 400
            small = (value / (factor[:, None] if rows else factor)).to(torch.float8_e4m3fn)
            stored[key], stored[key.replace("weight", scale)] = small, factor.reshape(-1, 1) if rows else factor
            wanted[key] = small.float() * (factor[:, None] if rows else factor)
    stored |= {UNET + "scaled_fp8": torch.zeros(2)} if weight == "old" else {}
    if weight == "new":
        settings = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
        stored |= {k.replace(scale, "comfy_quant"): settings.clone() for k in stored if k.endswith(scale)}
        stored |= {k.replace(scale, "input_scale"): torch.ones(()) for k in list(stored) if k.endswith(scale)}
    return stored, wanted


@pytest.mark.parametrize(
    ("layout", "scale", "rows"),
    [("old", "scale_weight", False), ("new", "weight_scale", False), ("new", "weight_scale", True)],
)
def test_scaled_float8_is_multiplied_out(layout: str, scale: str, rows: bool, tmp_path: Path) -> None:
    stored, wanted = scaled(dict(small_tensors()), layout, scale, rows)
    path = tmp_path / "scaled.safetensors"
    save_file(stored, path, metadata=SMALL_METADATA)
    model, plain = load_model(path), split_state_dict(wanted, SMALL_METADATA).unet
    state = model.unet.state_dict()
    assert len(stored) > len(wanted)
    assert all(torch.equal(state[key], plain[key]) for key in plain)
    half = load_model(path, dtype=torch.float16).unet.state_dict()
    key = next(key for key in plain if key.endswith("proj_in.weight"))
    assert torch.equal(half[key], plain[key].half())
    assert not inspect_checkpoint(path).problems


def test_block_scales_are_refused_with_their_shape() -> None:
    stored, _ = scaled(dict(small_tensors()), "new", "weight_scale")
    key = next(key for key in stored if key.endswith("weight_scale"))
    stored[key] = torch.ones(5, 7)
    with pytest.raises(CheckpointError, match=r"1 weights in 8 or 4 bits .*\[5, 7\].*one for each row"):
        split_state_dict(stored, SMALL_METADATA)


def test_a_renamed_svd_is_not_called_sdxl() -> None:
    tensors = {f"x_{key}": value for key, value in only_unet(small_tensors(), "").items()}
    with pytest.raises(CheckpointError, match="perhaps SVD, but its UNet has unknown names"):
        split_state_dict(tensors, SMALL_METADATA)


def test_a_controlnet_for_svd_is_named() -> None:
    tensors = {
        key: value for key, value in folder_tensors(tiny_tensors())["unet"].items() if not key.startswith("up_blocks")
    }
    tensors |= {"controlnet_cond_embedding.conv_in.weight": torch.zeros(16, 3, 3, 3)}
    with pytest.raises(CheckpointError, match="is an SVD ControlNet, for .*models/controlnet"):
        split_state_dict(tensors, SMALL_METADATA)


@pytest.mark.parametrize(("width", "name"), [(768, "Stable Diffusion 1"), (1024, "Stable Diffusion 2"), (2048, "SDXL")])
def test_image_models_are_identified_by_their_text_embedding(width: int, name: str) -> None:
    shapes = {
        "input_blocks.0.0.weight": (320, 4, 3, 3),
        "middle_block.1.transformer_blocks.0.attn2.to_k.weight": (1280, width),
    }
    tensors = {UNET + key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    with pytest.raises(
        CheckpointError, match=f"is an? {name} UNet: its UNet has no temporal layers and takes 4 channels"
    ):
        split_state_dict(tensors)


# Folders


@pytest.fixture
def unet() -> dict[str, Tensors]:
    return {"unet": folder_tensors(tiny_tensors())["unet"]}


@pytest.mark.parametrize("below", ["", "svd", "models/svd"])
def test_folders_without_an_index_and_around_a_model_are_opened(below: str, unet, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / below, unet)
    (folder / "model_index.json").unlink()
    (tmp_path / ".cache").mkdir(exist_ok=True)
    assert inspect_checkpoint(tmp_path).config.unet.head_channels == 16


def test_the_root_of_a_cached_repository_is_opened_at_its_reference(unet, tmp_path: Path) -> None:
    root = tmp_path / "models--stabilityai--stable-video-diffusion-img2vid-xt"
    for commit in ("a" * 40, "b" * 40):
        write_folder(root / "snapshots" / commit, unet)
    with pytest.raises(CheckpointError, match=r"holds 2 models \(snapshots/aaaa.*; give the path of one"):
        inspect_checkpoint(root)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("b" * 40)
    info = inspect_checkpoint(root)
    assert (info.path.name, info.variant) == ("b" * 40, "svd_xt")
    (root / "refs" / "main").write_text("../../../elsewhere")
    with pytest.raises(CheckpointError, match="holds 2 models"):
        inspect_checkpoint(root)


def test_shards_without_an_index_are_read_together_and_missing_ones_are_counted(tmp_path: Path) -> None:
    tensors = list(folder_tensors(tiny_tensors())["unet"].items())
    names = [f"diffusion_pytorch_model-0000{index}-of-00003.safetensors" for index in (1, 2, 3)]
    write_folder(tmp_path, {"unet": {}})
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    for index, name in enumerate(names):
        save_file(dict(tensors[index::3]), tmp_path / "unet" / name)
    assert not inspect_checkpoint(tmp_path).problems
    (tmp_path / "unet" / names[1]).unlink()
    with pytest.raises(CheckpointError, match=r"holds 2 of the 3 shards of diffusion_pytorch_model\.safetensors"):
        inspect_checkpoint(tmp_path)


def test_a_byte_order_mark_in_a_config_is_no_damage(unet, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, unet)
    for path in (folder / "model_index.json", folder / "unet" / "config.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert inspect_checkpoint(folder).config.unet.head_channels == 16


def test_links_out_of_the_folder_are_followed(unet, tmp_path: Path) -> None:
    """Download caches keep the files elsewhere and link to them."""
    folder, blobs = write_folder(tmp_path / "model", unet), tmp_path / "blobs"
    blobs.mkdir()
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(blobs / "0123abcd")
    try:
        file.symlink_to(blobs / "0123abcd")
    except OSError:
        pytest.skip("this system makes no links")
    assert not inspect_checkpoint(folder).problems


CONFIGS = [
    {"block_out_channels": "abc", "num_attention_heads": {"a": 1}},
    {"block_out_channels": [8, None], "num_attention_heads": 1},
    {"block_out_channels": [32, 64, 128, 128], "num_attention_heads": [2, 4, 8, "8"]},
    {"block_out_channels": [32, 64, 128, 128], "num_attention_heads": True},
    {"block_out_channels": [10**12], "num_attention_heads": 1},
    {"num_frames": -4},
    {"num_frames": 10**12},
    {"num_frames": "25"},
    {"num_frames": True},
    [],
    None,
]


@pytest.mark.parametrize("config", CONFIGS, ids=json.dumps)
def test_configs_of_wrong_types_are_ignored(config: object, unet, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, unet)
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="heads of 64 channels do not divide UNet level 0's 32"):
        inspect_checkpoint(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 100_000, "nested deeper than 64 levels"),
        ("{", "not valid JSON"),
        ('{"num_frames": NaN}', "NaN is not a finite number"),
        (f'{{"num_frames": 1{"0" * 5000}}}', "is too large"),
        (f'{{"x": "{"y" * 1_000_001}"}}', "at most 1,000,000 are read"),
    ],
)
def test_configs_that_cannot_be_read_are_one_short_sentence(content: str, words: str, unet, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, unet)
    (folder / "unet" / "config.json").write_text(content)
    with pytest.raises(
        CheckpointError, match=rf"config\.json cannot be read \(.*{words}.*\); download it again"
    ) as caught:
        inspect_checkpoint(folder)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_the_sizes_of_the_tables_above_are_real() -> None:
    names = {key.split(".")[0] for key in small_tensors()}
    assert names == {"model", "conditioner", "first_stage_model"} and SMALL.frames == 5
    assert any(key.startswith(CONDITIONER) for key in small_tensors())
    assert any(key.startswith(FIRST_STAGE) for key in small_tensors())
