"""What was inferred from source, as a rule file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ckptmigrate.codemod.code_rules import CodeRename, format_code
from ckptmigrate.codemod.inference.bind import renamed_keywords, roots_of
from ckptmigrate.codemod.inference.infer import Inferred
from ckptmigrate.codemod.inference.made import INPUTS, Made
from ckptmigrate.codemod.inference.moves import Move

_INDICES = "ijklmn"
_MOST = 5000
"""So many rules are written; a model of a project is seldom so deep."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A rename of paths, with what shows it.

    Attributes:
        source: The pattern of source paths.
        target: The pattern of target paths.
        moves: What changed on the way, from the checkpoint down.
    """

    source: str
    target: str
    moves: tuple[Move, ...]

    @property
    def evidence(self) -> str:
        """Where the source says so."""
        return "; ".join(dict.fromkeys(move.evidence for move in self.moves))


def statements(inferred: Inferred) -> list[Statement]:
    """The renames of paths, from where a checkpoint's paths begin as far as the source says it."""
    return _Statements(inferred).all()


def code_renames(inferred: Inferred) -> list[CodeRename]:
    """What changed and has a name of its own in the code: attributes, names of layers, keywords, classes."""
    found: dict[CodeRename, None] = {}
    for move in inferred.changes:
        is_attribute = len(move.old) == len(move.new) == 1 and not move.old[0].startswith("#")
        if is_attribute and move.old[0].isidentifier() and move.new[0].isidentifier():
            found[CodeRename("attribute", move.old_owner, move.old[0], move.new[0])] = None
    for move in inferred.moves:
        names = move.before.name, move.after.name
        if all(names) and names[0] != names[1] and "{" not in "".join(names):
            found[CodeRename("layer", move.old_owner, *names)] = None
    for old, new in renamed_keywords(inferred):
        found[CodeRename("keyword", "", old.label, new.label)] = None
    for pair in inferred.renamed_classes:
        last = pair.old.rpartition(".")[2], pair.new.rpartition(".")[2]
        if last[0] != last[1] and pair.old in inferred.old.project.classes:
            found[CodeRename("class", pair.old, *last)] = None
    return list(found)


def format_inferred(inferred: Inferred, title: str) -> str:
    """The rule file: renames of paths that hold where they fit, and what was renamed in the code."""
    import yaml

    lines = [f"# {title}", "# They hold where they fit; what a rule under `rules` says comes first.", "inferred:"]
    found = statements(inferred)
    for each in found:
        lines.extend(
            f"  # {move.new_owner}: {'/'.join(move.old)} -> {'/'.join(move.new)}: {move.why}" for move in each.moves
        )
        data = {"rename": {"from": each.source, "to": each.target, "why": each.evidence}}
        flow = yaml.safe_dump(data, default_flow_style=True, sort_keys=False, width=float("inf")).strip()
        lines.append(f"  - {flow.removeprefix('{').removesuffix('}')}")
    if not found:
        lines[-1] = "inferred: []"
    return "\n".join(lines) + "\n" + format_code(code_renames(inferred))


