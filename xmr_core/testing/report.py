"""How many checks ran: a line a conformance class at the end of the pytest session."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

__all__ = ["Report"]


class Report:
    """A pytest plugin that registers itself when the first conformance class runs."""

    NAME = "xmr_conformance"

    def __init__(self) -> None:
        self.titles: dict[str, str] = {}  # of the classes, by node id
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @classmethod
    def of(cls, config: pytest.Config) -> Report:
        """The report of this session."""
        found = config.pluginmanager.get_plugin(cls.NAME)
        if not isinstance(found, Report):
            found = cls()
            config.pluginmanager.register(found, cls.NAME)
        return found

    def watch(self, nodeid: str, title: str) -> None:
        """Count the checks of the class of this test."""
        self.titles.setdefault(_class(nodeid), title)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what was called, and what failed on the way there."""
        if _class(report.nodeid) in self.titles and (report.when == "call" or not report.passed):
            self.counts[_class(report.nodeid)][report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The lines."""
        terminalreporter.section("conformance")
        for nodeid, title in self.titles.items():
            counts = self.counts[nodeid]
            outcomes = [f"{counts[outcome]} {outcome}" for outcome in ("failed", "skipped") if counts[outcome]]
            ran = counts["passed"] + counts["failed"]
            terminalreporter.line(", ".join([f"{title}: {ran} checks ran", *outcomes]))


def _class(nodeid: str) -> str:
    """The node id of a test's class."""
    return nodeid.partition("[")[0].rpartition("::")[0]
