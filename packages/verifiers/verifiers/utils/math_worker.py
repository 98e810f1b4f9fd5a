"""A program that compares mathematical expressions, one JSON line in, one out; see `verifiers.utils.worker_pool`.

In: [{"gold", "said", "seconds"}, limit]; seconds for each of reading one, reading the other, comparing. Out: {"equal":
bool}. The process ends itself a little after the limit where nobody is left to kill it, and takes no more memory than
MOST_BYTES.
"""

import faulthandler
import json
import math
import os
import sys

MOST_BYTES = 4 * 1024**3
GRACE_SECONDS = 5.0


def main() -> None:
    """Answer until there are no more questions."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, OSError, ValueError):
        pass
    from math_verify import parse, verify  # ty: ignore[import-not-found]

    def equal(gold: str, said: str, seconds: float) -> bool:
        # Its own time limits are signals in whole seconds: they end what runs in Python, at less cost than our killing.
        limit = max(1, math.ceil(seconds))
        known, given = (parse(f"\\boxed{{{text}}}", parsing_timeout=limit) for text in (gold, said))
        return bool(verify(known, given, timeout_seconds=limit))

    print(json.dumps({"ready": True}), file=answers, flush=True)
    nowhere = open(os.devnull, "w")  # noqa: PTH123, SIM115
    for line in sys.stdin:
        question, limit = json.loads(line)
        # A thread in C, so that it acts also while one long operation holds the interpreter.
        faulthandler.dump_traceback_later(limit + GRACE_SECONDS, exit=True, file=nowhere)
        try:
            answer = {"equal": equal(**question)}
        except Exception as error:  # what cannot be read is not the answer
            answer = {"equal": False, "error": f"{type(error).__name__}: {error}"[:500]}
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
