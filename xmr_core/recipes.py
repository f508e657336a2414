"""A pipeline: one encoder, any number of fusers, one indexer. Its parts are checked against each other when composed.

    Dcmh(bits=64) >> Sign() >> Hamming()
    Pipeline.parse("dcmh(bits=64) >> sign >> hamming")

A recipe string is sugar for the objects: it parses to a pipeline, and a pipeline's `repr` prints it back. What an
encoder needs that stands on others, made from recipes as its options, is here too.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Chain, Component, Encoder, Form, Fuser, Indexer, Widths, ended
from xmr_core.errors import ConfigError, DataError, NotFittedError
from xmr_core.options import options_of
from xmr_core.progress import current_run, encode_cached
from xmr_core.registry import Role, default
from xmr_core.types import IMAGE, TEXT, Codes, Embeddings, FeaturePairs, Features, Items, Metric, Pairs

__all__ = [
    "Partial",
    "Pipeline",
    "Recipe",
    "as_pipeline",
    "below",
    "calls",
    "component",
    "fit_nested",
    "joined_digest",
    "make",
    "nested_encoder",
]

Recipe = str | Chain | Component  # what a pipeline may be given as

FIRST = 256  # items that are embedded at once, until it is known what their features take
BATCH = 4096  # at most, after that
BLOCK_BYTES = 1 << 26  # of features at once: some hundred pictures by regions, thousands by one vector
LONGEST = 200  # characters of a recipe that a message repeats
UNNAMED = ""  # what `calls` calls the first option of a component where the recipe does not name it


@dataclass(frozen=True, eq=False, repr=False)
class Partial(Chain):
    """The components of a pipeline before its head: an encoder, any number of fusers, or both.

    Raises ConfigError, in a sentence, where one does not take what the one before it gives.
    """

    encoder: Encoder | None
    fusers: tuple[Fuser, ...]

    def __post_init__(self) -> None:
        """Check every fuser against what comes before it."""
        before: Component | None = self.encoder
        for count, fuser in enumerate(self.fusers):
            for modality, form in self.forms(count).items():
                if form not in fuser.accepts:
                    wanted = " or ".join(sorted(fuser.accepts))
                    raise ConfigError(
                        f"{_name(before)} >> {fuser.name}: {fuser.name} takes {wanted}, "
                        f"{_name(before)} gives {form} for {modality}s"
                    )
            if fuser.same_width:
                _require_one_width(f"{_name(before)} >> {fuser.name}", self.widths(count))
            before = fuser
        self.widths(len(self.fusers))

    def forms(self, count: int) -> Mapping[str, str]:
        """What the first `count` fusers make of each modality: a form, or "bits"."""
        forms: Mapping[str, str] = self.encoder.forms if self.encoder else {IMAGE: "vector", TEXT: "vector"}
        return (
            dict.fromkeys(forms, "bits" if self.fusers[count - 1].metric == "hamming" else "vector") if count else forms
        )

    def widths(self, count: int) -> Widths:
        """The dimensions of what the first `count` fusers give. Raises ConfigError where one does not take its own."""
        widths = self.encoder.widths() if self.encoder else dict.fromkeys((IMAGE, TEXT))
        for fuser in self.fusers[:count]:
            widths = fuser.widths(widths)
        return widths

    @property
    def parts(self) -> tuple[Component, ...]:
        """Encoder (where there is one) and fusers."""
        return (*([self.encoder] if self.encoder else []), *self.fusers)


@dataclass(frozen=True, eq=False, repr=False)
class Pipeline(Partial):
    """Components that fit together. `encoder` None makes a pipeline over vectors or codes that were made elsewhere.

    Raises ConfigError, in a sentence, where one part does not take what the part before it gives.
    """

    indexer: Indexer

    @staticmethod
    def parse(recipe: str) -> Pipeline:
        """The pipeline of a recipe; one that begins with a fuser is given the encoder which that fuser wants, if any.

        Raises ConfigError, UnknownComponentError.
        """
        parts = calls(recipe)
        roles = _roles([name for name, _ in parts])
        made = [make(role, name, options) for role, (name, options) in zip(roles, parts, strict=True)]
        return _pipeline(cast(Indexer, made[-1]), tuple(made))

    def __post_init__(self) -> None:
        super().__post_init__()
        before = (None, *self.parts)[-2]
        if not self.fusers and self.encoder:
            for modality, form in self.encoder.forms.items():
                if form != "vector":
                    raise ConfigError(f"{self.encoder.name} gives {form} for {modality}s; put a fuser after it")
        if before and self.metric not in self.indexer.metrics:
            vectors = " or ".join(sorted(self.indexer.metrics - {"hamming"}))
            wanted = " or ".join(
                ["bits"] * ("hamming" in self.indexer.metrics) + [f"vectors under {vectors}"] * bool(vectors)
            )
            given = "bits" if self.metric == "hamming" else f"vectors under {self.metric}"
            raise ConfigError(
                f"{_name(before)} >> {self.indexer.name}: {self.indexer.name} takes {wanted}, "
                f"{_name(before)} gives {given}{self._advice()}"
            )
        widths = self.widths(len(self.fusers))
        _require_one_width(repr(self), widths)
        for width in set(widths.values()) - {None}:
            self.indexer.check_width(cast(int, width))

    def _advice(self) -> str:
        """What to put between, where embeddings have another metric than the indexer takes."""
        if self.indexer.metrics == {"hamming"}:
            return "; put sign before it"
        known = sorted(self.indexer.metrics - {"hamming"})
        if self.metric == "hamming" or not known:
            return ""
        return f"; put identity(metric={known[0]!r}) before it, to compare by {known[0]} instead"

    @property
    def parts(self) -> tuple[Component, ...]:
        """Encoder (where there is one), fusers, indexer."""
        return (*super().parts, self.indexer)

    @property
    def metric(self) -> Metric:
        """The metric of the embeddings that the indexer gets."""
        if self.fusers:
            return self.fusers[-1].metric
        if self.encoder:
            return self.encoder.metric
        return "hamming" if self.indexer.metrics == {"hamming"} else "l2"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities it can embed."""
        return tuple(sorted(self.encoder.forms)) if self.encoder else ()

    @property
    def fitted(self) -> bool:
        """True where every part is."""
        return all(part.fitted for part in self.parts)

    def fingerprint(self) -> str:
        """sha256 (hex) over all parts: what a stored code names as its maker."""
        return hashlib.sha256("".join(part.fingerprint() for part in self.parts).encode()).hexdigest()

    def with_seed(self, seed: int) -> Pipeline:
        """The same pipeline, every part that has a `seed` given this one."""
        encoder = self.encoder.with_seed(seed) if self.encoder else None
        return Pipeline(encoder, tuple(fuser.with_seed(seed) for fuser in self.fusers), self.indexer.with_seed(seed))

    def fit(self, pairs: Pairs) -> Pipeline:
        """The fitted pipeline: each part is fitted on what the parts before it make of the pairs, both modalities."""
        if self.encoder is None:
            raise ConfigError(f"{self!r} has no encoder; a recipe to fit on pairs begins with one")
        current_run().begin(f"0_{self.encoder.name}")
        encoder = self.encoder.fit(pairs)
        given = [items for items in (pairs.images, pairs.texts) if items.modality in encoder.forms and len(items)]
        if len(given) > 1:  # the widths that a fit tells are checked before anything is encoded
            Pipeline(encoder, self.fusers, self.indexer)
        sides = {items.modality: encode_cached(encoder, items) for items in given}
        return self._fit_rest(encoder, sides, pairs.links, pairs.labels)

    def fit_embeddings(self, embeddings: Embeddings, modality: str = IMAGE) -> Pipeline:
        """The pipeline fitted on vectors or bits that were made elsewhere; it must have no encoder."""
        if self.encoder is not None:
            raise ConfigError(f"{self!r} begins with an encoder; embeddings need a recipe without one")
        if not self.fusers:
            return Pipeline(None, (), self.indexer.fit(self.embed_vectors(embeddings)))
        sides = {modality: embeddings.as_features(modality)}
        return self._fit_rest(None, sides, np.zeros((0, 2), np.int64), None)

    def _fit_rest(
        self,
        encoder: Encoder | None,
        sides: dict[str, Features],
        links: NDArray[np.int64],
        labels: NDArray[np.uint8] | None,
    ) -> Pipeline:
        embeddings = [] if self.fusers else [Embeddings(side.vectors, self.metric) for side in sides.values()]
        fusers: list[Fuser] = []
        for place, fuser in enumerate(self.fusers, 1):
            current_run().begin(f"{place}_{fuser.name}")
            images, texts = (sides.get(modality, _nothing(modality)) for modality in (IMAGE, TEXT))
            fusers.append(fuser.fit(FeaturePairs(images, texts, links, labels)))
            embeddings = [fusers[-1].fuse(side) for side in sides.values()]
            if len(fusers) < len(self.fusers):
                sides = {key: made.as_features(key) for key, made in zip(sides, embeddings, strict=True)}
        if not embeddings:
            raise DataError(f"nothing to fit {self!r} on: it takes {' and '.join(self.modalities)}s, there are none")
        _require_one_width(repr(self), {key: made.dim for key, made in zip(sides, embeddings, strict=True)})
        current_run().begin(f"{len(fusers) + 1}_{self.indexer.name}")
        values = np.concatenate([made.values for made in embeddings])
        return Pipeline(encoder, tuple(fusers), self.indexer.fit(Embeddings(values, self.metric)))

    def embed(self, items: Items) -> Embeddings:
        """Embeddings of items of one modality, as the indexer wants them; in blocks of bounded memory.

        Raises NotFittedError, DataError (on no items: their width is not known).
        """
        blocks = [self.finish(self.before_last(features)) for features in self.features(items)]
        if len(blocks) == 1:
            return blocks[0]
        return Embeddings(np.concatenate([block.values for block in blocks]), blocks[0].metric)

    def features(self, items: Items) -> Iterator[Features]:
        """What the encoder makes of items of one modality, in blocks of bounded memory. Raises as `embed` does."""
        if not len(items):
            raise DataError(f"no {items.modality}s to embed")
        if self.encoder is None:
            raise ConfigError(f"{self!r} has no encoder: give vectors or codes, not images or texts")
        self.encoder.require_modality(items.modality)
        self.require_fit()
        start, size = 0, FIRST
        while start < len(items):
            features = encode_cached(self.encoder, items.take(np.arange(start, min(start + size, len(items)))))
            yield features
            start += len(features)
            size = max(1, min(BATCH, BLOCK_BYTES * len(features) // max(1, features.values.nbytes)))

    def before_last(self, features: Features) -> Features:
        """What the last fuser takes: the features after all fusers but the last."""
        for fuser in self.fusers[:-1]:
            features = fuser.fuse(features).as_features(features.modality)
        return features

    def finish(self, features: Features) -> Embeddings:
        """What the indexer takes: the last fuser's embeddings, or the vectors themselves without a fuser."""
        return self.fusers[-1].fuse(features) if self.fusers else Embeddings(features.vectors, self.metric)

    def embed_vectors(self, vectors: Embeddings, modality: str = IMAGE) -> Embeddings:
        """Embeddings of vectors or bits that were made elsewhere, by the fusers alone; see `embed`."""
        if self.fusers:
            return self.finish(self.before_last(vectors.as_features(modality)))
        if (vectors.metric == "hamming") != (self.metric == "hamming"):
            have, want = ("bits", "vectors") if vectors.metric == "hamming" else ("vectors", "bits")
            raise DataError(f"{self!r} takes {want}, got {have}; packed bits are uint8, vectors float32")
        return Embeddings(vectors.values, self.metric)

    def restore(self, codes: Codes) -> Embeddings:
        """What codes stand for, as the last fuser was given it. Raises ConfigError where a part knows no way back."""
        embeddings = Embeddings(self.indexer.decode(codes), self.metric)
        return self.fusers[-1].restore(embeddings) if self.fusers else embeddings

    def encode(self, items: Items) -> Codes:
        """The codes to store of items of one modality."""
        return self.indexer.encode(self.embed(items), items.ids)

    def require_fit(self) -> None:
        """Raise NotFittedError naming the parts that are not fitted."""
        missing = [part.name for part in self.parts if not part.fitted]
        if missing:
            raise NotFittedError(f"{' and '.join(missing)} in {self!r}: not fitted; call fit first")


@ended.register(Encoder)
@ended.register(Fuser)
def _partial(last: Encoder | Fuser, parts: tuple[Component, ...]) -> Partial:
    return Partial(*_before_head(parts))


@ended.register(Indexer)
def _pipeline(last: Indexer, parts: tuple[Component, ...]) -> Pipeline:
    """The pipeline of these parts; one that begins with a fuser is given the encoder which that fuser wants, if any."""
    encoder, fusers = _before_head(parts[:-1])
    if encoder is None and fusers and fusers[0].encoder_wanted:
        encoder = cast(Encoder, component("encoder", fusers[0].encoder_wanted))
    return Pipeline(encoder, fusers, last)


def _before_head(parts: tuple[Component, ...]) -> tuple[Encoder | None, tuple[Fuser, ...]]:
    """An encoder, if they begin with one, and fusers. Raises ConfigError where anything else is among them."""
    encoder = parts[0] if parts and isinstance(parts[0], Encoder) else None
    fusers = parts[1:] if encoder else parts
    for part in fusers:
        if not isinstance(part, Fuser):
            rule = "an encoder begins a pipeline" if isinstance(part, Encoder) else f"{part.name} ends a pipeline"
            raise ConfigError(f"{' >> '.join(map(repr, parts))}: {rule}")
    return encoder, cast(tuple[Fuser, ...], fusers)


def as_pipeline(recipe: Recipe) -> Pipeline:
    """A pipeline as it is, or the one of a recipe or of an indexer alone. Raises ConfigError, UnknownComponentError."""
    made = Pipeline.parse(recipe) if isinstance(recipe, str) else recipe
    if isinstance(made, Component):
        made = ended(made, (made,))
    if not isinstance(made, Pipeline):
        raise ConfigError(f"{made!r}: a pipeline ends with an indexer, one of {', '.join(default().names('indexer'))}")
    return made


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


def _roles(names: list[str]) -> list[Role]:
    """The role of each name by its place; an error names what may stand there."""
    registry = default()
    first, last = names[0], names[-1]
    for name in names[:-1]:
        if registry.has("answerer", name) and not (registry.has("fuser", name) or registry.has("encoder", name)):
            raise ConfigError(f"{name!r} answers questions and gives nothing to index: Library.learn takes its recipe")
    if registry.has("answerer", last) and not registry.has("indexer", last):
        raise ConfigError(f"{last!r} answers questions and ends no pipeline: Library.learn takes its recipe")
    if not registry.has("indexer", last) and (registry.has("encoder", last) or registry.has("fuser", last)):
        indexers = ", ".join(registry.names("indexer"))
        raise ConfigError(f"a recipe ends with an indexer, one of {indexers}; {last!r} is none")
    roles: list[Role] = ["fuser" for _ in names[1:]]
    if roles and (registry.has("encoder", first) or not registry.has("fuser", first)):
        roles[0] = "encoder"  # where nobody knows the name, the error then lists the encoders
    return [*roles, "indexer"]


def _require_one_width(where: str, widths: Widths) -> None:
    """Raise ConfigError where the vectors of two modalities are known to differ in width."""
    known = {modality: width for modality, width in widths.items() if width is not None}
    if len(set(known.values())) > 1:
        told = ", ".join(f"{modality}s have {width} dimensions" for modality, width in known.items())
        raise ConfigError(f"{where}: {told}; to compare them takes one space, which an encoder or fuser learns")


def _name(component: Component | None) -> str:
    return component.name if component else "the vectors"


def _nothing(modality: str) -> Features:
    return Features(modality, np.zeros((0, 1, 0), np.float32))


# components that stand on others: each made of a recipe, its state kept in theirs under a name


def nested_encoder(
    modality: str, recipe: str, forms: Collection[Form], state: Mapping[str, NDArray[Any]], under: str | None = None
) -> Encoder:
    """The encoder of a recipe like `bow(min_count=5)`, with what `state` keeps of it under its modality or `under`.

    Raises ConfigError where it does not take that modality or gives another form of it, UnknownComponentError.
    """
    part = cast(Encoder, component("encoder", recipe))
    if part.forms.get(modality) not in forms:
        kinds = {"vector": f"one vector of each {modality}", "regions": "regions", "tokens": "words"}
        wanted = " or ".join(told for form, told in kinds.items() if form in forms)
        raise ConfigError(modality, recipe, f"must be an encoder that gives {wanted}")
    return part.with_state(below(under or modality, state))


def fit_nested(name: str, parts: Mapping[str, Encoder], pairs: Pairs) -> dict[str, NDArray[Any]]:
    """Their states once fitted, under their names; `name` is that of the encoder which they are parts of."""
    learned: dict[str, NDArray[Any]] = {}
    for own, part in parts.items():
        current_run().begin(f"0_{name}_{own}")  # each has checkpoints of its own
        learned |= {f"{own}/{key}": array for key, array in part.fit(pairs).state.items()}
    current_run().begin(f"0_{name}")
    return learned


def below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with `prefix/`, under the rest of their names."""
    return {name[len(prefix) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def joined_digest(*told: str) -> str:
    """sha256 (hex) over what tells parts from others: their fingerprints."""
    return hashlib.sha256(" ".join(told).encode()).hexdigest()
