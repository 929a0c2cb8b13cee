"""What the variants of SVD are: their native clips and their released sizes (spec section 1). Needs no torch."""

from dataclasses import replace

from .config import SVDConfig, UNetConfig, VAEConfig

# variant: frames, width, height (spec section 1.2)
NATIVE = {
    "svd": (14, 1024, 576),
    "svd_xt": (25, 1024, 576),
    "svd_xt_1_1": (25, 1024, 576),
    "sv3d_u": (21, 576, 576),
    "sv3d_p": (21, 576, 576),
    "nano": (14, 128, 128),
    "custom": (14, 1024, 576),
    "animatelcm": (25, 1024, 576),
    "mimicmotion": (16, 576, 1024),
    "controlnext": (24, 576, 1024),
    "depthcrafter": (110, 1024, 576),
    "normalcrafter": (14, 1024, 576),
}
# Factor of the noise levels that release a signal (`SVDConfig.control_scale`), where it is not 1; docs/control.md.
CONTROL_SCALE = {"nano": 1 / 240}
BY_VECTOR = {256: "sv3d_u", 1280: "sv3d_p"}
RELEASES = ("svd", "svd_xt", "svd_xt_1_1", "sv3d_u", "sv3d_p")


def release_config(name: str) -> SVDConfig:
    """Return the configuration of one of RELEASES, which needs no weights."""
    frames, width, height = NATIVE[name]
    config = SVDConfig(variant=name, frames=frames, width=width, height=height)
    vector = {variant: channels for channels, variant in BY_VECTOR.items()}.get(name)
    if vector is None:
        return config
    # The orbital models decode frame by frame, with the autoencoder of their conditioner.
    vae = VAEConfig(temporal=False, post_quant_conv=True)
    return replace(config, unet=UNetConfig(vector_channels=vector), vae=vae)
