"""What is asked in which order, and that answers are rules which say what was answered and nothing else."""

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest
from builders import Legacy, Table, adam, floats, graph_of, key_of
from refactorings import case
from scoring import judge

from ckptmigrate import match_graphs, parse_rulebook
from ckptmigrate.errors import RuleError
from ckptmigrate.matching import Hypothesis, Lead, Step
from ckptmigrate.matching.claims import read_claims
from ckptmigrate.questioner import AnswerFile, ask_all, asked_of, otherwise, say
from ckptmigrate.questioner.statements import claims_of
from ckptmigrate.rules import format_rulebook

FILE = "answers.yaml"


@dataclass
class Scripted:
    """Someone who gives the replies of a list, or of a function of what is asked, and remembers what was asked."""

    replies: object
    asked: list = field(default_factory=list)
    told: list = field(default_factory=list)

    def ask(self, asked, *, left):
        self.asked.append((asked, left))
        reply = self.replies(asked) if callable(self.replies) else self.replies.pop(0)
        return asked.question.hypotheses[reply - 1] if isinstance(reply, int) else reply

    def tell(self, text):
        self.told.append(text)


def answered(source, target, replies, *, text="", **options):
    """The outcome of a dialogue on two trees or graphs, and who answered."""
    source, target = (tree if hasattr(tree, "nodes") else graph_of(tree) for tree in (source, target))
    person = Scripted(replies)
    file = AnswerFile.read(FILE, text)
    return ask_all(source, target, lambda rules: match_graphs(source, target, rules), person, file, **options), person


def rules_of(source, target, answer):
    """An answer as the lines of a rule file."""
    return [line.strip() for line in format_rulebook(say(answer, graph_of(source), graph_of(target))).splitlines()[1:]]


def moved(pairs, **more):
    leads = tuple(Lead(key_of(new), (key_of(old),)) for old, new in pairs)
    return Hypothesis("it", leads, **{side: tuple(map(key_of, paths)) for side, paths in more.items()})


def heads(names, *, layers=12, optimizer=False):
    blocks = [{name: {"kernel": floats(4, 4), "bias": floats(4)} for name in names} for _ in range(layers)]
    variables = [variable for block in blocks for layer in block.values() for variable in layer.values()]
    return {"model": {"h": blocks}, **({"optimizer": adam(variables)} if optimizer else {})}


# Answers as rules.


def test_twelve_equal_layers_are_one_rule_for_each_of_them():
    old, new = heads("qk"), heads(("foo", "bar"))
    pairs = [
        (f"model/h/{n}/{a}/{role}", f"model/h/{n}/{b}/{role}")
        for n in range(12)
        for a, b in (("q", "bar"), ("k", "foo"))
        for role in ("kernel", "bias")
    ]
    assert rules_of(old, new, moved(pairs)) == [
        "- rename: {from: 'model/h/{i:int}/q/**', to: 'model/h/{i}/bar/**'}",
        "- rename: {from: 'model/h/{i:int}/k/**', to: 'model/h/{i}/foo/**'}",
    ]


def test_numbers_that_shifted_are_shifted_by_the_rule():
    old = {"m": [{"w": floats(2)} for _ in range(4)]}
    new = {"m": {str(n + 1): {"v": floats(2)} for n in range(4)}}
    answer = moved([(f"m/{n}/w", f"m/{n + 1}/v") for n in range(4)])
    assert rules_of(old, new, answer) == ["- rename: {from: 'm/{i:int}/w', to: 'm/{i+1}/v'}"]


def test_a_pattern_that_would_match_more_is_not_used():
    """The third layer is not part of the answer, so no `{i:int}` may speak of it."""
    old = {"m": [{"w": floats(2), "u": floats(3)} for _ in range(3)]}
    new = {"m": [{"w": floats(2), "u": floats(3)} for _ in range(3)]}
    answer = moved([(f"m/{n}/w", f"m/{n}/w") for n in range(2)])
    assert rules_of(old, new, answer) == ["- rename: {from: m/0/w, to: m/0/w}", "- rename: {from: m/1/w, to: m/1/w}"]


def test_where_one_layer_came_in_between_each_layer_has_its_rule():
    old, new = ({"m": [{"w": floats(2, 2), "b": floats(2)} for _ in range(size)]} for size in (3, 4))
    moves = {0: 0, 1: 2, 2: 3}
    pairs = [(f"m/{a}/{role}", f"m/{b}/{role}") for a, b in moves.items() for role in "wb"]
    assert rules_of(old, new, moved(pairs, new=("m/1/w", "m/1/b"))) == [
        "- rename: {from: m/0/**, to: m/0/**}",
        "- rename: {from: m/1/**, to: m/2/**}",
        "- rename: {from: m/2/**, to: m/3/**}",
        "- init: {to: m/1/**, with: template}",
    ]


