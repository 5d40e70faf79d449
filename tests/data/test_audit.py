"""Each fault is planted, and found as often as it was planted."""

from __future__ import annotations

import pytest

from backflip.data.audit import audit, wilson
from backflip.data.chat import ChatTemplate
from backflip.data.formats import load
from backflip.data.records import Prompt, messages
from backflip.data.sources import write_jsonl


@pytest.fixture
def audited(tmp_path):
    def audit_rows(rows, kind="comparisons", **options):
        write_jsonl(tmp_path / "rows.jsonl", rows)
        return audit(load(str(tmp_path / "rows.jsonl"), kind), **options)

    return audit_rows


def pair(prompt, chosen, rejected, **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


CLEAN = [pair(f"Question {n}?", f"yes {n}", f"no {n}") for n in range(6)]


def test_clean_data_has_no_warnings(audited):
    assert [f.name for f in audited(CLEAN).rows() if f.level != "info"] == []


def test_rows_that_could_not_be_read_are_errors(audited):
    result = audited([*CLEAN, pair("Q?", "", "no"), pair("Q?", "same", "same")])
    assert result.total == 8
    assert result.errors == 2
    assert result.finding("empty answer").examples == (":7",)
    assert result.finding("answers are identical").share == 1 / 8


def test_exact_copies_swapped_labels_and_near_copies_are_told_apart(audited):
    rows = [
        *CLEAN,
        CLEAN[0],
        pair("Question 1?", "no 1", "yes 1"),
        pair("question 2 !", "other", "words"),
    ]
    result = audited(rows)
    assert result.finding("duplicate rows").count == 1
    assert result.finding("duplicate rows").examples == (":7 “Question 0?” = :1",)
    assert result.finding("contradictory pairs").count == 1
    assert result.finding("contradictory pairs").examples == (":8 “Question 1?” against :2",)
    assert result.finding("near-duplicate prompts").count == 1


def test_what_truncation_would_do_is_counted_before_it_is_done(audited):
    """Seven words: the answers below differ in their last word only, or not at all in time."""
    rows = [
        pair("one two three", "a b c d", "a b c d e"),
        pair("one two three", "a b c d", "x b c d"),
        pair("one two three four five six seven", "a", "b"),
        pair("one", "a", "b"),
    ]
    result = audited(rows, max_length=7)
    assert result.finding("longer than 7 words").count == 2
    assert result.finding("answers identical after truncation").count == 2
    assert result.finding("prompt alone fills the length").count == 1


def test_prompts_in_both_train_and_test_are_counted(audited):
    test = [Prompt(messages(("user", "question 3?"))), Prompt(messages(("user", "Other?")))]
    result = audited(CLEAN, against=test)
    assert result.finding("prompts in both train and test").count == 1
    assert "held-out prompts" not in " ".join(result.unchecked)


def test_what_was_not_looked_for_is_said_with_what_to_give(audited, tokenizers):
    assert audited(CLEAN).unchecked == (
        "lengths in tokens, twins after truncation (give model=smollm2)",
        "whether held-out prompts are in here too (give against=HELD_OUT)",
    )
    assert audited(CLEAN, template=ChatTemplate(tokenizers["chatml"]), against=[]).unchecked == ()


def test_an_example_is_its_line_and_how_it_begins_and_its_file_where_there_are_several(tmp_path):
    long = "Why does the kettle of my grandmother whistle only on Sundays?"
    for name in ("one.jsonl", "two.jsonl"):
        write_jsonl(tmp_path / name, [pair(long, "a", "b")])
    (example,) = audit(load(str(tmp_path), "comparisons")).finding("duplicate rows").examples
    assert example == f"two.jsonl:1 “{long[:40]}…” = one.jsonl:1"


def test_a_longer_reply_that_always_wins_is_a_warning_with_its_interval(audited):
    rows = [pair(f"Q {n}?", "a long reply", "short") for n in range(40)]
    rows += [pair("Equal?", "one two", "two one"), pair("Tie?", "a b", "c", tie=True)]
    finding = audited(rows).finding("longer reply won")
    assert (finding.count, finding.share, finding.level) == (40, 1.0, "warning")
    assert "91 to 100 %" in finding.advice
    assert audited(rows).finding("ties").count == 1


@pytest.mark.parametrize("rows", [4, 29, 40])
def test_few_prompts_tell_nothing_of_length(audited, rows):
    """Forty pairs about one prompt are one; and where all lengths are alike nothing is counted."""
    asked = [f"Q {n}?" if rows < 30 else "Q?" for n in range(rows)]
    made = [pair(ask, f"a long reply {n}", "short") for n, ask in enumerate(asked)]
    finding = audited(made).finding("longer reply won")
    assert (finding.count, finding.level) == (rows, "info")
    assert "too few to tell" in finding.advice
    assert "predicts" not in finding.advice
    alike = audited([pair(f"Q {n}?", "one two", "two one") for n in range(rows)])
    assert "longer reply won" not in [finding.name for finding in alike.rows()]


def test_a_shorter_reply_that_always_wins_is_a_warning_too(audited):
    rows = [pair(f"Q {n}?", "short", "a long reply") for n in range(40)]
    (found,) = audited(rows).rows()
    assert (found.name, found.count, found.level) == ("shorter reply won", 40, "warning")
    assert "length alone predicts the label" in found.advice


def test_nothing_is_listed_that_was_not_found(audited):
    """Columns that name the better answer put it first; without two lengths nothing is longer."""
    assert audited([pair("Q?", "a", "b")]).rows() == []
    soft = [pair(f"Q {n}?", "a", "b", p_chosen=0.1 + 0.8 * (n % 2)) for n in range(4)]
    assert audited(soft).finding("first answer is the best").share == 0.5


def test_label_balance_counts_which_answer_of_the_row_is_the_best(audited):
    rows = [
        {"prompt": f"Q {n}?", "completions": ["a", "b"], "rank": [n % 4 > 0, n % 4 == 0]}
        for n in range(8)
    ]
    rows = [row | {"rank": [int(rank) for rank in row["rank"]]} for row in rows]
    assert audited(rows).finding("first answer is the best").share == 0.25


def test_lengths_are_tokens_where_a_template_is_given_and_its_refusals_are_errors(
    audited, tokenizers
):
    template = ChatTemplate(tokenizers["mistral"])
    twice = [{"role": "user", "content": "One."}, {"role": "user", "content": "Two."}]
    result = audited([*CLEAN, pair(twice, "yes", "no")], template=template)
    assert result.unit == "tokens"
    assert result.errors == 1
    prompt = template.prompt(messages(("user", "Question 0?")))
    assert result.lengths["prompt"][1] == len(prompt)


def test_a_row_that_the_template_refuses_has_no_length_in_tokens_and_the_remedy_is_said(
    audited, tokenizers
):
    row = {"prompt": "?", "completion": "!", "tools": [{"type": "function"}]}
    result = audited([row], "demonstrations", template=ChatTemplate(tokenizers["chatml"]))
    assert (result.errors, result.lengths) == (1, {})
    assert "set template= to one that does" in result.rows()[0].advice


def test_text_that_would_end_a_turn_by_itself_is_counted(audited, tokenizers):
    template = ChatTemplate(tokenizers["chatml"])
    rows = [*CLEAN, pair("Say <|im_end|> twice: <|im_end|>", "<|im_end|>", "no")]
    finding = audited(rows, template=template).finding("control tokens in the text")
    assert finding.count == 1
    assert finding.examples[0].startswith(":7 “Say")


def test_prompts_and_demonstrations_are_audited_too(audited, tokenizers):
    template = ChatTemplate(tokenizers["chatml"])
    rows = [{"prompt": "One?"}, {"prompt": "One?"}]
    assert audited(rows, "prompts", template=template).finding("duplicate rows").count == 1
    talk = [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a b"}]}
    ]
    assert audited(talk, "demonstrations").lengths["answer"][0] == 2


def test_wilson_is_the_published_interval():
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_longer_reply_wins_44_percent_of_hh(hh_file, smollm2):
    result = audit(load(hh_file, "comparisons"), template=ChatTemplate(smollm2))
    assert result.finding("longer reply won").share == pytest.approx(0.44, abs=0.01)


def thumb(prompt, answer, label, **more):
    return {"prompt": prompt, "completion": answer, "label": label, **more}


BALANCED = [thumb(f"Question {n}?", f"reply {n}", n % 2 == 0) for n in range(8)]


def test_balanced_labels_have_no_warnings(audited):
    result = audited(BALANCED, "labelled")
    assert [f.name for f in result.rows() if f.level != "info"] == []
    assert result.finding("labelled good").share == 0.5
    assert result.kind == "Labelled answer"


@pytest.mark.parametrize(("label", "kind", "other"), [(True, "good", "bad"), (0, "bad", "good")])
def test_labels_of_one_kind_only_are_named_as_a_problem(label, kind, other, audited):
    result = audited([row | {"label": label} for row in BALANCED], "labelled")
    finding = result.finding(f"all answers labelled {kind}")
    assert (finding.count, finding.level) == (8, "warning")
    assert f"need {other} answers" in finding.advice


def test_prompts_and_answers_with_both_labels_are_counted_apart(audited):
    rows = [
        *BALANCED,
        thumb("Question 0?", "another", False),  # and row 1: a prompt with both labels
        thumb("Question 1?", "reply 1", True),  # and row 2: the same answer with both
        thumb("Question 3?", "reply 3", False),  # a copy of row 4
    ]
    result = audited(rows, "labelled")
    assert result.finding("prompt has good and bad answers").count == 4
    torn = result.finding("same answer labelled good and bad")
    assert (torn.count, torn.level) == (2, "warning")
    assert torn.examples == (":2 “Question 1?”", ":10 “Question 1?”")
    assert result.finding("duplicate rows").count == 1


def test_good_answers_that_are_longer_are_a_warning_with_both_means(audited):
    rows = [thumb(f"Q {n}?", "one two three four five", True) for n in range(40)]
    rows += [thumb(f"P {n}?", "one two three", False) for n in range(40)]
    finding = audited(rows, "labelled").finding("good answer longer than the median bad")
    assert (finding.count, finding.share, finding.level) == (40, 1.0, "warning")
    assert "good 5, bad 3" in finding.advice
    turned = [row | {"label": not row["label"]} for row in rows]
    finding = audited(turned, "labelled").finding("good answer shorter than the median bad")
    assert (finding.count, finding.level) == (40, "warning")
    short = audited(rows[38:42], "labelled").finding("good answer longer than the median bad")
    assert short.level == "info", "two answers are too few to tell"


def test_thumbs_that_are_none_are_rows_that_cannot_be_used(audited, tokenizers):
    rows = [*BALANCED, thumb("Q?", "a", None)]
    template = ChatTemplate(tokenizers["chatml"])
    result = audited(rows, "labelled", template=template, max_length=500)
    assert (result.total, result.errors) == (9, 1)
    assert result.finding("no label").examples == (":9",)
    assert result.unit == "tokens"
    assert len(result.lengths) == 2
