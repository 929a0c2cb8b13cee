"""The node that loads a model: it lists the files and places their networks under ComfyUI's memory management."""

from pathlib import Path

from ..svd_core.checkpoints import CheckpointError, Parts, read_state_dict, split_state_dict
from ..svd_core.checkpoints.diffusers_folder import is_part_of_folder, model_folders
from ..svd_core.checkpoints.split import complete, no_unet
from ..svd_core.doctor.profile import follow_profile
from ..svd_core.files import printable
from ..svd_core.model.latent_colours import NANO as NANO_COLOURS
from ..svd_core.model.latent_colours import LatentColours, measure_colours
from ..svd_core.model.switches import PRODUCTS, multiply_by
from ..svd_core.model.switches import compile_blocks as compile_unet
from ..svd_core.networks.vae import LATENT_SCALE
from ..svd_core.networks.variants import NATIVE
from ..svd_core.pictures import as_batch, open_picture
from .host import comfy as host
from .host.build import AUTO, EIGHT_BITS, PRECISIONS, manage_image_encoder, manage_unet, manage_vae
from .host.paths import profile_file
from .host.quantised import FORMATS, check_format, is_rounded
from .host.vae_and_clip import MissingPart, ReelVAE
from .sample_picture import FOLDER, SAMPLES
from .shared import inputs
from .shared.model import LoadedModel

NANO = "nano (embedded)"
NONE = "none"
FOLDERS = ("svd", "checkpoints", "diffusion_models")
LIKELY = ("svd", "stable-video", "stable_video", "img2vid", "animatelcm")


def model_names() -> list[str]:
    """Return the choices of the model widgets: nano, names that look like SVD, then all other files."""
    files = [name for folder in FOLDERS for name in host.model_files(folder) if name.lower().endswith(".safetensors")]
    files = [name for name in files if not is_part_of_folder(name)]
    names = list(dict.fromkeys([*files, *diffusers_folders()]))
    names.sort(key=lambda name: not any(word in name.lower() for word in LIKELY))
    return [NANO, *names]


def diffusers_folders() -> dict[str, Path]:
    """Return the folders with a video model in models/svd and models/diffusers by their names."""
    found: dict[str, Path] = {}
    for root in (Path(path) for key in ("svd", "diffusers") for path in host.model_roots(key)):
        found = model_folders(root) | found
    return found


def model_location(name: str) -> str:
    """Return the path of a model name, or "nano"; raise FileNotFoundError that says where models belong."""
    if name == NANO:
        return "nano"
    for folder in FOLDERS:
        path = host.model_path(folder, name)
        if path is not None:
            return path
    folder = diffusers_folders().get(name)
    if folder is not None:
        return str(folder)
    raise FileNotFoundError(
        f"model {printable(name)!r} not found; put svd_xt.safetensors or another SVD file into models/svd or "
        "models/checkpoints, or a UNet alone into models/diffusion_models, and press R; or choose the embedded nano "
        "model"
    )


def open_parts(name: str, variant: str = AUTO) -> Parts:
    """Return the parts of a checkpoint by its name in the widgets, with tensors read by ComfyUI's loader."""
    source = read_state_dict(model_location(name))  # reads headers only; rejects files that are not models
    tensors = source
    if host.PRESENT:
        tensors = {}
        for header in source.headers:
            tensors |= host.load_state_dict(str(header.path))[0]
    metadata = dict(source.metadata)
    if variant != AUTO:
        # A chosen variant has its own native size and length.
        metadata = {
            key: text for key, text in metadata.items() if key.removeprefix("svd.") not in ("frames", "width", "height")
        }
        metadata["svd.variant"] = variant
    return split_state_dict(tensors, metadata, name=source.name)