def test_one_of_several_towers_is_told_by_its_number():
    def towers(name):
        return {"m": [{"h": [{name: floats(2)} for _ in range(3)]} for _ in range(2)]}

    old, new = towers("w"), towers("v")
    answer = moved([(f"m/0/h/{n}/w", f"m/0/h/{n}/v") for n in range(3)])
    assert rules_of(old, new, answer) == ["- rename: {from: 'm/0/h/{i:int}/w', to: 'm/0/h/{i}/v'}"]


def test_what_goes_to_two_places_is_one_rule_with_a_list():
    old = {"m": [{"w": floats(2)} for _ in range(3)]}
    new = {"a": [{"w": floats(2)} for _ in range(3)], "b": [{"w": floats(2)} for _ in range(3)]}
    answer = moved([(f"m/{n}/w", f"{side}/{n}/w") for n in range(3) for side in "ab"])
    assert rules_of(old, new, answer) == ["- rename: {from: 'm/{i:int}/w', to: ['a/{i}/w', 'b/{i}/w']}"]


def test_what_is_gone_is_dropped_and_all_tensors_of_a_table_go_together():
    table = Table(floats(3), floats(3, start=5))
    old, new = {"m": {"t": table, "old": {"w": floats(2)}}}, {"m": {"u": table, "w": floats(3)}}
    t, u = (f"m/{name}/.ATTRIBUTES/table-" for name in "tu")
    leads = tuple(Lead(f"{u}{part}", (f"{t}{part}",)) for part in ("keys", "values"))
    lines = rules_of(old, new, Hypothesis("it", leads, gone=(key_of("m/old/w"),)))
    assert lines == ["- rename: {from: m/t, to: m/u}", "- drop: {from: m/old/w, why: 'answered: it is gone'}"]


def test_slots_that_no_edge_leads_to_have_a_path_below_their_variable():
    def tree(name):
        w, b = floats(2, 2), floats(2)
        slots = [("m", w, floats(2, 2, start=9)), ("m", b, floats(2, start=5))]
        return {"model": {name: {"w": w, "b": b}}, "optimizer": Legacy({"iter": floats()}, slots)}

    old, new = graph_of(tree("x")), graph_of(tree("y"))
    slots = {graph.say_key(key): key for graph in (old, new) for key in graph.slot_owner}
    (kind,) = {path.rpartition("/")[2] for path in slots}
    leads = tuple(Lead(slots[f"model/y/{name}/{kind}"], (slots[f"model/x/{name}/{kind}"],)) for name in "wb")
    assert say(Hypothesis("it", leads), old, new)[0].describe() == f"model/x/**/{kind} -> model/y/**/{kind}"


@pytest.mark.parametrize("start", range(0, 160, 40))
def test_rules_say_what_was_answered_and_nothing_else(start):
    """Every answer to every question of many models, written as YAML and read again."""
    seen = 0
    for seed in range(start, start + 40):
        one = case(seed)
        for asked in asked_of(match_graphs(one.source, one.target), one.source, one.target):
            for answer in asked.question.hypotheses[:3]:
                rules = parse_rulebook(format_rulebook(say(answer, one.source, one.target)))
                claims = read_claims(one.source, one.target, rules).claims
                said = {(claim.sources, claim.target, claim.operations) for claim in claims}
                assert said == claims_of(answer), (seed, answer.text)
                assert len(said) == len(claims)
                seen += 1
    assert seen


# The order, and the loop.


def test_what_decides_most_is_asked_first_and_what_is_left_over_last():
    old = {**heads("qk", layers=2), "a": {"x": floats(3, 3), "y": floats(3, 3)}, "gone": floats(11)}
    new = {**heads(("foo", "bar"), layers=2), "a": {"z": floats(3, 3), "w": floats(3, 3)}, "fresh": floats(7)}
    outcome, person = answered(old, new, ["skip"] * 4)
    assert [(asked.kind, len(asked.question.decides), left) for asked, left in person.asked] == [
        ("question", 8, 3),
        ("question", 2, 2),
        ("new", 1, 1),
        ("unused", 0, 0),
    ]
    assert outcome.answered == 0
    assert not outcome.file.text


