"""Everything this pack uses of ComfyUI, and its replacement where ComfyUI is not installed.

No other file of the pack imports the host. Without a host, models stay on the CPU in plain torch layers, so that every
node also runs in tests and scripts. All differences between host versions are handled here.
"""

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch

from ...svd_core.lora.apply import Terms
from ...svd_core.memory import available_bytes
from ...svd_core.networks.transformer import VideoTransformer
from ...svd_core.networks.unet import Downsample, Upsample, VideoResidualBlock
from ...svd_core.sampling.solvers import Step
from ...svd_core.stopping import ask_between

try:
    import folder_paths
except ImportError:
    folder_paths = None

if folder_paths is not None:
    import comfy.clip_vision
    import comfy.latent_formats
    import comfy.ldm.modules.attention
    import comfy.ldm.modules.diffusionmodules.openaimodel
    import comfy.model_base
    import comfy.model_management as mm
    import comfy.model_patcher
    import comfy.ops
    import comfy.patcher_extension
    import comfy.sd
    import comfy.supported_models
    import comfy.utils
    import comfy.weight_adapter
    from comfy.cli_args import args as host_arguments  # noqa: F401  host_film reads these three here
    from comfy_api.latest import InputImpl  # noqa: F401
    from comfy_execution.progress import get_progress_state
    from comfy_execution.utils import get_executing_context
    from server import PromptServer  # noqa: F401

    try:
        from comfy_api.input import CurveInput  # from 0.15
    except ImportError:
        CurveInput = None
    with contextlib.suppress(ImportError):
        import comfy.quant_ops  # since 0.3.70

PRESENT = folder_paths is not None
quant_ops = getattr(comfy, "quant_ops", None) if PRESENT else None  # comfy-kitchen, as the host uses it
VAEBase = comfy.sd.VAE if PRESENT else object
ClipVisionBase = comfy.clip_vision.ClipVisionModel if PRESENT else object
ModelBase = comfy.model_base.SVD_img2vid if PRESENT else torch.nn.Module
AdapterBase = comfy.weight_adapter.WeightAdapterBase if PRESENT else object
CPU = torch.device("cpu")


# Files


def register_model_folder(name: str) -> None:
    """Register `models/<name>` and `output/<name>` as model folders, besides the user's extra_model_paths.yaml.

    The second holds what nodes save, as ComfyUI's own `output/checkpoints` and `output/loras` do.
    """
    if not PRESENT:
        return
    paths, endings = folder_paths.folder_names_and_paths.get(name, ([], set()))
    own = [os.path.join(folder_paths.models_dir, name), os.path.join(folder_paths.get_output_directory(), name)]
    merged = [*paths, *(path for path in own if path not in paths)]
    # A folder that only the yaml names has an empty set of extensions, which lists every file.
    folder_paths.folder_names_and_paths[name] = (merged, endings or folder_paths.supported_pt_extensions)


def model_files(folder: str) -> list[str]:
    """Return the names of the files in one of the host's model folders; empty without a host."""
    if not PRESENT or folder not in folder_paths.folder_names_and_paths:
        return []
    return folder_paths.get_filename_list(folder)


def model_roots(folder: str) -> list[str]:
    """Return the folders on disk that the host searches for models of one kind; empty without a host."""
    if not PRESENT or folder not in folder_paths.folder_names_and_paths:
        return []
    return folder_paths.get_folder_paths(folder)


def model_path(folder: str, name: str) -> str | None:
    """Return the full path of a listed file, or None. The host confines it to its own folders."""
    return folder_paths.get_full_path(folder, name) if PRESENT else None


def input_folder() -> Path:
    """Return the folder of the files that nodes read."""
    return Path(folder_paths.get_input_directory()) if PRESENT else Path.cwd()


def output_folder() -> Path:
    """Return the folder for results; without a host a folder for temporary files."""
    return Path(folder_paths.get_output_directory()) if PRESENT else Path(tempfile.gettempdir()) / "svd_reel"


def temp_and_models_folders() -> list[Path]:
    """Return the host's folder for temporary files and all folders that it searches for models."""
    searched = [paths for name, (paths, _) in folder_paths.folder_names_and_paths.items() if name != "custom_nodes"]
    found = [
        folder_paths.get_temp_directory(),
        folder_paths.models_dir,
        *(path for paths in searched for path in paths),
    ]
    return [Path(path) for path in dict.fromkeys(found)]


