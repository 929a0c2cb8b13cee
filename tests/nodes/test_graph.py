"""The whole graph without a host: the clip of the core, batches, dictionaries of a host, nothing shared is changed."""

import copy
from dataclasses import replace

import pytest
import torch

from tests.helpers.nodes_pack import part, run, write_tiny

FILE = "svd_xt_tiny.safetensors"
FAST = {"steps": 3}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("models") / FILE)


@pytest.fixture(scope="module", autouse=True)
def listed(checkpoint):
    """The host's file list, holding the tiny checkpoint."""
    host, patch = part("nodes.host.comfy"), pytest.MonkeyPatch()
    patch.setattr(host, "model_files", lambda folder: [FILE] if folder == "svd" else [])
    patch.setattr(host, "model_path", lambda folder, name: str(checkpoint) if (folder, name) == ("svd", FILE) else None)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def picture():
    """A picture of another aspect than the clip, with something to see in it."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 80), indexing="ij")
    return torch.stack([x, y, (x * y * 9) % 1], dim=-1)[None]  # [1, 48, 80, 3]


@pytest.fixture(scope="module")
def loaded(listed):
    return run("SVDReelLoadModel", model_name=FILE)


def chain(loaded, picture, seed=5, fit="crop", frames_per_chunk=0, **condition):
    model, _, vae = loaded
    motion = run("SVDReelMotion", motion_bucket_id=90, fps=9, augmentation_level=0.1)[0]
    positive, negative, latent = run(
        "SVDReelCondition", model=model, image=picture, seed=seed, fit=fit, motion=motion, **condition
    )
    sigmas = run("SVDReelSchedule", **FAST)[0]
    clip = run(
        "SVDReelSampler", model=model, positive=positive, negative=negative, latent=latent, seed=seed, sigmas=sigmas
    )[0]
    return run("SVDReelDecode", vae=vae, latent=clip, frames_per_chunk=frames_per_chunk)[0], clip


def core_clip(checkpoint, picture, **settings):
    core_animate, checkpoints = part("svd_core.pipelines.clip"), part("svd_core.checkpoints")
    model = checkpoints.load_model(checkpoint)
    given = {"motion_bucket": 90, "fps": 9, "augmentation": 0.1, "seed": 5, **FAST, **settings}
    return core_animate.animate(model, picture, core_animate.AnimateSettings(**given))


def test_loader_offers_nano_first_and_the_files_of_the_host():
    names = part("nodes.load").SVDReelLoadModel.INPUT_TYPES()["required"]["model_name"][0]
    assert names == ["nano (embedded)", FILE]


def test_loader_reads_variant_size_and_length(loaded):
    model = loaded[0]
    assert (model.variant, model.config.frames, model.config.width, model.config.height) == ("svd_xt", 4, 64, 64)
    chosen = run("SVDReelLoadModel", model_name=FILE, variant="svd_xt_1_1")[0]
    assert (chosen.variant, chosen.config.frames, chosen.config.width) == ("svd_xt_1_1", 25, 1024)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_chain_of_nodes_gives_the_clip_of_the_core(checkpoint, loaded, picture, fit):
    frames, _ = chain(loaded, picture, fit=fit)
    expected = core_clip(checkpoint, picture, fit=fit)
    assert torch.equal(frames, expected), "the same operations in the same order"


def test_single_node_gives_the_clip_of_the_chain_bit_for_bit(loaded, picture):
    frames, latent = chain(loaded, picture)
    one = run(
        "SVDReelAnimate",
        model=loaded[0],
        image=picture,
        seed=5,
        motion_bucket_id=90,
        fps=9,
        augmentation_level=0.1,
        **FAST,
    )
    assert torch.equal(one[0], frames)
    assert torch.equal(one[1]["samples"], latent["samples"])
    assert one[2] == 9.0 and isinstance(one[2], float)


def test_sizes_and_length_can_be_chosen(loaded, picture):
    frames, latent = chain(loaded, picture, width=72, height=40, frames=3)
    assert tuple(frames.shape) == (3, 40, 72, 3)
    assert tuple(latent["samples"].shape) == (3, 4, 5, 9)


def test_batch_of_pictures_makes_the_clips_of_each_picture_alone(loaded, picture):
    other = picture.flip(2)
    both, latent = chain(loaded, torch.cat([picture, other]))
    assert tuple(latent["samples"].shape) == (8, 4, 8, 8)
    alone = torch.cat([chain(loaded, picture, seed=5)[0], chain(loaded, other, seed=6)[0]])
    # Resizing several pictures at once may round differently from resizing one.
    torch.testing.assert_close(both, alone, atol=2e-5, rtol=0)


def test_padded_borders_are_cut_off_again(loaded, picture):
    frames, latent = chain(loaded, picture, fit="pad")
    height, width = frames.shape[1:3]
    assert (latent["samples"].shape[-2:] == (8, 8)) and width == 64
    assert abs(width / height - 80 / 48) < 0.06, "the aspect of the picture"


def test_conditioning_has_the_entries_of_the_hosts_own_node(loaded, picture):
    positive, negative, latent = run("SVDReelCondition", model=loaded[0], image=picture)
    (token, extra), (zero, extra_zero) = positive[0], negative[0]
    assert tuple(token.shape) == (1, 1, 64) and not zero.any()
    assert tuple(extra["concat_latent_image"].shape) == (1, 4, 8, 8) and not extra_zero["concat_latent_image"].any()
    assert (extra["motion_bucket_id"], extra["fps"], extra["augmentation_level"]) == (127, 7, 0.02)
    assert not latent["samples"].any()


def test_conditioning_of_the_hosts_node_is_understood(loaded, picture):
    """Its dictionaries lack our notes and may lack numbers, for which the host has defaults."""
    model = loaded[0]
    positive, negative, _ = run("SVDReelCondition", model=model, image=picture, motion=run("SVDReelMotion", fps=6)[0])
    latent = {"samples": torch.zeros(4, 4, 8, 8)}
    bare = [[[c[0][0], {"concat_latent_image": c[0][1]["concat_latent_image"]}]] for c in (positive, negative)]
    ours = [[[c[0][0], {**c[0][1], "augmentation_level": 0.0}]] for c in (positive, negative)]
    sigmas = run("SVDReelSchedule", **FAST)[0]
    results = [
        run("SVDReelSampler", model=model, positive=p, negative=n, latent=latent, sigmas=sigmas)[0]["samples"]
        for p, n in (bare, ours)
    ]
    assert torch.equal(*results)


def test_sampler_defaults_are_those_of_the_model(loaded, picture):
    model = replace(
        loaded[0], config=replace(loaded[0].config, variant="nano")
    )  # its schedule has 20 steps, no guidance
    positive, negative, latent = run("SVDReelCondition", model=model, image=picture)
    given = {"model": model, "positive": positive, "negative": negative, "latent": latent}
    left = run("SVDReelSampler", **given)[0]["samples"]
    guidance = run("SVDReelGuidance", shape="constant", low=1.0, high=1.0)[0]
    right = run("SVDReelSampler", **given, sigmas=run("SVDReelSchedule", steps=20)[0], guidance=guidance)[0]["samples"]
    assert torch.equal(left, right)


def test_a_given_clip_is_where_partial_denoising_starts(loaded, picture):
    positive, negative, empty = run("SVDReelCondition", model=loaded[0], image=picture)
    given = {"model": loaded[0], "positive": positive, "negative": negative}
    given["sigmas"] = run("SVDReelSchedule", kind="custom", sigmas="0.05, 0.01, 0")[0]
    clip = {**empty, "samples": torch.linspace(-3, 3, 4 * 4 * 64).reshape(4, 4, 8, 8)}
    near = run("SVDReelSampler", latent=clip, **given)[0]["samples"]
    from_nothing = run("SVDReelSampler", latent=empty, **given)[0]["samples"]
    assert float((near - clip["samples"]).abs().mean()) < 0.5 < float((from_nothing - clip["samples"]).abs().mean())


def test_inputs_are_left_as_they_were(loaded, picture):
    """Sockets are shared with other nodes and with the next run."""
    model, _, vae = loaded
    before = picture.clone()
    positive, negative, latent = run("SVDReelCondition", model=model, image=picture)
    kept = copy.deepcopy((positive, negative, latent))
    sigmas = run("SVDReelSchedule", **FAST)[0]
    clip = run("SVDReelSampler", model=model, positive=positive, negative=negative, latent=latent, sigmas=sigmas)[0]
    samples = clip["samples"].clone()
    run("SVDReelDecode", vae=vae, latent=clip)
    assert torch.equal(picture, before) and torch.equal(clip["samples"], samples)
    for now, then in zip((positive, negative), kept[:2], strict=True):
        assert torch.equal(now[0][0], then[0][0]) and now[0][1].keys() == then[0][1].keys()
        assert torch.equal(now[0][1]["concat_latent_image"], then[0][1]["concat_latent_image"])
    assert latent.keys() == kept[2].keys() and not latent["samples"].any()


def test_chunks_change_the_clip_and_exact_does_not_depend_on_them(loaded, picture):
    exact, _ = chain(loaded, picture)
    again, _ = chain(loaded, picture, frames_per_chunk=4)
    halves, _ = chain(loaded, picture, frames_per_chunk=2)
    assert torch.equal(exact, again) and not torch.allclose(exact, halves, atol=1e-4)


def test_cut_or_repeated_latents_still_decode(loaded, picture):
    _, clip = chain(loaded, picture)
    cut = {**clip, "samples": clip["samples"][:3]}
    twice = {**clip, "samples": clip["samples"].repeat(2, 1, 1, 1)}
    assert run("SVDReelDecode", vae=loaded[2], latent=cut)[0].shape[0] == 3
    frames = run("SVDReelDecode", vae=loaded[2], latent=twice)[0]
    assert torch.equal(frames[:4], frames[4:]), "two clips, decoded apart"


def test_a_cancel_stops_the_sampler_within_one_step(loaded, picture, monkeypatch):
    class Cancelled(BaseException):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) > 3:
            raise Cancelled

    positive, negative, latent = run("SVDReelCondition", model=loaded[0], image=picture)
    monkeypatch.setattr(part("nodes.host.comfy"), "check_interrupt", check)
    with pytest.raises(Cancelled):
        run("SVDReelSampler", model=loaded[0], positive=positive, negative=negative, latent=latent)
    assert len(calls) == 4
    calls.clear()
    with pytest.raises(Cancelled):
        run("SVDReelDecode", vae=loaded[2], latent=latent)
    assert len(calls) == 4


BAD_GRAPHS = {
    "not a number": (lambda p: {"image": torch.full_like(p, float("nan"))}, "NaN"),
    "no picture": (lambda p: {"image": p[:0]}, "0 pictures"),
    "odd width": (lambda p: {"image": p, "width": 100}, "100 is not a multiple of 8; use 96 or 104"),
    "two channels": (lambda p: {"image": p[..., :2]}, "2 channels"),
    "no colour": (lambda p: {"image": torch.cat([p, p[..., :1]], -1), "background": "nonsense"}, "not a colour"),
}


@pytest.mark.parametrize("case", list(BAD_GRAPHS))
def test_bad_pictures_are_answered_with_a_sentence(loaded, picture, case):
    values, words = BAD_GRAPHS[case]
    with pytest.raises(ValueError, match=words):
        run("SVDReelCondition", model=loaded[0], **values(picture))


def test_mismatched_graphs_are_answered_with_a_sentence(loaded, picture):
    model = loaded[0]
    positive, negative, latent = run("SVDReelCondition", model=model, image=picture)
    given = {"model": model, "positive": positive, "negative": negative, "sigmas": torch.tensor([1.0, 0.0])}
    sixteen = {"samples": torch.zeros(4, 16, 8, 8)}
    other_size = {"samples": torch.zeros(4, 4, 8, 16)}
    controlled = [[positive[0][0], {**positive[0][1], "control": object()}]]
    rows = [[positive[0][0].repeat(3, 1, 1), positive[0][1]]]
    for change, words in (
        ({"latent": sixteen}, "16, 8, 8"),
        ({"latent": other_size}, "got 128x64 and 64x64 pixels"),
        ({"latent": latent, "positive": positive * 2}, "got 2"),
        ({"latent": latent, "positive": controlled}, "control"),
        ({"latent": latent, "positive": rows}, "3 rows"),
        ({"latent": latent, "sigmas": torch.tensor([1.0])}, "one step"),
        ({"latent": latent, "sigmas": torch.zeros(0)}, "one step"),
    ):
        with pytest.raises(ValueError, match=words):
            run("SVDReelSampler", **{**given, **change})


def test_a_unet_only_file_borrows_or_says_what_is_missing(tmp_path, checkpoint, picture, monkeypatch):
    from safetensors.torch import save_file

    from tests.helpers.checkpoint_files import TINY, only_unet, tiny_tensors

    alone = tmp_path / "svd_xt_unet.safetensors"
    save_file(only_unet(tiny_tensors()), alone, metadata=TINY)
    paths = {FILE: str(checkpoint), alone.name: str(alone)}
    monkeypatch.setattr(part("nodes.host.comfy"), "model_path", lambda folder, name: paths.get(name))
    model, tower, vae = run("SVDReelLoadModel", model_name=alone.name)
    for used in (tower, vae):
        with pytest.raises(ValueError, match="complete_from"):
            used.encode_image(picture)
        assert not hasattr(used, "is_dynamic"), "hosts ask objects on sockets what they are"
    with pytest.raises(ValueError, match="complete_from"):
        run("SVDReelCondition", model=model, image=picture)
    whole = run("SVDReelLoadModel", model_name=alone.name, complete_from=FILE)
    plain = run("SVDReelLoadModel", model_name=FILE)
    torch.testing.assert_close(chain(whole, picture)[0], chain(plain, picture)[0], atol=1e-5, rtol=0)
    # Parts from other loaders do as well.
    borrowed = run("SVDReelCondition", model=model, image=picture, clip_vision=plain[1], vae=plain[2])
    own = run("SVDReelCondition", model=plain[0], image=picture)
    assert torch.equal(borrowed[0][0][0], own[0][0][0])


def test_a_replaced_file_is_noticed(checkpoint):
    node = part("nodes.load").SVDReelLoadModel
    before = node.IS_CHANGED(FILE, "auto", "auto")
    assert before == node.IS_CHANGED(FILE, "auto", "auto")
    checkpoint.touch()
    assert before != node.IS_CHANGED(FILE, "auto", "auto")


def test_nested_folders_and_cached_repositories_are_offered_once(tmp_path, monkeypatch):
    """A folder is offered by its root; the files of its parts are not offered as models of their own."""
    cached = "models--someone--svd-xt"
    for place in ("plain", "a/deep", "a/b/deeper", f"{cached}/snapshots/0a1b", ".hidden/x", "not a model/vae"):
        for network in ("unet", "vae") if place != "not a model/vae" else ("",):
            (tmp_path / place / network).mkdir(parents=True)
            (tmp_path / place / network / "diffusion_pytorch_model.safetensors").touch()
    host, load = part("nodes.host.comfy"), part("nodes.load")
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.safetensors")]
    files += ["unet/diffusion_pytorch_model.safetensors", "svd_unet/diffusion_pytorch_model.safetensors"]
    by_folder = {"svd": files, "diffusion_models": ["animatelcm_unet.safetensors"]}
    monkeypatch.setattr(host, "model_roots", lambda folder: [str(tmp_path), "/nowhere"] if folder == "svd" else [])
    monkeypatch.setattr(host, "model_files", lambda folder: by_folder.get(folder, []))
    offered = set(load.model_names())
    assert offered >= {"plain", "a/deep", cached, "animatelcm_unet.safetensors", *by_folder["svd"][-2:]}
    assert not any("/vae/" in name or f"{cached}/" in name for name in offered)
    assert load.model_location("a/deep") == str(tmp_path / "a" / "deep")
    assert load.model_location(cached) == str(tmp_path / cached)


def test_diffusers_folders_are_offered_and_loaded(tmp_path, loaded, picture, monkeypatch):
    from tests.helpers.checkpoint_files import folder_tensors, tiny_tensors, write_folder

    write_folder(tmp_path / "stable-video-diffusion-img2vid-xt", folder_tensors(tiny_tensors()))
    host = part("nodes.host.comfy")
    monkeypatch.setattr(host, "model_roots", lambda folder: [str(tmp_path)] if folder == "diffusers" else [])
    names = part("nodes.load").model_names()
    assert "stable-video-diffusion-img2vid-xt" in names
    folder = run("SVDReelLoadModel", model_name="stable-video-diffusion-img2vid-xt")
    given = {"width": 64, "height": 64, "frames": 4}
    torch.testing.assert_close(chain(folder, picture, **given)[0], chain(loaded, picture)[0], atol=1e-5, rtol=0)


def test_exported_model_is_a_clone_that_others_may_patch(loaded):
    exported = run("SVDReelExportModel", model=loaded[0])[0]
    assert exported is not loaded[0].unet and exported.model is loaded[0].unet.model
