"""A rename in a project's source: what is asked, whether it can be done, and what it changes."""

from __future__ import annotations

import ast
import difflib
import keyword
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ckptmigrate.codemod.code_rules import CodeRename
from ckptmigrate.codemod.renaming.attributes import AttributeScan
from ckptmigrate.codemod.renaming.class_names import ClassNameScan
from ckptmigrate.codemod.renaming.family import REFLECTION, Family, attributes_of, mentions
from ckptmigrate.codemod.renaming.framework import reserved
from ckptmigrate.codemod.renaming.labels import CHECKPOINT, KeywordScan, LayerNameScan, Scoped
from ckptmigrate.codemod.renaming.sites import Change, Found, Site, site, site_at, texts_with
from ckptmigrate.codemod.source.project import Class, Place, Project
from ckptmigrate.codemod.source.receivers import Receivers
from ckptmigrate.codemod.source.rewrite import Edit, Rewritten, rewrite
from ckptmigrate.errors import CkptMigrateError, SourceError, raise_all

Progress = Callable[[int, int], None]
"""Told how many lines are done, and how many there are."""


def silent(_done: int, _total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Renamed:
    """What a rename changes.

    Attributes:
        rename: What was asked, with the class's whole dotted name.
        files: The files that change.
        edits: The edits that are proven, by file.
        sites: What is not edited, in the order of files and lines: what is unsafe, and notes.
        classes: The classes that share an attribute that is renamed.
        alike: Where something else may be called so in a checkpoint, so that a path does not tell what is meant.
    """

    rename: CodeRename
    files: tuple[Rewritten, ...]
    edits: tuple[Change, ...]
    sites: tuple[Site, ...]
    classes: tuple[Class, ...] = ()
    alike: Place | None = None

    @property
    def unsafe(self) -> tuple[Site, ...]:
        """The sites that a program may break at."""
        return tuple(each for each in self.sites if each.is_unsafe)


def find_rename(project: Project, wanted: CodeRename, on_progress: Progress = silent) -> Renamed:
    """What a rename changes in a project; nothing is written.

    Raises:
        SourceError: The class or the attribute is not there, or the new name cannot be taken; `Problems` for several.
    """
    match wanted.kind:
        case "attribute":
            return _attribute(project, wanted, on_progress)
        case "class":
            return _class(project, wanted, on_progress)
        case "layer":
            return _layer(project, wanted, on_progress)
        case "keyword":
            return _keyword(project, wanted, on_progress)


def _attribute(project: Project, wanted: CodeRename, on_progress: Progress) -> Renamed:
    _check_name(wanted.old, wanted.new)
    each = project.find_class(wanted.scope)
    family = Family.of(project, each, wanted.old)
    if _is_done(family, wanted.new):
        return Renamed(CodeRename("attribute", each.name, wanted.old, wanted.new), (), (), ())
    _check_attribute(family, each)
    receivers = Receivers(project)
    _check_free(project, family, receivers, wanted.new)
    scan = AttributeScan(receivers, family, wanted.new)
    found = [*_scanned(project, scan.scan, on_progress), *texts_with(project, wanted.old), *_unknown_bases(family)]
    found.extend(_protocols(project, family))
    whole = CodeRename("attribute", each.name, wanted.old, wanted.new)
    renamed = _renamed(project, whole, found, tuple(family.members.values()))
    return replace(renamed, alike=next(_alike(project, family, receivers, renamed), None))


def _class(project: Project, wanted: CodeRename, on_progress: Progress) -> Renamed:
    _check_name(wanted.old, wanted.new)
    if _is_class(project, wanted.reversed().scope) and not _is_class(project, wanted.scope):
        return Renamed(wanted, (), (), ())
    each = project.find_class(wanted.scope)
    scan = ClassNameScan(Receivers(project), each, wanted.new)
    found = [*_scanned(project, scan.scan, on_progress), *texts_with(project, wanted.old)]
    return _renamed(project, CodeRename("class", each.name, wanted.old, wanted.new), found, (each,))


def _is_class(project: Project, name: str) -> bool:
    return any(each == name or each.endswith(f".{name}") for each in project.classes)


def _layer(project: Project, wanted: CodeRename, on_progress: Progress) -> Renamed:
    if not re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.>-]*", wanted.new):
        raise SourceError(
            "not a name of a layer",
            wanted.new,
            expected="letters, digits, `_`, `.` and `-`",
            hint="Choose another name",
        )
    receivers = Receivers(project)
    scan = LayerNameScan(receivers, Scoped(project, receivers, wanted.scope), wanted.old, wanted.new)
    return _labelled(project, wanted, scan, on_progress)


