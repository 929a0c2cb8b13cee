"""Set up `.venv` and run the demo or the tests; needs only Python 3.10 or newer.

    python bootstrap.py demo [arguments of `python -m svd_core animate`]
    python bootstrap.py test [arguments of pytest]

Environment variables, all optional:
    TORCH_SPEC           what to install as torch, instead of the version that the tests were run with
    BOOTSTRAP_PIP_ARGS   more arguments for pip: a proxy, or an index that carries CPU builds of torch
"""

import ast
import hashlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

# Old interpreters must get as far as the sentence in `main`: no syntax and no annotation newer than Python 3.6 here.
MINIMUM_PYTHON = (3, 10)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
UNFINISHED = VENV / "svd-reel.unfinished"
PHOTOGRAPH = ROOT / "svd_core" / "assets" / "demo.png"
CLIP = ROOT / "output" / "demo.mp4"
TORCH_SPEC = "torch==2.13.0"
# A process of tests takes up to 2 GB.
MOST_PROCESSES = 4
# Each level includes the levels before it.
LEVELS = ("demo", "test")


class SetupError(Exception):
    """A set-up that cannot continue; the message gives the reason and the remedy."""


def requirements(level: str) -> list:
    """Return the packages of `level` besides torch: requirements.txt, and for tests pyproject.toml's `test` extra."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    packages = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if level == "test":
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        extra = re.search(r"^test = (\[.*?^\])", text, re.MULTILINE | re.DOTALL)
        if extra is None:
            raise SetupError("pyproject.toml has no list named `test`; restore it from the repository.")
        # A TOML array of strings reads as a Python list; tomllib came with Python 3.11 only.
        packages += ast.literal_eval(extra.group(1))
    return packages


def torch_spec() -> str:
    """Return the requirement that pip installs as torch."""
    return os.environ.get("TORCH_SPEC", "").strip() or TORCH_SPEC


def pip_arguments() -> list:
    """Return the user's own arguments for pip."""
    # Windows paths have backslashes, which POSIX rules would remove; the other rules keep the quotes.
    words = shlex.split(os.environ.get("BOOTSTRAP_PIP_ARGS", ""), posix=os.name != "nt")
    return [word.strip('"') for word in words] if os.name == "nt" else words


def fingerprint(level: str) -> str:
    """Return a hash of everything that determines the contents of `.venv` at `level`."""
    parts = [torch_spec(), "%d.%d" % sys.version_info[:2], *sorted(requirements(level))]  # noqa: UP031
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def stamp(level: str) -> Path:
    """Return the file that holds the fingerprint of a finished set-up of `level`."""
    return VENV / f"svd-reel.{level}.ready"


def is_ready(level: str) -> bool:
    """Return whether `.venv` has everything of `level`; reads files alone, so that a second run starts at once."""
    if not VENV_PYTHON.exists() or UNFINISHED.exists():
        return False
    levels = LEVELS[LEVELS.index(level) :]
    return any(stamp(name).exists() and stamp(name).read_text().strip() == fingerprint(name) for name in levels)


def environment() -> dict:
    """Return the environment of child processes: ours, without variables that lead pip and imports outside `.venv`."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    variables.update(PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONNOUSERSITE="1")
    return variables


def run(*arguments: object, **variables: str) -> int:
    """Run `.venv`'s Python from the repository root with `arguments`; return its exit code."""
    changed = dict(environment(), **variables)
    return subprocess.call([str(VENV_PYTHON), *map(str, arguments)], cwd=str(ROOT), env=changed)


