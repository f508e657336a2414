"""A pipeline: one encoder, any number of fusers, and a head, which is an indexer or an answerer.

Its components are checked against each other when it is composed:

    Dcmh(bits=64) >> Sign() >> Hamming()
    Pipeline.parse("dcmh(bits=64) >> sign >> hamming")

A recipe string is sugar for the objects: it parses to a pipeline, and a pipeline's `repr` prints it back. What an
encoder needs that stands on others, made from recipes as its options, is here too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xmr_core.components import Chain, Component, Encoder, Form, Fuser, Widths, below, ended
from xmr_core.errors import ConfigError, DataError, NotFittedError
from xmr_core.progress import current_run, encode_blocks, encode_cached
from xmr_core.registry import Role, calls, component, default, make
from xmr_core.search.indexer import Indexer
from xmr_core.types import IMAGE, TEXT, Codes, Embeddings, FeaturePairs, Features, Head, Items, Metric, Pairs
from xmr_core.vqa import Answerer, QuestionFeatures, Questions

__all__ = ["Partial", "Pipeline", "Recipe", "as_pipeline", "fit_nested", "nested_encoder"]

Recipe = str | Chain | Component  # what a pipeline may be given as

OPTIONS = "options"  # in the state of an encoder that stands on others: the options of each, as JSON


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

    head: Indexer | Answerer

    @staticmethod
    def parse(recipe: str, head: Head | None = None) -> Pipeline:
        """The pipeline of a recipe. Without an encoder it is given the one that its first component wants, if any.

        `head` is the role of the last component where only one role will do. Raises ConfigError, UnknownComponentError.
        """
        parts = calls(recipe)
        roles = _roles([name for name, _ in parts], head)
        made = [make(role, name, options) for role, (name, options) in zip(roles, parts, strict=True)]
        return _pipeline(cast(Indexer | Answerer, made[-1]), tuple(made))

    def __post_init__(self) -> None:
        if isinstance(self.head, Answerer):
            self._check_answerer(self.head)
        super().__post_init__()
        if isinstance(self.head, Indexer):
            self._check_indexer(self.head)

    def _check_answerer(self, answerer: Answerer) -> None:
        """An answerer takes what an encoder gives of images and of questions."""
        if self.encoder is None or self.fusers:
            raise ConfigError(f"{self!r}: expected an encoder and an answerer, like 'each >> {answerer.name}'")
        for modality, forms in answerer.accepts.items():
            given = self.encoder.forms.get(modality, "nothing")
            if given not in forms:
                raise ConfigError(
                    f"{self.encoder.name} >> {answerer.name}: {answerer.name} takes "
                    f"{' or '.join(sorted(forms))} for {modality}s, {self.encoder.name} gives {given}"
                )

    def _check_indexer(self, indexer: Indexer) -> None:
        before = (None, *self.parts)[-2]
        if not self.fusers and self.encoder:
            for modality, form in self.encoder.forms.items():
                if form != "vector":
                    raise ConfigError(f"{self.encoder.name} gives {form} for {modality}s; put a fuser after it")
        if before and self.metric not in indexer.metrics:
            vectors = " or ".join(sorted(indexer.metrics - {"hamming"}))
            wanted = " or ".join(
                ["bits"] * ("hamming" in indexer.metrics) + [f"vectors under {vectors}"] * bool(vectors)
            )
            given = "bits" if self.metric == "hamming" else f"vectors under {self.metric}"
            raise ConfigError(
                f"{_name(before)} >> {indexer.name}: {indexer.name} takes {wanted}, "
                f"{_name(before)} gives {given}{self._advice()}"
            )
        widths = self.widths(len(self.fusers))
        _require_one_width(repr(self), widths)
        for width in set(widths.values()) - {None}:
            indexer.check_width(cast(int, width))

    def _advice(self) -> str:
        """What to put between, where embeddings have another metric than the indexer takes."""
        if self.indexer.metrics == {"hamming"}:
            return "; put sign before it"
        known = sorted(self.indexer.metrics - {"hamming"})
        if self.metric == "hamming" or not known:
            return ""
        return f"; put identity(metric={known[0]!r}) before it, to compare by {known[0]} instead"

    @property
    def indexer(self) -> Indexer:
        """The head that makes codes. Raises ConfigError where the head answers questions."""
        if isinstance(self.head, Answerer):
            raise ConfigError(
                f"{self.head.name!r} answers questions and makes no codes: Library.learn takes its recipe"
            )
        return self.head

    @property
    def answerer(self) -> Answerer:
        """The head that answers questions. Raises ConfigError where the head makes codes."""
        if isinstance(self.head, Indexer):
            raise ConfigError(f"{self.head.name!r} makes codes and answers no questions: Library.fit takes its recipe")
        return self.head

    @property
    def parts(self) -> tuple[Component, ...]:
        """Encoder (where there is one), fusers, head."""
        return (*super().parts, self.head)

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
        return Pipeline(encoder, tuple(fuser.with_seed(seed) for fuser in self.fusers), self.head.with_seed(seed))

    def fit(self, pairs: Pairs) -> Pipeline:
        """The fitted pipeline: each part is fitted on what the parts before it make of the pairs, both modalities."""
        indexer = self.indexer
        if self.encoder is None:
            raise ConfigError(f"{self!r} has no encoder; a recipe to fit on pairs begins with one")
        current_run().begin(f"0_{self.encoder.name}")
        encoder = self.encoder.fit(pairs)
        given = [items for items in (pairs.images, pairs.texts) if items.modality in encoder.forms and len(items)]
        if len(given) > 1:  # the widths that a fit tells are checked before anything is encoded
            Pipeline(encoder, self.fusers, indexer)
        if given and not self.fusers and indexer.additive:
            return self._fit_by_blocks(encoder, given)
        sides = {items.modality: encode_cached(encoder, items) for items in given}
        return self._fit_rest(encoder, sides, pairs.links, pairs.labels)

    def _fit_by_blocks(self, encoder: Encoder, given: Sequence[Items]) -> Pipeline:
        """Encoder and an indexer that is fitted on what the encoder gives, block by block."""

        def embeddings() -> Iterator[Embeddings]:
            widths: dict[str, int | None] = {}
            for items in given:
                for features in encode_blocks(encoder, items):
                    widths[items.modality] = features.vectors.shape[1]
                    _require_one_width(repr(self), widths)
                    yield Embeddings(features.vectors, self.metric)

        current_run().begin(f"1_{self.indexer.name}")
        return Pipeline(encoder, (), self.indexer.fit_blocks(embeddings()))

    def fit_questions(self, questions: Questions) -> Pipeline:
        """The fitted pipeline of an answerer: the encoder learns from images and questions, the head from answers."""
        encoder, answerer = cast(Encoder, self.encoder), self.answerer
        current_run().begin(f"0_{encoder.name}")
        fitted = Pipeline(encoder.fit(questions.pairs), (), answerer)
        features = fitted.question_features(questions)
        current_run().begin(f"1_{answerer.name}")
        return Pipeline(fitted.encoder, (), answerer.fit(features))

    def question_features(self, questions: Questions) -> QuestionFeatures:
        """The questions as the answerer takes them. Raises DataError with the keys of what cannot be read."""
        encoder = cast(Encoder, self.encoder)
        images, texts = (encode_cached(encoder, items) for items in (questions.images, questions.texts))
        return QuestionFeatures(images, texts, questions.image_of, questions.answers)

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
        yield from encode_blocks(self.encoder, items)

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
        return vectors.under(self.metric)

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
@ended.register(Answerer)
def _pipeline(last: Indexer | Answerer, parts: tuple[Component, ...]) -> Pipeline:
    """The pipeline of these parts; without an encoder it is given the one that the first of them wants, if any."""
    encoder, fusers = _before_head(parts[:-1])
    wanted = getattr(parts[0], "encoder_wanted", "")
    if encoder is None and wanted:
        encoder = cast(Encoder, component("encoder", wanted))
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


def as_pipeline(recipe: Recipe, head: Head = "indexer") -> Pipeline:
    """A pipeline as it is, or the one of a recipe or of a head alone. Raises ConfigError, UnknownComponentError.

    ConfigError too where its head has another role.
    """
    made = Pipeline.parse(recipe, None if head == "indexer" else head) if isinstance(recipe, str) else recipe
    if isinstance(made, Component):
        made = ended(made, (made,))
    if not isinstance(made, Pipeline):
        raise ConfigError(f"{made!r}: a pipeline ends with an {head}, one of {', '.join(default().names(head))}")
    getattr(made, head)  # raises where the head has another role
    return made


def _roles(names: list[str], head: Head | None) -> list[Role]:
    """The role of each name by its position; an error names what may stand there."""
    registry = default()
    first, last = names[0], names[-1]
    if head is None:
        head = "answerer" if registry.has("answerer", last) and not registry.has("indexer", last) else "indexer"
    else:
        registry.find(head, last)
    for name in names[:-1]:
        if registry.has("answerer", name) and not (registry.has("fuser", name) or registry.has("encoder", name)):
            raise ConfigError(f"{name!r} answers questions and gives nothing to index; it ends a recipe")
    if (
        head == "indexer"
        and not registry.has(head, last)
        and (registry.has("encoder", last) or registry.has("fuser", last))
    ):
        raise ConfigError(f"a recipe ends with an indexer, one of {', '.join(registry.names(head))}; {last!r} is none")
    roles: list[Role] = ["fuser" for _ in names[1:]]
    if roles and (registry.has("encoder", first) or not registry.has("fuser", first)):
        roles[0] = "encoder"  # where nobody knows the name, the error then lists the encoders
    return [*roles, head]


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
    kept = below(under or modality, state)
    told = kept.pop(OPTIONS, None)
    if not state:
        return part
    options = part.first_options() if told is None else json.loads(str(told[0]))
    version = part.version if told is None or len(told) < 2 else int(told[1])  # older libraries have no version
    return type(part).load(options, kept, version)


def fit_nested(name: str, parts: Mapping[str, Encoder], pairs: Pairs) -> dict[str, NDArray[Any]]:
    """Their states once fitted, their options and versions, under their names, so that a later release can migrate them
    and an option which it adds leaves the fingerprint as it is; `name` is that of the encoder they are parts of."""
    learned: dict[str, NDArray[Any]] = {}
    for own, part in parts.items():
        current_run().begin(f"0_{name}_{own}")  # each has checkpoints of its own
        learned |= {f"{own}/{key}": array for key, array in part.fit(pairs).state.items()}
        learned[f"{own}/{OPTIONS}"] = np.array([json.dumps(part.options(), sort_keys=True), str(part.version)])
    current_run().begin(f"0_{name}")
    return learned
