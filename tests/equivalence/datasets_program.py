"""What the library does with the `datasets` package there; says it as JSON. `python datasets_program.py CASES`."""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path


def main():
    """Answer every question once."""
    import datasets

    import verifiers as vf
    from verifiers.utils.eval_utils import quiet_datasets
    from verifiers.utils.example_datasets import SOURCES

    said = {}
    cases = json.loads(Path(sys.argv[1]).read_text())
    real = dict(SOURCES)
    with tempfile.TemporaryDirectory() as folder, quiet_datasets():
        said["quiet"] = datasets.are_progress_bars_disabled()
        for name, rows in cases.items():
            SOURCES[name] = dataclasses.replace(real[name], path=str(local(Path(folder) / name, real[name], rows)))
            said[name] = vf.load_example_dataset(name).to_list()
        said["two"] = [vf.load_example_dataset("gsm8k", n=2, seed=seed).to_list() for seed in (0, 0, 1)]
        said["many"] = len(vf.load_example_dataset("gsm8k", n=99))
        said["split"] = failing(lambda: vf.load_example_dataset("gsm8k", split="nope"))
        SOURCES["math500"] = real["math500"]
        said["offline"] = failing(lambda: vf.load_example_dataset("math500"))
        said["unknown"] = failing(lambda: vf.load_example_dataset("gsm8"))
        said["envs"] = environments(vf, datasets.Dataset)
    said["loud"] = not datasets.are_progress_bars_disabled()
    print(json.dumps(said))


def local(folder, source, rows):
    """A folder that `datasets.load_dataset` takes for the source."""
    from datasets import Dataset

    lines = ["---", "configs:"]
    for config in source.configs:
        file = folder / (config or "default") / f"{source.split}.parquet"
        file.parent.mkdir(parents=True)
        Dataset.from_list(rows).to_parquet(file)
        lines += [f"- config_name: {config or 'default'}", "  data_files:", f"  - split: {source.split}"]
        lines += [f"    path: {file.relative_to(folder)}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def failing(call):
    """The kind and the sentence of what it raises."""
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return None


def environments(vf, dataset_class):
    """Environments and groups of them over `datasets.Dataset`."""
    from verifiers.evaluation.policies import EchoPolicy

    def right(completion, answer, level=7):
        return float(completion[-1]["content"] == answer) + level

    def make(rows):
        return vf.SingleTurnEnv(
            dataset=dataset_class.from_list(rows), rubric=vf.Rubric(funcs=[right]), system_prompt="s"
        )

    same = vf.EnvGroup([make([{"question": "a", "answer": "a"}]), make([{"question": "b", "answer": "x"}])])
    other = vf.EnvGroup(
        [make([{"question": "a", "answer": "a"}]), make([{"question": "b", "answer": "b", "level": 3}])]
    )
    nested = vf.EnvGroup([same, make([{"question": "c", "answer": "c"}])], ["inner", "c"])
    found = {}
    for name, group in (("same", same), ("other", other), ("nested", nested)):
        outputs = group.evaluate_sync(EchoPolicy(), "m")["outputs"]
        found[name] = [type(group.get_dataset()).__name__, [row["reward"] for row in outputs]]
        found[name].append([row["info"]["env_id"] for row in outputs])
    alone = make([{"question": "a", "answer": "a", "info": {"k": 1}}, {"question": "b", "answer": "b", "info": None}])
    found["alone"] = [
        type(alone.get_dataset(1, seed=1)).__name__,
        len(alone.get_dataset()),
        alone.get_dataset().column_names,
    ]
    found["table"] = type(vf.RowTable([{"a": 1}]).to_hf()).__name__
    return found


if __name__ == "__main__":
    main()
