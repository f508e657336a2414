"""The laws every component keeps, whatever its role, and the ground they are tried on."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from xmr_core.errors import ConfigError, NotFittedError, StateVersionError, XmrError
from xmr_core.options import Option, Range, options_of
from xmr_core.registry import calls
from xmr_core.testing.report import Report
from xmr_core.types import Features

__all__ = ["Answers", "Case", "Laws", "Suite", "assert_same", "feature_arrays", "refuses", "require_importable"]

Answers = Mapping[str, NDArray[Any]]  # what a fitted component makes of its case's samples
HEAVY = ("torch", "faiss", "scipy", "hnswlib", "sklearn", "tensorflow", "jax", "transformers", "onnxruntime")


class Case(ABC):
    """A component and the samples it is tried on. Fitting is done once a class of tests, at the first need."""

    role: ClassVar[str]
    component: Any  # the unfitted component: each role names its type

    @abstractmethod
    def fit(self, component: Any) -> Any:
        """`component` fitted on the samples."""

    @abstractmethod
    def answers(self, component: Any) -> Answers:
        """What a fitted component makes of the samples."""

    @abstractmethod
    def inputs(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """The arrays that a component is given, by name: it must leave them as they are."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the samples for a new process."""

    @classmethod
    @abstractmethod
    def load(cls, component: Any, folder: Path) -> Self:
        """The case that was saved, with this component."""

    def used(self, component: Any) -> Use:
        """The component fitted and used, by a witness."""
        before = World.seen_by(self)
        fitted = self.fit(component)
        answers = self.answers(fitted)
        return Use(fitted, answers, before, World.seen_by(self))

    @cached_property
    def first_use(self) -> Use:
        """The component fitted and used for the first time."""
        return self.used(self.component)

    @cached_property
    def second_use(self) -> Use:
        """What was fitted, fitted and used again: it must not begin where it ended, nor read global generators."""
        fitted = self.fitted
        _stir_global_randomness()
        return self.used(fitted)

    @property
    def fitted(self) -> Any:
        """The component, fitted."""
        return self.first_use.fitted

    @property
    def answered(self) -> Answers:
        """What the fitted component makes of the samples."""
        return self.first_use.answers


