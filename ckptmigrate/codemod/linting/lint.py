"""Find code that restores a checkpoint without proof, or that a migration makes stale.

Files are looked at with `ast`, and only those in which a word stands that a rule speaks of. What is found has its
place, its rule, and where it is safe the edits that mend it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ckptmigrate.codemod.linting import lint_rules
from ckptmigrate.codemod.linting.checkpoints import CHECKPOINTS, Source
from ckptmigrate.codemod.linting.edits import Edit, Text, edit_module
from ckptmigrate.codemod.linting.fixes import Fix, Way, by_hand, prove_restore, use_saved_path
from ckptmigrate.codemod.linting.lint_rules import LINT_RULES, LintRule, Severity
from ckptmigrate.codemod.linting.restores import STRONG, WEAK, Restore, argument, find_latest, find_restores
from ckptmigrate.codemod.linting.stored_names import find_stored_names, renamed
from ckptmigrate.codemod.source.project import Place, Project
from ckptmigrate.codemod.source.receivers import Receivers
from ckptmigrate.codemod.source.rewrite import Rewritten
from ckptmigrate.rules import Rule

_WORDS = re.compile(
    r"restore|expect_partial|assert_(?:existing_objects|nontrivial)|load_weights|Checkpoint|"
    r"from_checkpoint|load_variable|load_checkpoint"
)
"""A file without any of these is not looked at."""

_IGNORE = re.compile(r"#.*?\bckptmigrate:\s*ignore(?:\[(?P<ids>[A-Z0-9,\s]*)\])?")

_FAILING: Collection[Severity] = ("error", "warning")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule speaks of.

    Attributes:
        rule: The rule.
        severity: How bad it is here.
        message: What is found, in one line.
        place: Where it begins.
        end: Where it ends.
        fix: What mends it.
    """

    rule: LintRule
    severity: Severity
    message: str
    place: Place
    end: Place
    fix: Fix

    @property
    def fails(self) -> bool:
        """Whether a check fails by it."""
        return self.severity in _FAILING


@dataclass(frozen=True)
class Linted:
    """What was found in a project.

    Attributes:
        findings: By file, in the order of its lines.
        suppressed: What a comment says to ignore.
        texts: The files that something was found in, by their paths.
    """

    findings: tuple[Finding, ...]
    suppressed: tuple[Finding, ...]
    texts: Mapping[str, Text]

    def edited(self) -> tuple[Rewritten, ...]:
        """The files with all that can be mended mended."""
        edits: dict[str, list[Edit]] = {}
        for finding in self.findings:
            if finding.fix.edits:
                edits.setdefault(finding.place.file, []).extend(finding.fix.edits)
        return tuple(edit_module(self.texts[file].module, found) for file, found in edits.items())