def load_state_dict(path: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return tensors and metadata of a safetensors file through the host's loader, which dynamic memory requires."""
    tensors, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
    return tensors, metadata or {}


# Devices, precisions, layers


def compute_device() -> torch.device:
    """Return the device where the networks run."""
    return mm.get_torch_device() if PRESENT else CPU


def output_device() -> torch.device:
    """Return the device of node outputs."""
    return mm.intermediate_device() if PRESENT else CPU


def output_dtype() -> torch.dtype:
    """Return the dtype of IMAGE outputs; float32 in hosts before 0.18."""
    return mm.intermediate_dtype() if hasattr_host("intermediate_dtype") else torch.float32


def hasattr_host(name: str) -> bool:
    """Return whether the host's model management has a function that older versions lack."""
    return PRESENT and hasattr(mm, name)


def unet_dtypes(parameters: int, stored: torch.dtype, wanted: torch.dtype | None) -> tuple[torch.dtype, torch.dtype]:
    """Return the storage and the compute dtype of the UNet, from its size, its file and the user's choice."""
    if not PRESENT:
        weight = wanted or torch.float32
        return weight, weight
    weight = wanted or mm.unet_dtype(model_params=parameters, weight_dtype=stored)
    return weight, mm.unet_manual_cast(weight, mm.get_torch_device()) or weight


def vae_dtype(wanted: torch.dtype | None) -> torch.dtype:
    """Return the dtype in which the autoencoder is stored and decodes; it encodes in float32."""
    if wanted == torch.float32 or not PRESENT:
        return torch.float32
    # float16 first: it shows less banding than bfloat16, and a decode that overflows is repeated in float32.
    return mm.vae_dtype(mm.vae_device(), [torch.float16, torch.bfloat16, torch.float32])


def image_encoder_dtype(wanted: torch.dtype | None) -> torch.dtype:
    """Return the dtype in which the image encoder is stored; it computes in the dtype of its input."""
    if wanted == torch.float32 or not PRESENT:
        return torch.float32
    device = mm.text_encoder_device()
    # The host uses half precision even on a CPU, where it only loses precision.
    return torch.float32 if mm.is_device_cpu(device) else mm.text_encoder_dtype(device)


def layer_ops(weight: torch.dtype, compute: torch.dtype, *, rounded: bool = False):
    """Return the layer classes for the UNet: the host's, so that it can offload, cast and patch them.

    rounded: those whose matrices may be in 8 or 4 bits.
    """
    if not PRESENT:
        return torch.nn
    # The host asks its description of a model whether a file has such matrices.
    more = {"model_config": SimpleNamespace(quant_config={"mixed_ops": True})} if rounded else {}
    return comfy.ops.pick_operations(weight, compute, **more)


def casting_ops():
    """Return layer classes that compute in the dtype of their input, whatever the dtype of their weights."""
    return comfy.ops.manual_cast if PRESENT else torch.nn


# Patches of a MODEL


def layer_stand_ins() -> tuple[tuple[type, tuple[type, ...]], ...]:
    """Return the host's layer classes, with those of ours that replace some of them in the network."""
    diffusion = comfy.ldm.modules.diffusionmodules.openaimodel
    return (
        (diffusion.VideoResBlock, (VideoResidualBlock,)),
        (diffusion.ResBlock, (VideoResidualBlock,)),
        (diffusion.Downsample, (Downsample,)),
        (diffusion.Upsample, (Upsample,)),
        (comfy.ldm.modules.attention.SpatialVideoTransformer, (VideoTransformer,)),
        (torch.nn.Conv2d, (torch.nn.Conv2d,)),
    )


def stands_for(layer: torch.nn.Module, kind: type) -> bool:
    """Return whether `layer` of our UNet takes the place of a host layer of class `kind`."""
    if isinstance(layer, kind):
        return True
    return any(issubclass(theirs, kind) and isinstance(layer, ours) for theirs, ours in layer_stand_ins())


def every_layer_is_patched() -> bool:
    """Return whether the host asks its layer patches for every layer; versions before 0.33 skip most."""
    return PRESENT and hasattr(comfy.model_patcher.ModelPatcher, "set_model_middle_block_after_patch")


def optimized_attention():
    """Return the host's attention function as it is now (packs replace it), None without a host."""
    return comfy.ldm.modules.attention.optimized_attention if PRESENT else None


def attention_was_chosen() -> bool:
    """Return whether a start-up flag or a pack chose another attention than the host's defaults."""
    if not PRESENT:
        return False
    known = comfy.ldm.modules.attention
    chosen = host_arguments.use_split_cross_attention or host_arguments.use_quad_cross_attention
    return chosen or known.optimized_attention not in (known.attention_pytorch, known.attention_sub_quad)


def run_with_wrappers(network: torch.nn.Module, forward, arguments: tuple, options: dict, keywords: dict):
    """Run `forward` inside the wrappers that nodes have put around the diffusion model, as the host's network does."""
    extension = comfy.patcher_extension if PRESENT else None
    wrappers = extension.get_all_wrappers(extension.WrappersMP.DIFFUSION_MODEL, options) if PRESENT else []
    if not wrappers:
        return forward(*arguments, **keywords)
    return extension.WrapperExecutor.new_class_executor(forward, network, wrappers).execute(*arguments, **keywords)


# Memory


class PlainPatcher:
    """Replaces the host's model patcher: the model stays where it was built, and its only patches are LoRAs."""

    def __init__(self, model: torch.nn.Module, loaded: torch.nn.Module | None = None, terms: Terms | None = None):
        self.model, self.loaded, self.terms = model, loaded or model, terms or {}
        self.load_device = self.offload_device = CPU

    def clone(self) -> "PlainPatcher":
        return PlainPatcher(self.model, self.loaded, self.terms)


def managed(module: torch.nn.Module, kind: str):
    """Return a patcher that puts a module under the host's memory management.

    `kind` is "unet", "vae" or "image_encoder".
    """
    if not PRESENT:
        return PlainPatcher(module)
    load, offload = {
        "unet": (mm.get_torch_device, mm.unet_offload_device),
        "vae": (mm.vae_device, mm.vae_offload_device),
        "image_encoder": (mm.text_encoder_device, mm.text_encoder_offload_device),
    }[kind]
    # At call time: hosts from 0.12 rebind CoreModelPatcher at start, and older ones lack it.
    patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher_class(module, load_device=load(), offload_device=offload())


def remember_dtypes(module: torch.nn.Module) -> None:
    """Record the dtypes of the weights for hosts with dynamic memory (0.16 and later)."""
    if hasattr_host("archive_model_dtypes"):
        mm.archive_model_dtypes(module)


def use(patcher, activation_bytes: float, others=()) -> torch.device:
    """Load a model and its `others` on their device, with room for `activation_bytes`; return the device."""
    if PRESENT:
        mm.load_models_gpu([patcher, *others], memory_required=activation_bytes)
    return patcher.load_device


def is_current(patcher, others=()) -> bool:
    """Return whether the host still holds models as `use` left them: no other was brought to a device since."""
    if not PRESENT:
        return True
    loaded = mm.loaded_models()  # the models that were used last come first, in no particular order
    wanted = [patcher, *others]
    return len(loaded) >= len(wanted) and all(any(model is one for one in wanted) for model in loaded[: len(wanted)])


def free_bytes(device: torch.device, *using) -> int | None:
    """Return the bytes that a stage may use on a device, None where they are unknown.

    With dynamic VRAM the host loads and evicts weights on demand: those of other models count as free, and what the
    patchers in `using` have not loaded yet counts as taken.
    """
    if not PRESENT or mm.is_device_cpu(device):
        return available_bytes(device)
    free = mm.get_free_memory(device)
    for loaded in getattr(mm, "current_loaded_models", ()):
        patcher = loaded.model
        if patcher is None or loaded.device != device or not getattr(patcher, "is_dynamic", bool)():
            continue
        if any(patcher.model is one.model for one in using):
            free -= loaded.model_offloaded_memory()
        else:
            free += loaded.model_loaded_memory()
    return int(free * 0.9)


def make_room(size: int, device: torch.device) -> None:
    """Unload models of the host until `size` bytes are free on a device."""
    if PRESENT and not mm.is_device_cpu(device):
        mm.free_memory(size + mm.minimum_inference_memory(), device)


def check_interrupt() -> None:
    """Raise the host's own exception if the user has cancelled the run."""
    if PRESENT:
        mm.throw_exception_if_processing_interrupted()


ask_between(check_interrupt)


# Models


def set_preview_colours(patcher, weight: Sequence[Sequence[float]], bias: Sequence[float]) -> None:
    """Let the host's own previews of a MODEL show the colours of its decoder."""
    latent_format = getattr(patcher.model, "latent_format", None)
    if latent_format is not None:
        latent_format.latent_rgb_factors = [list(row) for row in weight]
        latent_format.latent_rgb_factors_bias = list(bias)


def wrap_unet(unet: torch.nn.Module, model_class, unet_config: dict, compute: torch.dtype):
    """Return the patcher of a host model around our UNet, for samplers, LoRA loaders and our own sampler.

    `model_class` makes the model from a host model configuration; `compute` is the dtype in which the UNet computes.
    """
    if not PRESENT:
        holder = torch.nn.Module()
        holder.diffusion_model = unet
        return PlainPatcher(holder)
    config = comfy.supported_models.SVD_img2vid({**unet_config, "disable_unet_model_creation": True})
    config.set_inference_dtype(unet.dtype, None if compute == unet.dtype else compute)
    model = model_class(config)
    model.diffusion_model = unet
    return managed(model, "unet")


def clip_embedding(clip_vision, pixels: torch.Tensor) -> torch.Tensor:
    """Return the embeddings [B, D] of a CLIP_VISION of the host for normalised pixels [B, 3, s, s].

    The model is called directly because the host's own function crops the picture and rounds it to 8 bits.
    """
    mm.load_model_gpu(clip_vision.patcher)
    output = clip_vision.model(pixel_values=pixels.to(clip_vision.load_device), intermediate_output=-2)
    if not isinstance(output[2], torch.Tensor) or output[2].ndim != 2:
        raise ValueError("this CLIP_VISION gives no image embedding; connect CLIP ViT-H, which SVD was trained with")
    return output[2].float().to(output_device())


def clip_output(last: torch.Tensor, penultimate: torch.Tensor, embeds: torch.Tensor, image_size: torch.Size):
    """Return the host's CLIP_VISION_OUTPUT of hidden states [B, N, C], embeddings [B, D] and input size [3, s, s]."""
    output = comfy.clip_vision.Output() if PRESENT else SimpleNamespace()
    output.last_hidden_state = last.to(output_device())
    output.penultimate_hidden_states = penultimate.to(output_device())
    output.image_embeds = embeds.to(output_device())
    output.mm_projected = None
    output.image_sizes = [image_size] * len(embeds)
    return output


# The browser


def curve_of(value: Any) -> Any:
    """Return the host's curve, with interp(x) over 0..1, of what a CURVE socket carries; None for other things."""
    if hasattr(value, "interp"):
        return value
    known = PRESENT and CurveInput is not None and isinstance(value, (dict, list))
    return CurveInput.from_raw(value) if known else None


def running_node() -> str | None:
    """Return the id of the running node as the browser knows it, such as "3:2" in a subgraph; None without a host."""
    context = get_executing_context() if PRESENT else None
    if context is None:
        return None
    # Nodes that another node made for this run are shown at that node.
    prompt = getattr(get_progress_state(), "dynprompt", None)
    return str(prompt.get_display_node_id(context.node_id) if prompt is not None else context.node_id)


def running_workflow() -> str | None:
    """Return the id of the running workflow as its file stores it; None where a program started the run."""
    server, context = PromptServer.instance, get_executing_context()
    running, _ = server.prompt_queue.get_current_queue_volatile()
    for _, number, _, extra, *_ in running:
        if context is None or number == context.prompt_id:
            return ((extra.get("extra_pnginfo") or {}).get("workflow") or {}).get("id")
    return None


def is_watched() -> bool:
    """Return whether a browser waits for events of this run."""
    server = getattr(PromptServer, "instance", None) if PRESENT else None
    return server is not None and server.client_id is not None


def send(event: str, content: dict) -> None:
    """Send an event of our own to the browser that started the run; the browser may show another workflow by now."""
    if is_watched():
        content = {**content, "workflow": running_workflow()}
        PromptServer.instance.send_sync(event, content, PromptServer.instance.client_id)


def temporary_folder() -> Path:
    """Return the folder whose files the host removes when it starts."""
    return Path(folder_paths.get_temp_directory()) if PRESENT else Path(tempfile.gettempdir()) / "svd_reel"


def peak_bytes() -> int | None:
    """Return the most memory of the graphics card that this run has held so far, None without one."""
    device = compute_device()
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def forget_peak() -> None:
    """Start to measure `peak_bytes` anew."""
    if compute_device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()


# Progress


class Preview(Protocol):
    """Shows the frames of latents [T, 4, h, w] after a step."""

    def __call__(self, done: int, total: int, latents: torch.Tensor) -> None: ...


class Progress:
    """The progress bar of the running node, with a preview of the frames."""

    def __init__(self, total: int = 1, preview: Preview | None = None):
        self.total, self.percent = total, -1
        self.bar = comfy.utils.ProgressBar(total) if PRESENT else None
        self.preview = preview

    def update(self, done: int, latents: torch.Tensor | None = None, total: int | None = None) -> None:
        """Report `done` of the total and show scaled `latents` [T, 4, h, w]; raises if the user cancelled."""
        check_interrupt()
        self.show(done, latents, total)

    def step(self, step: Step) -> None:
        """Report a sampling step, with its preview; the `on_step` of pipelines."""
        self.update(step.index + 1, step.denoised, total=step.steps)

    def decoded(self, done: int, total: int) -> None:
        """Report the progress of decoding; the `on_decode` of pipelines."""
        self.update(done, total=total)

    def show(self, done: int, latents: torch.Tensor | None = None, total: int | None = None) -> None:
        """Report as `update` does, without raising."""
        self.total = total or self.total
        if self.bar is None:
            return
        if self.preview is not None and latents is not None:
            self.preview(done, self.total, latents)
        percent = 100 * done // self.total
        if percent == self.percent:
            return  # every report sends a message to the browser, and hosts before 0.9.2 send all of them
        self.percent = percent
        # No picture: the host would show one of its own beside ours.
        self.bar.update_absolute(done, self.total, None)
