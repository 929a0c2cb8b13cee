"""The small JSON files of a diffusers folder, from the sizes of the networks."""

from typing import Any

from ..networks.config import ImageEncoderConfig, SVDConfig, UNetConfig, VAEConfig
from .errors import CheckpointError

CLASSES = {
    "unet": ("diffusers", "UNetSpatioTemporalConditionModel"),
    "vae": ("diffusers", "AutoencoderKLTemporalDecoder"),
    "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
    "feature_extractor": ("transformers", "CLIPImageProcessor"),
    "scheduler": ("diffusers", "EulerDiscreteScheduler"),
}
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def unet_json(config: UNetConfig, frames: int) -> dict[str, Any]:
    """unet/config.json."""
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


def vae_json(config: VAEConfig) -> dict[str, Any]:
    """vae/config.json; CheckpointError for what diffusers' video autoencoder is not."""
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
            "folder cannot say; convert it to --layout single"
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
        "scaling_factor": 0.18215,
        "force_upcast": True,
    }


def tower_json(config: ImageEncoderConfig) -> dict[str, Any]:
    """image_encoder/config.json."""
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


def folder_json(config: SVDConfig, parts: list[str]) -> dict[str, dict[str, Any]]:
    """Path inside the folder -> contents, for the networks in `parts`."""
    files: dict[str, dict[str, Any]] = {}
    if "unet" in parts:
        files["unet/config.json"] = unet_json(config.unet, config.frames)
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
        files["vae/config.json"] = vae_json(config.vae)
    if "image_encoder" in parts:
        files["image_encoder/config.json"] = tower_json(config.image_encoder)
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
