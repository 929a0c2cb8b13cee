"""The command that makes a film: the requested duration, and every option has an effect or is refused."""

import re

import av
import pytest
import torch
from safetensors.torch import save_file

from svd_core.cli.main import main
from svd_core.finish import FilmOptions, Reel, Sound, write_film
from svd_core.finish.duration import fit_duration
from svd_core.video import read_clip, write_clip
from tests.helpers.videos import DATA


def ramp(frames: int = 6, height: int = 32, width: int = 32) -> torch.Tensor:
    """[T, H, W, 3]: red runs across, green down, blue over time."""
    across = torch.linspace(0, 1, width).expand(height, width)
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([torch.stack([across, down, torch.full_like(across, t / frames)], -1) for t in range(frames)])


def saved_latents(path, frames: int = 3):
    save_file({"latent_tensor": torch.randn(frames, 4, 8, 8), "latent_format_version_0": torch.tensor([])}, path)
    return path


def test_the_command_makes_the_planned_film_of_a_clip(tmp_path, capsys):
    clip = write_clip(ramp(5, 48, 64), tmp_path / "clip.mp4", fps=7, metadata={"seed": 9})
    sound = tmp_path / "sound.mp4"
    tone = Sound(torch.sin(torch.arange(44100) * 0.05)[None], 44100)
    write_film(iter(ramp(2)), sound, FilmOptions(2, sound=tone))
    film = tmp_path / "film.mp4"
    given = ["--seconds", "0.5", "--fps", "24", "--height", "96", "--sound", str(sound), "--bit-depth", "10"]
    assert main(["finish", str(clip), "--output", str(film), *given]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(film) and "of 12" in err
    with av.open(str(film)) as container:
        assert len(container.streams.audio) == 1
    frames, fps, settings = read_clip(film)
    assert frames.shape == (12, 96, 128, 3) and fps == 24 and settings == {"seed": 9}


def test_the_command_decodes_saved_latents(tmp_path):
    path, film = saved_latents(tmp_path / "clip.latent"), tmp_path / "film.webm"
    assert main(["finish", str(path), "--output", str(film), "--interpolate", "2", "--quiet"]) == 0
    assert read_clip(film)[0].shape == (5, 64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.mp4", "--output", "film.mp4"], "does not exist"),
        (["clip.mp4", "--output", "film.avi"], ".mp4, .webm or .mov"),
        (["clip.mp4", "--output", "film.mp4", "--seconds", "30"], "make a longer clip"),
        (["clip.mp4", "--output", "film.mp4", "--sound", "clip.mp4"], "has no sound"),
        (["clip.mp4", "--output", "clip.mp4"], "--output clip.mp4 would overwrite .* CLIP"),
        (["clip.mp4", "--output", "a.mp4", "--sound", "./a.mp4"], "overwrite .* --sound reads; choose another"),
        (["clip.mp4", "--output", "film.mp4", "--seconds", "1", "--interpolate", "2"], "leave out --interpolate 2"),
        (["clip.mp4", "--output", "film.mp4", "--fps", "0"], "0.01 to 1000"),
        (["clip.mp4", "--output", "film.mp4", "--fps", "0", "--seconds", "1"], "0.01 to 1000"),
        (["clip.mp4", "--output", "film.mp4", "--interpolate", "0"], "factor 0 is outside 1 to 32"),
        (["clip.mp4", "--output", "film.mp4", "--fit", "crop"], "give --width and --height"),
        (["clip.mp4", "--output", "film.mp4", "--model", "nano"], "--model nano .*latents .*leave it out"),
        (["one.mp4", "--output", "film.mp4", "--seconds", "2"], "a clip of 1 frame cannot be stretched to 2 s"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    write_clip(ramp(3, 32, 32), "clip.mp4", fps=7)
    write_clip(ramp(1, 32, 32), "one.mp4", fps=7)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["finish", *arguments]) == 2
    said = capsys.readouterr().err
    assert re.search(words, said) and len(said.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("seconds", "ending", "frames", "cut"),
    [
        (0.3, "open", 7, True),
        (0.5, "open", 12, True),
        (0.25, "open", 6, False),
        (0.1, "open", 2, True),
        (1, "loop", 24, False),
        (0.7, "loop", 17, True),
        (1, "ping-pong", 24, True),
        (1.25, "ping-pong", 30, False),
    ],
)
def test_a_film_lasts_the_seconds_that_were_asked_for(tmp_path, capsys, seconds, ending, frames, cut):
    clip, film = write_clip(ramp(6), tmp_path / "clip.mp4", fps=7), tmp_path / "film.mp4"
    given = ["--seconds", str(seconds), "--fps", "24", "--ending", ending]
    assert main(["finish", str(clip), "--output", str(film), *given]) == 0
    found, fps, _ = read_clip(film)
    assert (len(found), fps) == (frames, 24)
    said = capsys.readouterr().err
    assert ("are left out" in said) == cut and ("without a jump" in said) == (cut and ending != "open")


@pytest.mark.parametrize("ending", ["open", "loop", "ping-pong"])
@pytest.mark.parametrize("frames", [3, 6, 25])
def test_the_fewest_frames_in_between_fill_the_film(frames, ending):
    for wanted in (10, 11, 16, 17):
        factor, count = fit_duration(wanted / 96, 96, frames, ending)
        source = torch.zeros(frames, 2, 2, 3)
        assert count == wanted <= Reel(source, factor=factor, ending=ending).count
        assert factor == 1 or wanted > Reel(source, factor=factor - 1, ending=ending).count


def test_latents_that_are_too_few_are_not_decoded_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("svd_core.cli.finish.load_model", lambda name: pytest.fail("a model was loaded"))
    latents, film = saved_latents(tmp_path / "clip.latent"), tmp_path / "film.mp4"
    assert main(["finish", str(latents), "--output", str(film), "--seconds", "3"]) == 2
    assert "a clip of 3 frames gives at most 13 (0.54 s)" in capsys.readouterr().err


def test_sound_that_the_film_leaves_out_is_said(tmp_path, capsys):
    clip = tmp_path / "loud.mp4"
    write_film(iter(ramp(6)), clip, FilmOptions(6, sound=Sound(torch.zeros(1, 44100), 44100)))
    given = ["finish", str(clip), "--output", str(tmp_path / "film.mp4")]
    assert main(given) == 0
    assert f"give --sound {clip}" in capsys.readouterr().err
    assert main([*given, "--sound", str(clip)]) == 0
    assert "--sound" not in capsys.readouterr().err


def test_ctrl_c_says_where_the_kept_frames_are(tmp_path, monkeypatch, capsys):
    def stop(self, label, done, total, **more):
        if done == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("svd_core.cli.finish.Progress.count", stop)
    clip, film = write_clip(ramp(6), tmp_path / "clip.mp4", fps=7), tmp_path / "film.mp4"
    assert main(["finish", str(clip), "--output", str(film)]) == 130
    assert "no clip was written" in capsys.readouterr().err and not film.exists()
    assert main(["finish", str(clip), "--output", str(film), "--keep-partial"]) == 130
    assert f"stopped; the first 4 frames are in {film}" in capsys.readouterr().err
    assert len(read_clip(film)[0]) == 4


def test_a_clip_of_variable_rate_keeps_its_duration(tmp_path, capsys):
    """Frames 0 to 3 come every twelfth of a second, the others every third: 15 twelfths in all."""
    film = tmp_path / "film.mp4"
    for given, frames, fps in ([], 15, 12), (["--fps", "24"], 30, 24), (["--fps", "24", "--interpolate", "2"], 29, 24):
        assert main(["finish", str(DATA / "vfr.mp4"), "--output", str(film), *given]) == 0
        assert "variable frame rate; it is resampled to" in capsys.readouterr().err
        found = read_clip(film)
        assert (len(found[0]), found[1]) == (frames, fps)


@pytest.mark.parametrize(
    ("file", "size"), [("turned_90.mp4", (48, 32)), ("wide_pixels.mp4", (32, 96)), ("alpha_vp9.webm", (32, 48))]
)
def test_films_are_upright_with_square_pixels(tmp_path, file, size):
    film = tmp_path / "film.mp4"
    assert main(["finish", str(DATA / file), "--output", str(film), "--quality", "100", "--quiet"]) == 0
    frames, _, _ = read_clip(film)
    assert tuple(frames.shape[1:3]) == size
    # Encoded twice, with chroma at half the size: a level or two on smooth waves.
    assert (frames - read_clip(DATA / file)[0]).abs().mean() * 255 < 2


def test_a_damaged_clip_is_not_taken_for_a_film_that_cannot_be_written(tmp_path, capsys):
    content = (DATA / "alpha_png.mov").read_bytes()
    clip = tmp_path / "clip.mov"
    clip.write_bytes(content.replace(b"IDAT", b"JDAT"))
    assert main(["finish", str(clip), "--output", str(tmp_path / "film.mp4"), "--quiet"]) == 2
    assert "clip.mov cannot be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mov"]
