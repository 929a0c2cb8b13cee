"""Rows of a batch from folders, tables and storyboards: accepted and refused input."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svd_core.batch import ModelSpec, plan_jobs, read_rows


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        pixels = np.random.default_rng(index).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_a_folder_gives_a_row_per_picture_in_order(tmp_path):
    folder = pictures(tmp_path, "b.png", "a.jpg")
    (folder / "notes.txt").write_text("no picture")
    rows = read_rows(folder, {"frames": "5"})
    assert [(row.name, row.image.name, row.settings.frames) for row in rows] == [("a", "a.jpg", 5), ("b", "b.png", 5)]


def test_cells_of_a_table_are_settings_and_empty_ones_are_the_shared(tmp_path):
    table = tmp_path / "shots.csv"
    table.write_text(
        'image,name,seed,max_guidance,camera,decode\na.png,first,7,2.5,"zoom in 1.2, hold 2",4\nb.png,,,,,\n'
    )
    first, second = read_rows(table, {"seed": "3", "fps": "9"})
    assert (first.name, first.image) == ("first", tmp_path / "a.png")
    assert (first.settings.seed, first.settings.max_guidance, first.settings.fps) == (7, 2.5, 9.0)
    assert (first.settings.camera, first.settings.decode) == ("zoom in 1.2, hold 2", "4")
    assert (second.name, second.settings.seed, second.settings.max_guidance) == ("b", 3, None)


@pytest.mark.parametrize("under", ["clips", "shots", None])
def test_a_json_list_may_stand_alone_or_with_common_settings(tmp_path, under):
    rows = [{"image": "a.png", "seed": 4}, {"image": "sub/b.png", "background": [0, 0.5, 1]}]
    content = rows if under is None else {"settings": {"steps": 9, "seed": 1}, under: rows}
    (tmp_path / "board.json").write_text(json.dumps(content))
    first, second = read_rows(tmp_path / "board.json")
    assert (first.settings.seed, second.settings.background) == (4, (0, 0.5, 1))
    if under:
        assert (second.settings.seed, first.settings.steps) == (1, 9)


@pytest.mark.parametrize(
    "text",
    [
        "image;seed\na.png;3\n",
        "image\tseed\na.png\t3\n",
        "\ufeff Image , SEED \na.png,3\n",
        "\n\nimage,seed\n,\na.png,3\n,,\n",
        "image,seed,\r\na.png,3,\r\n",
        '\ufeff[{"Image": "a.png", "seed": 3}]',
    ],
)
def test_tables_are_read_as_spreadsheets_save_them(tmp_path, text):
    path = tmp_path / ("x.json" if "[" in text else "x.csv")
    path.write_bytes(text.encode())
    assert [(row.name, row.settings.seed) for row in read_rows(path)] == [("a", 3)]


def test_what_is_wrong_with_a_picture_or_a_setting_names_the_row(tmp_path):
    pictures(tmp_path, "a.png")
    (tmp_path / "b.png").write_text("no picture")
    for cells, words in (
        ("c.png,1", "row 4 of x.csv: picture"),
        ("b.png,1", "row 4 of x.csv: "),
        ("a.png,0", r"row 4 of x.csv: frames must be 1 to 100000 \(got 0\)"),
    ):
        (tmp_path / "x.csv").write_text(f"image,frames,name\na.png,2,first\n\n{cells},second\n")
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            plan_jobs(read_rows(tmp_path / "x.csv"), ModelSpec("nano"), tmp_path, ".mp4")


REFUSED = [
    ("x.csv", "photo\na.png\n", "no column `image`"),
    ("x.csv", "image\n", "no rows"),
    ("x.csv", "", "x.csv is empty; name the columns"),
    ("x.csv", "image\nM\xe4rz.png\n".encode("latin-1"), "x.csv is not text in UTF-8; save it as UTF-8"),
    ("x.csv", "image,seed,Seed\na.png,1,2\n", "x.csv has two columns 'seed'"),
    ("x.csv", 'image,camera\na.png,"zoom in\n', "x.csv is not a CSV table"),
    ("x.json", '[{"image": "a.png", "seed": 1, "seed": 2}]', "x.json .*'seed' twice"),
    ("x.json", '[{"image": "a.png", "seed": 1, "Seed": 2}]', "entry 1 of x.json .*'seed' twice; remove one"),
    ("x.json", '[{"image": ["a.png"]}]', r"entry 1 of x.json: image .*photo.jpg.*\['a.png'\]"),
    ("x.json", '{"clips": [{"image": "a.png"}], "shots": []}', "x.json .*clips and shots; put all rows under one"),
    ("x.json", '{"clips": [{"image": "a.png"}], "setings": {}}', "x.json .*'setings'; use settings"),
    ("x.csv", "image,sead\na.png,1\n", "row 2 of x.csv: .*'sead'; use one of .*seed"),
    ("x.csv", "image,frames\na.png,many\n", "frames .*whole number.*'many'"),
    ("x.csv", "image,fps\na.png,fast\n", "fps .*a number.*'fast'"),
    ("x.csv", "image,seed\na.png,1,2\n", "row 2 of x.csv has 3 values for 2 columns"),
    ("x.csv", "image,seed\n,1\n", "row 2 of x.csv has no image"),
    ("x.csv", "image,name\na.png,../up\n", "cannot be a file name"),
    ("x.csv", "image\na.png\nsub/A.png\n", "clip A .*a.png and A.png.*give each row a name"),
    ("x.json", "{", "not valid JSON"),
    ("x.json", '{"clips": 3}', "x.json is not a list of clips; write"),
    ("x.json", "[]", "no rows"),
    ("x.txt", "a.png", "x.txt .*give a folder of pictures, a .csv or a .json"),
]


@pytest.mark.parametrize(("name", "text", "sentence"), REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path, name, text, sentence):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=sentence):
        read_rows(tmp_path / name)


def test_an_empty_folder_and_a_missing_one_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match="no pictures .*give at least one"):
        read_rows(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing does not exist; give a folder"):
        read_rows(tmp_path / "nothing")
