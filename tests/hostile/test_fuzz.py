"""Changed files and texts of every reader end in a result or in one short sentence; `tests.hostile.fuzz` makes more."""

import json
import random
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.fuzz import changed, fault_of, readers

DATA = Path(__file__).parents[1] / "data" / "hostile"
CASES = 25
FEW = {"config": 5}  # readers that read a whole folder of files in each case
READERS = readers()
# Inputs that once failed, by the beginning of their names, with the readers that they were found with.
RECORDED = {
    "fuzz_batch_rows": ("batch csv", "batch json"),
    "fuzz_camera": ("camera path",),
    "fuzz_configs": ("config",),
    "fuzz_drag_path": ("drag",),
    "fuzz_lora": ("lora", "safetensors"),
    "lora_redos": ("lora", "safetensors"),
    "fuzz_manifest": ("manifest", "old manifest"),
    "fuzz_safetensors": ("safetensors", "lora"),
    "st_": ("safetensors", "lora"),
    "tiny.latent": ("safetensors", "lora"),
    "fuzz_settings": ("settings",),
    "fuzz_storyboard": ("storyboard",),
    "fuzz_training_state": ("training state",),
    "set_": ("clip mp4",),
    "sound_": ("sound",),
    "clip_gif_": ("clip gif",),
}


@pytest.fixture(scope="module", params=READERS)
def reader(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    READERS[request.param].prepare(folder)
    return request.param, READERS[request.param], folder


def test_every_seed_is_read(reader):
    name, known, folder = reader
    for seed in known.seeds:
        assert fault_of(known, seed, folder) == "", name


def test_changed_contents_end_in_a_sentence(reader):
    name, known, folder = reader

    @settings(max_examples=FEW.get(name, CASES), deadline=None, database=None, derandomize=True)
    @given(st.integers(0, 2**32), st.sampled_from(known.seeds))
    def check(number: int, seed: bytes) -> None:
        content = changed(seed, random.Random(number))
        assert fault_of(known, content, folder) == "", content

    check()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


def test_any_json_and_any_bytes_end_in_a_sentence(reader):
    name, known, folder = reader

    @settings(
        max_examples=FEW.get(name, CASES), deadline=None, database=None, derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
    def check(content: bytes) -> None:
        if known.file.endswith(".safetensors"):
            content = struct.pack("<Q", len(content)) + content
        assert fault_of(known, content, folder) == "", content

    check()


def recorded() -> list[tuple[str, Path]]:
    pairs = [
        (name, path) for start, names in RECORDED.items() for path in sorted(DATA.glob(f"{start}*")) for name in names
    ]
    assert len({path for _, path in pairs}) == len(list(DATA.iterdir())), "every recorded input is used"
    return pairs


@pytest.mark.parametrize(("name", "path"), recorded(), ids=lambda value: getattr(value, "name", value))
def test_inputs_that_once_failed_end_in_a_sentence(name, path, tmp_path):
    READERS[name].prepare(tmp_path)
    assert fault_of(READERS[name], path.read_bytes(), tmp_path) == ""


def test_a_fault_is_found(tmp_path):
    from tests.hostile.fuzz import Reader

    def fails(error: Exception):
        def read(path: Path):
            raise error

        return Reader("x", (b"",), read)

    assert "KeyError" in fault_of(fails(KeyError("a")), b"", tmp_path)
    assert "700 characters" in fault_of(fails(ValueError("x" * 700)), b"", tmp_path)
    assert "not printable" in fault_of(fails(ValueError("a\x1b[31m")), b"", tmp_path)
    assert fault_of(fails(ValueError("one sentence")), b"", tmp_path) == ""
