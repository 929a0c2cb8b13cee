"""The planning node: its report, its page, and a plan that sampler and decoder follow without changing the clip."""

import dataclasses

import pytest
import torch

from tests.helpers.nodes_pack import part, run


@pytest.fixture(scope="module")
def loaded():
    return run("SVDReelLoadModel", model_name="nano (embedded)")


def test_the_plan_covers_the_clip_as_it_will_be_made(loaded):
    config = loaded[0].config
    report, page, plan = run("SVDReelPlan", model=loaded[0], memory="8 GB")
    assert f"{config.frames} frames of {config.width}x{config.height} in 8 GB" in report
    assert plan.fits and plan.seconds > 0
    assert page.ndim == 4 and page.shape[3] == 3
    larger = run("SVDReelPlan", model=loaded[0], memory="8 GB", frames=2 * config.frames, measure_time=False)[2]
    assert larger.needs > plan.needs
    assert larger.seconds is None


def test_measured_memory_is_what_is_free_now(loaded, monkeypatch):
    monkeypatch.setattr(part("nodes.host.comfy"), "free_bytes", lambda device: 3 * 2**30)
    plan = run("SVDReelPlan", model=loaded[0], memory="measured", measure_time=False)[2]
    assert plan.memory == int(4.5 * 2**30)


def test_the_report_names_the_controls_in_use_and_their_cost(loaded):
    given = {"model": loaded[0], "memory": "8 GB", "measure_time": False}
    control = run("SVDReelSteady", rescale=0.0, keep_parallel=1.0, first_frame=1.0, colour_anchor=0.2)[0]
    line = run("SVDReelPlan", **given, control=control)[0].splitlines()[-1]
    config, steps = (
        loaded[0].config,
        part("svd_core.pipelines.settings").AnimateSettings().resolve(loaded[0].config).steps,
    )
    assert f"with first frame, colour anchor: {steps} UNet passes of {config.frames} frames" in line
    assert "1.00 times the sampling time" in line and "with " not in run("SVDReelPlan", **given)[0].splitlines()[-1]


def test_reused_features_are_planned_as_the_command_line_plans_them(loaded):
    given = {"model": loaded[0], "width": 512, "height": 512, "memory": "8 GB", "measure_time": False}
    whole, drafts, deeper = (
        run("SVDReelPlan", **given, reuse_interval=interval, reuse_depth=depth)[2]
        for interval, depth in ((1, 2), (2, 2), (2, 4))
    )
    settings = part("svd_core.pipelines.settings").AnimateSettings(width=512, height=512, reuse=2, reuse_depth=4)
    settings, config = settings.resolve(loaded[0].config), loaded[0].config
    planned = part("svd_core.cli.models").planned_of(settings)
    itemsize = loaded[0].compute_dtype.itemsize
    assert deeper.stages == part("svd_core.cli.plan").plan_clip(config, planned, 8, itemsize=itemsize).stages
    flops = [next(stage.flops for stage in plan.stages if stage.network == "unet") for plan in (whole, drafts, deeper)]
    assert flops[0] > flops[2] > flops[1]


def test_sampler_and_decoder_follow_the_plan_and_the_clip_stays_the_same(loaded, monkeypatch):
    model, _, vae = loaded
    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    positive, negative, latent = run("SVDReelCondition", model=model, image=picture, width=64, height=64, frames=3)
    plan = run("SVDReelPlan", model=model, width=64, height=64, frames=3, memory="6 GB", measure_time=False)[2]
    small = dataclasses.replace(plan, chunk_elements=4096, strategy="recompute")
    used = []
    streamed = part("svd_core.model.decoding")
    original = streamed.decode_clip
    monkeypatch.setattr(streamed, "decode_clip", lambda *args: used.append(args[2]) or original(*args))

    def clip(plan):
        given = {"positive": positive, "negative": negative, "latent": latent}
        sigmas = run("SVDReelSchedule", steps=2)[0]
        latents = run("SVDReelSampler", model=model, **given, sigmas=sigmas, plan=plan)[0]
        return latents, run("SVDReelDecode", vae=vae, latent=latents, plan=plan)[0]

    free, held = clip(None), clip(small)
    # Matrix products of other heights may sum in another order.
    torch.testing.assert_close(held[0]["samples"], free[0]["samples"], rtol=0, atol=1e-4)
    torch.testing.assert_close(held[1], free[1], rtol=0, atol=1e-4)
    assert used == ["store", "recompute"]
