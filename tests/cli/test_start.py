"""Imports of the command line: nothing heavy for `--help` and `--version`, and public names on first use."""

import subprocess
import sys

import pytest

import svd_core
from svd_core.cli.main import COMMANDS, build_parser

HEAVY = ("torch", "numpy", "av", "PIL", "safetensors")
PLANS = (
    ["plan"],
    ["plan", "--help"],
    ["plan", "--model", "sv3d_p", "--memory", "8", "--width", "512"],
    ["plan", "--model", "svd", "--reuse", "2", "--rate", "80", "--dtype", "float32"],
    ["plan", "--width", "1001"],
)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], *PLANS], ids=" ".join)
def test_help_and_plans_import_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from svd_core.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]", found.stdout


def test_public_names_are_imported_on_first_use():
    assert set(svd_core.__all__) <= set(dir(svd_core))
    for name in svd_core.__all__:
        assert getattr(svd_core, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = svd_core.no_such_name


def test_every_command_has_a_summary_a_description_and_help_for_every_option():
    parser = build_parser()
    commands = parser._subparsers._group_actions[0].choices
    assert commands.keys() == COMMANDS.keys()
    for name, command in commands.items():
        assert command.description and command.description.endswith("."), name
        assert command.get_default("run") is not None, name
        assert [action.dest for action in command._actions if not action.help] == [], name


def test_only_named_commands_get_their_options():
    commands = build_parser(["info"])._subparsers._group_actions[0].choices
    assert commands["info"].get_default("run") is not None and commands["animate"].get_default("run") is None
