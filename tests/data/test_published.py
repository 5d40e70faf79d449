"""Published datasets, each from a row with the columns that it was published with."""

from __future__ import annotations

import pytest

from backflip.data.records import messages
from backflip.errors import UserError

ASK, YES, NO = "Is it late?", "Yes.", "No."
U, A, B = (
    {"role": "user", "content": ASK},
    {"role": "assistant", "content": YES},
    {"role": "assistant", "content": NO},
)


def rated(text, mean, overall):
    rating = {"Rating": "3", "Rationale": "So so."}
    aspects = ("helpfulness", "honesty", "instruction_following", "truthfulness")
    return {
        "annotations": dict.fromkeys(aspects, rating),
        "custom_system_prompt": "As an AI assistant, be honest.",
        "critique": "Fine.",
        "model": "alpaca-7b",
        "principle": "honesty",
        "response": text,
        "fine-grained_score": mean,
        "overall_score": overall,
    }


ULTRAFEEDBACK = {
    "source": "evol_instruct",
    "instruction": ASK,
    "models": ["alpaca-7b", "bard"],
    "completions": [rated(NO, 2.5, 10.0), rated(YES, 4.75, 8.5)],
    "correct_answers": ["None"],
    "incorrect_answers": ["None"],
}
BINARIZED = {
    "prompt": ASK,
    "prompt_id": "6f1c",
    "chosen": [U, A],
    "rejected": [U, B],
    "messages": [U, A],
    "score_chosen": 8.5,
    "score_rejected": 3.0,
}
SAFE = {
    "prompt": ASK,
    "response_0": NO,
    "response_1": YES,
    "prompt_source": "BeaverTails",
    "response_0_source": "Alpaca-7B",
    "response_1_source": "Alpaca-7B",
    "is_response_0_safe": True,
    "is_response_1_safe": False,
    "better_response_id": 1,
    "safer_response_id": 0,
}
INTEL = {"system": "Be brief.", "question": ASK, "chosen": YES, "rejected": NO}
ARGILLA = {
    "system": "Be brief.",
    "input": ASK,
    "chosen": YES,
    "rejected": NO,
    "generations": [YES, NO],
    "order": ["chatgpt", "llama2-13b-chat"],
    "labelling_model": "gpt-4-1106-preview",
    "rating": [9.0, 5.0],
    "rationale": "…",
    "status": "unchanged",
    "original_chosen": YES,
    "chosen_score": 9.0,
    "in_gsm8k_train": False,
}
SKYWORK = {"chosen": [U, A], "rejected": [U, B], "source": "magpie_pro_llama3.1"}
OPENAI = {
    "input": {"messages": [U], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [A],
    "non_preferred_output": [B],
}
HELPSTEER3 = {
    "domain": "general",
    "language": "english",
    "context": [U],
    "response1": NO,
    "response2": YES,
    "overall_preference": 2,
    "individual_preference": [{"score": 2, "reasoning": "…", "feedback1": "…"}],
}
HELPSTEER2_PAIR = {
    "split": "train",
    "prompt": ASK,
    "response_1": YES,
    "response_2": NO,
    "preference_strength": -3,
    "preference_statement": "…",
    "preference_elaboration": "…",
}
STACK = {"qid": 1, "question": ASK, "response_j": YES, "response_k": NO, "metadata": ["x"]}
ARENA = {
    "question_id": "a",
    "model_a": "x",
    "model_b": "y",
    "winner": "model_b",
    "conversation_a": [U, B],
    "conversation_b": [U, A],
}
FACTORY = {
    "conversations": [{"from": "human", "value": ASK}],
    "chosen": {"from": "gpt", "value": YES},
    "rejected": {"from": "gpt", "value": NO},
}
PAIRS = {
    "openbmb/UltraFeedback": (ULTRAFEEDBACK, "ultrafeedback"),
    "HuggingFaceH4/ultrafeedback_binarized": (BINARIZED, "preference"),
    "PKU-Alignment/PKU-SafeRLHF": (SAFE, "two_responses"),
    "Skywork/Skywork-Reward-Preference-80K-v0.2": (SKYWORK, "preference"),
    "OpenAI's preference file": (OPENAI, "openai_preference"),
    "nvidia/HelpSteer3": (HELPSTEER3, "two_responses"),
    "nvidia/HelpSteer2, preference": (HELPSTEER2_PAIR, "two_responses"),
    "lvwerra/stack-exchange-paired": (STACK, "preference"),
    "lmsys/chatbot_arena_conversations": (ARENA, "arena"),
    "LLaMA-Factory's pairs": (FACTORY, "preference"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_yes_is_better_than_no_in_every_dataset_of_pairs(name, loaded):
    row, form = PAIRS[name]
    result = loaded([row])
    record = result.records[0]
    assert result.format == form
    assert record.prompt == messages(("user", ASK))
    assert record.best == messages(("assistant", YES))
    assert {answer[0].content for answer in record.answers} == {YES, NO}
    assert not result.dropped


@pytest.mark.parametrize("row", [INTEL, ARGILLA])
def test_orca_pairs_have_a_system_message_and_a_question(row, loaded):
    result = loaded([row])
    assert result.records[0].prompt == messages(("system", "Be brief."), ("user", ASK))
    assert result.records[0].best == messages(("assistant", YES))
    used = {"system", "question", "input", "chosen", "rejected"}
    assert set(result.unread) == set(row) - used


def test_ultrafeedback_is_ranked_by_the_mean_of_the_ratings_and_says_so(loaded):
    """``overall_score`` would put the answer with 2.5 of 5 first."""
    result = loaded([ULTRAFEEDBACK])
    assert any("fine-grained_score" in note for note in result.notes)
    assert "completions[].critique" in result.unread
    assert "completions[].response" not in result.unread


def test_what_is_left_of_a_published_row_is_named(loaded):
    assert set(loaded([BINARIZED]).unread) == {
        *("prompt_id", "messages", "score_chosen", "score_rejected")
    }
    assert set(loaded([SAFE]).unread) == {
        *("prompt_source", "response_0_source", "response_1_source"),
        *("is_response_0_safe", "is_response_1_safe", "safer_response_id"),
    }
    assert set(loaded([OPENAI]).unread) == {"input.parallel_tool_calls"}
    assert loaded([SAFE]).notes == (
        "the better answer is that of the column better_response_id (1 row)",
    )


@pytest.mark.parametrize(
    ("strength", "rank", "margin"), [(-3, (0, 1), 3), (1, (0, 1), 1), (0, (0, 0), 0)]
)
def test_the_sign_of_helpsteers_preference_is_the_side_and_its_size_the_margin(
    strength, rank, margin, loaded
):
    record = loaded([HELPSTEER2_PAIR | {"preference_strength": strength}]).records[0]
    assert (record.rank, record.margin) == (rank, margin)
    first = record.answers[0][0].content
    assert first == (NO if strength > 0 else YES)


@pytest.mark.parametrize(
    ("choice", "best"),
    [("response_a", 0), ("b", 1), ("A", 0), ("tie", None), ("Response B", 1)],
)
def test_a_choice_names_one_of_two_answers(choice, best, loaded):
    row = {"prompt": ASK, "response_a": "one", "response_b": "two", "preference": choice}
    record = loaded([row]).records[0]
    assert record.tied == (best is None)
    if best is not None:
        assert record.best[0].content == ("one", "two")[best]


def test_a_choice_that_names_neither_answer_is_counted(loaded):
    row = {"prompt": ASK, "response_a": "one", "response_b": "two", "preference": "a"}
    result = loaded([row, row | {"preference": "c"}, row | {"preference": None}])
    assert result.dropped.counts == {
        "column 'preference' names neither answer": 1,
        "no value says which answer is better": 1,
    }


def test_numbers_of_answers_begin_where_their_columns_do(loaded):
    row = {"prompt": ASK, "response_1": "one", "response_2": "two", "winner": 1}
    assert loaded([row]).records[0].best[0].content == "one"
    row = {"prompt": ASK, "response_0": "zero", "response_1": "one", "winner": 1}
    assert loaded([row]).records[0].best[0].content == "one"


def test_nectar_is_a_ranking_of_its_answers(loaded):
    row = {
        "prompt": f"\n\nHuman: {ASK}\n\nAssistant: ",
        "answers": [
            {"answer": "c", "model": "x", "rank": 3.0},
            {"answer": "a", "model": "y", "rank": 1.0},
            {"answer": "b", "model": "z", "rank": 2.0},
        ],
        "turns": 1,
        "num_responses": 3,
        "source": ["lmsys-chat-1m"],
        "good_natured": True,
    }
    result = loaded([row])
    assert result.records[0].prompt == messages(("user", ASK))
    assert result.records[0].rank == (2, 0, 1)
    assert set(result.unread) == {
        *("answers[].model", "turns", "num_responses", "source", "good_natured")
    }


def test_helpsteer_answers_are_imitated_alone_and_compared_by_helpfulness(loaded):
    scores = {"correctness": 3, "coherence": 4, "complexity": 2, "verbosity": 1}
    rows = [
        {"prompt": ASK, "response": NO, "helpfulness": 2, **scores},
        {"prompt": ASK, "response": YES, "helpfulness": 4, **scores},
        {"prompt": "Alone?", "response": YES, "helpfulness": 4, **scores},
    ]
    record, *others = loaded(rows).records
    assert not others
    assert (record.prompt, record.rank) == (messages(("user", ASK)), (1, 0))
    assert loaded(rows).dropped.counts == {"no other answer to its prompt": 1}
    imitated = loaded(rows, "demonstrations")
    assert len(imitated.records) == 3
    assert any("all answers" in note for note in imitated.notes)
    assert set(imitated.unread) == set(scores)


def test_many_scored_answers_to_one_prompt_are_all_compared(loaded):
    rows = [{"prompt": ASK, "response": f"{n}.", "score": n % 4} for n in range(17)]
    records = loaded(rows).records
    assert {answer[0].content for record in records for answer in record.answers} == {
        f"{n}." for n in range(17)
    }
    assert all(len(record.answers) >= 2 for record in records)


def test_tldr_comparisons_ask_for_a_summary_as_the_paper_did(loaded):
    row = {
        "info": {"id": "t3", "post": "I ate it all.", "title": "Cake", "subreddit": "AskReddit"},
        "summaries": [
            {"text": " No.", "policy": "sup2"},
            {"text": " Cake is gone.", "policy": "x"},
        ],
        "choice": 1,
        "worker": "w",
        "batch": "batch3",
        "split": "train",
        "extra": {"confidence": 8},
    }
    result = loaded([row])
    assert result.records[0].best[0].content == "Cake is gone."
    assert result.records[0].prompt[0].content == (
        "SUBREDDIT: r/AskReddit\n\nTITLE: Cake\n\nPOST: I ate it all.\n\nTL;DR:"
    )
    assert {"info.id", "summaries[].policy", "extra"} <= set(result.unread)
    article = row | {"info": {"id": "1", "article": "News."}}
    assert loaded([article]).records[0].prompt[0].content == "Article: News.\n\nTL;DR:"


def test_alpaca_joins_instruction_and_input(loaded):
    row = {"instruction": "Add.", "input": "1 and 2", "output": "3", "text": "Below is …"}
    result = loaded([row], "demonstrations")
    assert result.records[0].messages == messages(("user", "Add.\n\n1 and 2"), ("assistant", "3"))
    assert result.unread == {"text": 1}


@pytest.mark.parametrize(
    "names", [("prompt", "response"), ("question", "answer"), ("query", "output")]
)
def test_a_prompt_and_its_answer_have_many_names(names, loaded):
    result = loaded([dict(zip(names, (ASK, YES), strict=True))], "demonstrations")
    assert result.records[0].messages == messages(("user", ASK), ("assistant", YES))


def test_sharegpt_names_its_speakers_in_its_own_way(loaded):
    talk = [
        ("system", "Be brief."),
        ("human", ASK),
        ("gpt", YES),
        ("user", "Sure?"),
        ("chatgpt", NO),
    ]
    turns = [{"from": role, "value": text} for role, text in talk]
    record = loaded([{"id": "x", "conversations": turns}], "demonstrations").records[0]
    assert [message.role for message in record.messages] == [
        *("system", "user", "assistant", "user", "assistant")
    ]


def test_scored_answers_without_siblings_are_no_comparisons(loaded):
    with pytest.raises(UserError, match="no other answer to its prompt"):
        loaded([{"prompt": ASK, "response": YES, "helpfulness": 3}])
    with pytest.raises(UserError, match="holds demonstrations, and comparisons are needed"):
        loaded([{"prompt": ASK, "response": YES}])
