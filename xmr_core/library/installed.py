"""The components of stored spaces and what is installed: who brought each, and what to do where it is missing.

A space whose components are not installed, were made by a later release, or fail to load keeps its codes and can be
searched in SQL; in Python it says what to install.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from xmr_core.components import Component, Provider
from xmr_core.errors import ConfigError, PluginError, SpaceMismatchError, StateVersionError, XmrError
from xmr_core.registry import HOOKS, PROCESS, UNKNOWN, Role, calls, default
from xmr_core.store import PartRecord, SpaceRecord, Store

__all__ = ["lacking", "load_part", "providers_of", "remedy_of"]


def providers_of(role: Role, component: Component) -> tuple[Provider, ...]:
    """Who brought a component, and those that recipes in its options name, as in `each(image="lite0")`."""
    named = {(role, component.name): None} | dict.fromkeys(_nested(component.options()))
    found = [default().entry(role, name) for role, name in named]
    return tuple(Provider(one.role, one.name, one.distribution, one.release) for one in found if one is not None)


def _nested(options: Mapping[str, Any]) -> Iterator[tuple[Role, str]]:
    """The encoders that options name."""
    for value in options.values():
        for text in value if isinstance(value, (tuple, list)) else (value,):
            if not isinstance(text, str):
                continue
            try:
                parts = calls(text)
            except ConfigError:  # another text than a recipe
                continue
            for name, own in parts:
                if default().has("encoder", name):
                    yield "encoder", name
                    yield from _nested(own)


def load_part(part: PartRecord, what: str) -> Component:
    """A component as it was stored; `what` is the space, for messages, which say what to install.

    Raises UnknownComponentError, PluginError, StateVersionError, StateError, and SpaceMismatchError where its weights
    are no longer those that it was fitted with.
    """
    try:
        component = cast(Component, default().find(cast(Role, part.role), part.name).load(*_stored(part)))
        digest, weights = component.fingerprint(), component.weights_digest()
    except PluginError as error:
        raise type(error)(f"{what} cannot be loaded: {_unfound(part, error)}{_remedy(part.providers)}") from error
    except (StateVersionError, ConfigError) as error:
        words = f"{what} cannot be loaded: {error}{_remedy(part.providers)}"
        raise StateVersionError(words) from error
    except XmrError as error:
        raise type(error)(f"{what} cannot be loaded: {error}") from error
    except Exception as error:  # a stranger's class may do anything
        told = f"{part.role} {part.name!r} fails: {type(error).__name__}: {error}"
        raise PluginError(f"{what} cannot be loaded: {told}{_remedy(part.providers)}") from error
    if digest != part.fingerprint:
        raise _changed(part, what, digest, weights)
    return component


def _stored(part: PartRecord) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
    return part.options, part.state, part.version


def _unfound(part: PartRecord, error: PluginError) -> str:
    """What is missing: without the list of all that there is, and with what kept its plugin from loading."""
    if default().has(cast(Role, part.role), part.name):
        return str(error)
    owners = {one.distribution for one in part.providers}
    broken = [f" ({problem})" for problem in default().problems if problem.distribution in owners]
    package = "" if part.providers else "; install the package that it came from"
    return f"no {part.role} {part.name!r} installed{''.join(broken)}{package}"


def _changed(part: PartRecord, what: str, digest: str, weights: str) -> XmrError:
    """What to say where a component's fingerprint is another than was stored."""
    told = f"{what}: {part.name} is not what it was fitted with (fingerprint {digest[:12]}, stored "
    told += f"{part.fingerprint[:12]}): "
    if weights:
        advice = "other weights are installed; install those again, or fit again"
        return SpaceMismatchError(f"{told}{advice}{_remedy(part.providers)}")
    advice = "its stored options or arrays were changed; restore the library from an export, or fit again"
    return SpaceMismatchError(told + advice)


def _remedy(providers: Sequence[Provider]) -> str:
    """`; it was fitted with xmr-tint 1.2: pip install xmr-tint==1.2`, of whoever is missing or has another version."""
    for provider in providers:
        if provider.distribution == PROCESS:
            if not default().has(cast(Role, provider.role), provider.component):
                return f"; {provider.component} was a class of the process that fitted it: registry.add it first"
            continue
        entry = default().entry(cast(Role, provider.role), provider.component)
        if provider.distribution == UNKNOWN or (entry and _same(entry.distribution, entry.release, provider)):
            continue
        wanted = f"{provider.distribution} {provider.release}".strip()
        installed = f", installed is {entry.distribution} {entry.release}" if entry else ""
        exactly = f"=={provider.release}" if provider.release else ""
        return f"; it was fitted with {wanted}{installed}: pip install {provider.distribution}{exactly}"
    return ""


def remedy_of(record: SpaceRecord) -> str:
    """What to install where a part of a space was fitted with another release; "" where none was."""
    return next((told for part in record.parts if (told := _remedy(part.providers))), "")


def _same(distribution: str, release: str, provider: Provider) -> bool:
    return (distribution, release) == (provider.distribution, provider.release)


def lacking(store: Store, record: SpaceRecord) -> str | None:
    """What a space lacks of what its recipe names, in options too, in words, without loading anything; None where all
    is installed."""
    registry = default()
    brought = store.providers(record.name, record.version)
    missing = [one.component for one in brought if not registry.has(cast(Role, one.role), one.component)]
    missing += [name for name, _ in calls(record.recipe) if not any(registry.has(role, name) for role in HOOKS)]
    for name in missing[:1]:
        owners = [one for one in brought if one.component == name]
        return f"no {name!r} installed{_remedy(owners) or '; install the package that it came from'}"
    return None
