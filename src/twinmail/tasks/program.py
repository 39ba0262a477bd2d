"""The command line of ``./inv``: invoke, plus tasks that take any number of positional arguments."""

from collections.abc import Sequence
from typing import Any

from invoke.parser.context import ParserContext
from invoke.program import Program as InvokeProgram

from twinmail import __version__


class Program(InvokeProgram):
    """invoke's program with our name, version, and ``FILE...`` arguments."""

    def __init__(self, namespace: Any) -> None:
        super().__init__(name="twinmail", binary="./inv", version=__version__, namespace=namespace)

    def parse_tasks(self) -> None:
        """Parse what follows the core options; see `spread`."""
        contexts = {
            name: context
            for context in self.collection.to_contexts()
            for name in (context.name, *context.aliases)
            if name
        }
        self.core.unparsed = spread(self.core.unparsed, contexts)
        super().parse_tasks()


def spread(words: Sequence[str], contexts: dict[str, ParserContext]) -> list[str]:
    """Give every bare word after a task with a list option that option's flag.

    ``send a.eml b.eml --to x`` becomes ``send --file a.eml --file b.eml --to x``: invoke has list options
    but no variadic positional arguments. All words up to the end belong to such a task.
    """
    for position, word in enumerate(words):
        context = contexts.get(word)
        if context is not None:
            many = next((one for one in context.args.values() if one.kind is list), None)
            if many is None:
                return list(words)
            flag = f"--{many.name}"
            return [*words[: position + 1], *_flagged(words[position + 1 :], context, flag)]
    return list(words)


def _flagged(words: Sequence[str], context: ParserContext, flag: str) -> list[str]:
    result: list[str] = []
    rest = iter(words)
    only_words = False
    for word in rest:
        if word == "--" and not only_words:
            only_words = True
        elif only_words or not word.startswith("-") or word == "-":
            result += [flag, word]
        else:
            result.append(word)
            option = context.flags.get(word)
            if option is not None and option.takes_value and not option.optional:
                result.extend(value for _, value in zip(range(1), rest, strict=False))
    return result
