"""The splitter behind the mutation run finds every condition, whatever it is nested in."""

from __future__ import annotations

from aihd.chain.contracts import source_of
from aihd.protocol.deployment import Guard

from .equivalent import EQUIVALENT
from .mutate import mutants

SOURCE = """{
  // a && comment
  val first = one(1, 2) == 2 && two
  val chosen = if (three && four) five && six else seven
  val broken = (if (twelve) thirteen
    else fourteen && fifteen)
  sigmaProp(
    eight.exists({ (x: Int) => x > 1 && x < 9 }) &&
    // why
    (nine || ten && eleven)
  ) && node
}"""


def test_mutants__when_conditions_are_nested__then_each_operand_is_replaced_once() -> None:
    found = list(mutants(Guard.TASK, SOURCE))

    assert sorted(mutant.operand for mutant in found) == sorted(
        [
            "one(1, 2) == 2", "two", "three", "four", "five", "six", "x > 1", "x < 9", "ten", "eleven",
            "fourteen", "fifteen",
            "eight.exists({ (x: Int) => x > 1 && x < 9 })", "(nine || ten && eleven)", "node",
            "sigmaProp( eight.exists({ (x: Int) => x > 1 && x < 9 }) && // (nine || ten && eleven) )",
        ]
    )  # fmt: skip
    assert (
        "val chosen = if (three && four) true && six else seven" in next(m for m in found if m.operand == "five").source
    )
    assert len({mutant.source for mutant in found}) == len(found)


def test_reasons__when_a_guard_changes__then_each_still_names_one_of_its_conditions() -> None:
    conditions = {(guard, mutant.operand) for guard in Guard for mutant in mutants(guard, source_of(guard))}

    assert set(EQUIVALENT) <= conditions
