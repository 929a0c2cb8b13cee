"""Folders of models: find the files of the networks, and read and write the config files.

A folder may be a diffusers pipeline with or without `model_index.json`, one network of it, the root of a repository
in Hugging Face's cache, or a folder that holds one of these.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..files import JsonError, fits_a_name, is_number, is_whole, printable, read_json
from ..networks.config import ImageEncoderConfig, SVDConfig, UNetConfig, VAEConfig
from ..networks.vae import LATENT_SCALE
from .detect import MOST
from .source import (
    PICKLE_SUFFIXES,
    CheckpointError,
    Header,
    TensorSource,
    missing_path,
    read_header,
    reject_other_files,
    some,
)

COMPONENTS = ("unet", "vae", "image_encoder")
STANDARD_NAMES = ("diffusion_pytorch_model", "model.", "model-")
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})((?:\.\w+)?\.safetensors)")
NESTED = 2  # levels of folders that are searched below the one that is given
CONFIG_BYTES = 1_000_000
SDXL_SCALE = 0.13025  # `scaling_factor` of SDXL's VAE; SVD and SD have LATENT_SCALE
CLASSES = {
    "unet": ("diffusers", "UNetSpatioTemporalConditionModel"),
    "vae": ("diffusers", "AutoencoderKLTemporalDecoder"),
    "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
    "feature_extractor": ("transformers", "CLIPImageProcessor"),
    "scheduler": ("diffusers", "EulerDiscreteScheduler"),
}
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
log = logging.getLogger("svd_reel")


def open_checkpoint(path: str | Path, *, half: bool = False) -> TensorSource:
    """Map a safetensors file, an index of shards, or a folder; reads headers only.

    Where a folder has both, `half` prefers the `.fp16` files. Metadata keys `svd.*` of a folder come from its config
    files. Raises CheckpointError for whatever cannot be a checkpoint.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _open_folder(_model_folder(path), half)
    if not path.is_file():
        raise missing_path(path)
    headers = _read_index(path) if path.suffix == ".json" else [read_header(path)]
    return TensorSource(path, headers, _merged_metadata(headers), path.name)


# Finding the files


def _model_folder(folder: Path) -> Path:
    """Return the folder that holds the model: the given one, a snapshot of a cache, or the only one below it."""
    if _holds_model(folder):
        return folder
    found = sorted(_folders_below(folder))
    if len(found) > 1:
        names = [str(path.relative_to(folder)) for path in found]
        raise CheckpointError(f"{folder} holds {len(found)} models ({some(names)}); give the path of one of them")
    return found[0] if found else folder


def _folders_below(folder: Path, levels: int = NESTED) -> Iterator[Path]:
    """Yield the folders of models below a folder; of a cached repository, the snapshot that is checked out."""
    if (folder / "snapshots").is_dir():
        reference = folder / "refs" / "main"
        if reference.is_file():
            with reference.open(encoding="utf-8", errors="replace") as file:
                commit = file.read(64).strip()
            if re.fullmatch(r"[0-9a-f]{1,64}", commit) and _holds_model(folder / "snapshots" / commit):
                yield folder / "snapshots" / commit
                return
        yield from filter(_holds_model, (path for path in (folder / "snapshots").iterdir() if path.is_dir()))
        return
    for path in folder.iterdir() if levels else ():
        if path.is_dir() and not path.name.startswith("."):
            if _holds_model(path):
                yield path
            else:
                yield from _folders_below(path, levels - 1)


def model_folders(root: Path) -> dict[str, Path]:
    """Return the folders below `root` that hold a video model, by their path from there with slashes.

    Found are pipelines with a `unet` folder, up to NESTED levels deep, and the roots of cached repositories. Folders
    that cannot be read are left out.
    """
    return {path.relative_to(root).as_posix(): path for path in sorted(_pipelines(root, NESTED))}


def _pipelines(folder: Path, levels: int) -> Iterator[Path]:
    try:
        inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return
    for path in inside:
        if (path / "unet").is_dir():
            yield path
        elif (path / "snapshots").is_dir():
            if any((found / "unet").is_dir() for found in _folders_below(path)):
                yield path
        elif levels > 1:
            yield from _pipelines(path, levels - 1)


