"""The command line of ``./inv``: invoke, plus tasks of two words and any number of positional arguments."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from invoke.exceptions import Exit
from invoke.parser.context import ParserContext
from invoke.program import Program as InvokeProgram

from twinmail import __version__


class Program(InvokeProgram):
    """invoke's program with our name, version, and ``FILE...`` arguments."""

    def __init__(self, namespace: Any) -> None:
        super().__init__(name="twinmail", binary="./inv", version=__version__, namespace=namespace)

    def parse_tasks(self) -> None:
        """Parse what follows the core options; see `join` and `spread`."""
        contexts = {
            name: context
            for context in self.collection.to_contexts()
            for name in (context.name, *context.aliases)
            if name
        }
        words = join(self.core.unparsed, contexts)
        if asked_for_help(words, contexts):
            self.core[0].args["help"].value, words = words[0], []
        self.core.unparsed = spread(words, contexts)
        super().parse_tasks()


def join(words: Sequence[str], contexts: Collection[str]) -> list[str]:
    """Make one task name of its two words: ``user add x`` becomes ``user.add x``.

    Raises:
        Exit: the first word has no task alone, and the second does not complete it.
    """
    group = words[0] if words else ""
    members = sorted(one.partition(".")[2] for one in contexts if one.startswith(f"{group}."))
    if len(words) > 1 and words[1] in members:
        return [f"{group}.{words[1]}", *words[2:]]
    if not members or group in contexts:
        return list(words)
    raise Exit(f"./inv {group}: one of these must follow: {', '.join(members)}", code=1)


def asked_for_help(words: Sequence[str], contexts: Mapping[str, ParserContext]) -> bool:
    """Whether ``--help`` follows the task; where a name is expected, invoke would take it for that."""
    context = contexts.get(words[0]) if words else None
    return context is not None and any(
        one in ("--help", "-h") and one not in context.flags for one in words[1:]
    )


def spread(words: Sequence[str], contexts: dict[str, ParserContext]) -> list[str]:
    """Give every bare word after a task with a list option that option's flag.

    ``send a.eml b.eml --to x`` becomes ``send --file a.eml --file b.eml --to x``: invoke has list options
    but no variadic positional arguments. The first words are the task's own positional arguments, if it has
    any. All words up to the end belong to such a task.
    """
    for position, word in enumerate(words):
        context = contexts.get(word)
        if context is not None:
            many = next((one for one in context.args.values() if one.kind is list), None)
            if many is None:
                return list(words)
            return [*words[: position + 1], *_flagged(words[position + 1 :], context, f"--{many.name}")]
    return list(words)


def _flagged(words: Sequence[str], context: ParserContext, flag: str) -> list[str]:
    result: list[str] = []
    rest = iter(words)
    only_words = False
    positional = sum(one.kind is not list for one in context.positional_args)
    for word in rest:
        if word == "--" and not only_words:
            only_words = True
        elif only_words or not word.startswith("-") or word == "-":
            result += [word] if positional > 0 else [flag, word]
            positional -= 1
        else:
            result.append(word)
            option = context.flags.get(word)
            if option is not None and option.takes_value and not option.optional:
                result.extend(value for _, value in zip(range(1), rest, strict=False))
    return result