def _keyword(project: Project, wanted: CodeRename, on_progress: Progress) -> Renamed:
    _check_name(wanted.old, wanted.new)
    receivers = Receivers(project)
    scan = KeywordScan(receivers, Scoped(project, receivers, wanted.scope), wanted.old, wanted.new)
    if wanted.new in CHECKPOINT or wanted.old in CHECKPOINT:
        raise SourceError("the checkpoint's own name", wanted.new if wanted.new in CHECKPOINT else wanted.old)
    return _labelled(project, wanted, scan, on_progress)


def _labelled(
    project: Project, wanted: CodeRename, scan: LayerNameScan | KeywordScan, on_progress: Progress
) -> Renamed:
    what = "layer" if wanted.kind == "layer" else "keyword of tf.train.Checkpoint"
    found = [*_scanned(project, scan.scan, on_progress), *texts_with(project, wanted.old)]
    whole = CodeRename(wanted.kind, scan.scoped.name, wanted.old, wanted.new)
    where = scan.scoped.name or "the paths"
    if wanted.old not in scan.names:
        if wanted.new in scan.names:
            return Renamed(whole, (), (), ())
        near = difflib.get_close_matches(wanted.old, sorted(scan.names), 3)
        hint = f"Is it {', '.join(near)}" if near else ""
        raise SourceError(f"no such {what}", wanted.old, expected=f"one in {where}", hint=hint)
    if wanted.new in scan.names:
        hint = "Choose another name, or say in which class or function: SCOPE.NAME"
        raise SourceError("the new name is taken", wanted.new, expected=f"no such {what} in {where}", hint=hint)
    return _renamed(project, whole, found)


def _alike(project: Project, family: Family, receivers: Receivers, renamed: Renamed) -> Iterator[Place]:
    """Where something else than the classes' attribute may be the label of a path."""
    name = family.attribute
    # Names that are computed, and keys of dicts.
    yield from (each.place for each in renamed.unsafe if each.kind in ("computed", "loop", "literal"))
    for module in project.modules:
        for node in ast.walk(module.tree) if name in module.source else ():
            match node:
                case ast.Attribute(attr=given, value=value, ctx=ast.Store()) if given == name:
                    if not family.owns(receivers.kinds(value, module)):
                        yield module.place(node)
                case ast.ClassDef() if receivers.class_at(node, module) not in family.members:
                    if name in receivers.scopes(module).bound(node):
                        yield module.place(node)
                case ast.keyword(arg=given) if given == name:
                    yield module.place(node)


def _scanned(project: Project, scan: Callable[..., Iterable[Found]], on_progress: Progress) -> Iterator[Found]:
    total = sum(module.source.count("\n") for module in project.modules)
    done = 0
    for module in project.modules:
        yield from scan(module)
        done += module.source.count("\n")
        on_progress(done, total)


def _renamed(project: Project, rename: CodeRename, found: Sequence[Found], classes: tuple[Class, ...] = ()) -> Renamed:
    found = [_from_around(project, each) for each in found]
    edits = dict.fromkeys(each for each in found if isinstance(each, Change))
    by_file: dict[Path, list[Edit]] = {}
    for each in edits:
        by_file.setdefault(each.path, []).append(each.edit)
    files = tuple(rewrite(path, given, project.sources.get(path)) for path, given in by_file.items())
    sites = {(each.place.file, each.place.line, each.kind): each for each in found if isinstance(each, Site)}
    ordered = sorted(sites.values(), key=lambda each: (each.place.file, each.place.line, each.place.column))
    return Renamed(rename, files, tuple(edits), tuple(ordered), classes)


def _from_around(project: Project, each: Found) -> Found:
    """What stands beside the paths is told, and not edited."""
    if isinstance(each, Change):
        if each.path not in project.around:
            return each
        module = next(module for module in project.modules if module.path == each.path)
        place = Place(str(each.path), each.edit.line, each.edit.column)
        return site_at(place, "outside", module.line(each.edit.line))
    if Path(each.place.file) in project.around and each.is_unsafe:
        return site_at(each.place, "outside", each.text, why=f"outside the paths; {each.why}")
    return each


# What has to hold


