"""What can be known about an image without running it: every library and every link leads somewhere."""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch

from twinmail.errors import PermanentError
from twinmail.oci.elf import LIBRARY_FOLDERS, MACHINES, Elf
from twinmail.oci.tree import SET_ID, Kind, Node

# The kernel or the runtime fills these when the image runs.
_FILLED = ("dev", "proc", "run", "sys", "tmp")

_LINKS = 40  # as many as Linux follows


class LintError(PermanentError):
    """The image cannot work as it is; all findings are reported together."""

    def __init__(self, image: str, platform: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {line}" for line in problems)
        super().__init__(
            f"{image} for {platform}: {len(problems)} findings:\n{lines}\n"
            f'add the missing package to its image.toml, or leave the file out by "exclude"'
        )


def check(
    platform: str, nodes: Mapping[str, Node], elves: Mapping[str, Elf], exempt: Sequence[str] = ()
) -> list[str]:
    """The findings for an image of *platform* that consists of *nodes*, sorted.

    Args:
        elves: what the dynamic linker reads of the ELF files among *nodes*, by path.
        exempt: patterns of absolute paths about which nothing is reported.
    """
    found = [*_links(nodes), *_libraries(platform, nodes, elves), *_modes(nodes)]
    return sorted(text for path, text in found if not any(fnmatch(f"/{path}", pattern) for pattern in exempt))


def resolve(path: str, nodes: Mapping[str, Node]) -> str | None:
    """Where *path* leads when links are followed, as the kernel does; None if nothing is there."""
    done = ""
    rest = path.strip("/").split("/")
    followed = 0
    while rest:
        name = rest.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            done = posixpath.dirname(done)
            continue
        step = f"{done}/{name}".lstrip("/")
        if step in _FILLED and rest:
            return "/".join([step, *rest])
        node = nodes.get(step)
        if node is None:
            return None
        if node.kind is Kind.LINK:
            followed += 1
            if followed > _LINKS:
                return None
            if node.target.startswith("/"):
                done = ""
            rest = node.target.split("/") + rest
        else:
            done = step
    return done


def _links(nodes: Mapping[str, Node]) -> Iterator[tuple[str, str]]:
    for path, node in nodes.items():
        if node.kind is Kind.LINK and resolve(path, nodes) is None:
            yield path, f"/{path}: leads to {node.target}, which is not there"


def _libraries(
    platform: str, nodes: Mapping[str, Node], elves: Mapping[str, Elf]
) -> Iterator[tuple[str, str]]:
    machine = MACHINES[platform]
    for path, elf in elves.items():
        if elf.machine != machine:
            yield path, f"/{path}: is code for machine {elf.machine}, expected {machine} ({platform})"
            continue
        if elf.interpreter and resolve(elf.interpreter, nodes) is None:
            yield path, f"/{path}: needs the dynamic linker {elf.interpreter}, which is not there"
        origin = posixpath.dirname(path)
        own = [one.replace("$ORIGIN", f"/{origin}").replace("${ORIGIN}", f"/{origin}") for one in elf.search]
        folders = [*own, *LIBRARY_FOLDERS[platform]]
        for soname in elf.needed:
            places = (resolve(f"{folder}/{soname}", nodes) for folder in folders)
            if not any(place in elves and elves[place].machine == machine for place in places if place):
                yield (
                    path,
                    f"/{path}: needs {soname}, which is in none of {', '.join(dict.fromkeys(folders))}",
                )


def _modes(nodes: Mapping[str, Node]) -> Iterator[tuple[str, str]]:
    for path, node in nodes.items():
        if node.mode & SET_ID:
            yield path, f"/{path}: has mode {node.mode:04o}; images have no set-user-id and no set-group-id"
        elif node.kind is Kind.FILE and node.mode & 0o002:
            yield path, f"/{path}: has mode {node.mode:04o}; everybody may write it"
