"""JudgeRubric: another model reads the answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from verifiers.clients.client import Client
from verifiers.clients.resolve import as_client
from verifiers.errors import EmptyModelResponseError, JudgeError, ModelError, UnreadableResponseError
from verifiers.parsers.parser import Parser
from verifiers.rubrics.rubric import Rubric
from verifiers.types import ClientConfig, State, UserMessage
from verifiers.utils.message_utils import content_text, normalize_messages

DEFAULT_JUDGE_PROMPT = """You grade answers. Compare a response to the known answer of a question, and decide whether \
the response gives the same answer. Wording and form do not matter, only what is said.

Question:
```
{question}
```

Known answer:
```
{answer}
```

Response:
```
{response}
```

Say "yes" if the response is correct and "no" if it is not, and nothing else."""
JUDGE_SECONDS = 120.0
JUDGE_RETRIES = 4
"""How long the judge may take for one answer, and how often it is asked again, where the rubric makes its client."""


class JudgeRubric(Rubric):
    """Gives reward functions a judge: they take `judge` and call `await judge(prompt, completion, answer, state)`.

    They may also take judge_client, judge_model, judge_prompt and judge_sampling_args, to ask in their own way.
    judge_client: a vf.Client, a ClientConfig, an `openai.AsyncOpenAI` or its like; without one OPENAI_API_KEY and
    OPENAI_BASE_URL are read when the judge is first asked. judge_prompt: a template with {question}, {answer} and
    {response}. parallelize_scoring: taken for older environments; rollouts are always judged side by side.
    """

    def __init__(
        self,
        parser: Parser | None = None,
        parallelize_scoring: bool = False,
        judge_client: Any = None,
        judge_model: str = "gpt-4.1-nano",
        judge_sampling_args: Mapping[str, Any] | None = None,
        judge_prompt: str = DEFAULT_JUDGE_PROMPT,
    ) -> None:
        super().__init__(parser=parser)
        self.parallelize_scoring = parallelize_scoring
        native = hasattr(judge_client, "chat") and not isinstance(judge_client, Client)
        self._asked: Any = judge_client if native else LazyJudgeClient(judge_client)
        self.judge_client = self._asked
        self.judge_model = judge_model
        self.judge_prompt = judge_prompt
        self.judge_sampling_args = dict(judge_sampling_args or {})
        for name in ("judge", "judge_client", "judge_model", "judge_prompt", "judge_sampling_args"):
            self.add_class_object(name, getattr(self, name))

    async def judge(
        self, prompt: Any, completion: Any, answer: Any, state: State | dict[str, Any] | None = None, **_: Any
    ) -> str:
        """What the judge says of a completion; asked once for the same words within one state, where it is kept in
        `state["judge_response"]`. What older environments pass along besides is not looked at.

        Raises JudgeError (a RuntimeError), which leaves the rollout unscored, when there is no answer to be had.
        """
        said = self.parser.parse_answer(completion)
        asked = self.judge_prompt.format(
            question=question_of(prompt), answer=answer, response="" if said is None else said
        )
        if state is None:
            return await self._ask(asked)
        if not isinstance(state.get("judge_response"), dict):
            state["judge_response"] = {}
        verdicts: dict[str, str] = state["judge_response"]
        if asked not in verdicts:
            verdicts[asked] = await self._ask(asked)
        return verdicts[asked]

    async def _ask(self, asked: str) -> str:
        try:
            verdict = await self._answer(asked)
        except JudgeError:
            raise
        except UnreadableResponseError as error:
            raise JudgeError(_sentence(error, self.judge_model)) from error
        except EmptyModelResponseError:
            verdict = ""
        except Exception as error:
            raise JudgeError(_sentence(error, self.judge_model)) from error
        if not verdict.strip():
            raise JudgeError(
                f"Judge model gave an empty answer. Raise max_completion_tokens in judge_sampling_args where it "
                f"thinks aloud. Model: {self.judge_model}"
            )
        return verdict

    async def _answer(self, asked: str) -> str:
        arguments = {name: value for name, value in self.judge_sampling_args.items() if value is not None}
        if isinstance(self._asked, LazyJudgeClient):
            response = await self._asked.client.get_response([UserMessage(asked)], self.judge_model, arguments)
            return content_text(response.message.content)
        if "max_tokens" in arguments:
            arguments.setdefault("max_completion_tokens", arguments.pop("max_tokens"))
        messages = [{"role": "user", "content": asked}]
        completion = await self._asked.chat.completions.create(model=self.judge_model, messages=messages, **arguments)
        if not hasattr(completion, "choices"):
            raise UnreadableResponseError(f"It returned something that is not a chat completion: {completion!r:.200}")
        return content_text(completion.choices[0].message.content) if completion.choices else ""

    async def teardown(self) -> None:
        """Close the judge's client where the rubric made it."""
        if isinstance(self._asked, LazyJudgeClient):
            await self._asked.close()
        await super().teardown()


class LazyJudgeClient:
    """Stands for the `openai.AsyncOpenAI` of a judge until somebody asks it something."""

    def __init__(self, client_or_config: Any) -> None:
        known = client_or_config is None or isinstance(client_or_config, ClientConfig)
        self._given = client_or_config if known else as_client(client_or_config)
        self._made: Client | None = None

    @property
    def client(self) -> Client:
        """The client that asks. Raises JudgeError when nothing says where the judge is."""
        if isinstance(self._given, Client):
            return self._given
        if self._made is None:
            self._made = as_client(self._given or _judge_config())
        return self._made

    async def close(self) -> None:
        """Close what was made here; a client that was given is its giver's."""
        if self._made is not None:
            await self._made.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        native = getattr(self.client, "native", None)
        if native is None:
            raise AttributeError(
                f"The judge_client is a {type(self.client).__name__}, which has no {name!r}; call judge(...) instead."
            )
        return getattr(native(), name)


def question_of(prompt: Any) -> str:
    """The text of a prompt's last message, whatever the shape of the messages."""
    if isinstance(prompt, str):
        return prompt
    messages = normalize_messages(prompt)
    return content_text(messages[-1].get("content")) if messages else ""


def _judge_config() -> ClientConfig:
    url = os.environ.get("OPENAI_BASE_URL")
    if not url and not os.environ.get("OPENAI_API_KEY"):
        raise JudgeError(
            "JudgeRubric has no judge to ask: set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own, or give "
            "judge_client=vf.ClientConfig(api_base_url=..., api_key_var=...)."
        )
    config = ClientConfig(timeout=JUDGE_SECONDS, max_retries=JUDGE_RETRIES)
    return replace(config, api_base_url=url) if url else config


def _sentence(error: Exception, model: str) -> str:
    """What failed, by the kind of the provider's own exception; openai and anthropic call them alike."""
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    kinds = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    what = f"Model: {model}, Error: {error}"
    if "RateLimitError" in kinds:
        return f"Judge model rate limit exceeded. Play fewer rollouts at once (max_concurrent), or wait. {what}"
    if "APITimeoutError" in kinds or "TimeoutError" in kinds:
        return f"Judge model timeout. Raise the timeout of judge_client, or use a faster model. {what}"
    if "APIError" in kinds or isinstance(error, ModelError):
        return f"Judge model API error. Check the name of the model, the address and the key. {what}"
    return f"Unexpected error when calling judge model {model!r}. {type(error).__name__}: {error}"