class _Statements:
    def __init__(self, inferred: Inferred) -> None:
        self.inferred = inferred
        self.pairs = {(pair.old, pair.new) for pair in inferred.classes}
        self.moves: dict[tuple[str, str], list[Move]] = {}
        for move in inferred.moves:
            self.moves.setdefault((move.old_owner, move.new_owner), []).append(move)
        self.made: dict[tuple[str, str], Statement] = {}
        self.reached: set[tuple[str, str]] = set()
        self._changing: dict[tuple[str, str], bool] = {}

    def all(self) -> list[Statement]:
        inside = {(move.before.constructor, move.after.constructor) for move in self.inferred.moves} & self.moves.keys()
        olds, news = roots_of(self.inferred.old), roots_of(self.inferred.new)
        ends = [(olds[label], news[label]) for label in olds if label in news]
        ends += renamed_keywords(self.inferred)
        rooted = set()
        for old, new in ends:
            owners = old.constructor, new.constructor
            if owners in self.moves:
                rooted.add(owners)
                keyword = (_keyword(old, new, owners),) if old.label != new.label else ()
                self._from(old.label, new.label, owners, keyword, frozenset())
                if keyword:
                    self._state(old.label, new.label, keyword)
        for owners in self.moves:
            # Where nothing says what holds it, anything may.
            if owners not in inside and owners not in rooted:
                self._from("**", "**", owners, (), frozenset())
        for owners, moves in self.moves.items():
            # And where what holds it has no path that the source tells.
            if owners not in self.reached and not all(move.is_kept for move in moves):
                self._from("**", "**", owners, (), frozenset())
        return list(self.made.values())[:_MOST]

    def _from(
        self,
        source: str,
        target: str,
        owners: tuple[str, str],
        causes: tuple[Move, ...],
        above: frozenset[tuple[str, str]],
    ) -> None:
        """The statements for the objects of a class at two paths."""
        if owners in above:
            return
        self.reached.add(owners)
        for move in self.moves.get(owners, ()):
            if move.is_row:
                continue
            names = move.before.name, move.after.name
            if move.old[0].startswith("#") and all(names) and names[0] != names[1] and "{" not in "".join(names):
                self._state(f"name:{names[0]}", f"name:{names[1]}", (move,))
            for old, new in self._ways(move, source.count("{") + target.count("{")):
                ends = f"{source}/{old}", f"{target}/{new}"
                below = move.before.constructor, move.after.constructor
                # An item of a list that changed has to be said where it stayed, too.
                why = (*causes, move) if not move.is_kept or move.is_placed else causes
                if below in self.pairs and self._changes(below, frozenset()):
                    self._from(*ends, below, why, above | {owners})
                elif any(cause.is_placed for cause in why) or ends[0].replace(":int", "") != ends[1]:
                    self._state(*ends, why)

    def _state(self, source: str, target: str, moves: tuple[Move, ...]) -> None:
        self.made.setdefault((source, target), Statement(f"{source}/**", f"{target}/**", moves))

    def _changes(self, owners: tuple[str, str], above: frozenset[tuple[str, str]]) -> bool:
        """Whether anything at or below the objects of a class has another way to it."""
        if owners in above:
            return False
        if owners not in self._changing:
            self._changing[owners] = any(
                not move.is_kept or self._changes((move.before.constructor, move.after.constructor), above | {owners})
                for move in self.moves.get(owners, ())
            )
        return self._changing[owners]

    def _ways(self, move: Move, depth: int) -> Iterator[tuple[str, str]]:
        """The paths of a move, as patterns."""
        facts = self.inferred.old.facts[move.old_owner], self.inferred.new.facts[move.new_owner]
        index = _INDICES[min(depth, len(_INDICES) - 1)]
        said = []
        shift = 0
        for side, way, owner in ((0, move.old, facts[0]), (1, move.new, facts[1])):
            labels = []
            for at, label in enumerate(way):
                if label.startswith("#"):
                    row = owner.flow if at == 0 else next(item.items for item in owner.items if item.label == way[0])
                    position = _position(row, label[1:])
                    if position is None:
                        return
                    labels.append(position)
                elif "{i" in label:
                    before, hole, after = _split_hole(label)
                    shift = hole - shift if side else hole
                    number = f"{shift:+d}" if side and shift else ""
                    labels.append(f"{before}{{{index}{':int' if not side else number}}}{after}")
                else:
                    labels.append(label)
            said.append("/".join(labels))
        yield said[0], said[1]


def _keyword(old: Made, new: Made, owners: tuple[str, str]) -> Move:
    """A keyword of a checkpoint that is called otherwise, as what moved."""
    return Move(*owners, (old.label,), (new.label,), old, new, "the keyword of a checkpoint, given the same class")


def _split_hole(label: str) -> tuple[str, int, str]:
    before, _, rest = label.partition("{i")
    number, _, after = rest.partition("}")
    return before, int(number or 0), after


def _position(flow: tuple[Made, ...], label: str) -> str | None:
    """The path of a layer in a functional or Sequential model: in Keras 2 by its place, in Keras 3 among operations."""
    if any(item.is_loop for item in flow):
        return None
    is_two = any(item.constructor.startswith("tf_keras") for item in flow)
    is_functional = bool(flow) and flow[0].maker in INPUTS
    at = next(at for at, item in enumerate(flow) if item.label == label)
    if is_two:
        return f"layer-{at}"
    return f"_operations/{at}" if is_functional else f"_functional/_operations/{at + 1}"
