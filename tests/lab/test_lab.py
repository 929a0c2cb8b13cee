"""The motion lab: cells are the sampler's own clips, the best is what its score says, sheet and tables hold them."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from svd_core import AnimateSettings, SVDModel, __version__, animate, load_model
from svd_core.cli.main import main
from svd_core.lab import Aim, Grid, draw_sheet, run_sweep
from svd_core.lab.grid import parse_list
from svd_core.lab.scores import ranking
from svd_core.lab.sweep import full_settings
from svd_core.pictures import open_picture
from svd_core.video import read_clip
from tests.helpers.layouts import other_layouts
from tests.helpers.nodes_pack import part, run
from tests.helpers.steering_networks import write_networks

pytestmark = pytest.mark.usefixtures("loaded_once")
SMALL = AnimateSettings(width=32, height=32, frames=3, steps=2)
GRID = Grid(buckets=(40.0, 200.0), seeds=(1, 2), sigma_max=(700.0, 50.0))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A picture with something to see."""
    path = tmp_path_factory.mktemp("picture") / "photo.png"
    ramp = Image.linear_gradient("L").resize((60, 40))
    Image.merge("RGB", (ramp, ramp.rotate(180), ramp.rotate(90).resize((60, 40)))).save(path)
    return str(path)


@pytest.fixture(scope="module")
def sweep(model: SVDModel, picture: str):
    return run_sweep(model, open_picture(picture), SMALL, GRID)


def numbers(motion: float, drift: float = 1.0, unsteadiness: float = 1.0) -> dict:
    return {"motion_percent": motion, "drift": drift, "unsteadiness": unsteadiness}


def command(*arguments: object) -> int:
    """Exit code of the command line."""
    try:
        return main([str(argument) for argument in ("lab", *arguments)])
    except SystemExit as stop:  # argparse
        return stop.code


def test_every_combination_is_one_cell_columns_first():
    cells = GRID.cells(SMALL)
    assert [(c.motion_bucket, c.seed, c.sigma_max) for c in cells[:4]] == [
        (40, 1, 700), (200, 1, 700), (40, 1, 50), (200, 1, 50)
    ]  # fmt: skip
    assert len(cells) == GRID.count == 8 and GRID.columns == 2
    assert GRID.column_label(cells[1]) == "bucket 200" and GRID.row_label(cells[2]) == "seed 1, sigma max 50"
    assert Grid().cells(SMALL) == [SMALL]


def test_a_cell_is_bit_for_bit_what_animate_makes_of_its_settings(sweep, model: SVDModel, picture: str):
    image = open_picture(picture)
    for cell in (sweep.cells[0], sweep.cells[3], sweep.cells[-1]):
        assert torch.equal(cell.shown, animate(model, image, cell.settings)[list(cell.frames)])
    assert len({cell.shown.numpy().tobytes() for cell in sweep.cells}) == 8, "each cell has settings of its own"


def test_a_picture_gives_the_same_sweep_however_it_lies_in_memory(model: SVDModel):
    image, grid = torch.rand(1, 40, 36, 3), Grid(seeds=(1,))
    expected = run_sweep(model, image, SMALL, grid)
    for view in other_layouts(image).values():
        found = run_sweep(model, view, SMALL, grid)
        assert torch.equal(found.cells[0].shown, expected.cells[0].shown)
        assert found.to_json() == expected.to_json()


def test_a_camera_path_is_followed_by_strength_and_shown(model: SVDModel, picture: str):
    settings = replace(SMALL, camera="pan right 0.2", frames=4)
    sweep = run_sweep(model, open_picture(picture), settings, Grid(strengths=(0.0, 1.0)))
    assert [cell.settings.camera_strength for cell in sweep.cells] == [0.0, 1.0]
    assert [cell.settings.motion_bucket for cell in sweep.cells] == [127, 10], "the bucket that follows best"
    assert [cell.numbers.get("followed") is None for cell in sweep.cells] == [True, False]
    head, *_ = sweep.text().splitlines()
    assert "strength" in head and "followed" in head and "strength" in sweep.best_text
    assert draw_sheet(sweep).shape[0] == 1
    assert full_settings(settings, sweep.cells[1], 2, model).camera_strength == 1.0


