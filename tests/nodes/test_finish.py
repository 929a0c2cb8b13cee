"""Finish Film, Plan Duration and Inspect and Convert Model, without a host."""

import pytest
import torch
import torch.nn.functional as F

from svd_core.finish import Reel, batch_of, to_size
from svd_core.video import read_clip
from tests.helpers.nodes_pack import part, run, write_tiny


def clip(frames: int = 4, height: int = 32, width: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(1, 3, height // 8, width // 8 + frames, generator=generator)
    wide = F.interpolate(small, (height, width + 8 * frames), mode="bicubic").clamp(0, 1)
    return torch.stack([wide[0, :, :, 2 * t : 2 * t + width].movedim(0, -1) for t in range(frames)])


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Films go into a folder of the test; answers what is passed to the encoder."""
    seen = {}
    finish = part("svd_core.finish")
    real = finish.write_film

    def target(prefix, suffix, width, height):
        path = tmp_path / f"film{suffix}"
        return path, {"filename": path.name, "subfolder": "", "type": "output"}

    def write(frames, path, options):
        seen["frames"] = list(frames)
        seen["options"] = options
        return real(iter(seen["frames"]), path, options)

    monkeypatch.setattr(part("nodes.host.film"), "film_target", target)
    monkeypatch.setattr(finish, "write_film", write)
    return seen


def test_the_node_hands_the_core_s_frames_to_the_encoder(written):
    size = {"size": "width and height", "width": 128, "height": 72}
    answer = run("SVDReelFinish", images=clip(), interpolate=3, fit="crop", **size)
    expected = batch_of(Reel(clip(), (to_size(128, 72, "crop"),), 3))
    assert torch.equal(torch.stack(written["frames"]), expected)
    video, path = answer["result"]
    assert answer["ui"]["images"][0]["filename"] == "film.mp4" and answer["ui"]["animated"] == (True,)
    assert video == path and read_clip(path)[0].shape == (10, 72, 128, 3)


def test_upright_clips_take_the_sizes_upright(written):
    run("SVDReelFinish", images=clip().transpose(1, 2), size="640x360", fit="crop", interpolate=1)
    assert written["frames"][0].shape == (640, 360, 3)


def test_custom_sizes_are_taken_as_they_are(written):
    run("SVDReelFinish", images=clip(), size="width and height", width=64, height=128, fit="pad", interpolate=1)
    assert written["frames"][0].shape == (128, 64, 3)


def test_latents_are_decoded_and_nothing_leads_from_clip_to_clip(written):
    loader = run("SVDReelLoadModel")
    latent = {"samples": torch.randn(4, 4, 8, 8), "svd_reel": part("nodes.shared.clips").ClipNote(2)}
    run("SVDReelFinish", latent=latent, vae=loader[2], interpolate=3)
    assert len(written["frames"]) == 2 * (3 + 1)
    frames = run("SVDReelDecode", vae=loader[2], latent=latent)[0]
    assert torch.equal(written["frames"][4], frames[2]) and torch.equal(written["frames"][3], frames[1])


def test_upscale_and_interpolation_models_are_used(written):
    def upscale(picture: torch.Tensor) -> torch.Tensor:
        return F.interpolate(picture, scale_factor=2)

    def between(earlier, later, times):
        return (torch.full_like(earlier, time) for time in times)

    run("SVDReelFinish", images=clip(2), interpolate=4, upscale_model=upscale, interp_model=between)
    assert written["frames"][0].shape == (64, 96, 3)
    assert [float(frame.mean()) for frame in written["frames"][1:4]] == [0.25, 0.5, 0.75]


def test_settings_sound_and_workflow_reach_the_file(written):
    audio = {"waveform": torch.zeros(1, 2, 48000), "sample_rate": 48000}
    run(
        "SVDReelFinish", images=clip(), codec="prores", most_frames=5, audio=audio, prompt={"1": {}},
        extra_pnginfo={"workflow": {"nodes": []}}, when_cancelled="keep the frames so far",
    )  # fmt: skip
    options = written["options"]
    assert len(written["frames"]) == 5 and options.bit_depth == 10 and options.keep_partial
    assert options.texts == {"workflow": {"nodes": []}, "prompt": {"1": {}}}
    assert options.sound.rate == 48000 and options.sound.samples.shape == (2, 48000)


def test_nothing_to_finish_is_said(written):
    with pytest.raises(ValueError, match="connect images, or latent and vae"):
        run("SVDReelFinish")


def test_the_plan_follows_the_model():
    frames, factor, fps, count, motion, text = run("SVDReelDuration")
    assert (frames, factor, fps, count) == (25, 5, 24.0, 121) and motion == pytest.approx(4.8) and "121" in text
    model = run("SVDReelLoadModel")[0]
    frames, factor, *_ = run("SVDReelDuration", seconds=1.0, model=model)
    assert frames <= model.config.frames
    assert run("SVDReelDuration", length="exactly the seconds")[3] == 120


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """Model folders of a host that has a tiny model."""
    write_tiny(tmp_path / "svd_xt_tiny.safetensors")
    module = part("nodes.model_info")
    monkeypatch.setattr(module, "model_location", lambda name: str(tmp_path / name))
    monkeypatch.setattr(module.host, "output_folder", lambda: tmp_path)
    return tmp_path


def test_a_model_is_described_with_its_licence(folders):
    answer = run("SVDReelModelInfo", model_name="svd_xt_tiny.safetensors")
    text, path = answer["result"]
    assert "svd_xt" in text and "Research License" in text and path == str(folders / "svd_xt_tiny.safetensors")
    assert answer["ui"]["text"] == (text,)


@pytest.mark.parametrize(
    ("fix", "made"),
    [
        ("save as fp8", "svd/svd_xt_tiny_fp8.safetensors"),
        ("extract the VAE", "vae/svd_xt_tiny_vae.safetensors"),
        ("make a diffusers folder", "diffusers/svd_xt_tiny"),
    ],
)
def test_fixes_go_into_the_hosts_folders(folders, fix, made):
    text, path = run("SVDReelModelInfo", model_name="svd_xt_tiny.safetensors", fix=fix)["result"]
    assert path == str(folders / made) and f"saved: {path}" in text
    with pytest.raises(ValueError, match="exists"):
        run("SVDReelModelInfo", model_name="svd_xt_tiny.safetensors", fix=fix)


@pytest.mark.parametrize("name", ["../out", "a/b", ".hidden"])
def test_new_names_lead_nowhere_else(folders, name):
    with pytest.raises(ValueError, match="new_name must be a plain name"):
        run("SVDReelModelInfo", model_name="svd_xt_tiny.safetensors", fix="save as fp16", new_name=name)
