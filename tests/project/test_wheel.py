"""The wheel that pip builds: what is in it, and a clip made by it in an environment and a folder of its own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.project.test_project import ROOT

SOURCES = ("svd_core", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
QUICK = ("--frames", "2", "--width", "64", "--height", "64", "--steps", "1", "--quiet")


def call(*command: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run a command without the variables that let it find this repository."""
    hidden = {"PYTHONPATH", "PYTHONHOME"}
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy, since a build leaves files behind."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    done = call(sys.executable, "-m", "pip", "wheel", *options, "-w", made, source, cwd=made)
    assert done.returncode == 0, done.stderr
    return next(made.glob("svd_reel-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with nothing but the wheel, and the packages that it requires.

    Those come from the environment of the tests, through a .pth file: to install torch anew takes minutes.
    """
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=os.name != "nt")
    commands = place / ("Scripts" if os.name == "nt" else "bin")
    python = commands / ("python.exe" if os.name == "nt" else "python")
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "-q")
    done = call(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=place)
    assert done.returncode == 0, done.stderr
    own = sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)})
    Path(own, "required.pth").write_text(sysconfig.get_path("purelib"))
    return commands


def test_the_wheel_holds_the_core_its_files_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        commands = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    tracked = {path.relative_to(ROOT).as_posix() for path in (ROOT / "svd_core").rglob("*") if path.is_file()}
    tracked = {name for name in tracked if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == tracked
    assert {"svd_core/py.typed", "svd_core/assets/nano.safetensors"} <= names
    assert "svd-reel = svd_core.cli.main:main" in commands


def test_the_installed_command_makes_a_clip_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    photograph = shutil.copy(ROOT / "svd_core" / "assets" / "demo.png", tmp_path.parent / "photograph.png")
    done = call(environment / "svd-reel", "animate", photograph, "--output", "clip.mp4", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_the_installed_package_is_imported_from_its_own_place(environment: Path, tmp_path: Path) -> None:
    done = call(environment / "python", "-c", "import svd_core; print(svd_core.__file__)", cwd=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(environment.parent)


def test_help_names_the_command_that_was_typed(environment: Path, tmp_path: Path) -> None:
    assert "usage: svd-reel" in call(environment / "svd-reel", "--help", cwd=tmp_path).stdout
    assert "usage: python -m svd_core" in call(environment / "python", "-m", "svd_core", "-h", cwd=tmp_path).stdout


def test_without_torch_a_command_says_what_to_install_and_plan_still_works(environment: Path, tmp_path: Path) -> None:
    """`-S` and a bare path leave the wheel, and nothing that it requires."""
    place = call(environment / "python", "-c", "import svd_core; print(svd_core.__path__[0])", cwd=tmp_path)
    root = str(Path(place.stdout.strip()).parent)
    line = f"import sys; sys.path.insert(0, {root!r}); from svd_core.cli.main import main"
    animate = f"{line}; main(['animate', '--help'])"
    done = call(environment / "python", "-S", "-c", animate, cwd=tmp_path)
    assert "torch is not installed" in done.stderr and "pytorch.org" in done.stderr
    assert "Traceback" not in done.stderr
    planned = call(environment / "python", "-S", "-c", f"{line}; main(['plan', '--memory', '8'])", cwd=tmp_path)
    assert "25 frames of 1024x576 in 8 GB" in planned.stdout, planned.stderr
