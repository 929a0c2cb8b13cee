"""The nodes of motion amount, steady clips and colour match, in the whole graph with a tiny model."""

import pytest
import torch

from tests.helpers.nodes_pack import defaults, pack, part, run


@pytest.fixture(scope="module")
def picture():
    """A picture [1, 64, 64, 3] with something to see in it."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    return torch.stack([x, y, (x * y * 9) % 1], dim=-1)[None]


@pytest.fixture(scope="module")
def condition(loaded, picture):
    return run("SVDReelCondition", model=loaded[0], image=picture)


def clip(loaded, condition, control=None, guidance=3.0):
    """Latents of a clip in 3 steps."""
    positive, negative, latent = condition
    return run(
        "SVDReelSampler",
        model=loaded[0],
        positive=positive,
        negative=negative,
        latent=latent,
        sigmas=run("SVDReelSchedule", steps=3)[0],
        guidance=run("SVDReelGuidance", shape="constant", low=guidance, high=guidance)[0],
        control=control,
    )[0]["samples"]


@pytest.fixture(scope="module")
def plain(loaded, condition):
    return clip(loaded, condition)


@pytest.mark.parametrize("node", ["SVDReelMotionAmount", "SVDReelSteady"])
def test_a_node_as_it_comes_from_the_menu_leaves_the_clip_bit_equal(loaded, condition, plain, node):
    control = run(node)[0]
    assert control.links == ()
    assert torch.equal(clip(loaded, condition, control), plain)


AMOUNT, STEADY = "SVDReelMotionAmount", "SVDReelSteady"
PARTS = [
    (AMOUNT, {"preset": "calm"}, 2, True),
    (AMOUNT, {"preset": "lively"}, 3, False),
    (AMOUNT, {"start_sigma": 100.0, "blur": 2.0}, 1, False),
    (AMOUNT, {"bucket_curve": "0:60, 0.5:180, 1:127"}, 1, False),
    (AMOUNT, {"fps_curve": "6, 12"}, 1, False),
    (AMOUNT, {"compare_bucket": 0}, 1, True),
    (AMOUNT, {"compare_bucket": 0, "compare_with": "the start picture"}, 1, True),
    (STEADY, {"rescale": 0.7}, 1, True),
    (STEADY, {"keep_parallel": 0.0}, 1, True),
    (STEADY, {"guidance_limit": 0.001}, 1, True),
    (STEADY, {"momentum": -0.5}, 1, True),
    (STEADY, {"first_frame": 1.0}, 1, False),
    (STEADY, {"colour_anchor": 1.0}, 1, False),
    (STEADY, {"rescale": 0.3, "first_frame": 0.5, "colour_anchor": 0.2, "anchor_regions": 4}, 3, False),
]


@pytest.mark.parametrize(("node", "values", "links", "needs_guidance"), PARTS, ids=[str(p[1]) for p in PARTS])
def test_every_part_reaches_the_clip(loaded, condition, plain, node, values, links, needs_guidance):
    control = run(node, **values)[0]
    assert len(control.links) == links
    made = clip(loaded, condition, control)
    assert torch.isfinite(made).all() and not torch.equal(made, plain)
    if needs_guidance and values != {"preset": "calm"}:
        assert torch.equal(clip(loaded, condition, control, 1.0), clip(loaded, condition, None, 1.0))


@pytest.mark.parametrize(("choice", "picture"), [("no picture", False), ("the start picture", True)])
def test_the_other_bucket_keeps_or_leaves_the_picture_as_chosen(choice, picture):
    (link,) = run(AMOUNT, compare_bucket=20, compare_with=choice)[0].links
    assert (link[0].bucket, link[0].picture) == (20.0, picture)


def test_nodes_chain_in_the_order_of_the_links(loaded, condition, plain):
    first = run(AMOUNT, compare_bucket=0)[0]
    both = run(STEADY, rescale=0.5, control=first)[0]
    assert [type(link[0]).__name__ for link in both.links] == ["BucketGuidance", "SteadyGuidance"]
    assert len(first.links) == 1, "what another node holds is not changed"
    clips = [plain, *(clip(loaded, condition, control) for control in (first, both))]
    assert not torch.equal(clips[1], clips[2]) and not torch.equal(clips[0], clips[2])


def test_the_first_frame_can_be_held_at_a_picture_without_noise(loaded, condition, picture):
    model, _, vae = loaded
    encoded = {"samples": vae.encode(picture)}
    control = run(STEADY, first_frame=1.0, first_frame_sigma=0.01, picture=encoded)[0]
    assert torch.equal(control.links[0][0].latent, encoded["samples"] * 0.18215), "sockets carry unscaled latents"
    held = clip(loaded, condition, control)
    # Sigma 0.01 is 0.0008 here, below all but the last level, at which half is held.
    errors = [(made[0] - encoded["samples"][0]).abs().mean() for made in (held, clip(loaded, condition))]
    assert errors[0] < 0.7 * errors[1]
    batch = run(STEADY, first_frame=1.0, picture={"samples": encoded["samples"].repeat(2, 1, 1, 1)})[0]
    with pytest.raises(ValueError, match="made for 2 clips, .* has 1; connect the latent"):
        clip(loaded, condition, batch)


POINTS = [
    ("", ()),
    ("0:60, 0.5:180, 1:127", ((0.0, 60.0), (0.5, 180.0), (1.0, 127.0))),
    ("60 180  127", ((0.0, 60.0), (0.5, 180.0), (1.0, 127.0))),
    ("90", ((0.0, 90.0),)),
]


@pytest.mark.parametrize(("text", "points"), POINTS)
def test_curves_are_written_as_points_or_as_numbers(text, points):
    assert part("svd_core.controls.amount").parse_points(text, "the curve") == points


@pytest.mark.parametrize(
    ("node", "values", "words"),
    [
        (AMOUNT, {"bucket_curve": "fast"}, "bucket curve.*'fast'.*write positions"),
        (AMOUNT, {"bucket_curve": "fast, 90"}, "bucket curve.*'fast, 90'.*write positions"),
        (AMOUNT, {"bucket_curve": "0:60, 90"}, "bucket curve.*write positions"),
        (AMOUNT, {"bucket_curve": "0:1:2"}, "bucket curve.*write positions"),
        (AMOUNT, {"fps_curve": "1:6, 0:7"}, r"fps curve .*got 0\); put"),
        (AMOUNT, {"fps_curve": "0:0.5"}, r"fps .*got 0.5\); use"),
        (STEADY, {"picture": {"samples": torch.zeros(1, 16, 8, 8)}}, r"got shape \[1, 16, 8, 8\]"),
        ("SVDReelColorMatch", {"frames": torch.zeros(2, 4, 4, 2), "strength": 0.5}, "image has 2 channels; give"),
    ],
)
def test_bad_widgets_are_answered_with_a_sentence(node, values, words):
    with pytest.raises(ValueError, match=words):
        run(node, **values)


def test_colour_match_of_no_strength_is_the_very_input():
    frames = torch.rand(3, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    assert run("SVDReelColorMatch", frames=frames, strength=0.0)[0] is frames


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_match_takes_drift_out_and_leaves_transparency(picture, channels):
    frames = torch.cat([0.2 + 0.5 * picture + 0.03 * t for t in range(4)])
    alpha = torch.linspace(0, 1, frames[..., :1].numel()).reshape(4, 64, 64, 1)
    frames = torch.cat([frames, alpha], dim=-1)[..., :channels]
    matched = run("SVDReelColorMatch", frames=frames, strength=1.0)[0]
    torch.testing.assert_close(matched[..., :3], frames[:1, ..., :3].expand(4, -1, -1, -1), atol=1e-3, rtol=0)
    assert torch.equal(matched[..., 3:], frames[..., 3:])
    other = run("SVDReelColorMatch", frames=frames, strength=1.0, reference=picture * 0.5 + 0.4)[0]
    assert other[..., :3].mean() - matched[..., :3].mean() == pytest.approx(0.2, abs=0.01)


def test_every_part_of_steady_is_off_in_the_menu():
    values = defaults(pack().NODE_CLASS_MAPPINGS[STEADY])
    off = {"rescale": 0.0, "keep_parallel": 1.0, "first_frame": 0.0, "colour_anchor": 0.0, "guidance_limit": 0.0}
    assert values.items() >= {**off, "momentum": 0.0}.items()
