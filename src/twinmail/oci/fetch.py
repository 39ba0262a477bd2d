"""Fetching what the locks name: from the cache, else from mirrors, always by sha256."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import urllib3

from twinmail.errors import PermanentError, TransientError, TwinmailError
from twinmail.oci.cache import Cache, ContentError
from twinmail.oci.debian import newest
from twinmail.oci.index import Index
from twinmail.oci.lock import Package, Wheel
from twinmail.oci.mirrors import Mirrors
from twinmail.oci.network import transport_of_machine
from twinmail.oci.transport import PARALLEL, Attempt, Transport, WrongContent

# Losses told one by one; when a whole mirror is lost, these say enough.
_SHOWN = 5


class Vanished(PermanentError):
    """A locked file is nowhere any more."""


class WrongFile(PermanentError):
    """A source sends something else under the name of a locked file, and no other source has it."""


class Unreachable(TransientError):
    """No source of a locked file can be reached now."""


class Progress(Protocol):
    """What a fetch reports; called from several threads."""

    def start(self, files: int, octets: int) -> None:
        """This much is to be downloaded; not called at all if the cache has everything."""

    def advance(self, name: str, octets: int) -> None:
        """*octets* more of *name* have arrived (negative when a broken download starts over)."""

    def warn(self, text: str) -> None:
        """Something the operator must know although the work goes on."""


class Silent:
    """A `Progress` that shows nothing."""

    def start(self, files: int, octets: int) -> None:
        """Ignore it."""

    def advance(self, name: str, octets: int) -> None:
        """Ignore it."""

    def warn(self, text: str) -> None:
        """Ignore it."""


@dataclass(frozen=True)
class _Loss:
    item: Package | Wheel
    attempts: tuple[Attempt, ...]

    @property
    def wrong(self) -> bool:
        return any(one.wrong for one in self.attempts)

    @property
    def vanished(self) -> bool:
        # A mirror that lost the file is proof enough; the archive of the past may be out of reach for reasons
        # of its own.
        return any(one.gone for one in self.attempts)

    def line(self) -> str:
        tried = (
            "; ".join(f"{one.url}: {one.why}" for one in self.attempts) or "no source is configured for it"
        )
        where = self.item.path if isinstance(self.item, Package) else self.item.filename
        return f"  {self.item.name} {self.item.version} ({where}, sha256:{self.item.sha256[:12]}…): {tried}"


def fetch_all(
    items: Sequence[Package | Wheel],
    cache: Cache,
    mirrors: Mirrors,
    progress: Progress,
    strict: bool,
    transport: Transport | None = None,
    index: Index | None = None,
) -> Mapping[str, Path]:
    """Make every item available in *cache* and return its path by *locked* sha256.

    Without *strict*, a Debian package that has vanished everywhere is replaced by the newest signed version
    of it; its path then is named by another sha256 than its key, and `Progress.warn` has said so.

    Args:
        mirrors: `Mirrors.at` the lock's snapshot, so that the archive of the past can serve too.
        transport: connections to use; by default made from this machine's proxy settings.
        index: where wheels come from; by default what this machine's pip is configured for.

    Raises:
        Vanished: a locked file is nowhere any more; the text names what, where it was sought and the remedy.
        WrongFile: a source sends other bytes than the locked ones.
        Unreachable: no source can be reached now.
    """
    wanted = {item.sha256: item for item in items}
    found = {key: path for key, one in wanted.items() if (path := cache.find(key, one.size)) is not None}
    missing = [item for key, item in wanted.items() if key not in found]
    if not missing:
        return found
    line = transport or transport_of_machine()
    shop = index or Index.of_machine(line)
    try:
        progress.start(len(missing), sum(item.size for item in missing))
        losses = _download(missing, cache, mirrors, progress, line, shop)
        found |= {item.sha256: cache.folder / item.sha256 for item in missing}
        for loss in losses:
            del found[loss.item.sha256]
        if losses:
            found |= _replace(losses, cache, mirrors, progress, strict, line, shop)
    finally:
        if transport is None:
            line.close()
    return found


def _download(
    items: Sequence[Package | Wheel],
    cache: Cache,
    mirrors: Mirrors,
    progress: Progress,
    line: Transport,
    shop: Index,
) -> list[_Loss]:
    """Download all, the largest first so that no thread is left alone with it at the end."""
    order = sorted(items, key=lambda item: -item.size)
    with ThreadPoolExecutor(PARALLEL, "fetch") as pool:
        jobs: list[Future[_Loss | None]] = [
            pool.submit(_one, item, cache, mirrors, progress, line, shop) for item in order
        ]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
            for job in jobs:
                if job.done() and (error := job.exception()):
                    raise error
        except BaseException:
            # Ctrl-C too: running downloads stop at their next block, the others never start.
            line.cancelled.set()
            shop.transport.cancelled.set()
            pool.shutdown(cancel_futures=True)
            raise
        return [loss for job in jobs if (loss := job.result())]


def _one(
    item: Package | Wheel, cache: Cache, mirrors: Mirrors, progress: Progress, line: Transport, shop: Index
) -> _Loss | None:
    if isinstance(item, Package):
        urls: Iterable[str] = mirrors.urls(item.path)
    elif (local := shop.local(item.filename)) and _adopted(cache, local, item):
        progress.advance(item.name, item.size)
        return None
    else:
        # Lazily: an index page is only read when the index before it had nothing.
        urls, line = shop.urls(item.name, item.filename), shop.transport
    attempts = line.first(urls, _receiver(item, cache, progress, line))
    if attempts is None:
        return None
    return _Loss(item, attempts if isinstance(item, Package) else (*shop.failures(item.name), *attempts))


def _adopted(cache: Cache, local: Path, item: Wheel) -> bool:
    try:
        cache.adopt(local, item.sha256, item.size)
    except (ContentError, OSError):
        return False
    return True


def _receiver(
    item: Package | Wheel, cache: Cache, progress: Progress, line: Transport
) -> Callable[[str, urllib3.BaseHTTPResponse], None]:
    def receive(url: str, response: urllib3.BaseHTTPResponse) -> None:
        arrived = 0
        try:
            with cache.incoming(item.sha256, item.size) as file:
                for block in line.blocks(response):
                    file.write(block)
                    progress.advance(item.name, len(block))
                    arrived += len(block)
                    if file.size > item.size:
                        break
        except BaseException as error:
            progress.advance(item.name, -arrived)
            if isinstance(error, ContentError):
                if arrived < item.size:
                    raise urllib3.exceptions.ProtocolError(f"truncated: {error}") from error
                raise WrongContent(str(error)) from error
            raise

    return receive


def _replace(
    losses: Sequence[_Loss],
    cache: Cache,
    mirrors: Mirrors,
    progress: Progress,
    strict: bool,
    line: Transport,
    shop: Index,
) -> dict[str, Path]:
    """Paths of what stands in for *losses*, by locked sha256; see `fetch_all`."""
    lost = "\n".join(loss.line() for loss in losses[:_SHOWN])
    if len(losses) > _SHOWN:
        lost += f"\n  … and {len(losses) - _SHOWN} more"
    # Never replaced: a mirror that alters files is no reason to take newer ones.
    if any(loss.wrong for loss in losses):
        raise WrongFile(
            f"{_files(losses)} not to be had, because a source sends other bytes:\n{lost}\n"
            "use another mirror (TWINMAIL_DEBIAN_MIRROR), or find out what alters downloads here"
        )
    if not all(loss.vanished for loss in losses):
        raise Unreachable(
            f"{_files(losses)} out of reach:\n{lost}\n"
            "check the network, or set TWINMAIL_DEBIAN_MIRROR to a Debian mirror that works"
        )
    packages = [loss.item for loss in losses if isinstance(loss.item, Package)]
    text = (
        f"{_files(losses)} gone from every mirror:\n{lost}\n"
        'run "./inv lock" to lock what the mirrors have now, or set TWINMAIL_DEBIAN_MIRROR to a mirror that '
        "still has them"
    )
    if strict or len(packages) < len(losses):
        raise Vanished(text)
    try:
        stand_ins = newest(packages, mirrors)
    except TwinmailError as error:
        raise Vanished(f"{text}\nno newer version can stand in: {error}") from error
    for package in packages:
        stand_in = stand_ins[package.sha256]
        progress.warn(
            f"{package.name} {package.version} has vanished from the mirrors; going on with "
            f"{stand_in.version}, signed by Debian: the digests of the images will differ from the "
            'committed ones; run "./inv lock" to lock it'
        )
    needed = [one for one in stand_ins.values() if cache.find(one.sha256, one.size) is None]
    if still := _download(needed, cache, mirrors, progress, line, shop):
        raise Vanished("\n".join([text, *(loss.line() for loss in still)]))
    return {sha256: cache.folder / one.sha256 for sha256, one in stand_ins.items()}


def _files(losses: Sequence[_Loss]) -> str:
    return "1 locked file is" if len(losses) == 1 else f"{len(losses)} locked files are"