def feature_arrays(*sides: Features) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of features, by name."""
    for features in sides:
        yield f"features of {features.modality}s", features.values
        if features.mask is not None:
            yield f"mask of {features.modality}s", features.mask


@dataclass(frozen=True)
class World:
    """What a component must leave alone."""

    inputs: Answers
    randomness: Mapping[str, bytes]

    @staticmethod
    def seen_by(case: Case) -> World:
        """The samples and the global generators as they are now."""
        return World({name: array.copy() for name, array in case.inputs()}, _global_randomness())


@dataclass(frozen=True)
class Use:
    """What came of fitting a component and using it, and the world before and after."""

    fitted: Any
    answers: Answers
    before: World
    after: World


class Suite:
    """Laws that a case is tried on, and counted."""

    case: ClassVar[Any]  # with a role and a component, which the report names

    @pytest.fixture(autouse=True)
    def _counted(self, request: pytest.FixtureRequest) -> None:
        Report.of(request.config).watch(request.node.nodeid, f"{self.case.role} {self.case.component!r}")


class Laws(Suite):
    """One test a law. `conformance` makes a subclass with the case to try."""

    case: ClassVar[Case]

    # declared

    def test_it_has_a_name_and_a_version(self) -> None:
        cls = type(self.case.component)
        assert isinstance(getattr(cls, "name", None), str) and cls.name.isidentifier(), "name: an identifier is wanted"
        assert isinstance(cls.version, int), f"version: a whole number is wanted, got {cls.version!r}"

    def test_its_config_is_a_frozen_dataclass(self) -> None:
        config = type(self.case.component).Config
        declared: Any = vars(config).get("__dataclass_params__")
        assert declared is not None and declared.frozen, f"{config.__name__}: write @dataclass(frozen=True)"

    def test_an_unknown_option_is_refused(self) -> None:
        with refuses(ConfigError, "an option that does not exist"):
            type(self.case.component)(no_such_option=1)

    def test_its_config_survives_json(self) -> None:
        component = self.case.component
        options = json.loads(json.dumps(component.options()))
        loaded = type(component).load(options, {}, component.version)
        assert loaded.config == component.config, f"{component.config} came back from JSON as {loaded.config}"

    def test_its_repr_is_a_recipe(self) -> None:
        component = self.case.component
        ((name, options),) = calls(repr(component), most=1)
        assert name == component.name, f"repr begins with {name!r}, the name is {component.name!r}"
        assert type(component)(**options).config == component.config, f"{component!r} reads back as another config"

    # options

    def test_every_option_has_a_meaning(self) -> None:
        silent = [option.name for option in self._declared() if not option.meaning]
        assert not silent, (
            f"no meaning of {', '.join(silent)}: write Annotated[int, Range(1, 9), 'description and cost']"
        )

    def test_its_defaults_are_allowed(self) -> None:
        for option in self._declared():
            if not option.required:
                option.check(option.default)

    def test_the_edges_of_a_range_are_allowed(self) -> None:
        for option, value in self._edges(0):
            try:
                self._with(option, value)
            except ConfigError as error:  # what joins several options may refuse it, its own range may not
                rule = f"must be {option.allowed}"
                assert rule not in str(error), f"{option.name}={value!r} is an edge of its range: {error}"

    def test_one_step_beyond_a_range_is_refused(self) -> None:
        for option, value in self._edges(1):
            with refuses(ConfigError, f"{option.name}={value!r}, beyond {option.allowed},"):
                self._with(option, value)

    def test_a_value_of_another_type_is_refused(self) -> None:
        for option in self._declared():
            if not {Any, object} & set(option.kinds):
                with refuses(ConfigError, f"a bare object() as {option.name}"):
                    self._with(option, object())

    # fit

    def test_fit_returns_a_new_component(self) -> None:
        component, fitted = self._needing_fit(), self.case.fitted
        assert fitted is not component, "fit returned the component itself; return self.with_state(...)"
        assert type(fitted) is type(component), f"fit returned a {type(fitted).__name__}"
        assert not component.state, f"fit filled the state of the component it was called on: {sorted(component.state)}"
        assert fitted.fitted, "what fit returned says that it is not fitted: its state is empty"
        assert fitted.config == component.config, f"fit changed the config: {component.config} to {fitted.config}"

    def test_fit_twice_is_fit_once(self) -> None:
        self._needing_fit()
        once, twice = self.case.fitted, self.case.second_use.fitted
        assert_same(twice.state, once.state, "fitted again on the same data", exactly=True)

    def test_unfitted_says_so(self) -> None:
        component = self._needing_fit()
        assert not component.fitted, "it says that it is fitted before fit"
        with refuses(NotFittedError, "use before fit"):
            self.case.answers(component)

    def test_global_random_numbers_are_left_alone(self) -> None:
        for use in (self.case.first_use, self.case.second_use):  # the first may be what imports torch
            for name, state in use.before.randomness.items():
                untouched = state == use.after.randomness[name]
                assert untouched, f"{name}'s global random numbers were used; make a generator from the config's seed"

    def test_inputs_are_left_alone(self) -> None:
        use = self.case.first_use
        assert_same(use.after.inputs, use.before.inputs, "the input, after fit and use", exactly=True)

    # state

    def test_its_state_is_plain_arrays(self) -> None:
        for name, array in self.case.fitted.state.items():
            assert isinstance(name, str) and isinstance(array, np.ndarray), f"state {name!r}: {type(array).__name__}"
            assert array.dtype.kind in "biufU", (
                f"state {name!r} has dtype {array.dtype}; plain numbers or str are wanted"
            )

    def test_its_state_survives_disk(self, tmp_path: Path) -> None:
        fitted = self.case.fitted
        write_arrays(tmp_path / "state.npz", fitted.state)
        loaded = type(fitted).load(fitted.options(), read_arrays(tmp_path / "state.npz"), fitted.version)
        assert loaded.fitted, "loaded from its own options and state, it is not fitted"
        assert loaded.fingerprint() == fitted.fingerprint(), "its fingerprint changed by saving and loading"
        assert_same(self.case.answers(loaded), self.case.answered, "after saving and loading")

    def test_its_state_survives_a_new_process(self, tmp_path: Path) -> None:
        fitted = self.case.fitted
        require_importable(type(fitted))
        write_arrays(tmp_path / "state.npz", fitted.state)
        self.case.save(tmp_path)
        job = {
            "role": self.case.role,
            "module": type(fitted).__module__,
            "qualname": type(fitted).__qualname__,
            "options": fitted.options(),
            "version": fitted.version,
        }
        (tmp_path / "job.json").write_text(json.dumps(job))
        printed = in_new_process(["-m", "xmr_core.testing.worker", str(tmp_path)], tmp_path)
        assert printed.strip() == fitted.fingerprint(), "its fingerprint is another in a new process"
        assert_same(read_arrays(tmp_path / "answers.npz"), self.case.answered, "in a new process")

    def test_a_state_of_another_version_is_refused(self) -> None:
        fitted = self.case.fitted
        with refuses(StateVersionError, "a state of another version"):
            type(fitted).load(fitted.options(), fitted.state, fitted.version + 1)

    # import

    def test_importing_it_imports_nothing_heavy(self, tmp_path: Path) -> None:
        module = type(self.case.component).__module__
        require_importable(type(self.case.component))
        look = f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))"
        heavy = in_new_process(["-c", look], tmp_path).split()
        assert not heavy, f"import {module} imports {', '.join(heavy)}; import them in the functions that use them"

    def _declared(self) -> tuple[Option, ...]:
        """The options, where the component declares any."""
        options = options_of(type(self.case.component).Config)
        if not any(option.meaning or option.rule for option in options):
            pytest.skip(f"{self.case.component.name} declares no options")
        return options

    def _edges(self, side: Literal[0, 1]) -> Iterator[tuple[Option, float]]:
        """Options with the values at the edges of their ranges, or with those one step beyond."""
        for option in self._declared():
            if isinstance(option.rule, Range):
                for value in option.rule.edges(float if float in option.kinds else int)[side]:
                    yield option, value

    def _with(self, option: Option, value: object) -> Any:
        """The component with one option changed; its config, where recipes of earlier releases may say that value."""
        component = self.case.component
        options = {**component.options(), option.name: value}
        translated = dict(component.migrate(options, {}, component.version)[0]) != options
        return (type(component).Config if translated else type(component))(**options)

    def _needing_fit(self) -> Any:
        if not self.case.component.needs_fit:
            pytest.skip(f"{self.case.component.name} needs no fit")
        return self.case.component


@contextmanager
def refuses(wanted: type[XmrError], what: str) -> Iterator[list[XmrError]]:
    """Assert that the block raises that error, with a message to read; the error is appended to the list."""
    raised: list[XmrError] = []
    try:
        yield raised
    except wanted as error:
        assert str(error), f"{what}: the {wanted.__name__} has no message"
        raised.append(error)
    except Exception as error:
        raise AssertionError(f"{what}: {wanted.__name__} is wanted, got {type(error).__name__}: {error}") from error
    else:
        raise AssertionError(f"{what} was accepted; {wanted.__name__} is wanted")


def assert_same(got: Answers, want: Answers, when: str, exactly: bool = False) -> None:
    """Assert equal arrays: float32 up to its rounding unless `exactly`, everything else to the bit."""
    assert sorted(got) == sorted(want), f"{when}: {sorted(got)}, before {sorted(want)}"
    for name, wanted in want.items():
        array = got[name]
        assert array.dtype == wanted.dtype and array.shape == wanted.shape, (
            f"{when}: {name} is {array.dtype} {array.shape}, before {wanted.dtype} {wanted.shape}"
        )
        same = np.array_equal(array, wanted)
        if not same and not exactly and wanted.dtype.kind == "f":
            same = np.allclose(array, wanted, rtol=1e-4, atol=1e-4 * scale(wanted))
        assert same, f"{when}: {name} differs in {np.mean(array != wanted):.1%} of its values"


def scale(values: NDArray[Any]) -> float:
    """The usual size of finite values, against which rounding is measured."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.mean()) if finite.size else 1.0