def is_part_of_folder(name: str) -> bool:
    """Return whether a file name with folders is that of one network of a pipeline, or lies in a cached repository."""
    *folders, last = name.replace("\\", "/").split("/")
    cached = any(folder.startswith("models--") for folder in folders)
    return cached or (len(folders) > 1 and folders[-1] in CLASSES and last.startswith(STANDARD_NAMES))


def _holds_model(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if any((folder / name).is_dir() for name in COMPONENTS) or (folder / "model_index.json").is_file():
        return True
    return any(path.suffix in (".safetensors", *PICKLE_SUFFIXES) for path in folder.iterdir() if path.is_file())


def _open_folder(folder: Path, half: bool) -> TensorSource:
    parts = [folder / name for name in COMPONENTS if (folder / name).is_dir()]
    pipeline = _read_config(folder / "model_index.json").get("_class_name", "")
    if pipeline and "StableVideoDiffusion" not in str(pipeline) and folder / "unet" not in parts:
        raise CheckpointError(
            f"{folder} is a {printable(pipeline)} without a unet/ folder, not a StableVideoDiffusionPipeline; "
            "give a folder such as stable-video-diffusion-img2vid-xt"
        )
    headers = [header for part in parts or [folder] for header in _part_headers(part, half)]
    metadata = _config_metadata(folder, parts) | _merged_metadata(headers)
    return TensorSource(folder, headers, metadata, _folder_name(folder, parts, headers[0].path.name))


def _part_headers(folder: Path, half: bool) -> list[Header]:
    """Return the headers of the files of one network."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    indexes = [name for name in names if ".safetensors.index." in name]
    shards = {header.path.name for name in indexes for header in _read_index(folder / name)}
    sets = _shard_sets([name for name in names if name not in shards])
    weights = [name for name in names if name.endswith(".safetensors") and name not in shards]
    candidates = [name for name in weights if not SHARD.fullmatch(name)] + indexes + list(sets)
    if not candidates:
        pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
        if pickles:
            reject_other_files(folder / pickles[0])
        raise CheckpointError(f"{folder} holds no .safetensors file; give one, or a diffusers folder with unet/ in it")
    wanted = [name for name in candidates if (".fp16." in name) == half] or candidates
    known = [name for name in wanted if name.startswith(STANDARD_NAMES)] or wanted
    if len(known) > 1 and any(name in known for name in weights):
        known = [name for name in known if name in weights and ".non_ema." not in name] or known
    if len(known) > 1:
        raise CheckpointError(f"{folder} holds {len(known)} models ({some(known)}); give the path of one of them")
    if known[0] in sets:
        return _read_shards(folder, known[0], sets[known[0]])
    chosen = folder / known[0]
    return _read_index(chosen) if chosen.suffix == ".json" else [read_header(chosen)]


def _shard_sets(names: list[str]) -> dict[str, list[str]]:
    """Return the shards that lie without an index, by the name that the whole file would have."""
    sets: dict[str, list[str]] = {}
    for name in names:
        if match := SHARD.fullmatch(name):
            sets.setdefault(match[1] + match[4], []).append(name)
    return sets


def _read_shards(folder: Path, whole: str, shards: list[str]) -> list[Header]:
    count = max(int(SHARD.fullmatch(name)[3]) for name in shards)
    if len(shards) != count:
        raise CheckpointError(
            f"{folder} holds {len(shards)} of the {count} shards of {whole} ({some(shards)}); "
            "download the others into the same folder"
        )
    return [read_header(folder / name) for name in shards]


def _read_index(path: Path) -> list[Header]:
    """Return the headers of the shards that a `*.safetensors.index.json` lists."""
    shards = _read_config(path, most_bytes=20 * CONFIG_BYTES).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        reject_other_files(path)
        raise CheckpointError(f"{path} lists no shards under 'weight_map'; give the .safetensors file or the folder")
    names = sorted({str(name) for name in shards.values()})
    outside = [name for name in names if Path(name).name != name or "\\" in name or ":" in name]
    if outside:
        raise CheckpointError(f"{path} points outside its folder ({some(outside)}); shards lie beside their index")
    absent = [name for name in names if not fits_a_name(name) or not (path.parent / name).is_file()]
    if absent:
        raise CheckpointError(f"{path.parent} lacks {len(absent)} of {len(names)} shards ({some(absent)}); add them")
    return [read_header(path.parent / name) for name in names]


def _folder_name(folder: Path, parts: list[Path], first: str) -> str:
    """Return the name that the variant is read from: of the file, the folder, or the cached repository."""
    if not parts and not first.startswith(STANDARD_NAMES):
        return first
    folder = folder.resolve()
    if not parts and folder.name in COMPONENTS:
        folder = folder.parent
    cached = [name for name in folder.parts if name.startswith("models--")]
    return cached[-1] if cached and folder.parent.name == "snapshots" else folder.name


def _merged_metadata(headers: Iterable[Header]) -> dict[str, str]:
    return {key: value for header in headers for key, value in header.metadata.items()}


# Config files, read


def _read_config(path: Path, most_bytes: int = CONFIG_BYTES) -> dict[str, Any]:
    """Return a JSON object, empty where there is no such file; CheckpointError for a file that holds anything else."""
    if not path.is_file():
        return {}
    try:
        value = read_json(path, most_bytes=most_bytes)
    except (JsonError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({printable(error, 200)}); download it again") from error
    return value if isinstance(value, dict) else {}


def _config_metadata(folder: Path, parts: Iterable[Path]) -> dict[str, str]:
    """Return the settings of the config files that shapes do not show, as `svd.*` metadata."""
    folders = {part.name: part for part in parts} or {"unet": folder}
    unet = _read_config(folders["unet"] / "config.json") if "unet" in folders else {}
    encoder = _read_config(folders["image_encoder"] / "config.json") if "image_encoder" in folders else {}
    _check_latent_scale(folders.get("vae", folder))
    metadata: dict[str, str] = {}
    if is_whole(unet.get("num_frames"), 1, MOST["frames"]):
        metadata["svd.frames"] = str(unet["num_frames"])
    width = _head_width(unet, folder)
    if width is not None:
        metadata["svd.head_channels"] = str(width)
    sizes = encoder.get("hidden_size"), encoder.get("num_attention_heads")
    if all(is_whole(size, 1, 2**16) for size in sizes):
        metadata["svd.clip_head_channels"] = str(max(1, sizes[0] // sizes[1]))
    if encoder.get("hidden_act", "gelu") != "gelu":
        log.warning(
            "%s: SVD's image encoder uses the exact GELU, not %s; GELU is used",
            folder,
            printable(encoder["hidden_act"]),
        )
    return metadata


def _check_latent_scale(folder: Path) -> None:
    """Raise CheckpointError for the VAE of another model; only its config tells it apart from SVD's."""
    scale = _read_config(folder / "config.json").get("scaling_factor", LATENT_SCALE)
    if is_number(scale, 1e6) and abs(scale - LATENT_SCALE) > 1e-3:
        what = "the VAE of SDXL" if abs(scale - SDXL_SCALE) < 1e-3 else "the VAE of another model"
        raise CheckpointError(
            f"{folder} is {what}: its latents are scaled by {scale:g} and SVD's by {LATENT_SCALE:g}; use SVD's own VAE"
        )


def _head_width(config: dict[str, Any], folder: Path) -> int | None:
    """Return the channels per attention head of a `unet/config.json`, None if it does not give them."""
    channels, heads = config.get("block_out_channels"), config.get("num_attention_heads")
    if not _are_counts(channels):
        return None
    heads = [heads] * len(channels) if is_whole(heads, 1, 2**16) else heads
    if not _are_counts(heads):
        return None
    if channels == [320, 640, 1280, 1280] and heads == [5, 10, 10, 20]:
        return 64  # an early default of the diffusers class; the weights were trained 64 wide (spec trap 20)
    widths = {max(1, width // count) for width, count in zip(channels, heads, strict=False)}
    if len(widths) > 1:
        raise CheckpointError(
            f"{folder}: num_attention_heads {heads} over {channels} channels makes heads {sorted(widths)} wide; "
            "SVD's UNet has one head width for all levels"
        )
    return widths.pop()


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 16 and all(is_whole(count, 1, 2**16) for count in value)


# Config files, written


def folder_configs(config: SVDConfig, parts: list[str]) -> dict[str, dict[str, Any]]:
    """Return path inside the folder -> contents, for the networks in `parts`."""
    files: dict[str, dict[str, Any]] = {}
    if "unet" in parts:
        files["unet/config.json"] = _unet_config(config.unet, config.frames)
        files["scheduler/scheduler_config.json"] = {
            "_class_name": CLASSES["scheduler"][1],
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "interpolation_type": "linear",
            "prediction_type": "v_prediction",
            "sigma_min": 0.002,
            "sigma_max": 700.0,
            "steps_offset": 1,
            "timestep_spacing": "leading",
            "timestep_type": "continuous",
            "use_karras_sigmas": True,
        }
    if "vae" in parts:
        files["vae/config.json"] = folder_vae_config(config.vae)
    if "image_encoder" in parts:
        files["image_encoder/config.json"] = _image_encoder_config(config.image_encoder)
        size = config.image_encoder.image_size
        files["feature_extractor/preprocessor_config.json"] = {
            "image_processor_type": CLASSES["feature_extractor"][1],
            "crop_size": {"height": size, "width": size},
            "size": {"shortest_edge": size},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "resample": 3,
            "rescale_factor": 1 / 255,
        }
    index: dict[str, Any] = {"_class_name": "StableVideoDiffusionPipeline"}
    for name in sorted({path.split("/")[0] for path in files}):
        index[name] = list(CLASSES[name])
    return {**files, "model_index.json": index}


def _unet_config(config: UNetConfig, frames: int) -> dict[str, Any]:
    channels = [config.model_channels * multiple for multiple in config.channel_mult]
    levels = range(len(channels))
    down = ["CrossAttnDown" if level in config.attention_levels else "Down" for level in levels]
    up = ["CrossAttnUp" if level in config.attention_levels else "Up" for level in reversed(levels)]
    return {
        "_class_name": CLASSES["unet"][1],
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": channels,
        "down_block_types": [f"{kind}BlockSpatioTemporal" for kind in down],
        "up_block_types": [f"{kind}BlockSpatioTemporal" for kind in up],
        "layers_per_block": config.num_res_blocks,
        "cross_attention_dim": config.context_channels,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": config.vector_channels,
        "num_attention_heads": [width // config.head_channels for width in channels],
        "num_frames": frames,
        "transformer_layers_per_block": 1,
    }


def folder_vae_config(config: VAEConfig) -> dict[str, Any]:
    """Return vae/config.json; CheckpointError for a VAE that diffusers' video autoencoder is not."""
    encoder, decoder = config.encoder, config.decoder
    if encoder is None or decoder is None or not config.temporal or not config.quant_conv:
        raise CheckpointError(
            "a diffusers folder holds an encoder with quant_conv and a temporal decoder, and this file has other "
            "parts; convert it to --layout single"
        )
    widths = [[half.channels * multiple for multiple in half.channel_mult] for half in (encoder, decoder)]
    if widths[0] != widths[1] or encoder.num_res_blocks != decoder.num_res_blocks:
        raise CheckpointError(
            f"the VAE's encoder ({widths[0]} channels) and decoder ({widths[1]}) differ in size, which a diffusers "
            "folder cannot describe; convert it to --layout single"
        )
    return {
        "_class_name": CLASSES["vae"][1],
        "block_out_channels": widths[0],
        "down_block_types": ["DownEncoderBlock2D"] * len(widths[0]),
        "layers_per_block": encoder.num_res_blocks,
        "latent_channels": encoder.latent_channels,
        "in_channels": 3,
        "out_channels": 3,
        "sample_size": 768,
        "scaling_factor": LATENT_SCALE,
        "force_upcast": True,
    }


def _image_encoder_config(config: ImageEncoderConfig) -> dict[str, Any]:
    return {
        "architectures": [CLASSES["image_encoder"][1]],
        "model_type": "clip_vision_model",
        "hidden_act": "gelu",
        "hidden_size": config.width,
        "image_size": config.image_size,
        "intermediate_size": config.mlp_channels,
        "layer_norm_eps": 1e-05,
        "num_attention_heads": config.width // config.head_channels,
        "num_channels": 3,
        "num_hidden_layers": config.layers,
        "patch_size": config.patch_size,
        "projection_dim": config.output_channels,
    }
