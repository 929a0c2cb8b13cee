"""Runs in the host's own interpreter: our networks beside the host's, same weights and inputs. Prints one line of JSON.

Usage: COMFYUI_PYTHON inside.py --cpu, with COMFYUI_DIR set.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

HOST, TESTS = os.environ["COMFYUI_DIR"], Path(__file__).resolve().parents[1]
sys.path[0:1] = [HOST]
os.chdir(HOST)

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.clip_vision  # noqa: E402
import comfy.lora  # noqa: E402
import comfy.model_base  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402
import utils.extra_config  # noqa: E402, F401  as main.py: later comfy/utils.py would be found under this name

# Behind the host's own modules, of which one is called nodes as well.
sys.path += [str(TESTS), str(TESTS.parent), str(TESTS / "host")]
from helpers.nodes_pack import outputs as run  # noqa: E402
from helpers.nodes_pack import pack, part, write_tiny  # noqa: E402
from inside_controlnet import compare_controlnet  # noqa: E402
from inside_hooks import compare_hooks  # noqa: E402
from inside_lora import compare_lora  # noqa: E402
from inside_quantised import compare_quantised  # noqa: E402
from inside_samplings import compare_samplings  # noqa: E402
from inside_streaming import compare_streamed_products  # noqa: E402

NODES = pack().NODE_CLASS_MAPPINGS
RESULTS: dict[str, object] = {}


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative L2 error."""
    return float((one - other).norm() / one.norm())


def tiny_model(folder: Path, name: str):
    """The tiny checkpoint through our loader."""
    path = write_tiny(folder / "svd_xt_tiny.safetensors", name)
    part("nodes.host.comfy").model_path = lambda *_: str(path)
    return run("SVDReelLoadModel", model_name=path.name, precision="fp32")


def their_config(model) -> dict:
    """The host's description of its own SVD network of the size of ours."""
    return {
        **part("nodes.host.unet").host_unet_config(model.config.unet),
        "image_size": 32,
        "use_spatial_transformer": True,
        "legacy": False,
        "num_classes": "sequential",
        "extra_ff_mix_layer": True,
        "use_spatial_context": True,
        "merge_strategy": "learned_with_images",
        "merge_factor": 0.0,
        "video_kernel_size": [3, 1, 1],
        "dtype": torch.float32,
    }


def their_unet(model):
    """The host's own SVD network with the weights of ours."""
    described = comfy.supported_models.SVD_img2vid(their_config(model))
    described.unet_config["num_head_channels"] = model.config.unet.head_channels
    theirs = comfy.model_base.SVD_img2vid(described)
    weights = {key: value.clone() for key, value in model.unet.model.diffusion_model.state_dict().items()}
    theirs.diffusion_model.load_state_dict(weights, strict=True)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(theirs, load_device=device, offload_device=torch.device("cpu"))


def compare_unet(model) -> None:
    """Our conditioning in the host's sampler, with the host's network and with ours, against our sampler."""
    picture = torch.rand(1, 64, 64, 3)
    positive, negative, latent = run("SVDReelCondition", model=model, image=picture)
    sigmas = run("SVDReelSchedule", steps=6)[0]
    guidance = run("SVDReelGuidance", shape="constant", low=2.0, high=2.0)[0]
    given = {"positive": positive, "negative": negative, "latent": latent}
    ours = run("SVDReelSampler", model=model, guidance=guidance, sigmas=sigmas, **given)[0]["samples"]
    # On a CPU the size of the clip decides: both branches of so small a one go through the network together.
    modes, network, seen = part("svd_core.model.guidance_modes"), model.unet.model.diffusion_model, []
    watched = network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    run("SVDReelSampler", model=model, guidance=guidance, sigmas=sigmas, **given)
    watched.remove()
    RESULTS["clips per pass"] = max(seen, default=0) / model.config.frames
    largest, modes.LARGEST_ON_CPU = modes.LARGEST_ON_CPU, 0
    in_turn = run("SVDReelSampler", model=model, guidance=guidance, sigmas=sigmas, **given)[0]["samples"]
    modes.LARGEST_ON_CPU = largest
    RESULTS["branches together"] = difference(in_turn, ours)
    noise = comfy.sample.prepare_noise(latent["samples"], 23)
    euler = comfy.samplers.sampler_object("euler")
    theirs = their_unet(model)
    compare_hooks(model, theirs, RESULTS)
    compare_samplings(model, theirs, run, RESULTS)
    for name, patcher in (("host network", theirs), ("exported network", model.unet)):
        result = comfy.sample.sample_custom(
            patcher, noise, 2.0, euler, sigmas, positive, negative, latent["samples"], disable_pbar=True, seed=23
        )
        RESULTS[name] = difference(result, ours)
    maps = [comfy.lora.model_lora_keys_unet(patcher.model, {}) for patcher in (theirs, model.unet)]
    RESULTS["lora names"] = [len(maps[0]), sorted(map(str, set(maps[0].items()) ^ set(maps[1].items())))[:5]]


