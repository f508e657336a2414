"""The command `xmr`: a library from the shell. Tables for people, `--json` for programs; messages go to stderr.

Exit codes: 0 done, 1 an error (`error: ...` on stderr), 2 a command line that cannot be understood. Whatever is slow
to import is imported inside the command that needs it, so that help and `xmr plugins` come at once.
"""

from __future__ import annotations

import io
import sys

from xmr_core.cli import demo, info, ingest, maintenance, search, vqa  # importing them defines their commands
from xmr_core.cli.app import app

__all__ = ["app", "demo", "info", "ingest", "main", "maintenance", "search", "vqa"]


def main() -> None:
    """The entry point. Characters that an output stream cannot hold are replaced, and never end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    app(prog_name="xmr")
