"""Answers out of completions."""

import pytest

import verifiers as vf
from verifiers import extract_boxed_answer, extract_hash_answer

CONVERSATION = [
    {"role": "assistant", "content": "<answer>1</answer>"},
    {"role": "user", "content": "<answer>user</answer>"},
    {"role": "assistant", "content": "<think>a</think>\n<answer> 2 </answer>"},
]


def test_plain_parser_takes_the_last_word():
    parser = vf.Parser(extract_fn=str.upper)
    assert parser.parse_answer([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]) == "B"
    assert parser.parse_answer("c") == "C" and parser.parse_answer([]) is None
    assert len(parser.get_user_messages(CONVERSATION)) == 1 and parser.get_tool_messages(CONVERSATION) == []
    assert vf.Parser().get_format_reward_func()(CONVERSATION) == 1.0


def test_thinking_is_cut_off():
    assert vf.ThinkParser().parse("a</think>b</think> c ") == "c" and vf.ThinkParser().parse("no end") == ""
    assert vf.MaybeThinkParser().parse("a</think> c ") == "c" and vf.MaybeThinkParser().parse("c") == "c"


def test_xml_fields():
    parser = vf.XMLParser(["think", ("answer", "guess")])
    assert parser.parse_answer(CONVERSATION) == "2"
    assert parser.parse_answer("<guess>3</guess>") is None and parser.parse_answer("nothing") is None
    assert vf.XMLParser([("answer", "guess")], answer_field="guess").parse_answer("<guess>3</guess>") == "3"
    twice = "<answer>1</answer><answer>2</answer>"
    assert parser.parse_answer(twice) == "2" and parser.parse_answer([vf.AssistantMessage(twice)]) == "1"
    parsed = parser.parse("<think>\nx\n</think><answer>1</answer><answer>2</answer>")
    assert (parsed.think, parsed.answer, parsed.guess) == ("x", "1", None)
    assert parser.parse("<answer>1</answer><answer>2</answer>", last=True).answer == "2"
    assert parser.parse("<think> x </think>", strip=False).think == " x "
    assert parser.get_fields() == ["think", "answer"]
    assert parser.format(think="t", guess="g") == "<think>\nt\n</think>\n<answer>\ng\n</answer>"
    assert parser.get_format_str().endswith("</think>\n<[ answer | guess ]>\n...\n</[ answer | guess ]>")
    with pytest.raises(ValueError, match="Missing value for field 'answer'"):
        parser.format(think="t")
    with pytest.raises(ValueError, match="Duplicate field name"):
        vf.XMLParser(["a", "a"])


def test_xml_format_reward():
    reward = vf.XMLParser(["think", "answer"]).get_format_reward_func()

    def score(text):
        return reward([{"role": "assistant", "content": text}])

    assert score("<think>a</think><answer>b</answer>") == pytest.approx(1.0)
    assert score("so: <think>a</think><answer>b</answer>") == pytest.approx(0.8)
    assert score("<think>a</think>") == pytest.approx(0.6)
    assert score("nothing") == score("<answer>") == pytest.approx(0.2) and reward([]) == 0.0
    assert score("<think>a<answer>b</answer>") == pytest.approx(1.0), "a field counts by any of its tags"


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("<think>a</think> b", 1.0),
        (" <think></think>b", 1.0),
        ("<think>a</think>", 0.0),
        ("so <think>a</think>b", 0.0),
        ("<think>a</think><think>b</think>c", 0.0),
        ("a</think>b", 0.0),
        ("b", 0.0),
    ],
)
def test_thinking_has_a_format(text, worth):
    reward = vf.ThinkParser().get_format_reward_func()
    assert reward([vf.AssistantMessage(text)]) == worth
    assert reward([vf.AssistantMessage(text), {"role": "assistant", "content": "none"}]) == worth / 2
    assert vf.MaybeThinkParser().get_format_reward_func()([vf.AssistantMessage(text)]) == 1.0


def test_boxed_and_hash_answers():
    assert extract_boxed_answer(r"so \boxed{1} and \boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    assert extract_boxed_answer("none") == "none" and extract_boxed_answer("none", strict=True) == ""
    assert extract_boxed_answer(r"\boxed{open", strict=True) == ""
    assert extract_hash_answer("a #### 1 #### 2") == "1"
    assert extract_hash_answer("work\n#### 42") == "42" and extract_hash_answer("42") == "42"