def lint(
    project: Project,
    *,
    ids: Collection[str] | None = None,
    rules: Sequence[Rule] = (),
    way: Way = "restore",
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Linted:
    """Look at all files of a project.

    Args:
        project: The project.
        ids: The rules that are looked at; all but those that have to be asked for, if it is None.
        rules: The rules of a migration: of the names of a checkpoint only those are told that it changes.
        way: How an unchecked restore is mended.
        on_progress: Called with how many lines are done, and of how many.
    """
    if ids is None:
        ids = {each.id for each in LINT_RULES.values() if rules or not each.is_asked_for}
    receivers = Receivers(project)
    found: list[Finding] = []
    suppressed: list[Finding] = []
    texts: dict[str, Text] = {}
    done, total = 0, sum(module.source.count("\n") for module in project.modules)
    for module in project.modules:
        if _WORDS.search(module.source):
            file = _File(Source(module, receivers), rules, way)
            for finding in sorted(file.findings(), key=lambda each: (each.place.line, each.place.column, each.rule.id)):
                if finding.rule.id in ids:
                    texts[finding.place.file] = file.text
                    (suppressed if file.is_ignored(finding) else found).append(finding)
        done += module.source.count("\n")
        on_progress(done, total)
    return Linted(tuple(found), tuple(suppressed), texts)


class _File:
    """The findings in one module."""

    def __init__(self, source: Source, rules: Sequence[Rule], way: Way) -> None:
        self.source = source
        self.text = Text(source.module)
        self.rules = rules
        self.way = way
        self.restores = list(find_restores(source))

    def findings(self) -> Iterator[Finding]:
        for restore in self.restores:
            yield from self.unproven(restore)
        yield from self.silenced_elsewhere()
        yield from self.lenient_weights()
        yield from self.stored_names()
        yield from self.saved_prefixes()

    def is_ignored(self, finding: Finding) -> bool:
        """Whether a comment on the first or the last line says so."""
        for line in {finding.place.line, finding.end.line}:
            comment = _IGNORE.search(self.text.line(line))
            if comment is not None:
                ids = comment["ids"]
                if ids is None or finding.rule.id in re.split(r"[,\s]+", ids):
                    return True
        return False

    def found(
        self,
        rule: LintRule,
        node: ast.expr | ast.keyword,
        message: str,
        fix: Fix | None = None,
        severity: Severity | None = None,
    ) -> Finding:
        file = str(self.source.module.path)
        start, end = (Place(file, *self.text.position(at)) for at in (self.text.start(node), self.text.end(node)))
        return Finding(rule, severity or rule.severity, message, start, end, fix or by_hand(""))

    def unproven(self, restore: Restore) -> Iterator[Finding]:
        """CM001, CM002, CM003, CM008: the status of a restore."""
        if restore.status in ("checked", "escapes"):
            return
        said = f"`{_shortened(self.text.of(restore.call.func))}(...)`"
        if restore.status == "weak":
            names = sorted({_method(each) for each in restore.telling} & WEAK)
            last = next(each for each in restore.telling if _method(each) in WEAK)
            does = (
                "passes if one variable was restored"
                if names == ["assert_nontrivial_match"]
                else "is silent about what is not built yet, not used, or never saved"
            )
            yield self.found(lint_rules.WEAK, last, f"{said}: `{' and '.join(names)}` {does}")
            return
        if restore.method == "restore_or_initialize":
            message = f"{said} asks nothing about what it restored, or whether it did, and returns no status"
            yield self.found(
                lint_rules.UNCHECKED,
                restore.call,
                message,
                prove_restore(self.text, restore, self.way, may_be_none=False),
            )
            return
        latest = find_latest(self.source, restore)
        fix = prove_restore(self.text, restore, self.way, may_be_none=latest is not None and not latest.is_excluded)
        if restore.status == "partial":
            silenced = next(each for each in restore.telling if _method(each) == "expect_partial")
            message = f"{said}: `expect_partial` silences the only warning, and {self.asked(restore)}"
            yield self.found(lint_rules.EXPECT_PARTIAL, silenced, message, fix)
        elif restore.method == "load_weights":
            yield self.found(lint_rules.WEAK, restore.call, f"{said} of a checkpoint: {self.asked(restore)}")
            return
        else:
            message = f"{said}: nothing asks its status, so a half restore goes unnoticed"
            if restore.is_seen or restore.telling:
                yield self.found(lint_rules.UNCHECKED, restore.call, message, fix)
            else:
                message += f", if `{_shortened(self.text.of(restore.receiver))}` is a tf.train.Checkpoint"
                yield self.found(lint_rules.UNCHECKED, restore.call, message, fix, "info")
        if latest is not None and not latest.is_looked_at and restore.method != "load_weights":
            origin = _shortened(self.text.of(latest.origin))
            message = f"{said}: `{origin}` is None where there is no checkpoint, and restores nothing then"
            yield self.found(lint_rules.MAYBE_NONE, restore.call, message, by_hand("decide what happens then"))

    @staticmethod
    def asked(restore: Restore) -> str:
        """What asks about a restore without our help."""
        if restore.method == "load_weights":
            return "Keras asks only whether one variable was restored"
        return "nothing asks what was restored"

    def silenced_elsewhere(self) -> Iterator[Finding]:
        """CM002, CM003 where the restore itself is not seen: a status that was passed on."""
        told = {call for restore in self.restores for call in restore.telling}
        for call in self.source.calls:
            if call in told or _method(call) != "expect_partial" or call.args or call.keywords:
                continue
            assert isinstance(call.func, ast.Attribute)  # noqa: S101 # it has a method's name
            scope = self.source.function(call)
            status = ast.dump(call.func.value)
            others = {
                _method(each)
                for each in ast.walk(scope)
                if isinstance(each, ast.Call)
                and isinstance(each.func, ast.Attribute)
                and (ast.dump(each.func.value) == status or call in ast.walk(each.func.value))
            }
            if not others & (STRONG | WEAK) and not self.is_passed_on(call.func.value, scope):
                message = (
                    "`expect_partial` silences the only warning of a restore, and nothing here asks what was restored"
                )
                yield self.found(lint_rules.EXPECT_PARTIAL, call, message, by_hand("the restore is not here"))

    def is_passed_on(self, status: ast.expr, scope: ast.AST) -> bool:
        """Whether others may ask a status: it is an argument, stored or returned."""
        return isinstance(status, ast.Name) and any(
            isinstance(each, ast.Name)
            and (each.id, type(each.ctx)) == (status.id, ast.Load)
            and not isinstance(self.source.parents[each], ast.Attribute)
            for each in ast.walk(scope)
        )

    def lenient_weights(self) -> Iterator[Finding]:
        """CM004."""
        does = {
            "skip_mismatch": "layers whose weights do not fit keep their initial values",
            "by_name": "layers whose name is not in the file keep their initial values",
        }
        for call in self.source.calls:
            if _method(call) != "load_weights":
                continue
            given = [each.arg for each in call.keywords if each.arg in does and _is_true(each.value)]
            if given:
                message = f"`{'` and `'.join(f'{name}=True' for name in given)}`: " + "; ".join(
                    does[name] for name in given
                )
                yield self.found(lint_rules.LENIENT_WEIGHTS, call, message)

    def stored_names(self) -> Iterator[Finding]:
        """CM005, CM006."""
        for name in find_stored_names(self.source):
            rule = lint_rules.KEYWORDS if name.where == "keyword" else lint_rules.STORED_NAMES
            if not self.rules:
                what = "all names below it begin with it" if name.is_scope else "a name"
                message = f"`{name.text}`: {what} in the checkpoint; after a migration, check it"
                yield self.found(rule, name.node, message)
                continue
            new = renamed(self.rules, name)
            if new is not None:
                becomes = f"becomes `{new}`" if new else "is dropped"
                yield self.found(
                    rule, name.node, f"`{name.text}` {becomes} in the migrated checkpoint", None, "warning"
                )

    def saved_prefixes(self) -> Iterator[Finding]:
        """CM007."""
        saves: list[tuple[ast.expr, ast.Call]] = []
        written: list[ast.expr] = []
        for call in self.source.calls:
            path = argument(call, "file_prefix")
            if _method(call) in ("save", "write") and path is not None and self.is_checkpoint(call):
                if _method(call) == "write":
                    written.append(path)
                else:
                    saves.append((path, call))
        for restore in self.restores:
            path = restore.path
            if path is None or not restore.is_seen or any(self.is_same(path, each) for each in written):
                continue
            before = [call for each, call in saves if call.lineno < path.lineno and self.is_same(path, each)]
            if before:
                said = _shortened(self.text.of(path))
                message = f"`save` has written `{said}` with a number; there is no checkpoint at `{said}` itself"
                fix = use_saved_path(self.source, self.text, before[-1], path)
                yield self.found(lint_rules.SAVED_PREFIX, restore.call, message, fix)

    def is_checkpoint(self, call: ast.Call) -> bool:
        """Whether a call is of a checkpoint's own method."""
        assert isinstance(call.func, ast.Attribute)  # noqa: S101 # it has a method's name
        return self.source.type_of(call.func.value, call.func.attr) in CHECKPOINTS

    def is_same(self, path: ast.expr, other: ast.expr) -> bool:
        """Whether two expressions of one function have the same value."""
        if self.source.function(path) is not self.source.function(other) or ast.dump(path) != ast.dump(other):
            return False
        for one, two in zip(ast.walk(path), ast.walk(other), strict=True):
            match one, two:
                case ast.Name(), ast.Name():
                    if self.source.bindings(one) != self.source.bindings(two):
                        return False
                case ast.Call(func=ast.Attribute(attr="join" | "format")), _:
                    pass
                case ast.Call(), _:  # it may give another value each time
                    return False
        return True


def _method(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _shortened(text: str, length: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."