def test_cells_over_the_drift_limit_are_greyed(sweep):
    colourful = [
        float(draw_sheet(replace(sweep, aim=Aim("most motion", drift=limit))).std(-1).mean()) for limit in (0, 1000)
    ]
    assert colourful[0] < 0.5 * colourful[1]


def test_progress_counts_over_all_cells_and_may_stop_the_sweep(model: SVDModel, picture: str):
    told = []
    grid = Grid(seeds=(1, 2))
    run_sweep(model, open_picture(picture), SMALL, grid, on_step=told.append, steps_after=5)
    assert [(step.index, step.steps) for step in told] == [(i, 9) for i in range(4)]

    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(model, open_picture(picture), SMALL, grid, on_step=stop)


@pytest.mark.parametrize(
    ("aim", "cells", "best"),
    [
        (Aim("closest", motion=1.0), [numbers(0.2), numbers(1.1), numbers(2.0)], 1),
        (Aim("closest", motion=1.0), [numbers(1.1, unsteadiness=2), numbers(1.1, unsteadiness=1)], 1),
        (Aim("most motion", drift=5), [numbers(1.0), numbers(3.0, drift=4.9), numbers(9.0, drift=5.1)], 1),
        # Where nothing is within the limit, the least drift wins, not the most motion.
        (Aim("most motion", drift=5), [numbers(9.0, drift=9), numbers(1.0, drift=6)], 1),
        # A picture that stands still is steady, but no clip.
        (Aim("steadiest"), [numbers(0.05, unsteadiness=0), numbers(0.5, unsteadiness=2), numbers(0.5)], 2),
        (Aim("steadiest"), [numbers(0.05), numbers(0.04)], 0),
    ],
)
def test_the_best_is_what_the_score_says(aim: Aim, cells: list, best: int):
    ranks = ranking(cells, aim)
    assert ranks.index(1) == best and sorted(ranks) == list(range(1, len(cells) + 1))


def test_tables_hold_every_cell_and_agree(sweep):
    found = json.loads(sweep.to_json())
    rows = list(csv.DictReader(io.StringIO(sweep.to_csv())))
    assert len(found["cells"]) == len(rows) == 8
    for cell, row in zip(found["cells"], rows, strict=True):
        assert float(row["motion_percent"]) == cell["motion_percent"] and int(row["seed"]) == cell["seed"]
    best = found["cells"][[cell["rank"] for cell in found["cells"]].index(1)]
    assert {name: best[name] for name in found["best"]} == found["best"]
    assert len(sweep.text().splitlines()) == 10 and f"seed {best['seed']}" in sweep.text().splitlines()[-1]


@pytest.mark.parametrize("grid", [GRID, Grid(), Grid(seeds=(1, 2)), Grid(buckets=(1.0, 2.0), fps=(6.0, 7.0, 8.0))])
def test_the_sheet_draws_any_grid_and_marks_the_best(sweep, grid: Grid):
    cells = [replace(sweep.cells[i % 8], settings=cell, rank=i + 1) for i, cell in enumerate(grid.cells(SMALL))]
    page = draw_sheet(replace(sweep, grid=grid, cells=tuple(cells)))
    assert page.shape[0] == 1 and page.shape[3] == 3
    green = (page * 255).round() == torch.tensor([28.0, 140.0, 70.0])
    assert int(green.all(-1).sum()) > 500, "the frame around the best"


