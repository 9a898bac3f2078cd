"""Part tests of `make gpu`: the tests that need a GPU, counted one by one."""

from pathlib import Path

import pytest
from gpu_part import Part, main

TESTS = Path(__file__).resolve().parent.parent / "tests" / "unit" / "models" / "test_gpu.py"
#: The project's own options ask for plugins, and its filters are for the versions it pins.
OPTIONS = ("-o", "addopts=", "-o", "filterwarnings=default", "-p", "no:cacheprovider", "-v")


class Counter:
    """A plugin of pytest that records each outcome as it comes."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.failures: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test by its call, or by what kept it from being called."""
        if report.when == "call" or not report.passed:
            self.counts[report.outcome] += 1
            if report.failed:
                self.failures[report.nodeid] = str(report.longrepr)[-1500:]
            self.part.record(counts=self.counts, failures=self.failures)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record what cannot be collected."""
        if report.failed:
            self.failures[report.nodeid] = str(report.longrepr)[-1500:]
            self.part.record(failures=self.failures)


def gpu_tests(part: Part) -> None:
    """Run the tests on the device; TASKLENS_TEST_DEVICE names it."""
    counter = Counter(part)
    status = pytest.main([str(TESTS), *OPTIONS], plugins=[counter])
    if status or not counter.counts["passed"]:
        raise RuntimeError(f"pytest ended with {status!r}: {counter.counts}")


if __name__ == "__main__":
    main(__doc__, gpu_tests)
