"""The column of a progress bar that says how fast it goes."""

from __future__ import annotations

from rich.progress import ProgressColumn, Task
from rich.text import Text

__all__ = ["Rate"]


class Rate(ProgressColumn):
    """Items, or steps, a second over the last half minute; empty before anything is done."""

    def render(self, task: Task) -> Text:
        """`1,234/s`, or `0.25/s` where it is slow."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.2g}/s", style="progress.data.speed")