def compare_vae() -> None:
    """Compare a VAE of the real size (the host supports no other), with our weights in theirs and back."""
    config = part("svd_core.networks.config").VAEConfig()
    weights = dict(part("svd_core.networks.vae").VAE(config).state_dict())
    ours = part("nodes.load").manage_vae(part("svd_core.checkpoints").split_state_dict(weights, {}), torch.float32)
    theirs = comfy.sd.VAE(sd={key: value.clone() for key, value in ours.get_sd().items()})
    picture, latent = torch.rand(1, 48, 80, 3), torch.randn(5, 4, 6, 8)
    RESULTS["vae encode"] = difference(theirs.encode(picture), ours.encode(picture))
    plain = theirs.decode(latent)
    RESULTS["vae decode"] = float((ours.decode(latent) - plain).abs().max())
    borrowed = run("SVDReelDecode", vae=theirs, latent={"samples": latent})[0]
    RESULTS["borrowed vae is ours"] = bool(torch.equal(borrowed, ours.decode(latent)))
    # Only what some method of the host reads and ours does not override would be missed.
    RESULTS["vae attributes"] = sorted(set(vars(theirs)) - set(vars(ours)) - {"audio_sample_rate"})


def compare_clip_vision(model, folder: Path) -> None:
    """Compare a small image encoder of the host with ours, with the same weights."""
    ours = model.image_encoder
    size = ours.model.config
    description = folder / "clip.json"
    description.write_text(json.dumps({
        "hidden_act": "gelu", "hidden_size": size.width, "image_size": size.image_size, "num_channels": 3,
        "intermediate_size": size.mlp_channels, "model_type": "clip_vision_model", "patch_size": size.patch_size,
        "num_attention_heads": size.width // size.head_channels, "num_hidden_layers": size.layers,
        "projection_dim": size.output_channels,
    }))  # fmt: skip
    theirs = comfy.clip_vision.ClipVisionModel(str(description))
    theirs.model.float()
    weights = {"visual." + key: value.clone() for key, value in ours.model.state_dict().items()}
    missing, _ = theirs.load_sd(comfy.clip_vision.convert_to_transformers(weights, "visual."))
    picture = torch.rand(1, 96, 160, 3)
    one, other = theirs.encode_image(picture, crop=True), ours.encode_image(picture, crop=True)
    names = ("image_embeds", "last_hidden_state", "penultimate_hidden_states")
    RESULTS["clip vision"] = max(difference(getattr(one, name), getattr(other, name)) for name in names)
    RESULTS["clip vision missing"] = [*missing, *sorted(set(vars(one)) - set(vars(other)))]
    RESULTS["clip vision attributes"] = sorted(set(vars(theirs)) - set(vars(ours)))
    image = picture.movedim(-1, 1) * 2 - 1
    token = model.with_parts(image_encoder=theirs).encode_image(image)
    RESULTS["borrowed clip vision"] = difference(token, model.encode_image(image))


if __name__ == "__main__":
    torch.manual_seed(0)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as temporary:
        loaded = tiny_model(Path(temporary), "svd_xt_tiny")[0]
        compare_unet(loaded)
        use_product = part("svd_core.networks.attention").use_product
        compare_streamed_products(loaded.unet.model.diffusion_model, use_product, RESULTS)
        compare_clip_vision(loaded, Path(temporary))
        compare_vae()
        compare_lora(Path(temporary), RESULTS, difference)
        compare_quantised(Path(temporary), their_config, RESULTS, difference)
        RESULTS.update(compare_controlnet(Path(temporary)))
    print(json.dumps(RESULTS))