def test_an_answer_to_a_part_leaves_a_smaller_question():
    outcome, person = answered(
        heads("abcd", layers=3),
        heads(("foo", "bar", "baz", "qux"), layers=3),
        lambda asked: len(asked.question.hypotheses) and 2,
    )
    assert [asked.question.answers.ways for asked, _ in person.asked] == [24, 6]
    assert outcome.matching.questions == ()
    assert len(outcome.file.rules) == 4


def test_no_says_what_else_it_could_be():
    old = {"m": {"alpha": floats(2, 3)}, "n": {"omega": floats(3, 2)}}
    new = {"m": {"beta": floats(3, 2)}}
    matching = match_graphs(graph_of(old), graph_of(new))
    (asked,) = [each for each in asked_of(matching, graph_of(old), graph_of(new)) if each.kind == "proposal"]
    other = otherwise(asked, matching, graph_of(old), graph_of(new))
    texts = [answer.text for answer in other.question.hypotheses]
    assert texts == [
        "`m/alpha` -> `m/beta`, transposed",
        "all of these keep the values of the new model's template",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (floats(2, 3), floats(3, 2), "transpose [1, 0], proposed"),
        (np.ones((), np.int32), np.ones((), np.int64), "cast to int64, proposed"),
        (floats(2, 3), floats(3, 2).astype("float16"), "cast to float16, transpose [1, 0], proposed"),
    ],
)
def test_a_proposal_says_first_what_happens_to_the_values(old, new, said):
    ends = graph_of({"m": {"a": old}}), graph_of({"m": {"a": new}})
    (asked,) = asked_of(match_graphs(*ends), *ends)
    assert asked.question.reason.startswith(f"{said}, with a confidence of ")


def test_operations_of_many_sizes_are_told_by_their_names():
    def tables(more):
        return {"m": {f"embedding_{n}": {"table": floats(n + more, n)} for n in range(2, 8)}}

    ends = graph_of(tables(10)), graph_of(tables(12))
    (asked,) = asked_of(match_graphs(*ends), *ends)
    assert asked.question.reason.startswith("resize, proposed, with a confidence of ")


def test_what_is_left_over_on_both_sides_may_be_each_other():
    """Three numbered layers and three named ones are not compared, and are not thrown away with one nod either."""
    outcome, person = answered(heads(("w1", "w2", "w3")), heads(("query", "key", "value")), [1, 1, 1])
    first, second, third = (asked.question for asked, _ in person.asked)
    assert [answer.text for answer in first.hypotheses] == [
        *(
            f"`model/h/{{0..11}}/w{n}` -> `model/h/{{0..11}}/query`{how}, and the rest is asked again"
            for n in (1, 2, 3)
            for how in ("", ", transposed")
        ),
        "`model/h/0/query/kernel` and 23 more start with the template's values, and the rest is asked again",
        "all of these keep the values of the new model's template",
    ]
    assert len(second.hypotheses) == 6
    assert [len(question.decides) for question in (first, second, third)] == [72, 48, 24]
    assert [rule.describe() for rule in outcome.file.rules] == [
        f"model/h/{{i:int}}/w{n}/** -> model/h/{{i}}/{name}/**" for n, name in enumerate(("query", "key", "value"), 1)
    ]
    assert not outcome.matching.unmatched_source


def test_no_and_then_new_starts_with_the_templates_values():
    old, new = {"m": {"alpha": floats(3)}}, {"m": {"beta": floats(3)}}
    outcome, person = answered(old, new, ["no", 1, 1])
    assert [asked.kind for asked, _ in person.asked] == ["proposal", "proposal", "unused"]
    assert [rule.describe() for rule in outcome.file.rules] == [
        "init m/beta, initial value: template",
        "drop m/alpha (answered: it is gone)",
    ]
    assert outcome.matching.unmatched_source == outcome.matching.unmatched_target == ()


def test_stop_keeps_what_was_answered():
    kept = []
    outcome, _ = answered(
        {**heads("qk"), "x": floats(9)}, {**heads(("foo", "bar")), "y": floats(5)}, [1, "stop"], keep=kept.append
    )
    assert kept == [outcome.file]
    assert len(outcome.file.rules) == 2
    assert [item.key for item in outcome.matching.unmatched_target] == [key_of("y")]


def test_slots_follow_without_a_rule():
    outcome, _ = answered(heads("qk", optimizer=True), heads(("foo", "bar"), optimizer=True), [1])
    assert {step.status for step in outcome.matching.steps} == {"rule", "exact"}
    assert not [rule for rule in outcome.file.rules if "optimizer" in rule.describe() or "<" in rule.describe()]


