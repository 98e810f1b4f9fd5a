"""A program of its own: pieces of source code on standard input, their words by kind on standard output.

It runs apart because the patterns of a highlighter can take hours on a text that is made for it, and nothing but the end of
a process ends them. It imports nothing of the Hub, and has bounds on its time and memory before it reads anything.

    python colouring_program.py CPU_SECONDS MEMORY_BYTES < [[FILE_NAME, CODE], …]

A name without a dot is that of a language, as it stands above code in Markdown.
"""

import json
import resource
import sys


def main() -> None:
    """Print, for each piece, a list of `[kind, text]`, or null for one that is of no language we know."""
    seconds, memory = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except (OSError, ValueError):  # macOS
        pass
    pieces = json.loads(sys.stdin.buffer.read())
    from pygments.lexers import find_lexer_class_by_name, find_lexer_class_for_filename
    from pygments.token import Token
    from pygments.util import ClassNotFound

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

    def words(name: str, code: str) -> list[list[str]] | None:
        try:
            lexer = find_lexer_class_for_filename(name) if "." in name else find_lexer_class_by_name(name)
        except ClassNotFound:
            lexer = None
        if lexer is None:
            return None
        found: list[list[str]] = []
        for token, text in lexer(stripnl=False, ensurenl=False).get_tokens(code):
            its = kind(token)
            if found and found[-1][0] == its:
                found[-1][1] += text
            else:
                found.append([its, text])
        return found

    json.dump([words(name, code) for name, code in pieces], sys.stdout)


if __name__ == "__main__":
    main()
