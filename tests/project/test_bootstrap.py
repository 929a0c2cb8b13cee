"""bootstrap.py without a network: its decisions, its messages and its files."""

import subprocess
import sys
from pathlib import Path

import pytest

import bootstrap


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, with a blank in its name, in which bootstrap works."""
    root = tmp_path / "a project"
    root.mkdir()
    for name in ("requirements.txt", "pyproject.toml"):
        (root / name).write_bytes((bootstrap.ROOT / name).read_bytes())
    venv = root / ".venv"
    for name, value in {
        "ROOT": root,
        "VENV": venv,
        "VENV_PYTHON": venv / "bin" / "python",
        "UNFINISHED": venv / "svd-reel.unfinished",
    }.items():
        monkeypatch.setattr(bootstrap, name, value)
    for name in ("TORCH_SPEC", "BOOTSTRAP_PIP_ARGS"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def calls(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every command line that would have run in `.venv`; all succeed, and `venv` makes an empty interpreter."""
    recorded: list[list[str]] = []

    def call(command: list[str], **_: object) -> int:
        recorded.append([str(part) for part in command])
        if "venv" in command:
            bootstrap.VENV_PYTHON.parent.mkdir(parents=True, exist_ok=True)
            bootstrap.VENV_PYTHON.touch()
            bootstrap.UNFINISHED.unlink(missing_ok=True)
        return 0

    monkeypatch.setattr(bootstrap.subprocess, "call", call)
    monkeypatch.setattr(bootstrap, "answer", lambda code: "2.13.0+cpu")
    return recorded


def test_torch_comes_first_and_is_held_by_a_constraint(calls: list[list[str]]) -> None:
    bootstrap.set_up("test")
    assert [command[1:3] for command in calls] == [["-m", "venv"], ["-m", "pip"], ["-m", "pip"]]
    assert calls[1][-1] == "torch==2.13.0"
    assert "--constraint" in calls[2] and "pytest" in " ".join(calls[2])
    assert (bootstrap.VENV / "constraints.txt").read_text() == "torch==2.13.0+cpu\n"


def test_the_second_run_does_nothing(calls: list[list[str]]) -> None:
    bootstrap.set_up("test")
    calls.clear()
    bootstrap.set_up("test")
    bootstrap.set_up("demo")  # the tests' level holds the demo's
    assert calls == []


def test_the_demo_level_is_not_enough_for_the_tests(calls: list[list[str]]) -> None:
    bootstrap.set_up("demo")
    assert not any(part.startswith("pytest") for command in calls for part in command)
    assert bootstrap.is_ready("demo") and not bootstrap.is_ready("test")


def test_changed_requirements_or_torch_are_set_up_again(
    calls: list[list[str]], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap.set_up("demo")
    (place / "requirements.txt").write_text("safetensors\n")
    assert not bootstrap.is_ready("demo")
    bootstrap.set_up("demo")
    monkeypatch.setenv("TORCH_SPEC", "torch==2.9.1")
    assert not bootstrap.is_ready("demo")
    calls.clear()
    bootstrap.set_up("demo")
    assert calls[0][-1] == "torch==2.9.1"


def test_an_interrupted_set_up_starts_over(calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap.set_up("demo")
    bootstrap.UNFINISHED.touch()
    assert not bootstrap.is_ready("demo")
    calls.clear()
    bootstrap.set_up("demo")
    assert "--clear" in calls[0] and bootstrap.is_ready("demo")


def test_a_failed_install_is_an_error_and_keeps_the_environment(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "run", lambda *arguments: 1)
    with pytest.raises(bootstrap.SetupError, match="code 1.*BOOTSTRAP_PIP_ARGS"):
        bootstrap.set_up("demo")
    assert not bootstrap.UNFINISHED.exists() and not bootstrap.is_ready("demo")


def test_pip_gets_the_readers_arguments(calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTSTRAP_PIP_ARGS", "--proxy 'http://a b'")
    bootstrap.set_up("demo")
    assert all(command[5:7] == ["--proxy", "http://a b"] for command in calls[1:])


def test_the_error_of_a_python_without_ensurepip_names_the_package(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match=r"sudo apt install python3\.\d+-venv"):
        bootstrap.set_up("demo")


def test_an_old_python_is_refused_with_the_version_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 9, 18))
    assert bootstrap.main() == 2
    assert "Python 3.10 or newer" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["dance"], 2), (["--help"], 0)])
def test_unknown_commands_show_the_two_that_exist(arguments: list[str], code: int) -> None:
    script = Path(__file__).resolve().parents[2] / "bootstrap.py"
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "bootstrap.py demo" in done.stdout + done.stderr and "bootstrap.py test" in done.stdout + done.stderr


def test_the_exit_code_is_that_of_whichever_check_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    for style, tests, expected in [(0, 0, 0), (1, 0, 1), (0, 5, 5), (1, 2, 2)]:
        codes = {"ruff": style, "pytest": tests}
        monkeypatch.setattr(bootstrap, "run", lambda *arguments, codes=codes: codes[arguments[1]])
        assert bootstrap.test(["-x"]) == expected


@pytest.mark.parametrize(
    ("cores", "arguments", "host", "processes", "threads"),
    [
        (1, [], False, None, None),
        (2, [], False, "2", "1"),
        (3, [], False, "3", "1"),
        (16, [], False, "4", "4"),
        (2, ["-k", "guidance"], False, None, None),
        (2, [], True, None, None),
    ],
)
def test_the_whole_suite_is_shared_out_among_the_cores(
    calls: list[list[str]], monkeypatch: pytest.MonkeyPatch, cores, arguments, host, processes, threads
) -> None:
    given = {}
    monkeypatch.setattr(bootstrap.subprocess, "call", lambda command, cwd, env: given.update(command=command, env=env))
    monkeypatch.setattr(bootstrap, "cores", lambda: cores)
    monkeypatch.delenv("COMFYUI_DIR", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if host:
        monkeypatch.setenv("COMFYUI_DIR", "/a/host")
    bootstrap.test(arguments)
    shared = ["-n", processes, "--dist", "loadfile"] if processes else arguments
    assert given["command"][1:] == ["-m", "pytest", *shared]
    assert given["env"].get("OMP_NUM_THREADS") == threads