def test_what_is_taken_anyway_is_not_asked():
    old, new = {"m": {"alpha": floats(3)}, "x": floats(2)}, {"m": {"beta": floats(3)}, "y": floats(5)}
    _, person = answered(old, new, [], taken={"proposal", "new", "unused"})
    assert person.asked == []


def test_an_answer_that_contradicts_what_is_known_stays_open_and_is_told():
    old, new = {"m": {"a": floats(2), "b": floats(2)}}, {"m": {"x": floats(2), "y": floats(2)}}
    wrong = Hypothesis("both", tuple(Lead(key_of(f"m/{name}"), (key_of("m/a"),)) for name in "xy"))
    text = "rules:\n- rename: {from: m/a, to: m/y}\n"
    outcome, person = answered(old, new, lambda asked: wrong if asked.kind == "proposal" else "skip", text=text)
    assert "stays open" in person.told[0]
    assert outcome.file.text == text


# The file.


def test_the_file_says_what_each_rule_answered():
    outcome, person = answered(heads("qk"), heads(("foo", "bar")), [1])
    ((asked, _),) = person.asked
    assert outcome.file.text.splitlines()[1:] == [
        "rules:",
        f"  # question: {asked.question.reason}",
        f"  # answer: {asked.question.hypotheses[0].text}",
        "  - rename: {from: 'model/h/{i:int}/q/**', to: 'model/h/{i}/foo/**'}",
        "  - rename: {from: 'model/h/{i:int}/k/**', to: 'model/h/{i}/bar/**'}",
    ]


@pytest.mark.parametrize(
    "text", ["rules:\n- drop: {from: x}  # mine", "# mine\nrules:\n    - drop:\n        from: x\n"]
)
def test_what_is_in_the_file_stays_as_it_is(text):
    outcome, _ = answered({"a": floats(2), "x": floats(3)}, {"b": floats(2)}, [1], text=text)
    assert outcome.file.text.startswith(text)
    assert [rule.describe() for rule in outcome.file.rules] == ["drop x", "a -> b"]


def test_a_file_that_nothing_can_be_added_to_is_refused_before_anything_is_asked():
    with pytest.raises(RuleError, match="cannot be added"):
        AnswerFile.read(FILE, "rules: [{drop: {from: x}}]")


def test_an_empty_file_is_begun():
    assert AnswerFile.read(FILE, "\n") == AnswerFile(FILE)


def test_a_comment_is_one_line_whatever_was_asked():
    (rule,) = parse_rulebook("rules:\n- drop: {from: x}")
    file = AnswerFile(FILE).added((replace(rule, where=""),), ("a\nb: \x1b[0m" + "c" * 500,))
    assert len(file.text.splitlines()) == 4
    assert "a b:  [0mccc" in file.text


# What is true of a part says no more of the rest than it proves.


def numbered(numbers):
    """A model of equal layers that people number, each of a kernel and a bias."""
    return graph_of({"model": {f"layer_{n}": {"kernel": floats(4, 4), "bias": floats(4)} for n in numbers}})


def listed(count):
    return graph_of({"model": {"h": [{"kernel": floats(4, 4), "bias": floats(4)} for _ in range(count)]}})


def unasked_with(source, target, rules):
    """The items of which something is decided that no rule speaks of."""
    steps = match_graphs(source, target, parse_rulebook("rules:\n" + rules)).steps
    return {step.target.split("/.ATTR")[0].rsplit("/", 2)[-2] for step in steps if step.status in {"exact", "certain"}}


def test_that_the_first_of_numbered_layers_stayed_leaves_the_numbers_of_the_others_in_doubt():
    rules = "- rename: {from: 'model/layer_0/**', to: 'model/layer_0/**'}"
    assert unasked_with(numbered(range(5)), numbered(range(6)), rules) == set()


def test_a_layer_that_is_new_among_numbered_ones_shifts_those_behind_it_and_none_before_it():
    rules = "- init: {to: 'model/layer_2/**', with: template}"
    assert unasked_with(numbered(range(5)), numbered(range(6)), rules) == {"layer_0", "layer_1"}


def test_a_numbered_layer_that_moved_makes_the_others_doubtful():
    rules = "- rename: {from: 'model/layer_1/**', to: 'model/layer_2/**'}"
    assert unasked_with(numbered(range(4)), numbered(range(5)), rules) == set()


@pytest.mark.parametrize("of", [numbered, lambda numbers: listed(len(numbers))])
def test_items_that_changed_places_say_that_the_order_of_equal_ones_is_another(of):
    label = "model/layer_" if of is numbered else "model/h/"
    rules = "\n".join(f"- rename: {{from: '{label}{a}/**', to: '{label}{b}/**'}}" for a, b in ((0, 1), (1, 0)))
    assert unasked_with(of(range(5)), of(range(5)), rules) == set()


