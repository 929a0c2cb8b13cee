"""LoRAs through the host's patches: our sampler, the exported model, and the weights that come back."""

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.lora_files import random_layers, spellings
from tests.host.test_inside import measured  # noqa: F401  a fixture

STEPS = 3
TIME = "input_blocks.1.1.time_stack.0.attn1.to_v"
CONVOLUTION = "input_blocks.1.0.time_stack.in_layers.2"
SHAPES = {TIME: (32, 32), CONVOLUTION: (32, 32, 3, 1, 1), "input_blocks.1.1.transformer_blocks.0.ff.net.2": (32, 128)}


@pytest.fixture
def lora(server, build):
    """Put a LoRA of three kinds of layers with a DoRA among them into the host's folder; its name."""

    def put(name: str, kind: str, seed: int = 1) -> str:
        tensors = spellings(random_layers(SHAPES, seed=seed))[kind]
        if "kohya" in kind:
            start = next(key for key in tensors if "to_v" in key and key.endswith(".alpha")).removesuffix(".alpha")
            tensors[f"{start}.dora_scale"] = torch.linspace(0.5, 2, 32)[:, None]
        save_file(tensors, server.base / "models" / "loras" / name)
        build.info = server.get("/object_info")
        return name

    return put


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / one.norm())


def test_our_sampler_and_ksampler_behind_the_export_are_changed_alike(build, run, latent, lora):
    name = lora("reel_kohya.safetensors", "kohya, folder names")
    loader = build.load()
    changed = build("SVDReelLoadLora", model=loader(), lora_name=name, strength=0.8, temporal_strength=1.0)
    condition = build.condition(loader)
    guidance, sigmas = build("SVDReelGuidance", low=1.0, high=1.0), build("SVDReelSchedule", steps=STEPS)
    kept = []
    for model in (loader, changed, loader):
        kept.append(build.keep(build.sampled(model, condition, guidance=guidance(), sigmas=sigmas())()))
        exported = build("SVDReelExportModel", model=model())
        kept.append(build.keep(build.ksampled(exported(), condition, steps=STEPS, cfg=1.0)()))
    result = run(build)
    ours, theirs, our_lora, their_lora, ours_after, theirs_after = (latent(result, node) for node in kept)
    assert apart(ours, our_lora) > 0.05
    # As without LoRA: the two samplers differ in rounding only.
    assert apart(our_lora, their_lora) < 1e-4 and apart(ours, theirs) < 1e-4
    assert torch.equal(ours, ours_after) and torch.equal(theirs, theirs_after), "unloading restores the weights"


def test_two_in_a_row_add_up_in_any_order_and_strength_zero_is_none(build, run, latent, lora):
    one, two = lora("reel_a.safetensors", "single file"), lora("reel_b.safetensors", "peft, unet.", seed=2)
    loader = build.load()

    def chain(*names: str, strength: float = 1.0):
        model = loader
        for name in names:
            values = {"strength": strength, "temporal_strength": strength}
            model = build("SVDReelLoadLora", model=model(), lora_name=name, **values)
        return model

    condition = build.condition(loader)
    sigmas = build("SVDReelSchedule", steps=STEPS)
    models = (loader, chain(one, two), chain(two, one), chain(one), chain(one, two, strength=0.0))
    kept = [build.keep(build.sampled(model, condition, sigmas=sigmas())()) for model in models]
    result = run(build)
    plain, both, turned, single, none = (latent(result, node) for node in kept)
    assert torch.equal(plain, none)
    assert apart(both, turned) < 1e-4 and apart(both, single) > 0.01 and apart(plain, single) > 0.01


def test_a_lora_for_another_model_ends_the_run_with_our_sentence(server, build):
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q"
    tensors = {f"{name}.lora_up.weight": torch.ones(4, 2), f"{name}.lora_down.weight": torch.ones(2, 4)}
    save_file(tensors, server.base / "models" / "loras" / "sdxl.safetensors")
    build.info = server.get("/object_info")
    loader = build.load()
    changed = build("SVDReelLoadLora", model=loader(), lora_name="sdxl.safetensors")
    build.keep(build.sampled(changed, build.condition(loader))())
    result = server.run(build.graph)
    assert result.ended == "execution_error" and "sdxl.safetensors is a LoRA for SDXL" in result.error()


# The same sums in float32, whoever takes them: measured 1.2e-6.
@pytest.mark.parametrize("what", ["lora loaded whole", "lora streamed", "lora streamed last"])
def test_patched_weights_give_the_output_of_the_core(measured, what):  # noqa: F811
    assert measured[what] < 1e-5 and measured["lora changes"] > 0.1 and measured["streamed layers"] > 10


def test_unloading_gives_back_every_weight_bit_for_bit(measured):  # noqa: F811
    assert measured["weights restored"]


def test_a_lora_over_8_bit_weights_does_what_it_does_over_full_ones(measured):  # noqa: F811
    change, error = measured["lora on 8 bits"]
    assert measured["format of 8 bits"] == "torch.float8_e4m3fn"
    # The host rounds the merged weight to 8 bits at random, which costs some percent of it.
    assert change > 0.1 and error < 0.3 * change
