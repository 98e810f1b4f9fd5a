"""Write a short text backwards, letter by letter."""

import random
from difflib import SequenceMatcher

import verifiers as vf

SYSTEM_PROMPT = """\
Reverse the text you are given, letter by letter, so that its last letter comes first. Spaces are letters too.
Answer with the reversed text inside <reversed> tags."""

WHO = ["a quiet baker", "the night train", "my neighbour", "an old lighthouse", "every second student", "the red kite"]
DOES = ["waits for", "paints", "forgets", "follows", "sings to", "repairs", "borrows"]
WHAT = ["the morning bus", "seven clocks", "a paper boat", "the harbour", "some green bottles", "two small keys"]
WHERE = ["behind the mill", "in early spring", "without a map", "near the station", "on Thursdays", "under the bridge"]


def make_text(rng: random.Random, min_words: int, max_words: int) -> str:
    """One text of `min_words` to `max_words` words."""
    words = " ".join(rng.choice(part) for part in (WHO, DOES, WHAT, WHERE)).split()
    while len(words) < max_words:
        words += rng.choice(WHERE).split()
    return " ".join(words[: rng.randint(min_words, max_words)])


def make_texts(count: int, min_words: int, max_words: int, seed: int) -> list[str]:
    """`count` different texts."""
    rng = random.Random(seed)
    texts: dict[str, None] = {}
    for _ in range(200 * count):
        if len(texts) == count:
            break
        texts[make_text(rng, min_words, max_words)] = None
    else:
        if len(texts) < count:
            raise ValueError(
                f"There are fewer than {count} texts of {min_words} to {max_words} words; allow longer ones."
            )
    return list(texts)


def load_environment(
    num_train_examples: int = 200, num_eval_examples: int = 50, min_words: int = 3, max_words: int = 8, seed: int = 0
) -> vf.Environment:
    """The environment; see the README for the arguments."""
    if not 1 <= min_words <= max_words:
        raise ValueError(f"min_words ({min_words}) must be at least 1 and at most max_words ({max_words}).")
    texts = make_texts(num_train_examples + num_eval_examples, min_words, max_words, seed)
    rows = [{"question": text, "answer": text[::-1]} for text in texts]
    parser = vf.XMLParser(["reversed"], answer_field="reversed")

    def answer_of(completion: vf.Messages) -> str:
        tagged = parser.parse_answer(completion)
        return (tagged if tagged is not None else completion[-1].content or "").strip()

    def likeness(completion: vf.Messages, answer: str) -> float:
        return SequenceMatcher(None, answer_of(completion), answer, autojunk=False).ratio()

    def exact(completion: vf.Messages, answer: str) -> float:
        return float(answer_of(completion) == answer)

    def has_tags(completion: vf.Messages) -> float:
        return float(parser.parse_answer(completion) is not None)

    return vf.SingleTurnEnv(
        dataset=rows[:num_train_examples] or None,
        eval_dataset=rows[num_train_examples:] or None,
        system_prompt=SYSTEM_PROMPT,
        parser=parser,
        rubric=vf.Rubric(funcs=[likeness, exact, has_tags], weights=[1.0, 0.0, 0.0], parser=parser),
    )