@pytest.mark.parametrize("of", [numbered, lambda numbers: listed(len(numbers))])
def test_a_part_of_an_item_that_moved_makes_the_places_of_all_equal_items_doubtful(of):
    label = "model/layer_" if of is numbered else "model/h/"
    rules = f"- rename: {{from: '{label}1/kernel', to: '{label}2/kernel'}}"
    assert unasked_with(of(range(4)), of(range(4)), rules) == set()


# Models that people may have changed like this, and someone who knows.


class Oracle:
    """Someone who knows the truth: takes the answer that is true and says most, else says no, and then skips."""

    def __init__(self, one):
        self.one = one
        self.used = {source for truth in one.truth.values() for source in truth.sources}
        self.answers = []
        self.told = []

    def ask(self, asked, *, left):
        assert left >= 0
        true = [answer for answer in asked.question.hypotheses if self.is_true(answer)]
        if true:
            self.answers.append(max(true, key=lambda answer: len(claims_of(answer))))
            return self.answers[-1]
        return "skip" if asked.question.reason.startswith("none of these") else "no"

    def tell(self, text):
        self.told.append(text)

    def is_true(self, answer):
        truth = self.one.truth
        return (
            all(self.is_right(Step(lead.target, lead.sources, lead.ops, "rule", 1.0, ())) for lead in answer.leads)
            and not any(key in truth and truth[key].sources for key in answer.new)
            and self.used.isdisjoint(answer.gone)
        )

    def is_right(self, step):
        if step.target not in self.one.truth:
            return True
        only = replace(self.one, truth={step.target: self.one.truth[step.target]})
        (finding,) = judge(only, replace(EMPTY, steps=(step,)))
        return finding.is_right


EMPTY = match_graphs(graph_of({}), graph_of({}))


@cache
def asked_oracle(seed):
    one = case(seed)
    oracle = Oracle(one)
    matching = match_graphs(one.source, one.target)
    outcome = ask_all(
        one.source, one.target, lambda rules: match_graphs(one.source, one.target, rules), oracle, AnswerFile(FILE)
    )
    return one, oracle, matching, outcome


SEEDS = range(200)


def test_after_true_answers_nothing_is_wrong_that_was_not_before():
    for seed in SEEDS:
        one, _, before, outcome = asked_oracle(seed)

        def wrong(matching, one=one):
            return {
                each.target for each in judge(one, matching) if each.is_right is False and each.status != "proposed"
            }

        assert wrong(outcome.matching) <= wrong(before), seed


@pytest.mark.parametrize("seed", [1064, 1574, 1604])
def test_nothing_becomes_exact_because_another_item_of_its_list_was_answered(seed):
    one, _, _, outcome = asked_oracle(seed)
    assert not [each for each in judge(one, outcome.matching) if each.status == "exact" and each.problem]


def test_what_was_answered_is_in_the_plan():
    for seed in SEEDS:
        _, oracle, _, outcome = asked_oracle(seed)
        sources = {step.target: step.sources for step in outcome.matching.steps}
        for answer in oracle.answers:
            for lead in answer.leads:
                assert sources[lead.target] == lead.sources, seed


def test_the_answers_read_again_lead_to_the_same_plan_and_nothing_is_asked_again():
    for seed in SEEDS:
        one, oracle, _, outcome = asked_oracle(seed)
        rules = parse_rulebook(outcome.file.text, name=FILE) if outcome.file.text else ()
        again = match_graphs(one.source, one.target, rules)
        assert again == outcome.matching, seed
        open_targets = {key for question in again.questions for key in question.targets}
        open_targets |= {step.target for step in again.steps if step.status == "proposed"}
        decided = {key for answer in oracle.answers for key in answer.decides}
        assert open_targets.isdisjoint(decided), seed


def test_most_cases_are_answered_to_the_end():
    """What stays open are splits, joins and resizes, and squares among transposed ones, of which no answer speaks."""
    still_open = [seed for seed in SEEDS if (end := asked_oracle(seed)[3].matching).questions or end.proposals]
    assert len(still_open) <= len(SEEDS) * 0.12
    assert not [text for seed in SEEDS for text in asked_oracle(seed)[1].told if "added" not in text]


def test_a_dialogue_is_the_same_every_time():
    for seed in SEEDS[:30]:
        assert asked_oracle.__wrapped__(seed)[3] == asked_oracle(seed)[3]
