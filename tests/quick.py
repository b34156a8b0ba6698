"""Which tests are quick: those of `launch/test.sh --quick`, under a minute on two cores.

A test is quick unless `not_quick.txt` beside this file names it or its file. The list holds what costs more than LIMIT
seconds of processor time, with the fixtures that it uses, or starts a process; `launch/test.sh --write-not-quick`
writes it anew. It cannot rot unseen: every run measures, and names at its end the unlisted tests that start a process
or cost more than TOLERATED. It does not fail for them: how long a test takes is no property of the code alone.
"""

import resource
import time
from collections import defaultdict
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("not_quick.txt")
LIMIT = 0.2
# Their work is done by compiler processes that outlive a test, so that no measure of it sees the cost.
COMPILE = {"tests/engine/test_contract.py", "tests/engine/test_meshes.py", "tests/plan/test_plan.py"}
TOLERATED = 20 * LIMIT  # machines differ, and what a test shares with others falls to the first


def listed() -> set[str]:
    return {line for line in LIST.read_text(encoding="utf-8").splitlines() if not line.startswith("#")}


def function_of(nodeid: str) -> str:
    """A test without its parameters: "tests/optim/test_optim.py::test_name"."""
    return nodeid.split("[")[0]


def seconds() -> tuple[float, float]:
    """Processor time of this process and of its children that have ended. (Wall time depends on what else runs.)"""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time(), children.ru_utime + children.ru_stime


class Quick:
    """The pytest plugin; tests/conftest.py registers it."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.listed = listed()
        self.fixtures: dict[str, float] = {}
        self.costs: dict[str, float] = defaultdict(float)  # function -> all of its cases together

    def is_listed(self, function: str) -> bool:
        return function in self.listed or function.split("::")[0] in self.listed

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.config.getoption("--quick"):
            slow = [item for item in items if self.is_listed(function_of(item.nodeid))]
            self.config.hook.pytest_deselected(items=slow)
            items[:] = [item for item in items if item not in set(slow)]

    # ---- measured where the test runs: with pytest-xdist, in a worker

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        before = sum(seconds())
        try:
            return (yield)
        finally:
            self.fixtures[f"{fixturedef.baseid}::{fixturedef.argname}"] = sum(seconds()) - before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        own, children = seconds()
        try:
            return (yield)
        finally:
            after, children_after = seconds()
            # A fixture that several tests share is set up once, yet whoever runs one of them alone pays for it.
            shared = [each for defs in item._fixtureinfo.name2fixturedefs.values() for each in defs]
            fixtures = sum(self.fixtures.get(f"{each.baseid}::{each.argname}", 0.0) for each in shared)
            processes = float("inf") if children_after > children else 0.0
            item.user_properties.append(("cost", after - own + fixtures + processes))

    # ---- gathered where the reports arrive

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, cost in report.user_properties:
                if name == "cost":
                    function = function_of(report.nodeid)
                    self.costs[function] += cost

    @property
    def missing(self) -> dict[str, float]:
        return {f: cost for f, cost in self.costs.items() if cost > TOLERATED and not self.is_listed(f)}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.config.getoption("--write-not-quick") and not hasattr(self.config, "workerinput"):
            write(self.costs)

    def pytest_terminal_summary(self, terminalreporter) -> None:
        if self.missing and not self.config.getoption("--write-not-quick"):
            terminalreporter.section("make these quicker, or add their lines to tests/not_quick.txt", red=True)
            for function in sorted(self.missing):
                terminalreporter.line(function)


def write(costs: dict[str, float]) -> None:
    """Writes the list: a file where all its tests are dear, else each such test. What did not run stays as listed."""
    before = listed()
    files: dict[str, set[str]] = defaultdict(set)
    for function, cost in costs.items():
        files[function.split("::")[0]].add(function if cost > LIMIT else "")
    lines = {line for line in before if line.split("::")[0] not in files}
    for file, dear in files.items():
        lines |= {file} if "" not in dear or file in COMPILE else dear - {""}
    head = "# Left out by launch/test.sh --quick; see tests/quick.py. Written by launch/test.sh --write-not-quick.\n"
    LIST.write_text(head + "".join(f"{line}\n" for line in sorted(lines)), encoding="utf-8")
