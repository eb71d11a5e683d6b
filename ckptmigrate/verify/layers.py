"""The first layer that diverges: what both models gave and got on the way, layer by layer.

A layer of one model is the layer of the other that its variables come from: the plan's steps lead from all variables
of the one to all of the other. Where a layer's variables come from several layers, it is compared with the one that
most of them come from, then with the one at its own path. Without a plan, with the one at its own path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching import Step
from ckptmigrate.ops import needs_template
from ckptmigrate.spec import Key
from ckptmigrate.verify.rounding import Difference, Tolerance, difference_of
from ckptmigrate.verify.running import Call, Side, recorded

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Trace:
    """The layers that were called in one run.

    Attributes:
        calls: What each got and gave, by its node, in the order in which they first ended.
        held: The keys of the variables that each holds, itself or below it.
    """

    calls: Mapping[int, Sequence[Call]]
    held: Mapping[int, frozenset[Key]]


@dataclass(frozen=True)
class Divergence:
    """Where two models part.

    Attributes:
        layer: The path of the target's layer.
        source: The path of the source's.
        inputs: The largest difference of what the two got.
        outputs: The largest difference of what they gave.
        variables: What of its variables differs, one fact each.
        place: The source's layer that gets what the target's gets, if that is another one.
        alike: Of a layer whose variables agree, those of one shape that the plan gave other paths, in words; of one
            that gets other inputs, those beside it in what holds it.
        parent: The path of what holds it, of a layer that gets other inputs.
    """

    layer: str
    source: str
    inputs: Difference | None
    outputs: Difference | None
    variables: tuple[str, ...]
    place: str = ""
    alike: tuple[str, ...] = ()
    parent: str = ""

    def lines(self) -> Iterator[str]:
        """In words, the layer first."""
        first = f"the first layer that diverges is `{self.layer}`"
        if self.layer != self.source:
            first += f" (`{self.source}` in the source)"
        if self.inputs is None:
            yield f"{first}: its inputs agree, its outputs differ by up to {self.outputs}"
            if self.alike:
                yield (
                    "its variables are what the plan says: it computes something else, or some of one shape changed "
                    f"places: {'; '.join(self.alike)}"
                )
            elif not self.variables:
                yield f"the variables of `{self.layer}` agree: it computes something else with them"
        else:
            yield f"{first}: all layers before it agree, but its inputs differ by up to {self.inputs}"
            if self.place:
                yield f"`{self.layer}` gets what `{self.place}` gets in the source: it stands at another place"
            else:
                yield f"what lies before `{self.layer}` and has no variables computes something else" + (
                    f" with what other layers of `{self.parent}` give, or variables of one shape changed places "
                    f"there: {'; '.join(self.alike)}"
                    if self.alike
                    else ""
                )
        yield from self.variables

    def to_data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "layer": self.layer,
            "source": self.source,
            "inputs": self.inputs.to_data() if self.inputs else None,
            "outputs": self.outputs.to_data() if self.outputs else None,
            "variables": self.variables,
            "place": self.place,
            "alike": self.alike,
            "parent": self.parent,
        }


def traced(side: Side, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Trace:
    """Run a model and note what each of its layers gets and gives."""
    held = {
        number: frozenset(side.key_at[each] for each in side.nodes_below(number) if each in side.key_at)
        for number, thing in enumerate(side.live.objects)
        if callable(thing)
    }
    with recorded({number: side.live.objects[number] for number, keys in held.items() if keys}) as calls:
        side.infer(args, kwargs)
    return Trace(calls, held)


def first_divergence(
    source: tuple[Side, Trace], target: tuple[Side, Trace], steps: Mapping[Key, Step] | None, tolerance: Tolerance
) -> tuple[Divergence | None, int]:
    """The first of the target's layers, in the order in which they ran, that does not do what the source's does.

    And how many were compared until there, but the model as a whole.

    Args:
        source: The source model and its run.
        target: The target model and its run, on the same inputs.
        steps: The plan's steps by target; None without a plan.
        tolerance: What is no difference.
    """
    (ours, our_trace), (theirs, their_trace) = source, target
    pairs = _matched(source, target, steps)
    compared = 0
    for number, calls in their_trace.calls.items():
        twin = pairs.get(number)
        if twin is None:
            continue
        got, gave = _compared(our_trace.calls[twin], calls, tolerance)
        if got is None and gave is None:
            compared += theirs.live.objects[number] is not theirs.forward
            continue
        held = our_trace.held[twin]
        variables = [*_differing(number, twin, (ours, held), (theirs, their_trace.held[number]), steps)]
        place = "" if got is None else _place(our_trace, calls[0], tolerance, ours.graph)
        own = their_trace.held[number]
        # Scores of queries and keys have no variables: what computes them is what holds both layers.
        parent = _parent(their_trace, number) if got is not None and not place else number
        beside = their_trace.held[parent] - own if parent != number else own
        alike = () if variables or steps is None else tuple(_alike(ours, theirs, beside, steps))
        names = theirs.graph.say(number), ours.graph.say(twin)
        said = theirs.graph.say(parent) if parent != number else ""
        return Divergence(*names, got, gave, tuple(variables), place, alike, said), compared
    return None, compared


def _parent(trace: Trace, number: int) -> int:
    """The smallest layer that was called and holds another; the layer itself if there is none."""
    own = trace.held[number]
    return min(
        (each for each in trace.calls if trace.held[each] > own), key=lambda each: len(trace.held[each]), default=number
    )


def _place(trace: Trace, call: Call, tolerance: Tolerance, graph: ObjectGraph) -> str:
    """The path of the first layer that got what another layer got in the other model; empty if there is none."""
    for number, calls in trace.calls.items():
        if _shapes(calls[0].inputs) == _shapes(call.inputs) and not _largest(calls[0].inputs, call.inputs, tolerance):
            return graph.say(number)
    return ""


def _shapes(tensors: Sequence[Array]) -> list[tuple[int, ...]]:
    return [each.shape for each in tensors]


def _compared(
    ours: Sequence[Call], theirs: Sequence[Call], tolerance: Tolerance
) -> tuple[Difference | None, Difference | None]:
    """How the inputs and outputs of two layers differ, at the first call where they do; None where they agree."""
    for our_call, their_call in zip(ours, theirs, strict=False):
        got = _largest(our_call.inputs, their_call.inputs, tolerance)
        gave = _largest(our_call.outputs, their_call.outputs, tolerance)
        if got is not None or gave is not None:
            return got, gave
    return None, None


def _largest(ours: Sequence[Array], theirs: Sequence[Array], tolerance: Tolerance) -> Difference | None:
    """The largest difference that is not allowed. What has other shapes in the two layouts cannot be compared."""
    if _shapes(ours) != _shapes(theirs):
        return None
    found = [difference_of(*pair, tolerance) for pair in zip(ours, theirs, strict=True)]
    return max((each for each in found if each.beyond), key=lambda each: each.absolute, default=None)


def _matched(
    source: tuple[Side, Trace], target: tuple[Side, Trace], steps: Mapping[Key, Step] | None
) -> dict[int, int]:
    """The source's layer for each of the target's, by their nodes."""
    (ours, our_trace), (theirs, their_trace) = source, target
    if steps is None:
        at_path = {ours.graph.say(number): number for number in our_trace.calls}
        found = {number: at_path.get(theirs.graph.say(number)) for number in their_trace.calls}
        return {number: twin for number, twin in found.items() if twin is not None}
    comes_from = {
        number: frozenset(key for made in their_trace.held[number] if made in steps for key in steps[made].sources)
        for number in their_trace.calls
    }
    leads_to: dict[Key, set[Key]] = {}
    for step in steps.values():
        for key in step.sources:
            leads_to.setdefault(key, set()).add(step.target)
    model = frozenset().union(*their_trace.held.values())
    goes_to = {
        number: frozenset(made for key in our_trace.held[number] for made in leads_to.get(key, ()) if made in model)
        for number in our_trace.calls
    }
    pairs: dict[int, int] = {}
    for number, keys in comes_from.items():
        # One inside the other with the same variables, a wrapper and its layer: in the order in which they end.
        alike = [each for each, others in comes_from.items() if others == keys]
        made = frozenset(key for key in their_trace.held[number] if key in steps and steps[key].sources)
        twins = [each for each, others in goes_to.items() if others == made and keys and keys <= our_trace.held[each]]
        if twins:
            place = alike.index(number)
            pairs[number] = twins[place] if len(alike) == len(twins) else twins[-1 if place == len(alike) - 1 else 0]
    _pair_rest(pairs, comes_from, source, theirs)
    return pairs


def _pair_rest(
    pairs: dict[int, int], comes_from: Mapping[int, AbstractSet[Key]], source: tuple[Side, Trace], target: Side
) -> None:
    """Pair the layers that got their variables from several."""
    ours, trace = source
    for number, keys in comes_from.items():
        if number in pairs or not keys:
            continue
        taken = set(pairs.values())
        said = target.graph.say(number)
        candidates = [
            (len(keys & trace.held[each]) / len(keys | trace.held[each]), ours.graph.say(each) == said, -order, each)
            for order, each in enumerate(trace.calls)
            if each not in taken and keys & trace.held[each]
        ]
        if candidates:
            pairs[number] = max(candidates)[-1]


def _differing(
    number: int,
    twin: int,
    source: tuple[Side, frozenset[Key]],
    target: tuple[Side, frozenset[Key]],
    steps: Mapping[Key, Step] | None,
) -> Iterator[str]:
    """What of a layer's variables is not the source layer's."""
    (ours, held), (theirs, made) = source, target
    for key in sorted(made):
        said = theirs.say(key)
        if steps is None:
            path = theirs.graph.paths[theirs.node_at[key]][len(theirs.graph.paths[number]) :]
            node = ours.graph.find((*ours.graph.paths[twin], *path))
            origin = None if node is None else ours.key_at.get(node)
            if origin is None:
                yield f"`{said}` is not in the source"
            elif not is_equal(ours, theirs, Step(key, (origin,), (), "exact", 1, ())):
                yield f"`{said}` does not hold the source's values"
            continue
        step = steps.get(key)
        if step is None or not step.sources:
            yield f"`{said}` has initial values: nothing of the source leads to it"
        elif not held.issuperset(step.sources):
            origins = ", ".join(f"`{ours.say(each)}`" for each in step.sources if each not in held)
            yield f"`{said}` comes from {origins}, which is another layer's"
        elif not is_equal(ours, theirs, step):
            yield f"`{said}` does not hold what the plan makes of the source's values"


def _alike(source: Side, target: Side, made: frozenset[Key], steps: Mapping[Key, Step]) -> Iterator[str]:
    """Variables that could have changed places: of one shape, and at other paths than in the source."""
    groups: dict[str, list[str]] = {}
    for key in sorted(made):
        if key in steps and steps[key].sources:
            origins = ", ".join(f"`{source.say(each)}`" for each in steps[key].sources)
            if origins != f"`{target.say(key)}`":
                spec = str(target.bundle.entries[key].spec)
                groups.setdefault(spec, []).append(f"`{target.say(key)}` from {origins}")
    for spec, moves in groups.items():
        if len(moves) > 1:
            yield f"{spec}: {', '.join(moves)}"


def is_equal(source: Side, target: Side, step: Step) -> bool:
    """Whether a target's tensor is what a step makes of the source's."""
    expected, got = expected_of(step, source, target), target.bundle.read(step.target)
    return expected.shape == got.shape and expected.dtype == got.dtype and expected.tobytes() == got.tobytes()


def expected_of(step: Step, source: Side, target: Side, arrays: Sequence[Array] | None = None) -> Array:
    """What a step makes: of the source's tensors, or of these in their place."""
    from ckptmigrate.verify.reference import apply_reference

    given = [source.bundle.read(key) for key in step.sources] if arrays is None else list(arrays)
    specs = tuple(source.bundle.entries[key].spec for key in step.sources)
    template = target.bundle.read(step.target) if needs_template(step.ops, specs) else None
    return apply_reference(step.ops, given, template)