def _check_name(old: str, new: str) -> None:
    hint = "Choose another name"
    if not new.isidentifier():
        raise SourceError("not a name", new, expected="an identifier of Python", hint=hint)
    stored = unicodedata.normalize("NFKC", new)
    if stored != new:
        # Source: the language reference, "Identifiers": all are converted into NFKC, and compared so.
        raise SourceError("not a name as Python stores it", new, expected=f"`{stored}`", hint="Say it like that")
    if keyword.iskeyword(new):
        raise SourceError("a keyword of Python", new, hint=hint)
    if new == old:
        raise SourceError("the new name is the old one", new, hint=hint)
    for name in (old, new):
        if name.startswith("__"):
            what = "a name that Python gives a meaning" if name.endswith("__") else "a name that Python mangles"
            raise SourceError(what, name, expected="a name that does not begin with two underscores")


def _check_attribute(family: Family, each: Class) -> None:
    spoken = [mention for member in family.members.values() for mention in mentions(member, family.attribute)]
    where = f"{each.name}.{family.attribute}"
    if any(mention.what == "a class" for mention in spoken):
        raise SourceError("a class inside a class", where, hint="Rename it with --class")
    framework = reserved(family.outside)
    if family.attribute in framework:
        raise SourceError(
            "an attribute of the framework", where, got=f"one of {', '.join(family.outside)}", hint="It keeps its name"
        )
    if any(mention.defines for mention in spoken):
        return
    names = sorted(set().union(*map(attributes_of, family.members.values())))
    near = difflib.get_close_matches(family.attribute, names, 3)
    hint = f"Is it {', '.join(near)}" if near else f"It has {', '.join(names[:10])}" if names else ""
    got = f"it is only read ({spoken[0].place})" if spoken else ""
    raise SourceError("no such attribute", where, expected="one that the class gives its objects", got=got, hint=hint)


def _is_done(family: Family, new: str) -> bool:
    """Whether the classes have the new name already, and nothing of the old one."""
    members = family.members.values()
    has_old = any(mention.defines for member in members for mention in mentions(member, family.attribute))
    return not has_old and any(mention.defines for member in members for mention in mentions(member, new))


def _check_free(project: Project, family: Family, receivers: Receivers, new: str) -> None:
    problems: list[CkptMigrateError] = []
    for name, each in {**family.members, **family.above}.items():
        for mention in mentions(each, new):
            is_taken = SourceError(
                "the new name is taken",
                str(mention.place),
                expected=f"no `{new}` in {name}",
                got=mention.what,
                hint="Choose another name, or rename that one first",
            )
            problems.append(is_taken)
            break
    taken = reserved(family.outside)
    if new in taken:
        problems.append(SourceError("the new name is the framework's", new, got=f"one of {', '.join(family.outside)}"))
    if not problems:
        problems.extend(_given_from_outside(project, family, receivers, new))
    raise_all("the new name cannot be taken", problems)


def _given_from_outside(project: Project, family: Family, receivers: Receivers, new: str) -> Iterator[CkptMigrateError]:
    """Code outside the classes that uses the new name on their objects."""
    for module in project.modules:
        if new not in module.source:
            continue
        for node in ast.walk(module.tree):
            match node:
                case ast.Attribute(attr=name, value=value) if name == new:
                    pass
                case ast.Call(func=ast.Name(id=function), args=[value, ast.Constant(value=name), *_]) if (
                    name == new and function in REFLECTION
                ):
                    pass
                case _:
                    continue
            if family.owns(receivers.kinds(value, module)):
                yield SourceError(
                    "the new name is taken",
                    str(module.place(node)),
                    expected=f"no `{new}` of an object of the class",
                    got="it is used here",
                    hint="Choose another name",
                )
                return


def _protocols(project: Project, family: Family) -> Iterator[Found]:
    """Protocols that objects of the class may pass for by their attributes."""
    for name, each in project.classes.items():
        if name in family.members or name in family.above:
            continue
        if "Protocol" not in {base.rpartition(".")[2] for base in each.bases}:
            continue
        for mention in mentions(each, family.attribute):
            if mention.defines:
                yield site_at(mention.place, "protocol", each.module.line(mention.place.line))


def _unknown_bases(family: Family) -> Iterator[Found]:
    for each in family.members.values():
        unknown = [base for base in each.bases if base in family.unknown_bases]
        if unknown:
            said = ", ".join("one that is computed" if base == "?" else base for base in unknown)
            yield site(each.module, each.node, "bases", why=f"a base is outside the paths: {said}")
