"""The plugins that are installed: found by their entry points in the group `xmr`, loaded one by one.

A plugin that cannot be loaded, has a misspelt hook, or claims a taken name is a `Problem`: reported, never in the way
of the others. The core keeps no list of its own; built-in plugins enter by this same door.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, overload

import pluggy

from xmr_core import hookspecs
from xmr_core.components import API_VERSION, Encoder, Fuser, Indexer
from xmr_core.errors import DuplicateComponentError, UnknownComponentError
from xmr_core.store import Store
from xmr_core.vqa import Answerer

__all__ = ["Entry", "Problem", "Registry", "Role", "default"]

Role = Literal["encoder", "fuser", "indexer", "answerer", "store"]
HOOKS: dict[Role, str] = {
    "encoder": "xmr_encoders",
    "fuser": "xmr_fusers",
    "indexer": "xmr_indexers",
    "answerer": "xmr_answerers",
    "store": "xmr_stores",
}
BASES: dict[Role, type[Any]] = {
    "encoder": Encoder,
    "fuser": Fuser,
    "indexer": Indexer,
    "answerer": Answerer,
    "store": Store,
}
OTHER_API = re.compile(rf"{hookspecs.PROJECT}\.v(\d+)")  # the group of a later API, known by its name alone


@dataclass(frozen=True)
class Entry:
    """A component that is installed, and who brought it."""

    role: Role
    name: str
    component: type[Any]
    distribution: str
    plugin: str


@dataclass(frozen=True)
class Problem:
    """A plugin, or one component of it, that was left out, and why."""

    distribution: str
    plugin: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} of {self.distribution}: {self.reason}"


class Registry:
    """The components of a set of entry points; `default()` is the one of this environment.

    >>> default().find("fuser", "sign").name
    'sign'
    """

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        self.problems: list[Problem] = []
        self._claims: dict[tuple[Role, str], list[Entry]] = {}
        for point in sorted(self._known(points), key=lambda point: (_distribution(point), point.name)):
            try:
                self._load(point)
            except (Exception, SystemExit) as error:  # a stranger's module may do anything
                self._report(point, f"{type(error).__name__}: {error}")

    def _known(self, points: Iterable[EntryPoint] | None) -> list[EntryPoint]:
        found = list(_installed() if points is None else points)
        for point in found:
            other = OTHER_API.fullmatch(point.group)
            if other:
                self._report(point, f"made for plugin API {other[1]}, this is API {API_VERSION}; not imported")
        return [point for point in found if point.group == hookspecs.PROJECT]

    def _load(self, point: EntryPoint) -> None:
        module = point.load()
        api = getattr(module, "XMR_API", API_VERSION)
        if api != API_VERSION:
            return self._report(point, f"made for plugin API {api}, this is API {API_VERSION}")
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(module)
        try:
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            name = re.search(r"unknown hook '(\w+)'", str(error))
            return self._report(point, _misspelt(name[1]) if name else str(error))
        for role, hook in HOOKS.items():
            for classes in getattr(manager.hook, hook)():
                for component in classes:
                    self._claim(point, role, component)
        return None

    def _claim(self, point: EntryPoint, role: Role, component: type[Any]) -> None:
        name = getattr(component, "name", None)
        if not (inspect.isclass(component) and issubclass(component, BASES[role])):
            self._report(point, f"{component!r} is no subclass of xmr_core.{BASES[role].__name__}")
        elif not isinstance(name, str) or not name.isidentifier():
            self._report(point, f"{component.__name__}.name must be an identifier, got {name!r}")
        elif inspect.isabstract(component):
            missing = ", ".join(sorted(getattr(component, "__abstractmethods__", ())))
            self._report(point, f"{role} {name!r} lacks {missing}")
        else:
            claims = self._claims.setdefault((role, name), [])
            claims.append(Entry(role, name, component, _distribution(point), point.name))
            if len(claims) > 1:
                self._report(point, self._clash(claims))

    def _report(self, point: EntryPoint, reason: str) -> None:
        self.problems.append(Problem(_distribution(point), point.name, reason))

    @staticmethod
    def _clash(claims: list[Entry]) -> str:
        owners = " and ".join(f"{entry.distribution} (plugin {entry.plugin!r})" for entry in claims)
        return f"{claims[0].role} {claims[0].name!r} is claimed by {owners}; uninstall one of them"

    def entries(self, role: Role | None = None) -> list[Entry]:
        """What is installed and unambiguous, by role and name."""
        return [
            claims[0]
            for (claimed, _), claims in sorted(self._claims.items())
            if len(claims) == 1 and role in (None, claimed)
        ]

    def names(self, role: Role) -> list[str]:
        """The names of a role."""
        return [entry.name for entry in self.entries(role)]

    def has(self, role: Role, name: str) -> bool:
        """True where somebody claims the name."""
        return (role, name) in self._claims

    @overload
    def find(self, role: Literal["encoder"], name: str) -> type[Encoder]: ...
    @overload
    def find(self, role: Literal["fuser"], name: str) -> type[Fuser]: ...
    @overload
    def find(self, role: Literal["indexer"], name: str) -> type[Indexer]: ...
    @overload
    def find(self, role: Literal["answerer"], name: str) -> type[Answerer]: ...
    @overload
    def find(self, role: Literal["store"], name: str) -> type[Store]: ...
    @overload
    def find(self, role: Role, name: str) -> type[Any]: ...
    def find(self, role: Role, name: str) -> type[Any]:
        """The class of that name. Raises UnknownComponentError (naming the nearest), DuplicateComponentError."""
        claims = self._claims.get((role, name), [])
        if len(claims) > 1:
            raise DuplicateComponentError(self._clash(claims))
        if not claims:
            raise UnknownComponentError(self._unknown(role, name))
        return claims[0].component

    def _unknown(self, role: Role, name: str) -> str:
        names = self.names(role)
        near = difflib.get_close_matches(name, names, 1)
        broken = [str(problem) for problem in self.problems if name in (problem.plugin, problem.distribution)]
        return " ".join(
            [
                f"no {role} {name!r} installed;",
                f"did you mean {near[0]!r}?" if near else "",
                f"there are {', '.join(names)}" if names else f"no {role} is installed at all",
                *(f"({problem})" for problem in broken),
            ]
        ).replace(";  ", "; ")


@functools.cache
def default() -> Registry:
    """The registry of this environment, read once a process; `default.cache_clear()` reads it again."""
    return Registry()


def _installed() -> list[EntryPoint]:
    every = entry_points()
    groups = [group for group in every.groups if group == hookspecs.PROJECT or OTHER_API.fullmatch(group)]
    return [point for group in groups for point in every.select(group=group)]


def _distribution(point: EntryPoint) -> str:
    dist = getattr(point, "dist", None)
    return dist.name if dist is not None else "(unknown distribution)"


def _misspelt(hook: str) -> str:
    near = difflib.get_close_matches(hook, HOOKS.values(), 1)
    return f"unknown hook {hook!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"there are {', '.join(HOOKS.values())}"
    )
