"""A program of its own: source code on standard input, its words by kind on standard output.

It runs apart because the patterns of a highlighter can take hours on a text that is made for it, and nothing but the end of
a process ends them. It imports nothing of the Hub, and has bounds on its time and memory before it reads anything.

    python colouring_program.py CPU_SECONDS MEMORY_BYTES FILE_NAME < code
"""

import json
import resource
import sys


def main() -> None:
    """Print a list of `[kind, text]`, or nothing for a file that is of no language we know."""
    seconds, memory, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except (OSError, ValueError):  # macOS
        pass
    code = sys.stdin.buffer.read().decode()
    from pygments.lexers import find_lexer_class_for_filename
    from pygments.token import Token

    kinds = {
        Token.Comment: "comment",
        Token.Keyword: "keyword",
        Token.Operator.Word: "keyword",
        Token.Literal.String: "string",
        Token.Literal.Number: "number",
        Token.Keyword.Constant: "number",
        Token.Name.Function: "name",
        Token.Name.Class: "name",
        Token.Name.Tag: "name",
        Token.Generic.Heading: "name",
        Token.Generic.Subheading: "name",
        Token.Generic.Strong: "name",
        Token.Name.Builtin: "builtin",
        Token.Name.Exception: "builtin",
        Token.Name.Decorator: "builtin",
        Token.Name.Attribute: "builtin",
        Token.Name.Property: "builtin",
    }

    def kind(token: object) -> str:
        while token is not None:
            if token in kinds:
                return kinds[token]
            token = getattr(token, "parent", None)
        return ""

    lexer = find_lexer_class_for_filename(name)
    if lexer is None:
        return
    words: list[list[str]] = []
    for token, text in lexer(stripnl=False, ensurenl=False).get_tokens(code):
        found = kind(token)
        if words and words[-1][0] == found:
            words[-1][1] += text
        else:
            words.append([found, text])
    json.dump(words, sys.stdout)


if __name__ == "__main__":
    main()
