"""What an image is: ``image.toml`` as frozen dataclasses, with every problem reported at once.

An image is a base image's layers, then Debian packages, then Python wheels, then our own files. The
declaration says what; `twinmail.oci.lock` says which exact bytes. Nothing that a maintainer script would
have done happens by itself, so users, links, folders and files are declared here too.
"""

import posixpath
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from twinmail.errors import ConfigError
from twinmail.oci.table import Table

PLATFORMS = ("linux/amd64", "linux/arm64")
FILE = "image.toml"
LOCK = "image.lock"

# The image whose own layers are put on every other one as the variant for tests and people.
DEBUG = "debug"

# Where images are declared, as patterns from the top of the checkout.
PLACES = ("images/*/image.toml", "localstack/image.toml")


@dataclass(frozen=True)
class User:
    """A line of ``/etc/passwd``; a group of the same name and *gid* is added unless one has that gid."""

    name: str
    uid: int
    gid: int
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"
    comment: str = ""


@dataclass(frozen=True)
class Group:
    """A line of ``/etc/group``."""

    name: str
    gid: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """A symbolic link at the absolute *path*; *target* is stored as written."""

    path: str
    target: str


@dataclass(frozen=True)
class File:
    """A regular file; without *content* it must come from a package or ``rootfs/`` and only changes mode.

    Attributes:
        content: the text of the file, or None.
    """

    path: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    content: str | None = None


