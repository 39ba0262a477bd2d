"""A table of figures, for a terminal and for the documentation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text below *heads*; the first column names what is measured."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """It, as Markdown writes tables."""
        lines = [self.heads, ("---", *("---:" for _ in self.heads[1:])), *self.rows]
        return f"**{self.title}**\n\n" + "".join(f"| {' | '.join(one)} |\n" for one in lines)
