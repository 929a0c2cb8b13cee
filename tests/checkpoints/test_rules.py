"""Rules about names, numbers and headers, one by one, without making a network."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from svd_core.checkpoints import CheckpointError
from svd_core.checkpoints.convert import PRECISIONS
from svd_core.checkpoints.detect import (
    guess_variant,
    has_temporal_layers,
    image_model,
    is_controlnet,
    other_model,
    read_hints,
)
from svd_core.checkpoints.diffusers_folder import folder_configs, open_checkpoint
from svd_core.checkpoints.names import to_folder, unet_to_folder, vae_to_folder
from svd_core.checkpoints.source import Entry, TensorSource, read_header, some
from svd_core.checkpoints.writing import LazyTensor, write_tensors
from svd_core.networks.config import SVDConfig
from tests.helpers.golden_rule import key_table

UNET, FIRST_STAGE = "model.diffusion_model.", "first_stage_model."
TOWER = "conditioner.embedders.0.open_clip.model.visual."


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("svd_1_1", "svd_xt_1_1"), ("SVD-XT 1.1", "svd_xt_1_1"), ("xt1-1", "svd_xt_1_1"), ("svd_11", "svd"),
        ("svd_21_1", "svd"), ("svd-1.15", "svd"), ("svdxt_fp16", "svd_xt"), ("my-xt", "svd_xt"), ("nextsvd", "svd"),
        ("Stable Video Diffusion", "svd"), ("stablevideodiffusion", "svd"), ("animate lcm", "animatelcm"),
        ("animatelcm", "animatelcm"), ("model 1.1", "custom"), ("text", "custom"),
    ],
)  # fmt: skip
def test_names_of_files_are_read_as_people_write_them(name: str, variant: str) -> None:
    assert guess_variant(name, 768, None, official_size=False) == variant


@pytest.mark.parametrize(("frames", "variant"), [(14, "svd"), (25, "svd_xt"), (21, "custom"), (None, "custom")])
def test_an_official_unet_without_a_name_is_known_by_its_frames(frames, variant: str) -> None:
    assert guess_variant("model", 768, frames, official_size=True) == variant
    assert guess_variant("model", 768, frames, official_size=False) == "custom"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("frames", "1", 1), ("frames", "1024", 1024), ("frames", "1025", None), ("frames", "0", None),
        ("frames", " 14 ", 14), ("frames", "014", None), ("frames", "14.0", None), ("frames", "-4", None),
        ("width", "8", 8), ("width", "8192", 8192), ("width", "8200", None), ("width", "1020", None),
        ("height", "8192", 8192), ("height", "12", None), ("head_channels", "1024", 1024),
        ("head_channels", "1025", None), ("clip_head_channels", "80", 80), ("clip_head_channels", "1025", None),
    ],
)  # fmt: skip
def test_numbers_of_metadata_have_limits(key: str, text: str, value) -> None:
    if value is None:
        with pytest.raises(CheckpointError, match=rf"svd\.{key} is "):
            read_hints({f"svd.{key}": text})
    else:
        assert getattr(read_hints({f"svd.{key}": text, "author": "x"}), key) == value


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("unet.lora_A.weight", "LoRA"), ("lora.down.weight", "LoRA"), ("lora_te_x", "LoRA"), ("x.diff_b", "LoRA"),
        ("x.diff", "LoRA"), ("x.diffuse", None), ("motion_modules.0", "AnimateDiff"), ("control_model.x", "ControlNet"),
        ("x.cc_projection.weight", "MotionCtrl"), ("x.qkv_merge", "pose or camera"), ("pose_net.x", "pose or camera"),
        ("joint_blocks.0", "diffusion transformer"), ("transformer_blocks.3.attn1.to_q", "diffusion transformer"),
        ("conditioner.embedders.1.model.x", "SDXL"), ("x.conditioner.embedders.1.model.x", None),
        ("cond_stage_model.x", "Stable Diffusion image"), ("input_blocks.0.0.weight", None),
    ],
)  # fmt: skip
def test_a_single_name_identifies_another_model(key: str, words) -> None:
    found = other_model(["first", key, "last"])
    assert found is None if words is None else words in found


@pytest.mark.parametrize(
    ("shape", "words"),
    [((9, 768), "Diffusion 1"), ((9, 1024), "Diffusion 2"), ((9, 1280), "refiner"), ((9, 2048), "SDXL UNet"),
     ((9, 77), "an image model"), ((768, 9), "an image model"), ((9, 768, 1), "an image model")],
)  # fmt: skip
def test_image_models_are_known_by_the_width_of_their_text(shape: tuple, words: str) -> None:
    assert words in image_model({"a.attn2.to_k.weight": shape, "b.attn1.to_k.weight": (9, 768)})
    assert image_model({"a.attn2.to_v.weight": (9, 768)}) == "an image model"


def test_layers_that_mix_frames_and_controlnets_are_found_by_name() -> None:
    for name in ("time_stack", "temporal_transformer_blocks", "temporal_res_block"):
        assert has_temporal_layers(["a", f"x.{name}.y"])
    assert not has_temporal_layers(["a", "x.transformer_blocks.0"])
    assert is_controlnet(["a", "controlnet_mid_block.weight"]) and is_controlnet(["input_hint_block.0.weight"])
    assert not is_controlnet(["a", "x.control_model.y"])


@pytest.mark.parametrize(
    ("names", "text"),
    [("", ""), ("c", "c"), ("cab", "a, b, c"), ("dcab", "a, b, c and 1 more"), ("edcab", "a, b, c and 2 more")],
)
def test_three_names_stand_for_all(names: str, text: str) -> None:
    assert some(names) == text


def test_names_of_the_folder_are_the_official_ones() -> None:
    table, config = key_table("sgm_to_diffusers"), SVDConfig(variant="svd_xt", frames=25)
    for single, folder in table["unet"].items():
        assert unet_to_folder(single.removeprefix(UNET), 2) == folder
    for single, folder in table["vae"].items():
        name = single.removeprefix(FIRST_STAGE).removeprefix("conditioner.embedders.3.encoder.")
        assert vae_to_folder(name, config) == folder
    shapes = {single.removeprefix(TOWER): key_table("svd_xt")[single] for single in table["image_encoder"]}
    made = to_folder("image_encoder", {key: tuple(shape) for key, shape in shapes.items()}, config)
    folder = key_table("svd_xt_diffusers_image_encoder")
    assert {key: list(tensor.shape) for key, tensor in made.items()} == {k: list(shape) for k, shape in folder.items()}
    for single, targets in table["image_encoder"].items():
        for place, (name, operation) in enumerate(targets):
            tensor = made[name]
            assert tensor.key == single.removeprefix(TOWER) and tensor.transpose == (operation == "transpose")
            assert tensor.third == (place if operation.startswith("rows") else None)
    for name in ("unknown.0.weight", "input_blocks.0.weight"):
        with pytest.raises(KeyError):
            unet_to_folder(name, 2)


CROSS = ["CrossAttn{}BlockSpatioTemporal"] * 3
PUBLISHED = {
    "unet/config.json": {
        "in_channels": 8, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
        "down_block_types": [*(name.format("Down") for name in CROSS), "DownBlockSpatioTemporal"],
        "up_block_types": ["UpBlockSpatioTemporal", *(name.format("Up") for name in CROSS)],
        "cross_attention_dim": 1024, "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 768,
        "num_attention_heads": [5, 10, 20, 20], "num_frames": 25, "transformer_layers_per_block": 1,
    },
    "vae/config.json": {
        "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4, "in_channels": 3,
        "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "sample_size": 768, "scaling_factor": 0.18215,
        "force_upcast": True,
    },
    "image_encoder/config.json": {
        "hidden_act": "gelu", "hidden_size": 1280, "image_size": 224, "intermediate_size": 5120, "num_channels": 3,
        "layer_norm_eps": 1e-5, "num_attention_heads": 16, "num_hidden_layers": 32, "patch_size": 14,
        "projection_dim": 1024, "model_type": "clip_vision_model",
    },
    "feature_extractor/preprocessor_config.json": {
        "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}, "do_center_crop": True,
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        "rescale_factor": 0.00392156862745098,
    },
    "scheduler/scheduler_config.json": {
        "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "interpolation_type": "linear", "prediction_type": "v_prediction", "sigma_min": 0.002, "sigma_max": 700.0,
        "steps_offset": 1, "timestep_spacing": "leading", "timestep_type": "continuous", "use_karras_sigmas": True,
    },
    "model_index.json": {
        "_class_name": "StableVideoDiffusionPipeline",
        "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
        "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    },
}  # fmt: skip


def test_config_files_are_those_published_with_svd_xt() -> None:
    written = folder_configs(SVDConfig(variant="svd_xt", frames=25), ["unet", "vae", "image_encoder"])
    assert written.keys() == PUBLISHED.keys()
    for path, published in PUBLISHED.items():
        assert {key: written[path].get(key) for key in published} == published, path
    assert folder_configs(SVDConfig(), ["vae"]).keys() == {"vae/config.json", "model_index.json"}


def write(path: Path, **tensors: torch.Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors or {"a": torch.zeros(1)}, path)
    return path


@pytest.mark.parametrize(
    ("config", "metadata"),
    [
        ({}, {}),
        ({"num_frames": 1}, {"svd.frames": "1"}), ({"num_frames": 1024}, {"svd.frames": "1024"}),
        ({"num_frames": 1025}, {}), ({"num_frames": 0}, {}), ({"num_frames": 14.0}, {}),
        ({"block_out_channels": [320, 640], "num_attention_heads": [5, 10]}, {"svd.head_channels": "64"}),
        ({"block_out_channels": [32, 32], "num_attention_heads": 4}, {"svd.head_channels": "8"}),
        ({"block_out_channels": [32, 64]}, {}), ({"num_attention_heads": [5, 10]}, {}),
        ({"block_out_channels": [], "num_attention_heads": []}, {}),
        ({"block_out_channels": [32] * 17, "num_attention_heads": 4}, {}),
        ({"block_out_channels": [32] * 16, "num_attention_heads": 4}, {"svd.head_channels": "8"}),
        ({"block_out_channels": [4], "num_attention_heads": 8}, {"svd.head_channels": "1"}),
        # The early default of diffusers' class; the weights were trained with heads of 64.
        (
            {"block_out_channels": [320, 640, 1280, 1280], "num_attention_heads": [5, 10, 10, 20]},
            {"svd.head_channels": "64"},
        ),
    ],
)  # fmt: skip
def test_config_files_say_what_shapes_cannot(config: dict, metadata: dict, tmp_path: Path) -> None:
    write(tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "unet" / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(tmp_path).metadata == metadata


@pytest.mark.parametrize(
    ("config", "metadata"),
    [
        ({"hidden_size": 1280, "num_attention_heads": 16}, {"svd.clip_head_channels": "80"}),
        ({"hidden_size": 4, "num_attention_heads": 8}, {"svd.clip_head_channels": "1"}),
        ({"hidden_size": 65537, "num_attention_heads": 16}, {}), ({"hidden_size": 1280}, {}),
    ],
)  # fmt: skip
def test_the_image_encoders_config_says_the_width_of_its_heads(config, metadata, tmp_path: Path) -> None:
    write(tmp_path / "image_encoder" / "model.safetensors")
    (tmp_path / "image_encoder" / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(tmp_path).metadata == metadata


@pytest.mark.parametrize(
    ("files", "half", "chosen"),
    [
        (["model.safetensors", "model.fp16.safetensors"], False, "model.safetensors"),
        (["model.safetensors", "model.fp16.safetensors"], True, "model.fp16.safetensors"),
        (["model.fp16.safetensors"], False, "model.fp16.safetensors"),
        (["model.safetensors"], True, "model.safetensors"),
        (["diffusion_pytorch_model.safetensors", "other.safetensors"], False, "diffusion_pytorch_model.safetensors"),
        (["model.safetensors", "model.non_ema.safetensors"], False, "model.safetensors"),
        (["a.safetensors", "b.safetensors"], False, None),
    ],
)
def test_one_file_of_a_folder_is_chosen(files: list, half: bool, chosen, tmp_path: Path) -> None:
    for name in files:
        write(tmp_path / name)
    if chosen is None:
        with pytest.raises(CheckpointError, match="holds 2 models"):
            open_checkpoint(tmp_path, half=half)
    else:
        assert [header.path.name for header in open_checkpoint(tmp_path, half=half).headers] == [chosen]


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("x.safetensors", True),
        ("a/x.safetensors", True),
        ("a/b/x.safetensors", True),
        ("a/b/c/x.safetensors", False),
        (".a/x.safetensors", False),
    ],
)
def test_models_are_searched_in_folders_below(place: str, found: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "model" / place)
    if found:
        assert open_checkpoint(tmp_path / "model").path == path.parent
    else:
        with pytest.raises(CheckpointError, match="holds no .safetensors file"):
            open_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(("name", "shape"), [("n" * 1000, [1]), ("n", [1] * 16), ("n", [])])
def test_headers_within_their_limits_are_read(name: str, shape: list, tmp_path: Path) -> None:
    header = {"__metadata__": {"k": "v"}, name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]},
              "z": {"dtype": "F4", "shape": [3], "data_offsets": [4, 6]}}  # fmt: skip
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 6)
    found = read_header(path)
    start = 8 + len(text)
    assert found.entries[name] == Entry("F32", tuple(shape), start, 4)
    assert found.entries["z"] == Entry("F4", (3,), start + 4, 2), "a type that is not known yet is only refused later"
    assert (found.metadata, found.size, found.path) == ({"k": "v"}, start + 6, path)


@pytest.mark.parametrize(("name", "shape"), [("n" * 1001, [1]), ("n", [1] * 17)])
def test_headers_beyond_their_limits_are_damaged(name: str, shape: list, tmp_path: Path) -> None:
    text = json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    with pytest.raises(CheckpointError, match="damaged"):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (20_000_000, "truncated"),
        (20_000_001, "at most 20,000,000"),
        (100_000_000, "at most 20,000,000"),
        (100_000_001, "no header"),
    ],
)
def test_headers_may_take_20_megabytes(length: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", length) + b"{" + b" " * 99)
    with pytest.raises(CheckpointError, match=words):
        read_header(tmp_path / "x.safetensors")


def test_a_source_maps_what_fits_and_copies_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", a=torch.arange(4.0), b=torch.ones(2, 3).half())
    source = TensorSource(path, [read_header(path)], {}, "x")
    assert (source.shapes, source.dtypes) == ({"a": (4,), "b": (2, 3)}, {"a": "F32", "b": "F16"})
    assert source.size == path.stat().st_size and len(source) == 2 and set(source) == {"a", "b"}
    mapped = source["a"].data_ptr()
    for dtype in (None, torch.float32):
        assert source.fetch("a", dtype=dtype).data_ptr() == mapped
    cast = source.fetch("a", dtype=torch.float64)
    assert cast.dtype == torch.float64 and cast.tolist() == [0, 1, 2, 3]
    assert source.fetch("a", "meta").is_meta and source.fetch("b", "cpu", torch.float32).tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}])
def test_files_are_byte_for_byte_those_of_the_library(metadata: dict, tmp_path: Path) -> None:
    tensors = {
        "b": torch.rand(3),
        "a": torch.rand(2, 5).half(),
        "c": torch.ones(1, 7, dtype=torch.uint8),
        "d": torch.rand(()).double(),
        "e": torch.zeros(0, 3),
    }
    ticks = []
    lazy = {
        name: LazyTensor(t.dtype, tuple(t.shape), lambda t=t: ticks.append("made") or t) for name, t in tensors.items()
    }
    write_tensors(tmp_path / "x.safetensors", lazy, metadata, lambda: ticks.append("written"))
    assert ticks == ["made", "written"] * 5
    raw, header = (tmp_path / "x.safetensors").read_bytes(), read_header(tmp_path / "x.safetensors")
    assert raw == save(tensors, metadata or None) and header.metadata == metadata
    assert all(torch.equal(value, tensors[name]) for name, value in load_file(tmp_path / "x.safetensors").items())
    assert int.from_bytes(raw[:8], "little") % 8 == 0, "the data begins at a multiple of 8 bytes"
    assert [*header.entries] == sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))


@pytest.mark.parametrize("made", [torch.zeros(3).half(), torch.zeros(4), torch.zeros(1, 3)])
def test_a_tensor_is_written_as_planned_or_not_at_all(made: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="'a' became .* instead of torch.float32 \\[3\\]"):
        write_tensors(tmp_path / "x.safetensors", {"a": LazyTensor(torch.float32, (3,), lambda: made)}, {})
    assert not list(tmp_path.iterdir())


def test_precisions_by_name() -> None:
    assert {name: dtype.itemsize for name, dtype in PRECISIONS.items()} == {"fp16": 2, "bf16": 2, "fp32": 4, "fp8": 1}
