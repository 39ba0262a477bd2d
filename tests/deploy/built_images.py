"""The images that ``./inv build`` left in the checkout, as deployments want them."""

from twinmail.deploy import compose
from twinmail.local.state import State
from twinmail.oci import push
from twinmail.oci.digests import Digests
from twinmail.oci.push import ImagePush
from twinmail.runtime.emulation import host_platform
from twinmail.runtime.image import Image


class Silent:
    """Is told of everything and says nothing."""

    def start(self, files: int, octets: int) -> None:
        """See `twinmail.oci.push.Progress`."""

    def advance(self, name: str, octets: int) -> None:
        """See `twinmail.oci.push.Progress`."""


def pushes(state: State) -> list[ImagePush]:
    """All images of a server."""
    return [push.plan(name, state.images / name) for name in compose.IMAGES]


def digests(state: State) -> Digests:
    """What pins them, for this machine's platform."""
    platform = host_platform()
    found = {}
    for one in pushes(state):
        layers = Image.load(one.folder, platform, None).layers
        manifest = one.manifests[platform].digest
        found[one.name] = {platform: {"manifest": manifest, "diff_ids": [layer.diff_id for layer in layers]}}
    return Digests(found)
