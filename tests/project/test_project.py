"""Rules of the whole repository: what may be shipped, and documents that agree with the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings the backport
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOST_MODULES = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
}
# What the registry's scanner flags, at any severity, plus what would read pickles.
FORBIDDEN_IMPORTS = {
    "aiohttp",
    "asyncio",
    "cloudpickle",
    "ctypes",
    "dill",
    "ftplib",
    "http",
    "httpx",
    "huggingface_hub",
    "importlib",
    "marshal",
    "multiprocessing",
    "pickle",
    "requests",
    "runpy",
    "shelve",
    "smtplib",
    "socket",
    "ssl",
    "subprocess",
    "telnetlib",
    "urllib",
    "webbrowser",
}
FORBIDDEN_NAMES = {"__import__", "compile", "eval", "exec"}
# Only `convert`, a command that a person typed, may open a pickle, and as plain weights only.
PICKLES = "svd_core/cli/pickles.py"
FORBIDDEN_ATTRIBUTES = {
    "os": {"environ", "environb", "fork", "getenv", "popen", "putenv", "system", "unsetenv"},
    "torch": {"hub", "load"},
    "sys": {"path", "modules"},
}
# Layers must come from the injected `ops`, devices from the caller: the host can manage nothing else.
FORBIDDEN_TEXT = re.compile(
    r"\.cuda\(|\.to\(\s*[\"']cuda|torch\.autocast\(|\bnn\.(Linear|Conv\d?d|GroupNorm|LayerNorm|Embedding)\(|\.eval\(\)"
)
LONGEST_FILE = 500


def shipped_modules() -> list[Path]:
    """Every Python file that a ComfyUI user gets."""
    return [
        path
        for path in [ROOT / "__init__.py", *sorted(ROOT.glob("svd_core/**/*.py")), *sorted(ROOT.glob("nodes/**/*.py"))]
        if path.exists()
    ]


def own_files(*suffixes: str) -> list[Path]:
    """Every file of the repository with one of these suffixes, tracked by git or not."""
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.suffix in suffixes and not skipped(path.relative_to(ROOT).parts[0]) and path.is_file()
    ]


def skipped(top: str) -> bool:
    """Virtual environments, caches and outputs of the demo are ignored by git."""
    return top == "output" or (top.startswith(".") and top not in (".ci", ".github"))


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run: all but the body of `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield child
            yield from running(child)


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (level, dotted name) of every import that runs; level 0 is absolute, ending with what is imported."""
    for node in running(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, f"{node.module or ''}.{alias.name}".strip(".")) for alias in node.names)


def relative(path: Path) -> str:
    """Path for messages and parameter ids."""
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def absolute_targets(path: Path) -> Iterator[str]:
    """Yield every import of a shipped file as a dotted path from the repository root; "^" where it leaves the root."""
    package = list(path.relative_to(ROOT).parent.parts)
    for level, name in imports(parse(path)):
        if level == 0:
            yield name
        elif level - 1 > len(package):
            yield "^." + name
        else:
            yield ".".join([*package[: len(package) - (level - 1)], name])


def test_requirements_have_tested_lower_limits_no_upper_ones_and_no_torch() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    packages = [line for line in lines if line and not line.startswith("#")]
    assert packages == PYPROJECT["project"]["dependencies"]
    for package in packages:
        assert re.fullmatch(r"[a-z0-9-]+>=\d+(\.\d+)*", package), f"{package} needs one lower limit and nothing else"
        assert not package.startswith("torch")


def test_the_version_is_the_same_wherever_it_stands() -> None:
    import svd_core
    from tools.workflows.library import PACK_VERSION

    assert PYPROJECT["project"]["version"] == svd_core.__version__ == PACK_VERSION


def test_bootstrap_reads_the_test_extra_as_toml_does() -> None:
    import bootstrap

    runtime = PYPROJECT["project"]["dependencies"]
    assert bootstrap.requirements("demo") == runtime
    assert bootstrap.requirements("test") == runtime + PYPROJECT["project"]["optional-dependencies"]["test"]


@pytest.mark.parametrize("path", shipped_modules(), ids=relative)
def test_shipped_code_opens_no_network_starts_no_process_and_runs_no_text(path: Path) -> None:
    tree = parse(path)
    found = {name for level, name in imports(tree) if level == 0 and name.split(".")[0] in FORBIDDEN_IMPORTS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_NAMES:
            found.add(f"{node.func.id}() in line {node.lineno}")
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in FORBIDDEN_ATTRIBUTES.get(node.value.id, ())
        ):
            found.add(f"{node.value.id}.{node.attr} in line {node.lineno}")
    if relative(path) == PICKLES:
        found = {name for name in found if not name.startswith("torch.load ")}
    assert not found


