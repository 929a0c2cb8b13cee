"""The reference of the Python package: it is built without a warning and shows every public name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import svd_core
from tests.project.test_project import ROOT


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of all pages of the built site."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return "".join(path.read_text(encoding="utf-8") for path in sorted(site.rglob("index.html")))


def test_every_public_name_has_its_entry(pages: str) -> None:
    entries = {name.rsplit(".", 1)[-1] for name in re.findall(r'id="(svd_core\.[\w.]+)"', pages)}
    assert not set(svd_core.__all__) - {"__version__"} - entries


def test_the_reference_is_typed(pages: str) -> None:
    """Signatures come with annotations, which py.typed promises to type checkers as well."""
    assert "motion_bucket" in pages and "-> Tensor" in re.sub(r"<[^>]+>", "", pages).replace("&gt;", ">")
    assert Path(svd_core.__file__).with_name("py.typed").exists()