def in_new_process(arguments: list[str], folder: Path) -> str:
    """What a new Python printed, run in `folder` with this one's import path."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, f"a new process failed:\n{done.stderr[-2000:]}"
    return done.stdout


def require_importable(cls: type) -> None:
    """Skip where a new process cannot import the class."""
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__ or not importlib.util.find_spec(cls.__module__):
        pytest.skip(f"{cls.__qualname__} cannot be imported in a new process: put it at the top of a module")


def write_arrays(file: Path, arrays: Answers) -> None:
    """Named arrays into an npz file."""
    prefixed: Any = {f"array {name}": array for name, array in arrays.items()}  # savez has names of its own
    np.savez(file, **prefixed)


def read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """What `write_arrays` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name.removeprefix("array "): arrays[name] for name in arrays.files}


def _global_randomness() -> dict[str, bytes]:
    _, words, *rest = np.random.get_state()  # noqa: NPY002 (looked at, not used)
    states = {"random": repr(random.getstate()).encode(), "numpy": np.asarray(words).tobytes() + repr(rest).encode()}
    if "torch" in sys.modules:
        states["torch"] = bytes(sys.modules["torch"].get_rng_state().numpy())
    return states


def _stir_global_randomness() -> None:
    """Move the global generators on, so that a component which reads them gives itself away."""
    random.random()
    np.random.random()  # noqa: NPY002 (this is the one to move)
    if "torch" in sys.modules:
        sys.modules["torch"].rand(1)
