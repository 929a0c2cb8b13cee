"""Part of inside.py: our LoRAs as patches of the host, beside the weights that the core makes of the same file."""

from collections.abc import Callable
from pathlib import Path

import torch
from helpers.checkpoint_files import TINY
from helpers.lora_files import random_layers, write
from helpers.nodes_pack import outputs as run
from helpers.nodes_pack import part, write_tiny
from safetensors.torch import load_file, save_file

PREFIX = "diffusion_model."


def compare_lora(folder: Path, results: dict, difference: Callable) -> None:
    """Whole loading, streaming of weights, and weights of 8 bits, against svd_core.apply_loras; then unloading."""
    host, core = part("nodes.host.comfy"), part("svd_core")
    path = write_tiny(folder / "svd_xt_lora.safetensors")
    host.model_path = lambda *_: str(path)
    loaded = run("SVDReelLoadModel", model_name=path.name, precision="fp32")[0]
    unet = loaded.unet.model.diffusion_model
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    file = lora_file(folder, before)
    host.model_path = lambda *_: str(file)
    model = run("SVDReelLoadLora", model=loaded, lora_name=file.name, strength=0.7, temporal_strength=-1.2)[0]
    plain = core.load_model(path)
    expected = core.apply_loras(plain, [(core.load_lora(file), 0.7, -1.2)])
    device = host.use(model.unet, 0)
    # Dynamic memory of newer hosts patches when a layer runs, so outputs are compared, not weights.
    results["lora loaded whole"] = difference(output(expected.unet), output(unet))
    results["lora changes"] = difference(output(plain.unet), output(unet))
    host.use(loaded.unet, 0)
    results["weights restored"] = same(unet, before)
    streamed = model.unet.clone()
    streamed.unpatch_model(streamed.offload_device)
    streamed.load(device, lowvram_model_memory=1)
    results["streamed layers"] = sum(bool(getattr(module, "weight_function", None)) for module in unet.modules())
    results["lora streamed"] = difference(output(expected.unet), output(unet))
    streamed.unpatch_model(streamed.offload_device)
    results["weights restored"] = results["weights restored"] and same(unet, before)
    host.use(loaded.unet, 0)
    results["lora streamed last"] = difference(output(plain.unet), output(unet))
    compare_8_bits(folder, results, difference, file)


def compare_8_bits(folder: Path, results: dict, difference: Callable, file: Path) -> None:
    """A checkpoint stored in 8 bits: how much the LoRA changes, and how far that is from the change in float32."""
    host, core = part("nodes.host.comfy"), part("svd_core")
    tensors = load_file(folder / "svd_xt_lora.safetensors")
    small = {k: v.to(torch.float8_e4m3fn) if v.ndim > 1 and "diffusion_model" in k else v for k, v in tensors.items()}
    eight = folder / "svd_xt_8.safetensors"
    save_file(small, eight, metadata=TINY)
    host.model_path = lambda *_: str(eight)
    # On a CPU the host would widen such weights by itself.
    part("nodes.load").PRECISIONS["8 bits"] = torch.float8_e4m3fn
    loaded = run("SVDReelLoadModel", model_name=eight.name, precision="8 bits")[0]
    host.use(loaded.unet, 0)
    plain = output(loaded.unet.model.diffusion_model)
    host.model_path = lambda *_: str(file)
    model = run("SVDReelLoadLora", model=loaded, lora_name=file.name, strength=0.7, temporal_strength=-1.2)[0]
    host.use(model.unet, 0)
    changed = output(model.unet.model.diffusion_model)
    exact = core.load_model(eight)
    reference = output(core.apply_loras(exact, [(core.load_lora(file), 0.7, -1.2)]).unet)
    weight = loaded.unet.model.diffusion_model.get_submodule("input_blocks.1.1.proj_out").weight
    results["format of 8 bits"] = str(weight.dtype)
    results["lora on 8 bits"] = [difference(plain, changed), difference(reference, changed)]


def lora_file(folder: Path, weights: dict) -> Path:
    """Low rank, convolutions and magnitudes over every kind of layer."""
    shapes = {key.removesuffix(".weight"): tuple(value.shape) for key, value in weights.items()
              if key.endswith(".weight") and value.ndim > 1 and "input_blocks.1." in key}  # fmt: skip
    tensors = {}
    for index, (path, (down, up)) in enumerate(random_layers(shapes, rank=2).items()):
        name = f"diffusion_model.{path}"
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": 0.5 * up}
        if index % 3 == 0:
            tensors[f"{name}.lora_magnitude_vector"] = weights[f"{path}.weight"].flatten(1).norm(dim=1).float() * 1.3
    return write(folder / "reel_lora.safetensors", tensors)


def same(unet: torch.nn.Module, before: dict) -> bool:
    """Whether all weights are what they were."""
    return all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())


def output(unet: torch.nn.Module) -> torch.Tensor:
    """The network's answer to fixed inputs for two frames."""
    config = unet.config
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(2, 8, 8, 8, generator=generator)
    token = torch.randn(1, 1, config.context_channels, generator=generator).expand(2, -1, -1)
    vector = torch.randn(1, config.vector_channels, generator=generator).expand(2, -1)
    return unet(x, torch.full((2,), 0.3), token, vector, 2).float()