def test_the_best_is_made_with_the_models_own_steps(sweep, model: SVDModel):
    best = full_settings(SMALL, sweep.best, None, model)
    assert best.steps == AnimateSettings().resolve(model.config).steps
    assert (best.seed, best.motion_bucket) == (sweep.best.settings.seed, sweep.best.settings.motion_bucket)
    assert full_settings(SMALL, sweep.best, 3, model).steps == 3


def load_node_model(checkpoint: str, monkeypatch):
    monkeypatch.setattr(part("nodes.host.comfy"), "model_files", lambda name: ["tiny.safetensors"])
    monkeypatch.setattr(part("nodes.host.comfy"), "model_path", lambda *names: checkpoint)
    return run("SVDReelLoadModel", model_name="tiny.safetensors")[0]


def test_the_node_gives_the_sweep_and_the_clip_of_the_core(model: SVDModel, checkpoint: str, picture: str, monkeypatch):
    loaded, told = load_node_model(checkpoint, monkeypatch), []
    host = part("nodes.host.comfy")
    monkeypatch.setattr(
        host.Progress, "update", lambda self, done, latents=None, total=None: told.append((done, total))
    )
    given = {"buckets": "40, 200", "seeds": "1 2", "sigma_max": "50", "width": 32, "height": 32, "frames": 3}
    sheet, frames, motion, seed, sigma_max, text, numbers, table = run(
        "SVDReelSweep", model=loaded, image=open_picture(picture), steps=2, full_steps=3, **given
    )
    grid = Grid((40.0, 200.0), (1, 2), (50.0,), (7.0,))
    expected = run_sweep(model, open_picture(picture), SMALL, grid)
    assert text == expected.text() and table == expected.to_csv() and numbers == expected.to_json()
    assert torch.equal(sheet, draw_sheet(expected))
    best = full_settings(SMALL, expected.best, 3, model)
    assert torch.equal(frames, animate(model, open_picture(picture), best))
    assert (motion.motion_bucket_id, seed, sigma_max) == (best.motion_bucket, best.seed, 50.0)
    assert told == [(i, 11) for i in range(1, 12)], "one bar over four cells and the best"
    # The outputs wire into the other nodes: there they give the clip of the cell's settings.
    size = {"width": 32, "height": 32, "frames": 3}
    positive, negative, latent = run(
        "SVDReelCondition", model=loaded, image=open_picture(picture), motion=motion, seed=seed, **size
    )
    sigmas = run("SVDReelSchedule", steps=3, sigma_max=sigma_max)[0]
    clip = run("SVDReelSampler", model=loaded, positive=positive, negative=negative, latent=latent, seed=seed,
               sigmas=sigmas)[0]  # fmt: skip
    assert torch.equal(run("SVDReelDecode", vae=loaded.vae, latent=clip)[0], frames)


def test_the_command_writes_sheet_tables_and_the_best_clip(
    model: SVDModel, checkpoint: str, picture: str, tmp_path: Path, capsys
):
    files = {"--output": "s.png", "--json": "s.json", "--csv": "s.csv", "--clip": "best"}
    given = [word for name, file in files.items() for word in (name, tmp_path / file)]
    size = ("--width", 32, "--height", 32, "--frames", 3, "--steps", 2, "--full-steps", 2, "--quiet")
    grid = ("--buckets", "40,200", "--seeds", "1 2", "--sigma-max", "50")
    assert command(picture, "--model", checkpoint, "--device", "cpu", *grid, *size, *given) == 0
    expected = run_sweep(model, open_picture(picture), SMALL, Grid((40.0, 200.0), (1, 2), (50.0,)))
    printed = capsys.readouterr()
    assert printed.out == f"{expected.text()}\n{tmp_path / 'best'}\n" and not printed.err
    assert (tmp_path / "s.csv").read_text() == expected.to_csv()
    assert json.loads((tmp_path / "s.json").read_text()) == json.loads(expected.to_json())
    with Image.open(tmp_path / "s.png") as page:
        assert page.size == tuple(draw_sheet(expected).shape[2:0:-1])
    clip = animate(model, open_picture(picture), expected.best.settings)
    # PNG rounds to 8 bits: half a level.
    frames, _, kept = read_clip(tmp_path / "best")
    torch.testing.assert_close(frames, clip, atol=0.51 / 255, rtol=0)
    assert (kept["variant"], kept["version"]) == (model.variant, __version__) and "lora" not in kept