class SVDReelLoadModel:
    """Load a checkpoint."""

    DISPLAY_NAME = "Load SVD Model"
    CATEGORY = inputs.CATEGORY
    DESCRIPTION = (
        "Loads a Stable Video Diffusion checkpoint: the video model, its image encoder and its VAE. Put "
        "svd.safetensors, svd_xt.safetensors or svd_xt_1_1.safetensors into models/svd or models/checkpoints, or a "
        "diffusers folder into models/diffusers. The embedded nano model needs no download."
    )
    SEARCH_ALIASES = [
        "ImageOnlyCheckpointLoader",
        "SVDModelLoader",
        "svd_xt",
        "svd checkpoint",
        "load svd",
        "img2vid model",
        "svd",
        "stable video",
        "stable video diffusion",
        "image to video",
        "image to video model",
    ]
    RETURN_TYPES = ("SVD_MODEL", "CLIP_VISION", "VAE")
    RETURN_NAMES = ("model", "clip_vision", "vae")
    OUTPUT_TOOLTIPS = (
        "The video model, for the other SVD Reel nodes.",
        "The image encoder, for SVD Reel's and ComfyUI's own nodes.",
        "The VAE, for SVD Reel's and ComfyUI's own nodes.",
    )
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls):
        names = model_names()
        return {
            "required": {
                "model_name": inputs.choice(
                    names,
                    "The checkpoint to load: a .safetensors file in models/svd or models/checkpoints, a UNet alone in "
                    "models/diffusion_models, or a folder in models/diffusers or models/svd. Start with nano, a tiny "
                    "model inside this pack, to try everything without a download.",
                ),
                "variant": inputs.choice(
                    [AUTO, *NATIVE],
                    "The release of the checkpoint, which sets the default size, length, steps and guidance. auto "
                    "detects it from file name and contents; choose it yourself if the file was renamed.",
                    advanced=True,
                ),
                "precision": inputs.choice(
                    PRECISIONS,
                    "Number format of the weights. auto follows ComfyUI and the file; fp16 and bf16 take half the "
                    "memory of fp32, which is exact but twice as large and slow. fp8 halves the UNet's memory once "
                    "more at about the speed of fp16, with coarser details. int8, fp8 scaled and nvfp4 round attention "
                    "and feed-forward only and compute in that format by comfy-kitchen (ComfyUI 0.33): int8 from RTX "
                    "20, fp8 scaled from RTX 40, nvfp4 from RTX 50. None is calibrated on real weights.",
                ),
            },
            "optional": {
                "complete_from": inputs.choice(
                    [NONE, *names],
                    "A full checkpoint from which the missing image encoder and VAE are loaded. Needed for files "
                    "that contain only the UNet, such as AnimateLCM or a fine-tuned model.",
                    advanced=True,
                ),
                "products": inputs.choice(
                    PRODUCTS,
                    "How the transformers multiply matrices. exact uses the precision above. fp8 computes in 8 bits "
                    "on RTX 40, L4, H100 or newer: about a tenth faster by estimate, not yet measured on a GPU, with "
                    "coarser details. fp16 sums is faster on GeForce cards in fp16, but can overflow to a black "
                    "clip.",
                    advanced=True,
                ),
                "compile_blocks": inputs.switch(
                    False,
                    "Compile the UNet's blocks with torch.compile. It takes minutes once, then each step is "
                    "about a fifth faster by others' measurements; not yet measured here on a GPU. Leave it "
                    "off if the model does not fit into memory or you change LoRAs often. Needs a C++ "
                    "compiler or Triton.",
                    advanced=True,
                ),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model_name: str | None) -> bool | str:
        """Return a remedy for a missing model; ComfyUI's own check would only list the existing ones."""
        try:
            return model_name is None or bool(model_location(model_name))  # None: the name comes from a link
        except FileNotFoundError as error:
            return str(error)

    @classmethod
    def IS_CHANGED(cls, model_name: str, variant: str, precision: str, complete_from: str = NONE, **others) -> str:
        """Return modification times and sizes, so that a replaced file is loaded again."""
        # ComfyUI passes None for inputs that come from a link.
        return " ".join(_stamp(name) for name in (model_name, complete_from) if name not in (None, NONE))

    def execute(
        self,
        model_name: str,
        variant: str,
        precision: str,
        complete_from: str = NONE,
        products: str = "exact",
        compile_blocks: bool = False,
    ) -> tuple:
        check_format(precision)
        wanted = PRECISIONS[precision]
        if wanted == EIGHT_BITS and not host.PRESENT:
            raise ValueError("fp8 weights need the layers of ComfyUI, which is not running; choose fp16, bf16 or fp32")
        parts = open_parts(model_name, variant)
        if parts.unet is None:
            raise CheckpointError(no_unet(model_name, parts))
        if complete_from != NONE:
            parts = complete(parts, open_parts(complete_from), complete_from)
        own = profile_file()
        follow_profile(host.compute_device(), own if own.is_file() else None)
        unet, compute = manage_unet(parts, wanted, FORMATS.get(precision))
        if products != "exact" and is_rounded(unet.model.diffusion_model):
            raise ValueError(
                f"products {products} has no effect on weights in 8 or 4 bits, which compute in their own format; set "
                "products to exact, or precision to fp16 or bf16"
            )
        multiply_by(unet.model.diffusion_model, products, host.compute_device())
        if compile_blocks:
            compile_unet(unet.model.diffusion_model)
        vae_config = parts.config.vae
        whole = vae_config is not None and vae_config.encoder is not None and vae_config.decoder is not None
        vae = manage_vae(parts, wanted) if whole else MissingPart("VAE", model_name)
        if parts.image_encoder is None:
            image_encoder = MissingPart("image encoder", model_name)
        else:
            image_encoder = manage_image_encoder(parts, wanted)
        colours = NANO_COLOURS if model_name == NANO else _colours(vae) if whole else None
        if colours is not None:
            host.set_preview_colours(unet, colours.alone(), colours.bias)
        return (LoadedModel(parts.config, unet, compute, vae, image_encoder, colours=colours), image_encoder, vae)


def _colours(vae: ReelVAE) -> LatentColours:
    """Return the colours of latents for previews, by decoding the sample pictures, small."""
    pictures = [as_batch(open_picture(FOLDER / f"{name}.jpg")) for name in SAMPLES]
    return measure_colours(pictures, vae.latent, lambda latents: vae.pixels(latents / LATENT_SCALE, 1, None, _ignore))


def _ignore(done: int, total: int) -> None:
    """Report no progress: the chart takes a moment, and the node's bar is for the weights."""


def _stamp(name: str) -> str:
    path = Path(model_location(name))
    if name == NANO:
        return NANO
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    return " ".join(f"{file.stat().st_mtime_ns}:{file.stat().st_size}" for file in files)


NODES = [SVDReelLoadModel]
