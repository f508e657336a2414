"""The plugins that are installed: found by their entry points in the group `xmr`, loaded one by one.

A plugin that cannot be loaded, has a misspelt hook, or claims a taken name is a `Problem`: reported, never in the way
of the others. The core keeps no list of its own; built-in plugins enter by this same door.

A class of a running process, as in a notebook, is added by hand, and can then be named in recipes, fitted and loaded:

    @xmr.registry.add
    class Mine(xmr.Indexer):
        name = "mine"
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeVar, overload

import pluggy

from xmr_core import hookspecs
from xmr_core.components import API_VERSION, Component, Encoder, Fuser
from xmr_core.errors import ConfigError, DuplicateComponentError, PluginError, UnknownComponentError
from xmr_core.options import options_of
from xmr_core.search.indexer import Indexer
from xmr_core.store import Store
from xmr_core.vqa import Answerer

__all__ = [
    "HOOKS",
    "PROCESS",
    "UNKNOWN",
    "Entry",
    "Problem",
    "Registry",
    "Role",
    "add",
    "calls",
    "component",
    "default",
    "make",
    "remove",
    "require",
]


C = TypeVar("C", bound=type[Any])
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
LONGEST = 200  # characters of a recipe that a message repeats
UNNAMED = ""  # what `calls` calls the first option of a component where the recipe does not name it
UNKNOWN = "(unknown distribution)"  # of an entry point that a removed package has left behind
PROCESS = "this process"  # the distribution of what was added by hand
OTHER_API = re.compile(rf"{hookspecs.PROJECT}\.v(\d+)")  # the group of a later API, known by its name alone


@dataclass(frozen=True)
class Entry:
    """A component that is installed, and who brought it."""

    role: Role
    name: str
    component: type[Any]
    distribution: str
    plugin: str
    release: str = ""  # the distribution's version; "" where it is not known


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
        fault = _fault(role, component)
        if fault:
            return self._report(point, fault)
        claims = self._claims.setdefault((role, component.name), [])
        claims.append(Entry(role, component.name, component, _distribution(point), point.name, _release(point)))
        if len(claims) > 1:
            self._report(point, self._clash(claims))
        return None

    def add(self, component: C) -> C:
        """Register a class of the running process, and give it back. One of the same module and name is replaced.

        Raises PluginError where it is no component or lacks something, DuplicateComponentError where its name is taken.
        """
        role = next((role for role, base in BASES.items() if _is_kind(component, base)), None)
        fault = _fault(role, component) if role else f"{component!r} is no subclass of a role, like xmr_core.Indexer"
        if role is None or fault:
            raise PluginError(f"add: {fault}")
        claims = [claim for claim in self._claims.get((role, component.name), []) if not _redefines(component, claim)]
        claims.append(Entry(role, component.name, component, PROCESS, component.__module__))
        if len(claims) > 1:
            owner = f"{claims[0].distribution} (plugin {claims[0].plugin!r})"
            raise DuplicateComponentError(f"add: {owner} has {role} {component.name!r} already; choose another name")
        self._claims[role, component.name] = claims
        return component

    def remove(self, component: type[Any]) -> None:
        """Forget a class that was added. Raises UnknownComponentError where it was not."""
        for key, claims in self._claims.items():
            if [(claim.component, claim.distribution) for claim in claims] == [(component, PROCESS)]:
                del self._claims[key]
                return
        raise UnknownComponentError(f"remove: {component!r} was not added")

    def require(self, component: Component) -> None:
        """Raise PluginError unless the component is of the class that is found under its name.

        What is stored of any other could not be loaded again.
        """
        kind = type(component)
        role = next(role for role, base in BASES.items() if issubclass(kind, base))
        claims = self._claims.get((role, component.name), [])
        if [claim.component for claim in claims] == [kind]:
            return
        if claims:
            known = claims[0]
            raise PluginError(
                f"{component!r}: its class is {_path(kind)}, but {role} {component.name!r} is {_path(known.component)} "
                f"of {known.distribution}, so what is stored of it could not be loaded; give the class another name"
            )
        raise UnknownComponentError(
            f"no {role} {component.name!r} is registered, so what is stored of it could not be loaded; "
            f"call registry.add({kind.__name__}) before, or install the plugin that has it"
        )

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

    def entry(self, role: Role, name: str) -> Entry | None:
        """Who brought the component of that name; None where nobody did, or several."""
        claims = self._claims.get((role, name), [])
        return claims[0] if len(claims) == 1 else None

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


def _fault(role: Role, component: type[Any]) -> str:
    """What keeps a class from being registered in a role; "" where nothing does."""
    name = getattr(component, "name", None)
    if not _is_kind(component, BASES[role]):
        return f"{component!r} is no subclass of xmr_core.{BASES[role].__name__}"
    if not isinstance(name, str) or not name.isidentifier():
        return f"{component.__name__}.name must be an identifier, got {name!r}"
    if inspect.isabstract(component):
        return f"{role} {name!r} lacks {', '.join(sorted(getattr(component, '__abstractmethods__', ())))}"
    return ""


def _is_kind(component: object, base: type[Any]) -> bool:
    return inspect.isclass(component) and issubclass(component, base)


def _path(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _redefines(component: type[Any], claim: Entry) -> bool:
    """True where a class takes the place of one that was added before: a cell of a notebook was run again."""
    return claim.distribution == PROCESS and _path(claim.component) == _path(component)


@functools.cache
def default() -> Registry:
    """The registry of this environment, read once a process; `default.cache_clear()` reads it again."""
    return Registry()


def add(component: C) -> C:
    """Register a class of the running process in the registry of this environment: see `Registry.add`."""
    return default().add(component)


def remove(component: type[Any]) -> None:
    """Forget a class that was added: see `Registry.remove`."""
    default().remove(component)


def require(components: Iterable[Component]) -> None:
    """Raise PluginError unless all of them could be loaded once stored: see `Registry.require`."""
    for component in components:
        default().require(component)


def component(role: Role, recipe: str) -> Component:
    """One unfitted component from text like `bow(min_count=5)`: how a component takes another as an option."""
    ((name, options),) = calls(recipe, most=1)
    return make(role, name, options)


def make(role: Role, name: str, options: Mapping[str, Any]) -> Component:
    """The unfitted component of a name and its options, as `calls` gives them. Raises ConfigError,
    UnknownComponentError."""
    cls: type[Component] = default().find(role, name)
    given = dict(options)
    if UNNAMED in given:
        names = [option.name for option in options_of(cls.Config)]
        value = given.pop(UNNAMED)
        if not names:
            raise ConfigError(f"{name} takes no options, got {value!r}")
        if names[0] in given:
            raise ConfigError(f"{name}({value!r}, {names[0]}={given[names[0]]!r}): {names[0]} is given twice")
        given[names[0]] = value
    return cls(**given)


def calls(recipe: str, most: int | None = None) -> list[tuple[str, dict[str, Any]]]:
    """A recipe as names and options: `a(x=1) >> b` gives [("a", {"x": 1}), ("b", {})]. Raises ConfigError.

    It is parsed, never evaluated: options are literals. The value of a component's first option may stand without its
    name, as in `onnx("clip/")`; it comes under the empty name.
    """
    if not isinstance(recipe, str):
        raise ConfigError(f"a recipe is a text like 'dcmh(bits=64) >> sign >> hamming', got {type(recipe).__name__}")
    try:
        tree = ast.parse(recipe.strip(), mode="eval").body
        parts = [_call(node, recipe) for node in _chain(tree)]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"recipe {recipe[:LONGEST]!r} cannot be read: write it like 'dcmh(bits=64) >> sign >> hamming'"
        ) from None
    if most is not None and len(parts) > most:
        raise ConfigError(f"{recipe!r}: expected {most} component, got {len(parts)}")
    return parts


def _chain(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift):
        return [*_chain(node.left), *_chain(node.right)]
    return [node]


def _call(node: ast.expr, recipe: str) -> tuple[str, dict[str, Any]]:
    if isinstance(node, ast.Name):
        return node.id, {}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) <= 1:
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
        if len(options) == len(node.keywords):
            for value in node.args:
                options[UNNAMED] = ast.literal_eval(value)
            return node.func.id, options
    raise ConfigError(
        f"recipe {recipe[:LONGEST]!r}: {ast.unparse(node)[:LONGEST]!r} is no component; "
        "write name, name(option=value) or name(value of the first option), joined by >>"
    )


def _installed() -> list[EntryPoint]:
    every = entry_points()
    groups = [group for group in every.groups if group == hookspecs.PROJECT or OTHER_API.fullmatch(group)]
    return [point for group in groups for point in every.select(group=group)]


def _distribution(point: EntryPoint) -> str:
    dist = getattr(point, "dist", None)
    name = None if dist is None else dist.name
    return name or UNKNOWN


def _release(point: EntryPoint) -> str:
    dist = getattr(point, "dist", None)
    return "" if dist is None else dist.version or ""


def _misspelt(hook: str) -> str:
    near = difflib.get_close_matches(hook, HOOKS.values(), 1)
    return f"unknown hook {hook!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"there are {', '.join(HOOKS.values())}"
    )