def test_pickles_are_opened_as_weights_only_and_by_the_command_line_alone() -> None:
    loads = [
        {word.arg: ast.literal_eval(word.value) for word in node.keywords}
        for node in ast.walk(parse(ROOT / PICKLES))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert loads == [{"map_location": "cpu", "weights_only": True, "mmap": True}]
    users = {relative(path) for path in shipped_modules() if "svd_core.cli.pickles" in ".".join(absolute_targets(path))}
    assert users == {"svd_core/cli/convert.py"}


def test_shipped_scripts_are_plain_and_stay_on_the_host() -> None:
    """The registry refuses run text and minified code; ComfyUI runs every .js, so that all but one are .mjs."""
    scripts = own_files(".js", ".mjs", ".css")
    shipped = [path for path in scripts if path.is_relative_to(ROOT / "web")]
    assert [relative(path) for path in shipped if path.suffix == ".js"] == ["web/js/svd_reel.js"]
    forbidden = re.compile(r"\beval\(|new Function|innerHTML|https?://|\bimport\(|set(Timeout|Interval)\([\"'`]")
    for path in shipped:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= LONGEST_FILE, relative(path)
        assert max(map(len, lines)) <= 160, f"{relative(path)} has lines that nobody reads"
        assert not [line for line in lines if forbidden.search(line)], relative(path)


@pytest.mark.parametrize("path", shipped_modules(), ids=relative)
def test_shipped_code_leaves_layers_and_devices_to_the_caller(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if FORBIDDEN_TEXT.search(line) and not line.lstrip().startswith("#")
    ]
    assert not found


@pytest.mark.parametrize("path", shipped_modules(), ids=relative)
def test_only_one_file_imports_the_host(path: Path) -> None:
    host = {name for level, name in imports(parse(path)) if level == 0 and name.split(".")[0] in HOST_MODULES}
    assert not host or relative(path) == "nodes/host/comfy.py"


@pytest.mark.parametrize("path", shipped_modules(), ids=relative)
def test_shipped_code_reaches_itself_by_relative_imports(path: Path) -> None:
    # ComfyUI loads the pack from a folder of any name; tests/project/test_floors.py holds the directions.
    for level, name in imports(parse(path)):
        assert level > 0 or name.split(".")[0] != "svd_core", f"absolute import of {name}"
    for target in absolute_targets(path):
        assert not target.startswith("^"), f"{target} lies outside the pack"


@pytest.mark.parametrize("path", own_files(".py"), ids=relative)
def test_python_files_are_short_and_plain(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    text.encode("cp1252")  # some Windows tools read sources in their own code page


def test_nothing_names_a_machine_it_was_made_on() -> None:
    machine = re.compile("/(wor" + "k|tm" + "p|roo" + "t|hom" + "e)/|" + r"\.\./shar" + "ed|" + "C:" + r"\\Users")
    suffixes = (".py", ".md", ".toml", ".yml", ".txt", ".json", ".cfg", "")
    found = [
        f"{relative(path)}:{number}"
        for path in own_files(*suffixes)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if machine.search(line)
    ]
    assert not found


def test_no_file_is_too_large_for_a_plain_clone() -> None:
    weights = own_files(".safetensors", ".png", ".jpg", ".gif", ".webp", ".mp4", ".json")
    assert not [relative(path) for path in weights if path.stat().st_size > 32 * 2**20]


def test_notice_carries_both_attributions_to_the_letter() -> None:
    notice = " ".join((ROOT / "NOTICE").read_text(encoding="utf-8").split())
    assert (
        "Stable Video Diffusion is licensed under the Stable Video Diffusion Research License, "
        "Copyright (c) Stability AI Ltd. All Rights Reserved." in notice
    )
    assert (
        "This Stability AI Model is licensed under the Stability AI Non-Commercial Research Community License, "
        "Copyright (c) Stability AI Ltd. All Rights Reserved." in notice
    )


def test_local_links_of_the_papers_lead_somewhere() -> None:
    # ComfyUI looks for the links of help pages elsewhere; tests/project/test_help.py follows them.
    for path in [path for path in own_files(".md") if not relative(path).startswith("web/docs/")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|<img[^>]+src=\"([^\"]+)\"", path.read_text(encoding="utf-8")):
            link = target[0] or target[1]
            if not link.startswith(("http:", "https:", "mailto:", "/")):
                assert (path.parent / link).exists(), f"{relative(path)} links to {link}"
