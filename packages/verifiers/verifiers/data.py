"""Rows of a dataset without the weight of a dataframe library.

`RowTable` has the methods of `datasets.Dataset` that environments use, so the same code formats either; an author who
passes a `datasets.Dataset` keeps it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from verifiers.utils.message_utils import normalize_messages

Row = dict[str, Any]


class RowTable:
    """An immutable list of rows (dicts with the same columns)."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._rows: list[Row] = [dict(row) for row in rows]

    @classmethod
    def from_list(cls, rows: Iterable[Mapping[str, Any]]) -> RowTable:
        """A table of these rows."""
        return cls(rows)

    @classmethod
    def from_dict(cls, columns: Mapping[str, Sequence[Any]]) -> RowTable:
        """A table from columns of equal length."""
        return cls(dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))

    @property
    def column_names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return (dict(row) for row in self._rows)

    @overload
    def __getitem__(self, key: int) -> Row: ...
    @overload
    def __getitem__(self, key: str | slice) -> Any: ...
    def __getitem__(self, key: int | str | slice) -> Any:
        """A row by number, a column (list) by name, or a slice as a dict of columns, as `datasets` does."""
        if isinstance(key, int):
            return dict(self._rows[key])
        if isinstance(key, slice):
            return {name: [row.get(name) for row in self._rows[key]] for name in self.column_names}
        if key not in self.column_names:
            raise KeyError(f"Column {key!r} is not in the table; it has {self.column_names}.")
        return [row.get(key) for row in self._rows]

    def __repr__(self) -> str:
        return f"RowTable({len(self)} rows, columns {self.column_names})"

    def to_list(self) -> list[Row]:
        """The rows as a list of dicts."""
        return list(self)

    def to_hf(self) -> Any:
        """The same rows as a `datasets.Dataset` (needs `verifiers[datasets]`)."""
        from datasets import Dataset  # ty: ignore[import-not-found]

        return Dataset.from_list(self.to_list())

    def select(self, indices: Iterable[int]) -> RowTable:
        """The rows with these numbers, in this order."""
        return RowTable(self._rows[index] for index in indices)

    def shuffle(self, seed: int | None = None, **_: Any) -> RowTable:
        """The rows in an order drawn from `seed`."""
        order = list(range(len(self)))
        random.Random(seed).shuffle(order)
        return self.select(order)

    def repeat(self, num_times: int) -> RowTable:
        """The whole table `num_times` over."""
        return RowTable(row for _ in range(num_times) for row in self._rows)

    def filter(self, function: Callable[..., bool], **_: Any) -> RowTable:
        """The rows for which `function(row)` holds."""
        return RowTable(row for row in self._rows if function(dict(row)))

    def map(
        self,
        function: Callable[..., Mapping[str, Any]],
        with_indices: bool = False,
        remove_columns: Sequence[str] | str | None = None,
        **_: Any,
    ) -> RowTable:
        """Each row updated with what `function(row[, index])` returns."""
        removed = {remove_columns} if isinstance(remove_columns, str) else set(remove_columns or ())
        rows = []
        for index, row in enumerate(self._rows):
            new = function(dict(row), index) if with_indices else function(dict(row))
            rows.append({**{key: value for key, value in row.items() if key not in removed}, **new})
        return RowTable(rows)

    def add_column(self, name: str, column: Sequence[Any], **_: Any) -> RowTable:
        """The table with one more column."""
        return RowTable({**row, name: value} for row, value in zip(self._rows, column, strict=True))

    def rename_column(self, original_column_name: str, new_column_name: str) -> RowTable:
        """The table with one column renamed."""
        old, new = original_column_name, new_column_name
        return RowTable({new if key == old else key: value for key, value in row.items()} for row in self._rows)

    def remove_columns(self, column_names: Sequence[str] | str) -> RowTable:
        """The table without these columns."""
        gone = {column_names} if isinstance(column_names, str) else set(column_names)
        return RowTable({key: value for key, value in row.items() if key not in gone} for row in self._rows)


def as_table(dataset: Any) -> Any:
    """A table from rows (list of dicts); a RowTable or a `datasets.Dataset` is given back as it is."""
    if isinstance(dataset, list | tuple):
        return RowTable(dataset)
    if not (hasattr(dataset, "column_names") and hasattr(dataset, "map")):
        raise TypeError(
            f"A dataset is a list of dicts, a verifiers.data.RowTable, a datasets.Dataset or "
            f"a function that returns one; got {type(dataset).__name__}."
        )
    return dataset


def format_dataset(
    dataset: Any,
    system_prompt: str | None = None,
    few_shot: list[Any] | None = None,
    map_kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """The dataset with `example_id` (int) and `prompt` (messages) in every row.

    No `prompt` column: built from `question` as system prompt, few-shot examples, user message. A `prompt` column: the
    system prompt is put in front unless there is one. A table with neither is for environments that fetch their first
    observation at rollout start: its prompts are the system prompt and the few-shot examples alone.
    """
    columns = list(dataset.column_names)
    if "env_id" in columns:
        dataset = dataset.remove_columns(["env_id"])
    if "example_id" in columns and any(type(value) is not int for value in dataset["example_id"]):
        dataset = dataset.rename_column("example_id", "src_id")
        columns.remove("example_id")
    if "example_id" not in columns:
        dataset = dataset.add_column("example_id", list(range(len(dataset))))
    opening = [{"role": "system", "content": system_prompt}] if system_prompt else []
    shots = [message.model_dump() for message in normalize_messages(few_shot)]

    def with_prompt(row: Mapping[str, Any]) -> Row:
        if "prompt" in columns:
            prompt = [message.model_dump(exclude_none=True) for message in normalize_messages(row["prompt"])]
            if opening and not (prompt and prompt[0]["role"] == "system"):
                prompt = opening + prompt
            return {"prompt": prompt}
        asked = [_question(row)] if "question" in columns else []
        return {"prompt": opening + shots + asked}

    return dataset.map(with_prompt, **dict(map_kwargs or {}))


def _question(row: Mapping[str, Any]) -> Row:
    if row.get("question") is None:
        raise ValueError(
            f"Row {row.get('example_id', '?')} of the dataset has no question, as others have; its columns: {', '.join(row)}."
        )
    return {"role": "user", "content": row["question"]}


def decode_info(info: Any) -> dict[str, Any]:
    """The `info` column as a dict; it may be stored as JSON text. Raises ValueError with a sentence when it is
    neither.
    """
    if not info:
        return {}
    decoded = info
    if isinstance(info, str):
        try:
            decoded = json.loads(info)
        except json.JSONDecodeError as error:
            raise ValueError(f"The info column holds text that is not JSON ({error}): {info[:80]!r}.") from None
    if not isinstance(decoded, Mapping):
        raise ValueError(f"The info column must hold a dict (or JSON of one), not {type(decoded).__name__}.")
    return dict(decoded)
