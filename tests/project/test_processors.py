"""The command that runs tests under every instruction set."""

import sys

import pytest

from tools.processors import Outcome, Processor, run_tests, supported_levels, table


@pytest.mark.parametrize(
    ("capability", "levels"),
    [
        ("AVX512", ("native", "DEFAULT", "AVX2", "AVX512")),
        ("AVX2", ("native", "DEFAULT", "AVX2")),
        ("DEFAULT", ("native", "DEFAULT")),
        ("SVE256", ("native",)),  # ARM: the variables have no effect there
    ],
)
def test_only_supported_instruction_sets_are_run(capability, levels):
    assert supported_levels(capability) == levels


def test_every_library_reads_the_same_level():
    variables = Processor("AVX2", 2).environment()
    assert {variables[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} == {"2"}
    assert [v for k, v in variables.items() if "THREADS" not in k] == ["avx2", "AVX2", "AVX2"]
    assert not [name for name in Processor("native", 1).environment() if "THREADS" not in name]


def test_a_failing_run_is_reported_with_its_tests(tmp_path):
    file = tmp_path / "test_luck.py"
    file.write_text(
        "import os\ndef test_luck():\n    assert os.environ['OMP_NUM_THREADS'] == '1'\ndef test_sound():\n    pass\n"
    )
    arguments = [str(file), "--rootdir", str(tmp_path), "-c", "/dev/null"] if sys.platform != "win32" else [str(file)]
    lucky, unlucky = (run_tests(Processor("native", threads), arguments) for threads in (1, 2))
    assert (lucky.code, unlucky.code, lucky.failures) == (0, 1, ())
    assert len(unlucky.failures) == 1 and "test_luck" in unlucky.failures[0]
    lines = table([lucky, unlucky]).splitlines()
    assert "passed" in lines[1] and "FAILED" in lines[2] and lines[3].startswith("native, threads 2: FAILED")


def test_a_run_that_dies_is_no_pass():
    assert "FAILED" in table([Outcome(Processor("AVX2", 1), -4, "no output", (), 0.1)])