def test_the_best_clip_keeps_which_lora_it_was_made_with(picture: str, tmp_path: Path):
    size = ("--width", 64, "--height", 64, "--frames", 2, "--steps", 1, "--full-steps", 1, "--buckets", "127")
    files = ("--output", tmp_path / "s.png", "--clip", tmp_path / "best.webp")
    assert command(picture, *size, *files, "--lora", "nano_pan_left:0.5", "--device", "cpu", "--quiet") == 0
    assert read_clip(tmp_path / "best.webp")[2]["lora"] == ["nano_pan_left:0.5"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--buckets", "many"), "--buckets is 'many'"),
        (("--strengths", "1, 2"), "--strengths has no effect without --camera PATH"),
        (("--camera-mode", "dual clock"), "--camera-mode has no effect without --camera PATH"),
        (("--camera", "pan left", "--strengths", "1", "--camera-strength", "2"), "--strengths replaces"),
        (("--seeds", "1.5"), "whole numbers"),
        (("--seeds", "1, 1"), "seeds holds 1 twice"),
        (("--buckets", ", ".join(map(str, range(101)))), "101 cells"),
        (("--motion", "-1"), "wanted motion must be 0 % or more (got -1)"),
        (("--sigma-max", "0.001"), "sigma"),
        (("--output", "sheet.pdf"), "--output must be a picture (got sheet.pdf); end its name in .png"),
        (("--csv", "absent/table.csv"), "folder absent of --csv does not exist"),
        (("--clip", "clip.avi"), ".avi"),
        (("--width", "33"), "width 33"),
        (("--camera", "fly up"), "fly"),
        (("--buckets", ""), "--buckets is empty (got '')"),
        (("--seeds", ", "), "--seeds is empty (got ', ')"),
        (("--full-steps", "20"), "--full-steps 20 has no effect without --clip"),
        (("--score", "steadiest", "--motion", "1"), '--motion 1 only applies to --score "closest"'),
        (("--score", "steadiest", "--drift", "3"), '--drift 3 only applies to --score "most motion"'),
        (("--score", "most motion", "--drift", "inf"), "use 5, or 1000 for no limit"),
        (("--clip", "clip.gif", "--fps", "7, 60"), "fps 60 is beyond gif's 50"),
    ],
)
def test_bad_input_is_answered_with_one_sentence(picture: str, tmp_path: Path, arguments: tuple, words: str, capsys):
    assert command(picture, "--output", tmp_path / "s.png", *arguments) == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out and len(said.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--output", "photo.png"), "--output photo.png would overwrite the file that IMAGE reads"),
        (("--output", "x.png", "--csv", "x.png"), "--csv x.png would overwrite --output"),
        (("--output", "x.png", "--json", "y", "--csv", "./y"), "--csv y would overwrite --json"),
        (("--output", "x.png", "--json", "frames"), "--json frames is a folder"),
        (("--output", "x.png", "--json", "tiny.safetensors"), "would overwrite the file that --model reads"),
        (("--output", "x.png", "--csv", "look.safetensors", "--lora", "look.safetensors:0.5"), "reads"),
        (("--output", "frames/x.png", "--clip", "frames"), "--output frames/x.png is inside --clip frames"),
    ],
)
def test_nothing_that_is_read_or_written_is_written_over(picture, tmp_path, monkeypatch, arguments, words, capsys):
    monkeypatch.chdir(tmp_path)
    names = ("photo.png", "tiny.safetensors", "look.safetensors")
    for name in names:
        Path(name).write_bytes(Path(picture).read_bytes())
    Path("frames").mkdir()
    assert command("photo.png", "--model", "tiny.safetensors", *arguments) == 2
    assert words in capsys.readouterr().err
    assert all(Path(name).read_bytes() == Path(picture).read_bytes() for name in names)
    assert {path.name for path in tmp_path.iterdir()} == {*names, "frames"} and not list(Path("frames").iterdir())


