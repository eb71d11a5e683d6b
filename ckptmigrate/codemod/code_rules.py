"""Renames in source code, as values and as the part ``code`` of a rule file.

A rule file says what becomes of a checkpoint (``rules``) and, beside it, what became of its source (``code``)::

    rules:
      - rename: {from: "model/enc/**", to: "model/encoder/**"}
    code:
      - rename_attribute: {class: nets.encoder.Encoder, from: enc, to: encoder}
      - rename_layer: {scope: nets.encoder.Encoder, from: hidden, to: encoder_hidden}
      - rename_keyword: {from: model, to: net}
      - rename_class: {class: nets.encoder.Encoder, to: TextEncoder}

``plan`` reads the first part and ``codemod apply`` the second; either may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ckptmigrate.errors import RuleError, raise_all
from ckptmigrate.rules.document import Reader, compose_yaml, type_name

Kind = Literal["attribute", "layer", "keyword", "class"]
"""What is renamed: ``self.x`` of a class; ``name="x"`` of a layer; ``Checkpoint(x=...)``; a class itself."""


@dataclass(frozen=True, slots=True)
class CodeRename:
    """One rename in source code, of a class, a layer, a checkpoint's keyword, or an attribute.

    Attributes:
        kind: What is renamed.
        scope: The dotted name of the class (for ``attribute`` and ``class``), or of the class or function in which a
            layer gets its name or a checkpoint its keyword; as much of it as it takes. Empty for everywhere.
        old: Its name before.
        new: Its name after.
    """

    kind: Kind
    scope: str
    old: str
    new: str

    def describe(self) -> str:
        """The rename in words."""
        inside = f" in {self.scope}" if self.scope else ""
        match self.kind:
            case "attribute":
                return f"{self.scope}.{self.old} -> {self.new}"
            case "layer":
                return f'name="{self.old}" -> "{self.new}"{inside}'
            case "keyword":
                return f"Checkpoint({self.old}=...) -> {self.new}{inside}"
            case "class":
                return f"class {self.scope} -> {self.new}"

    def reversed(self) -> CodeRename:
        """The way back."""
        if self.kind != "class":
            return CodeRename(self.kind, self.scope, self.new, self.old)
        head, dot, _ = self.scope.rpartition(".")
        return CodeRename("class", f"{head}{dot}{self.new}", self.new, self.old)

    def to_data(self) -> dict[str, Any]:
        """The rename as a rule file has it."""
        ends = {"from": self.old, "to": self.new}
        match self.kind:
            case "attribute":
                return {"rename_attribute": {"class": self.scope, **ends}}
            case "class":
                return {"rename_class": {"class": self.scope, "to": self.new}}
            case _:
                return {f"rename_{self.kind}": {**({"scope": self.scope} if self.scope else {}), **ends}}


def format_code(renames: Iterable[CodeRename]) -> str:
    """Renames as the part ``code`` of a rule file; nothing for none.

    Append it to what `ckptmigrate.rules.format_rulebook` makes.
    """
    import yaml

    lines = ["code:"]
    for rename in renames:
        flow = yaml.safe_dump(rename.to_data(), default_flow_style=True, sort_keys=False, width=float("inf")).strip()
        lines.append(f"  - {flow.removeprefix('{').removesuffix('}')}")
    return "\n".join(lines) + "\n" if len(lines) > 1 else ""


def read_code(path: str | Path) -> tuple[CodeRename, ...]:
    """The renames of a rule file's part ``code``.

    Raises:
        RuleError: The file cannot be read, has no such part, or it is not one; `Problems` if several things are wrong.
    """
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RuleError("cannot read the rule file", name, got=str(error.strerror), hint="Check the path") from error
    except UnicodeDecodeError as error:
        raise RuleError("not text", name, expected="UTF-8", got=str(error), hint="Save the file as UTF-8") from error
    return parse_code(text, name=name)


def parse_code(text: str, *, name: str = "rules") -> tuple[CodeRename, ...]:
    """The renames of the part ``code`` of a rule file's text. `name` stands for the file in messages.

    Raises:
        RuleError: There is no such part, or it is not one; `Problems` if several things are wrong.
    """
    document = compose_yaml(text, name=name)
    reader = _CodeReader(name)
    fields = {} if document is None else reader.mapping(document, "a mapping with the keys `rules` and `code`")
    if "code" not in fields:
        raise_all(f"{name}: not a rule file", reader.problems)
        raise RuleError("no renames of code", name, expected="the key `code`", hint="Use `codemod rename` to rename")
    items = reader.sequence(fields["code"][1], "a list of renames")
    renames = tuple(rename for item in items if (rename := reader.rename(item)) is not None)
    raise_all(f"{name}: not renames of code", reader.problems)
    return renames


_KINDS: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "rename_attribute": ("attribute", ("class", "from", "to")),
    "rename_layer": ("layer", ("from", "to")),
    "rename_keyword": ("keyword", ("from", "to")),
    "rename_class": ("class", ("class", "to")),
}
"""What each word renames, and what it cannot do without."""


class _CodeReader(Reader):
    def rename(self, node: Any) -> CodeRename | None:
        fields = self.mapping(node, "a rename, e.g. `rename_attribute: {class: Encoder, from: enc, to: encoder}`")
        if len(fields) != 1 or not fields.keys() <= _KINDS.keys():
            if fields:
                said = ", ".join(f"`{key}`" for key in fields)
                self.complain(node, "not a rename", expected=f"one of {', '.join(_KINDS)}", got=said)
            return None
        ((word, (_, body)),) = fields.items()
        kind, needed = _KINDS[word]
        given = self.mapping(body, f"the arguments of `{word}`")
        allowed = {*needed, "why", *(("scope",) if "class" not in needed else ())}
        for key, (key_node, value) in given.items():
            if key not in allowed:
                self.complain(key_node, "unknown word", expected=", ".join(sorted(allowed)), got=f"`{key}`")
            elif value.id != "scalar" or not value.value:
                self.complain(value, "wrong type", expected="a name", got=type_name(value))
        missing = [key for key in needed if key not in given]
        if missing:
            self.complain(body, f"`{word}` is not complete", expected=", ".join(f"`{key}`" for key in missing))
        if missing or any(value.id != "scalar" for _, value in given.values()):
            return None
        said_as = {key: str(value.value) for key, (_, value) in given.items()}
        scope = said_as.get("class", said_as.get("scope", ""))
        return CodeRename(kind, scope, said_as.get("from", scope.rpartition(".")[2]), said_as["to"])
