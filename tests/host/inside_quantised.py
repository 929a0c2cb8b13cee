"""Part of inside.py: weights in 8 and 4 bits by comfy-kitchen, and the files that the host saves of them.

Each choice of the loader is saved by the host's own code, and read by the host's network, by our loader in the host,
and by svd_core without it.
"""

from collections.abc import Callable
from pathlib import Path

import comfy.model_base
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from helpers.nodes_pack import outputs as run
from helpers.nodes_pack import part, write_tiny
from inside_lora import lora_file, output


def compare_quantised(folder: Path, describe: Callable, results: dict, difference: Callable) -> None:
    """Fill `results["quantised"]` by choice: numbers, or the sentence of a host without the format."""
    host, quantised, core = part("nodes.host.comfy"), part("nodes.host.quantised"), part("svd_core")
    path = write_tiny(folder / "svd_xt_rounded.safetensors")
    found = results["quantised"] = {}
    exact = core.load_model(path).unet
    file = lora_file(folder, exact.state_dict())
    for choice, name in quantised.FORMATS.items():
        host.model_path = lambda *_: str(path)
        try:
            model, encoder, vae = run("SVDReelLoadModel", model_name=path.name, precision=choice)
        except ValueError as error:
            found[choice] = str(error)
            continue
        unet = model.unet.model.diffusion_model
        host.use(model.unet, 0)
        rounded = output(unet)
        formats = [getattr(layer, "quant_format", None) for layer in unet.modules()]
        mine = found[choice] = {"layers": formats.count(name), "error": difference(output(exact), rounded)}

        saved = folder / "svd_xt_saved.safetensors"
        comfy.sd.save_checkpoint(str(saved), model.unet, vae=vae, clip_vision=encoder, metadata=host_metadata(path))
        host.model_path = lambda *_, saved=saved: str(saved)
        again = run("SVDReelLoadModel", model_name=saved.name)[0]
        host.use(again.unet, 0)
        mine["read again"] = difference(rounded, output(again.unet.model.diffusion_model))
        mine["in the host's network"] = difference(rounded, output_of_host(describe(model), saved, unet.config))
        decoded, weights = core.load_model(saved).unet.state_dict(), unet.state_dict()
        mine["decoded"] = max(
            float((decoded[key] - layer_weight(unet, key)).abs().max()) for key in decoded if key in weights
        )

        host.model_path = lambda *_: str(file)
        changed = run("SVDReelLoadLora", model=model, lora_name=file.name, strength=0.7)[0]
        host.use(changed.unet, 0)
        reference = core.apply_loras(core.load_model(path), [(core.load_lora(file), 0.7, 0.7)]).unet
        change = output(changed.unet.model.diffusion_model) - rounded
        mine["lora"] = difference(output(reference) - output(exact), change)
        host.use(model.unet, 0)


def host_metadata(path: Path) -> dict:
    """The metadata of a file, as the host hands it on."""
    return dict(comfy.utils.load_torch_file(str(path), return_metadata=True)[1])


def layer_weight(unet: torch.nn.Module, key: str) -> torch.Tensor:
    """A parameter as the host itself decodes it."""
    value = unet.get_parameter(key)
    return value.dequantize().float() if hasattr(value, "dequantize") and hasattr(value, "_qdata") else value.float()


def output_of_host(config: dict, file: Path, ours) -> torch.Tensor:
    """What the host's own network answers with the weights of a file."""
    described = comfy.supported_models.SVD_img2vid(config)
    described.unet_config["num_head_channels"] = ours.head_channels
    described.quant_config = {"mixed_ops": True}
    described.set_inference_dtype(torch.float32, torch.float32)
    theirs = comfy.model_base.SVD_img2vid(described)
    tensors = comfy.utils.load_torch_file(str(file))
    tensors, _ = comfy.utils.convert_old_quants(tensors, "model.diffusion_model.")
    theirs.load_model_weights(tensors, "model.diffusion_model.")
    network = theirs.diffusion_model
    network.config = ours

    def answer(x, t, token, vector, frames):
        return network(x, t, context=token, y=vector, num_video_frames=frames, transformer_options={})

    answer.config = ours
    return output(answer)