@dataclass(frozen=True)
class Directory:
    """A folder that must exist with this mode and owner."""

    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class PythonSpec:
    """The Python part of an image.

    Attributes:
        requirements: file with the requirements, beside ``image.toml``, or None.
        sources: folders of packages from the top of the checkout (``src/twinmail``), copied whole.
        distribution: name of the distribution our sources appear as (needed for entry points).
        entry_points: ``module:object`` by name by group, written to the distribution's metadata.
    """

    requirements: str | None = None
    sources: tuple[str, ...] = ()
    distribution: str = ""
    entry_points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunConfig:
    """The execution parameters of the image's config (OCI image spec, ``config.md``)."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = "/"
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageSpec:
    """One ``image.toml``.

    Attributes:
        folder: where ``image.toml``, ``image.lock`` and ``rootfs/`` are.
        base: name of the image whose layers come first, or None.
        packages: Debian packages wanted; resolution adds what they depend on, without recommends.
        provided: Debian packages taken for installed that are not: the image declares what it needs of them.
        exclude: glob patterns of absolute paths that packages and wheels ship and the image leaves out.
    """

    name: str
    folder: Path
    base: str | None = None
    packages: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    python: PythonSpec = field(default_factory=PythonSpec)
    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()
    links: tuple[Link, ...] = ()
    files: tuple[File, ...] = ()
    directories: tuple[Directory, ...] = ()
    config: RunConfig = field(default_factory=RunConfig)

    @property
    def lock_path(self) -> Path:
        """Path of ``image.lock``."""
        return self.folder / LOCK

    @property
    def rootfs(self) -> Path:
        """Folder that is copied over everything else; it may be absent."""
        return self.folder / "rootfs"

    @property
    def requirements_path(self) -> Path | None:
        """Path of the requirements file, or None."""
        return self.folder / self.python.requirements if self.python.requirements else None

    @classmethod
    def load(cls, path: Path) -> "ImageSpec":
        """Read and check the ``image.toml`` at *path*.

        Raises:
            ConfigError: all problems together, one line each.
        """
        source = f"{path.parent.name}/{path.name}"
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(source, [f"cannot be read: {error.strerror} ({path})"]) from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(source, [f"not TOML: {error}"]) from error
        top = Table(source, "", document)
        spec = _read(top, path.parent)
        if top.problems:
            raise ConfigError(source, top.problems)
        return spec


def load_all(root: Path) -> dict[str, ImageSpec]:
    """Read every image of the checkout at *root*, bases before what stands on them.

    Raises:
        ConfigError: a file has problems, a name is used twice, a base is unknown or stands on itself.
    """
    specs: dict[str, ImageSpec] = {}
    problems: list[str] = []
    for path in sorted(one for place in PLACES for one in root.glob(place)):
        try:
            spec = ImageSpec.load(path)
        except ConfigError as error:
            problems += error.problems
            continue
        if spec.name in specs:
            problems.append(
                f"{path.relative_to(root)}: name: {spec.name!r} is also {specs[spec.name].folder}"
            )
        specs[spec.name] = spec
    if not problems:
        problems += _base_problems(specs)
    if problems:
        raise ConfigError("the image declarations", problems)
    return dict(sorted(specs.items(), key=lambda item: (len(chain(specs, item[0])), item[0])))


def chain(specs: Mapping[str, ImageSpec], name: str) -> tuple[ImageSpec, ...]:
    """The images *name* consists of, lowest base first and *name* itself last."""
    found: list[ImageSpec] = []
    current: str | None = name
    while current is not None:
        found.insert(0, specs[current])
        current = specs[current].base
    return tuple(found)


def _base_problems(specs: Mapping[str, ImageSpec]) -> list[str]:
    problems = []
    for name, spec in specs.items():
        seen, current = [name], spec.base
        while current is not None and current in specs and current not in seen:
            seen.append(current)
            current = specs[current].base
        if current is not None:
            what = "stands on itself" if current in seen else f"unknown image {current!r}"
            problems.append(f"{name}/{FILE}: base: {what}; known: {', '.join(specs)}")
    return problems


def _read(top: Table, folder: Path) -> ImageSpec:
    spec = ImageSpec(
        name=top.text("name", required=True),
        folder=folder,
        base=top.text("base") or None,
        packages=top.strings("packages"),
        provided=top.strings("provided"),
        exclude=top.strings("exclude"),
        python=_python(top.table("python"), folder),
        users=tuple(_user(one) for one in top.tables("users")),
        groups=tuple(_group(one) for one in top.tables("groups")),
        links=tuple(Link(_absolute(top, "links", path), to) for path, to in top.pairs("links").items()),
        files=tuple(_file(one) for one in top.tables("files")),
        directories=tuple(_directory(one) for one in top.tables("directories")),
        config=_config(top.table("config")),
    )
    if spec.name and spec.name != folder.name:
        top.problem("name", f"expected the folder's name {folder.name!r}, got {spec.name!r}")
    for name in sorted(set(spec.packages) & set(spec.provided)):
        top.problem("provided", f"{name!r} is also in packages")
    top.finish()
    return spec


def _absolute(table: Table, key: str, path: str) -> str:
    if not path.startswith("/") or posixpath.normpath(path) != path:
        table.problem(key, f"expected a clean absolute path, got {path!r}")
    return path


def _path(table: Table) -> str:
    return _absolute(table, "path", table.text("path", required=True))


def _python(table: Table, folder: Path) -> PythonSpec:
    points = table.table("entry_points")
    spec = PythonSpec(
        requirements=table.text("requirements") or None,
        sources=table.strings("sources"),
        distribution=table.text("distribution"),
        entry_points={group: points.pairs(group) for group in points.names()},
    )
    if spec.requirements and not (folder / spec.requirements).is_file():
        table.problem("requirements", f"{spec.requirements!r} is not a file beside {FILE}")
    if spec.entry_points and not spec.distribution:
        table.problem("distribution", "missing; entry points belong to a named distribution")
    points.finish()
    table.finish()
    return spec


def _user(table: Table) -> User:
    user = User(
        name=table.text("name", required=True),
        uid=table.number("uid", None),
        gid=table.number("gid", None),
        home=_absolute(table, "home", table.text("home", default=User.home)),
        shell=_absolute(table, "shell", table.text("shell", default=User.shell)),
        comment=table.text("comment"),
    )
    table.finish()
    return user


def _group(table: Table) -> Group:
    group = Group(table.text("name", required=True), table.number("gid", None), table.strings("members"))
    table.finish()
    return group


def _file(table: Table) -> File:
    file = File(
        path=_path(table),
        mode=table.mode("mode", File.mode),
        uid=table.number("uid", 0),
        gid=table.number("gid", 0),
        content=table.text("content") if "content" in table.names() else None,
    )
    table.finish()
    return file


def _directory(table: Table) -> Directory:
    directory = Directory(
        _path(table), table.mode("mode", Directory.mode), table.number("uid", 0), table.number("gid", 0)
    )
    table.finish()
    return directory


def _config(table: Table) -> RunConfig:
    config = RunConfig(
        entrypoint=table.strings("entrypoint"),
        cmd=table.strings("cmd"),
        env=table.pairs("env"),
        user=table.text("user"),
        workdir=_absolute(table, "workdir", table.text("workdir", default="/")),
        stop_signal=table.text("stop_signal"),
        labels=table.pairs("labels"),
    )
    table.finish()
    return config