def answer(code: str) -> str:
    """Return what a line of Python prints in `.venv`, or an empty text where it fails."""
    command = [str(VENV_PYTHON), "-c", code]
    done = subprocess.run(
        command, cwd=str(ROOT), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def make_venv() -> None:
    """Create `.venv` with pip; a working one is kept, a broken or unfinished one is created again."""
    if VENV_PYTHON.exists() and not UNFINISHED.exists() and answer("import pip; print(pip.__version__)"):
        return
    version = "%d.%d" % sys.version_info[:2]  # noqa: UP031
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments, its venv or ensurepip module is missing; "
            f"on Debian and Ubuntu install it with `sudo apt install python{version}-venv`, then run this again."
        )
    made = subprocess.call([sys.executable, "-m", "venv", "--clear", str(VENV)], env=environment())
    if made != 0:
        raise SetupError(
            f"making {VENV} failed, see the reason above; on Debian and Ubuntu "
            f"`sudo apt install python{version}-venv` often helps, then run this again."
        )


def install(*arguments: object) -> None:
    """Run `pip install` in `.venv`."""
    code = run("-m", "pip", "install", "-qq", *pip_arguments(), *arguments)
    if code != 0:
        # pip has undone its own work, so `.venv` is whole and the next run can keep it.
        UNFINISHED.unlink()
        raise SetupError(
            f"pip ended with code {code}, see the reason above; check the network and the free disk space and run "
            "this again, or give pip a proxy or an index through BOOTSTRAP_PIP_ARGS."
        )


def set_up(level: str) -> None:
    """Bring `.venv` to `level`; does nothing if it is already there."""
    if is_ready(level):
        return
    started = time.monotonic()
    print(f"Setting up {VENV}, once. The slow part is downloading torch.", flush=True)
    make_venv()
    UNFINISHED.write_text("A set-up began here and did not finish; the next one starts again.\n")
    print(f"  {torch_spec()} ...", flush=True)
    install(torch_spec())
    # The packages that follow must not replace this torch.
    constraints = VENV / "constraints.txt"
    installed = answer("import importlib.metadata as m; print(m.version('torch'))")
    constraints.write_text(f"torch=={installed}\n" if installed else "")
    packages = requirements(level)
    names = dict.fromkeys(re.split(r"[<>=~! ]", package)[0] for package in packages)
    print(f"  {', '.join(names)} ...", flush=True)
    install("--constraint", constraints, *packages)
    stamp(level).write_text(fingerprint(level) + "\n")
    UNFINISHED.unlink()
    print(f"  ready after {time.monotonic() - started:.0f} s", flush=True)


def demo(arguments: list) -> int:
    """Animate the photograph of the repository with the embedded model."""
    CLIP.parent.mkdir(exist_ok=True)
    command = ["-m", "svd_core", "animate", PHOTOGRAPH, "--model", "nano"]
    if not any(argument.startswith("--output") for argument in arguments):
        command += ["--output", CLIP]
    return run(*command, *arguments)


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def test(arguments: list) -> int:
    """Run ruff, then pytest, even if ruff finds errors.

    The whole suite runs in several processes, a file of tests at a time. A part of it, or one that starts a ComfyUI,
    runs in one process, so that pytest's debugger works and the server has the cores to itself.
    """
    style = run("-m", "ruff", "check", ".")
    processes = min(MOST_PROCESSES, cores())
    if arguments or processes == 1 or "COMFYUI_DIR" in os.environ:
        return run("-m", "pytest", *arguments) or style
    # Threads beyond the cores would wait for each other; programs that the tests start inherit the number.
    threads = str(max(1, cores() // processes))
    return run("-m", "pytest", "-n", processes, "--dist", "loadfile", OMP_NUM_THREADS=threads) or style


def main() -> int:
    """Read the command line, set up, run; return the exit code."""
    if sys.version_info < MINIMUM_PYTHON:  # noqa: UP036
        found = sys.version.split()[0]
        print(f"SVD Reel needs Python 3.10 or newer and this is {found}; run it with a newer one.", file=sys.stderr)
        return 2
    commands = {"demo": demo, "test": test}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        asked_for_help = len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help", "help")
        print(__doc__.strip(), file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    name, arguments = sys.argv[1], sys.argv[2:]
    try:
        set_up(name)
        return commands[name](arguments)
    except (SetupError, OSError) as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bootstrap: stopped; run the same command to continue.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