def test_the_lab_takes_one_picture(model: SVDModel):
    with pytest.raises(ValueError, match=r"1 picture \(got 2\)"):
        run_sweep(model, torch.rand(2, 32, 32, 3), SMALL, GRID)
    assert parse_list("", "fps") == () and parse_list("1;2", "seeds", whole=True) == (1, 2)


SIZE = ("--width", 64, "--height", 64, "--frames", 3, "--steps", 2, "--quiet")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A ControlNet and camera weights for nano."""
    return write_networks(tmp_path_factory.mktemp("networks"), load_model("nano").config.unet)


NETWORKS = {
    "controlnet": ({"controlnet": "controlnet", "controlnet_images": "picture"}, {}),
    "camera weights": ({"camera_weights": "camera_weights"}, {"camera": "dolly in 0.3"}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_lab_tries_clips_that_networks_steer(name: str, networks: dict, picture: str, tmp_path: Path):
    """The best clip of the command is that of `animate` with the same names, and another one than without them."""
    given, settings = NETWORKS[name]
    given = {key: {"picture": picture, **networks}[value] for key, value in given.items()}
    words = [f"--{key.replace('_', '-')}={value}" for key, value in {**given, **settings}.items()]
    grid = ("--seeds", "1,2", "--buckets", "40")
    output = ("--output", tmp_path / "s.png", "--clip", tmp_path / "best", "--json", tmp_path / "s.json")
    assert command(picture, "--device", "cpu", *words, *grid, *SIZE, "--full-steps", 2, *output) == 0
    best = json.loads((tmp_path / "s.json").read_text())["best"]
    quick = {"width": 64, "height": 64, "frames": 3, "steps": 2, **settings, **best}
    made = animate(load_model("nano"), picture, **quick, **given)
    found, _, metadata = read_clip(tmp_path / "best")
    assert torch.equal((made * 255).round(), (found * 255).round())
    assert not torch.equal(made, animate(load_model("nano"), picture, **quick))
    assert Path(given[next(iter(given))]).name in json.dumps(metadata)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--controlnet", "nano"), "--controlnet FILE has no effect without --controlnet-images"),
        (("--camera-speed", "2"), "--camera-speed.* has no effect without --camera-weights"),
        (("--camera-weights", "none.safetensors", "--camera", "dolly in"), "none.safetensors"),
        (("--camera-strength", "2"), "--camera-strength has no effect without --camera"),
    ],
)
def test_networks_that_lack_something_are_refused_before_sampling(words, said, picture, tmp_path, capsys):
    assert command(picture, *words, *SIZE, "--output", tmp_path / "s.png") == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "s.png").exists()


def test_the_node_gives_all_clips_its_control(checkpoint: str, picture: str, monkeypatch):
    loaded = load_node_model(checkpoint, monkeypatch)
    size = {"width": 32, "height": 32, "frames": 3}
    latent = run("SVDReelCondition", model=loaded, image=open_picture(picture), **size)[2]
    camera = run("SVDReelCameraPath", path="pan right 0.3")[0]
    control = run("SVDReelCameraControl", model=loaded, image=open_picture(picture), latent=latent, camera=camera)[0]
    given = {"model": loaded, "image": open_picture(picture), "buckets": "40", "seeds": "1, 2", "sigma_max": "700"}
    given |= size | {"steps": 2, "full_steps": 2}
    free, held = (run("SVDReelSweep", **given, **more)[1] for more in ({}, {"control": control}))
    assert held.shape == free.shape and not torch.equal(held, free)
