"""The SVD family against outputs of its public code (tests/data/family), through the public path of the product."""

import pytest

from tests.helpers.family_golden import KINDS, findings_of, main, read_golden
from tests.helpers.golden_rule import DATA

FILES = sorted((DATA / "family").glob("*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_tensor_of_the_public_code_is_met(path):
    findings = findings_of(path)
    assert findings
    above = [finding for finding in findings if not finding.error <= finding.limit]
    assert not above


def test_every_kind_of_golden_file_has_a_file():
    assert {read_golden(path).settings["kind"] for path in FILES} == set(KINDS)


def test_the_command_says_what_it_cannot_run(tmp_path, capsys):
    assert main([]) == 2
    assert "FILE.safetensors" in capsys.readouterr().err
