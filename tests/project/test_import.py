"""The cost of importing the pack: the host imports every pack when it starts."""

import json
import subprocess
import sys

import pytest

from tests.helpers.nodes_pack import MODULE, ROOT

# What every host has imported before it comes to the packs.
BEFORE = ("torch", "numpy", "PIL.Image")
SCRIPT = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
import {", ".join(BEFORE)}
from tests.helpers import nodes_pack
before = set(sys.modules)
nodes_pack.pack()
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def imported() -> list[str]:
    """Names of the modules that importing the pack imports, in a separate interpreter."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Each takes a tenth of a second or more, or is needed by few of the nodes.
@pytest.mark.parametrize(
    "name",
    [
        "av",
        "diffusers",
        "matplotlib",
        "ray",
        "safetensors",
        "scipy",
        "torch._dynamo",
        "torch._inductor",
        "torch.utils.tensorboard",
        "torchvision",
        "transformers",
        "triton",
    ],
)
def test_nothing_heavy_is_imported_with_the_pack(imported: list[str], name: str) -> None:
    assert [found for found in imported if found == name or found.startswith(f"{name}.")] == []


@pytest.mark.parametrize("part", ["batch", "finish", "lab", "report", "storyboard", "training", "video", "cli"])
def test_parts_behind_single_nodes_wait_until_these_run(imported: list[str], part: str) -> None:
    assert f"{MODULE}.svd_core" in imported
    assert [name for name in imported if name.startswith(f"{MODULE}.svd_core.{part}")] == []


def test_a_model_is_loaded_without_the_compiler_of_torch() -> None:
    """`torch._dynamo` takes longer than to load a small model, and some operations on the meta device import it."""
    script = "import sys, svd_core; svd_core.load_model('nano'); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr
