"""A case on its way, the places in it that people name, and what they call them."""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from architectures import Part, Weight
from layouts import Design

Thing = Part | Weight


@dataclass
class Draft:
    """A case on its way.

    Attributes:
        source: The source's design; nothing changes it.
        target: The target's.
        rng: The random numbers of the change that is made.
        opaque: Attributes that got a name that has nothing to do with their old one: for each, what they hold in
            the objects of their class, by what the object was in the source.
        new: New attributes, in the same way.
        gone: Attributes that are gone, with what the source held there.
        sequences: Rows of which items went or came: the source's items, the target's, and what says their places.
        shuffled: Rows whose items changed places.
        alike: New items of rows, with the source's item that they look like.
        undecidable: Weights of the target that a change itself makes a guess, with the reason.
        settled: What no other change may touch.
    """

    source: Design
    target: Design
    rng: random.Random
    opaque: list[dict[Part, Thing]] = field(default_factory=list)
    new: list[dict[Part, Thing]] = field(default_factory=list)
    gone: list[dict[Part, Thing]] = field(default_factory=list)
    sequences: list[tuple[list[Thing], list[Thing], str]] = field(default_factory=list)
    shuffled: list[tuple[list[Thing], list[Thing]]] = field(default_factory=list)
    alike: dict[Thing, Thing] = field(default_factory=dict)
    undecidable: dict[Weight, str] = field(default_factory=dict)
    settled: set[Thing] = field(default_factory=set)
    words: list[str] = field(default_factory=lambda: list(_WORDS))

    def word(self) -> str:
        """A name that has nothing to do with any other."""
        return self.words.pop(self.rng.randrange(len(self.words)))

    @property
    def names_are_labels(self) -> bool:
        """Whether names are all there is, so that a new attribute is a new name."""
        return "tf1" in (self.source.framework, self.target.framework)


_WORDS = """
    acorn amber anvil apple arrow aspen badger banjo basil beacon birch bison bolt bramble breeze brick bronze
    cactus candle canyon cedar cherry clover cobalt comet copper coral cricket crystal daisy delta dragon dune
    eagle ember falcon fern fjord flint forest fossil garnet ginger glacier granite harbor hazel heron hornet
    indigo iris island ivory jade jasper juniper kestrel lagoon lantern lemon lily linen lotus lynx magnet mango
    maple marble meadow mint mistral moss nectar nutmeg oasis olive onyx opal orchid otter owl panda pebble pepper
    pigeon pine plum poppy prairie quail quartz raven reef ribbon river robin ruby saffron sage salmon sable
    sapphire shadow silver sparrow spruce stone sugar sunset tango thistle thunder tiger topaz tulip tundra umber
    valley velvet violet walnut willow winter yarrow zebra zephyr
""".split()  # noqa: SIM905  # a list of this many strings is no easier to read

_CONCEPTS = (
    ("attn", "attention", "self_attn", "self_attention"),
    ("mlp", "ffn", "feed_forward", "feedforward"),
    ("ln", "norm", "layer_norm", "layernorm", "LayerNorm"),
    ("bn", "batch_norm", "batchnorm"),
    ("q", "query", "q_proj", "wq", "query_proj"),
    ("k", "key", "k_proj", "wk", "key_proj"),
    ("v", "value", "v_proj", "wv", "value_proj"),
    ("o", "out_proj", "o_proj", "wo", "output_proj"),
    ("embed", "embedding", "emb", "embeddings"),
    ("wte", "token_embedding", "word_embeddings", "embed_tokens", "tok_emb"),
    ("wpe", "position_embedding", "pos_embed", "position_embeddings"),
    ("encoder", "enc"),
    ("decoder", "dec"),
    ("generator", "gen"),
    ("discriminator", "disc"),
    ("conv", "convolution"),
    ("fc", "dense", "linear", "lin"),
    ("c_fc", "fc_in"),
    ("blocks", "layers", "layer", "block", "layer_list", "block_list"),
    ("classifier", "classification_head"),
    ("pooler", "pool"),
    ("ln_f", "final_norm", "final_layer_norm", "norm_f"),
    ("gate_proj", "gate"),
    ("up_proj", "up"),
    ("down_proj", "down"),
    ("model", "net", "network"),
    ("query_tower", "query_encoder"),
    ("patch_embed", "patch_embedding"),
    ("shortcut", "downsample"),
)


# Places in a target.


def own_parts(root: Part) -> Iterator[tuple[Part, str, Thing]]:
    """What people name: whatever stands in what they wrote, with its holder and its label; each place once."""
    seen = set()
    stack = [root]
    while stack:
        holder = stack.pop()
        if holder in seen:
            continue
        seen.add(holder)
        for label, child in holder.children.items():
            yield holder, label, child
            if isinstance(child, Part) and not child.is_atomic:
                stack.append(child)


def edges(draft: Draft, wanted: Callable[[Thing], bool]) -> list[list[tuple[Part, str, Thing]]]:
    """A class's attributes, each with all of its places: objects of one class change together."""
    found: dict[tuple[str, str], list[tuple[Part, str, Thing]]] = {}
    for holder, label, child in own_parts(draft.target.root):
        if holder.form == "object":
            found.setdefault((holder.kind, label), []).append((holder, label, child))
    return [
        places
        for places in found.values()
        if all(wanted(child) and child not in draft.settled for _, _, child in places)
    ]


def pick(draft: Draft, options: Sequence):
    """One of them, or None of none."""
    return draft.rng.choice(options) if options else None


def relabel(holder: Part, names: Mapping[str, str]) -> None:
    """Other attributes for some of what a part holds, in the same order."""
    holder.children = {names.get(label, label): child for label, child in holder.children.items()}


def put_instead(holder: Part, old: Thing, new: Mapping[str, Thing]) -> None:
    """Other things at the place of one that a part holds."""
    children: dict[str, Thing] = {}
    for label, child in holder.children.items():
        children.update(new if child is old else {label: child})
    holder.children = children


def taken(holder: Part) -> set[str]:
    """The attributes that mean something in the holder, or did."""
    return {*holder.children, *holder.home.children}


def free_in(places, label: str) -> bool:
    return not any(label in taken(holder) for holder, _, _ in places)


def is_part(thing: Thing) -> bool:
    return isinstance(thing, Part)


def is_layer(thing: Thing) -> bool:
    return isinstance(thing, Part) and thing.is_atomic


def is_container(thing: Thing) -> bool:
    return isinstance(thing, Part) and not thing.is_atomic and thing.form == "object"


def objects(draft: Draft) -> list[Part]:
    """The objects of the user's classes, the checkpoint itself aside."""
    root = draft.target.root
    found = {child: None for _, _, child in own_parts(root) if is_container(child)}
    return [part for part in found if part not in draft.settled]


def shows_labels(draft: Draft) -> bool:
    return not is_flow(draft.target)


def is_flow(design: Design) -> bool:
    return any(model.form == "flow" for model in design.root.children.values())


def concept_of(label: str) -> tuple[str, str]:
    """What a label means: its stem's synonyms, and its number."""
    stem, number = _split(label)
    words = next((words for words in _CONCEPTS if stem in words), (stem,))
    return words[0], number.strip("_")


def _split(label: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.*?)(_?\d+)?", label)
    assert found is not None
    return found[1], found[2] or ""


def akin(label: str) -> list[str]:
    """Other names for the same."""
    stem, number = _split(label)
    words = next((words for words in _CONCEPTS if label in words), ())
    if words:
        return [word for word in words if word != label]
    stems = next((words for words in _CONCEPTS if stem in words), ())
    found = [word + number for word in stems if word != stem]
    plain = re.fullmatch(r"[a-z][a-z0-9]+(_[a-z0-9]+)*", label)
    if plain and len(label) > 3:
        found += [f"{stem}_layer{number}", f"my_{label}", f"_{label}"]
        if "_" in label:
            head, *rest = label.split("_")
            found.append(head + "".join(word.title() for word in rest))
    return found


def fresh(part: Part) -> Part:
    """A part like another, with weights of its own and no origin."""
    made = replace(part, children={}, origin=None, carved=None)
    for label, child in part.children.items():
        made.children[label] = (
            Weight(child.shape, child.trainable, child.dtype) if isinstance(child, Weight) else fresh(child)
        )
    return made


def first_number(draft: Draft, items: Sequence[Thing]) -> int | None:
    """The number of the first of some items, where the source has them at numbered attributes."""
    for holder, label, thing in own_parts(draft.source.root):
        number = re.search(r"\d+$", label)
        if number and holder.form == "object" and items and thing is getattr(items[0], "origin", None):
            return int(number[0])
    return None


def spread_list(holder: Part, label: str, stem: str, base: int) -> None:
    """Put a list's items at numbered attributes of its holder."""
    children = {}
    for name, child in holder.children.items():
        if name == label:
            children.update((f"{stem}{base + number}", item) for number, item in enumerate(child.children.values()))
        else:
            children[name] = child
    holder.children = children
