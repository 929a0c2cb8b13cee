"""The archive that ComfyUI users install: what `comfy node pack` takes of the repository, computed by the same rules.

comfy-cli takes every file that git tracks and that .comfyignore, read as a .gitignore, does not name.
"""

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from tests.project.test_project import PYPROJECT, ROOT, relative, shipped_modules

NEEDED = ("__init__.py", "LICENSE", "NOTICE", "README.md", "pyproject.toml", "requirements.txt")
NEEDED_FOLDERS = ("nodes", "svd_core", "workflows", "web", "locales", "subgraphs")
FOR_DEVELOPERS = (
    ".ci",
    ".comfyignore",
    ".gitattributes",
    ".github",
    ".gitignore",
    "benchmarks",
    "bootstrap.py",
    "CONTRIBUTING.md",
    "mkdocs.yml",
    "recipes",
    "tests",
    "tools",
)
LARGEST = 48 * 2**20  # bytes of all files; the embedded model and its ControlNet are most of it
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)|<img[^>]+src=\"([^\"]+)\"")


def git_files(*arguments: str) -> set[str]:
    """Return the tracked files of the checkout as paths with slashes; skip without a checkout."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout")
    # NUL between names: git quotes names that are not plain otherwise.
    done = subprocess.run(["git", "ls-files", "-z", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}


@pytest.fixture(scope="module")
def package() -> set[str]:
    """Paths of the files in the archive."""
    return git_files() - git_files("--cached", "--ignored", "--exclude-from=.comfyignore")


def test_the_package_holds_all_that_users_need(package: set[str]) -> None:
    assert set(NEEDED) <= package
    tracked = git_files()
    missing = {name for name in tracked if PurePosixPath(name).parts[0] in NEEDED_FOLDERS} - package
    assert not missing
    assert {"svd_core/assets/nano.safetensors", "svd_core/assets/demo.png"} <= package


def test_every_workflow_of_the_package_has_its_picture(package: set[str]) -> None:
    stems = {name.removesuffix(".json") for name in package if re.fullmatch(r"workflows/[^/]+\.json", name)}
    assert stems and not [stem for stem in stems if f"{stem}.jpg" not in package]


def test_the_package_holds_nothing_for_developers(package: set[str]) -> None:
    assert not {PurePosixPath(name).parts[0] for name in package} & set(FOR_DEVELOPERS)
    tracked = {relative(path) for path in shipped_modules()} & git_files()
    assert {name for name in package if name.endswith(".py")} == tracked


def test_the_package_is_small_enough_to_be_loaded_at_once(package: set[str]) -> None:
    assert sum((ROOT / name).stat().st_size for name in package) < LARGEST


def test_nothing_but_known_kinds_of_files_is_packed(package: set[str]) -> None:
    kinds = {Path(name).suffix for name in package}
    pictures, scripts = {".gif", ".jpg", ".png", ".webp"}, {".css", ".js", ".mjs", ".py"}
    assert kinds <= {"", ".json", ".md", ".safetensors", ".toml", ".txt", ".typed"} | pictures | scripts


def test_links_of_packed_papers_lead_to_packed_files(package: set[str]) -> None:
    """Documents for developers are linked by their full address, which works from an installed pack, too."""
    lost = []
    for name in sorted(name for name in package if name.endswith(".md") and not name.startswith("web/")):
        for target in LINK.findall((ROOT / name).read_text(encoding="utf-8")):
            link = target[0] or target[1]
            if not re.match(r"https?:|mailto:|/", link):
                path = (ROOT / name).parent.joinpath(link).resolve().relative_to(ROOT).as_posix()
                if path not in package and not any(packed.startswith(f"{path}/") for packed in package):
                    lost.append(f"{name}: {link}")
    assert not lost


def test_full_addresses_of_own_papers_lead_to_files() -> None:
    start = f"{PYPROJECT['project']['urls']['Repository']}/blob/main/"
    for name in ("README.md", *(relative(path) for path in sorted((ROOT / "docs").glob("*.md")))):
        for place in re.findall(re.escape(start) + r"([^)#\s\"]+)", (ROOT / name).read_text(encoding="utf-8")):
            assert (ROOT / place).exists(), f"{name} links to {place}"
