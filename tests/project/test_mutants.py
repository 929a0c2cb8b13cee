"""`python -m tools.mutants`: which places it draws, and which tests it runs for a change."""

import ast

import pytest

from tools.mutants import SHARED, Coverage, Mutant, annotation_spans, sample_mutants, sources_of, statement_lines

CODE = """\
LIMIT = (
    3 +
    4
)

def scaled(x: "int | None" = 2 - 1) -> "int | float":
    if x > (
        0
    ):
        return x * 2
    return 0
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(2, range(1, 5), id="a statement over several lines"),
        pytest.param(8, range(7, 10), id="the head of a compound statement"),
        pytest.param(10, range(10, 11), id="the body of it"),
        pytest.param(6, range(6, 7), id="the head of a function"),
    ],
)
def test_a_line_counts_as_the_statement_it_is_part_of(line: int, expected: range) -> None:
    assert statement_lines(ast.parse(CODE), line) == expected


def test_annotations_are_left_out_and_defaults_are_not() -> None:
    spans = annotation_spans(ast.parse(CODE))
    head = CODE.splitlines()[5]
    inside = [
        any(first <= (6, column) < last for first, last in spans) for column in (head.index("|"), head.index("-"))
    ]
    assert inside == [True, False]
    assert any(first <= (6, head.rindex("|")) < last for first, last in spans)


def test_a_sample_has_one_mutant_a_place_and_follows_the_seed() -> None:
    kinds = ("core/ReplaceBinaryOperator_Add_Sub", "core/ReplaceBinaryOperator_Add_Mul", "core/NumberReplacer")
    mutants = [Mutant("a.py", line, kind, number) for line in range(30) for number, kind in enumerate(kinds)]
    drawn = sample_mutants(mutants, 20, 3)
    places = {(mutant.line, mutant.operator.split("_")[0]) for mutant in drawn}
    assert len(drawn) == len(places) == 20
    assert drawn == sample_mutants(mutants, 20, 3) != sample_mutants(mutants, 20, 4)
    assert len(sample_mutants(mutants, 1000, 0)) == 60


def test_tests_that_reach_a_line_run_first_and_shared_work_runs_them_all() -> None:
    contexts = {"a.py": {1: {"slow", "fast"}, 2: {"slow", SHARED}}}
    seen = Coverage(contexts, {"slow": 3.0, "fast": 1.0, "other": 0.5, "last": 9.0})
    assert seen.tests_of("a.py", range(1, 2)) == ["fast", "slow"]
    assert seen.tests_of("a.py", range(1, 3)) == ["fast", "slow", "other", "last"]
    assert seen.tests_of("a.py", range(7, 8)) == seen.tests_of("b.py", range(1, 2)) == []


def test_rooms_are_folders_or_single_files_and_unknown_ones_are_named() -> None:
    assert [path.as_posix() for path in sources_of("memory")] == ["svd_core/memory.py"]
    assert len(sources_of("controls")) > 5
    with pytest.raises(SystemExit, match="'motion'.*controls"):
        sources_of("motion")
