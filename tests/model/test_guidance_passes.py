"""The conditional and unconditional pass in one batch give the same clip as one after the other."""

import copy
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

import svd_core as svd
from svd_core.condition import Condition, DeepFeatures, Region
from svd_core.model.guidance_passes import set_guidance_mode
from svd_core.model.model import SVDModel
from svd_core.networks.embedding import is_broadcast
from svd_core.networks.unet import UNet
from svd_core.sampling.denoiser import denoise_with
from svd_core.sampling.guidance import Guidance, as_guidance, batches_conditions, guided_estimate, linear_guidance
from svd_core.sampling.noise import start_noise
from svd_core.sampling.reuse import ReuseFeatures
from tests.helpers.motion_models import Counted, obedient_model
from tests.helpers.motion_models import run as run_obedient
from tests.helpers.tiny_unets import FRAMES, SIDE, condition_for, random, tiny_model


@pytest.fixture
def tiny() -> SVDModel:
    return tiny_model()


@pytest.fixture(scope="module")
def nano() -> SVDModel:
    return svd.load_model("nano")


class Passes:
    """Counts the clips of every pass of a UNet while the `with` block lasts."""

    def __init__(self, unet: UNet) -> None:
        self.clips: list[int] = []
        original = unet.forward

        def counted(x, *given, num_frames, **more):
            self.clips.append(len(x) // num_frames)
            return original(x, *given, num_frames=num_frames, **more)

        self._patch = patch.object(unet, "forward", counted)

    def __enter__(self) -> list[int]:
        self._patch.__enter__()
        return self.clips

    def __exit__(self, *exception) -> None:
        self._patch.__exit__(*exception)


def assert_close(one: torch.Tensor, other: torch.Tensor) -> None:
    # Products of other heights sum in another order: some ulp of float32, 1.2e-7 each.
    assert ((one - other).norm() / other.norm()).item() < 1e-5


GUIDANCE = {
    "linear": (linear_guidance(1.0, 2.5, FRAMES), [2, 2, 2]),
    "one scale": (3.0, [2, 2, 2]),
    "0 and 1 among the frames": (torch.tensor([0.0, 1.0, 2.0]), [2, 2, 2]),
    "interval": (Guidance(torch.tensor(2.0), 0.1, 20.0), [1, 2, 1]),
    "none": (1.0, [1, 1, 1]),
    "unconditional alone": (0.0, [1, 1, 1]),
}


@pytest.mark.parametrize("name", GUIDANCE)
def test_a_clip_is_the_same_in_half_the_passes(tiny, name):
    guidance, passes = GUIDANCE[name]
    given = (start_noise(FRAMES, SIDE, SIDE, 1), [50.0, 5.0, 0.05, 0.0], guidance, condition_for(tiny))
    set_guidance_mode(tiny.unet, "in turn")
    with Passes(tiny.unet) as seen:
        expected = svd.sample(tiny.denoise, *given)
    assert seen == [1] * sum(passes)
    set_guidance_mode(tiny.unet, "together")
    with Passes(tiny.unet) as seen:
        assert_close(svd.sample(tiny.denoise, *given), expected)
    assert seen == passes


def test_the_embedded_model_makes_the_same_clip(nano):
    frames, size = nano.config.frames, (nano.config.height // 8, nano.config.width // 8)
    unet = copy.deepcopy(nano.unet)
    model = replace(nano, unet=unet)
    scales = linear_guidance(1.0, 2.5, frames)
    given = (start_noise(frames, *size, 1), [700.0, 5.0, 0.0], scales, condition_for(model))
    set_guidance_mode(unet, "in turn")
    in_turn = svd.sample(model.denoise, *given)
    set_guidance_mode(unet, "together")
    assert_close(svd.sample(model.denoise, *given), in_turn)


def with_region(condition: Condition, seed: int = 9) -> Condition:
    share = random(1, 1, SIDE, SIDE, seed=seed).sigmoid()
    return replace(condition, region=Region(random(1, 768, seed=seed), share))


PAIRS = {
    "guidance": lambda c: (c.unconditional(), c),
    "two pictures": lambda c: (replace(c, token=random(1, 1, 24, seed=4)), c),
    "rows that are equal only by value": lambda c: (replace(c.unconditional(), vector=c.vector.clone()), c),
    "other buckets": lambda c: (replace(c, vector=random(1, 768, seed=7)), c),
    "buckets over the frames": lambda c: (replace(c, vector=random(FRAMES, 768, seed=7)), c),
    "pictures over the frames": lambda c: (
        replace(c, token=random(FRAMES, 1, 24, seed=7), latent=random(FRAMES, 4, SIDE, SIDE, seed=8)),
        c,
    ),
    "two tokens": lambda c: tuple(replace(c, token=random(1, 2, 24, seed=seed)) for seed in (4, 5)),
    "two tokens over the frames": lambda c: tuple(
        replace(c, token=random(FRAMES, 2, 24, seed=seed)) for seed in (4, 5)
    ),
    "regions": lambda c: (with_region(c.unconditional()), with_region(c)),
    "other regions": lambda c: (with_region(c.unconditional(), 11), with_region(c)),
    "a region in one of them": lambda c: (c.unconditional(), with_region(c)),
    "three": lambda c: (c.unconditional(), c, with_region(c)),
    "one": lambda c: (c,),
}


@pytest.mark.parametrize("sigma", [1.5, torch.tensor([0.5, 1.5, 9.0])], ids=["one level", "levels over the frames"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_whatever_conditions_tell_one_pass_gives_what_each_gives_alone(tiny, pair, sigma):
    conditions, x = pair(condition_for(tiny)), random(FRAMES, 4, SIDE, SIDE, seed=3)
    alone = [tiny.denoise(x, sigma, one) for one in conditions]
    set_guidance_mode(tiny.unet, "in turn")
    in_turn = tiny.denoise(x, sigma, conditions)
    assert all(map(torch.equal, in_turn, alone))
    set_guidance_mode(tiny.unet, "together")
    with Passes(tiny.unet) as seen:
        together = tiny.denoise(x, sigma, list(conditions))
    assert seen == [len(conditions)]
    assert together.shape == (len(conditions), FRAMES, 4, SIDE, SIDE)
    for one, other in zip(together, alone, strict=True):
        assert_close(one, other)


def test_what_does_not_depend_on_the_step_is_computed_once_for_both_branches(tiny):
    set_guidance_mode(tiny.unet, "together")
    condition, x = condition_for(tiny), random(FRAMES, 4, SIDE, SIDE)
    kept = [module.attn2._cache._entries for module in tiny.unet.modules() if hasattr(module, "attn2")]

    def step(sigma: float) -> torch.Tensor:
        return tiny.denoise(x, sigma, (condition.unconditional(), condition))

    step(2.0)
    before = step(1.5)
    for entries in kept:
        assert [constant.shape[0] for _, constant in entries["token"]] == [2]  # one result, a row for each branch
    condition.token.add_(1.0)  # in place: the same memory
    after = step(1.5)
    assert torch.equal(after[0], before[0]) and not torch.equal(after[1], before[1])


@pytest.mark.parametrize(
    ("name", "alike"),
    [("guidance", True), ("rows that are equal only by value", True), ("other buckets", False)],
)
def test_one_motion_for_both_branches_stays_known_as_one_row(tiny, name, alike):
    told = []

    def network(noisy, c_noise, context, vector, num_frames):
        told.append([is_broadcast(part) for part in (c_noise, vector, *context)])
        return noisy[:, :4]

    denoise_with(network, random(FRAMES, 4, SIDE, SIDE), 2.0, PAIRS[name](condition_for(tiny)))
    assert told == [[True, alike, True, True]]


def test_features_are_reused_branch_by_branch(tiny):
    given = (start_noise(FRAMES, SIDE, SIDE, 1), [50.0, 20.0, 5.0, 0.0], 2.5, condition_for(tiny))
    expected = svd.sample(tiny.denoise, *given, controls=[ReuseFeatures(2, 1)])
    set_guidance_mode(tiny.unet, "together")
    with Passes(tiny.unet) as seen:
        assert torch.equal(svd.sample(tiny.denoise, *given, controls=[ReuseFeatures(2, 1)]), expected)
    assert seen == [1] * 6
    with pytest.raises(ValueError, match="one by one"):
        tiny.denoise(given[0], 1.0, (given[3], given[3]), features=DeepFeatures(1))


def test_a_model_is_asked_for_both_only_where_it_says_that_it_takes_both():
    asked = []

    @batches_conditions
    def both(x, sigma, given):
        asked.append(given)
        several = isinstance(given, tuple)
        return (
            torch.stack([obedient_model(x, sigma, one) for one in given])
            if several
            else obedient_model(x, sigma, given)
        )

    counted = Counted()
    assert torch.equal(run_obedient(model=both), run_obedient(model=counted))
    assert all(isinstance(given, tuple) for given in asked)
    assert len(counted.conditions) == 2 * len(asked)
    assert all(isinstance(given, Condition) for given in counted.conditions)


def test_the_state_keeps_its_precision(tiny):
    set_guidance_mode(tiny.unet, "together")
    half = replace(tiny, unet=copy.deepcopy(tiny.unet).bfloat16())
    x = random(FRAMES, 4, SIDE, SIDE).double()
    assert guided_estimate(half.denoise, x, 3.0, condition_for(tiny), as_guidance(2.0)).dtype == torch.float64
