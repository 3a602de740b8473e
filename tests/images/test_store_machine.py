"""Whatever is done to a store, in whatever order: it has what it says, and no file beside that."""

from __future__ import annotations

import json
import os
import shutil
import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from minicontainer.errors import Conflict
from minicontainer.images.references import parse
from minicontainer.images.store import ImageStore
from tests.images.conftest import add_image, tar_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minicontainer.images.store_leases import Lease

LAYERS = [tar_of({name: name.encode()}) for name in "abc"]
STACKS = [(0,), (0, 1), (0, 2), (0, 1, 2), (1,), (1, 1)]
NAMES = st.sampled_from(["x", "x:1", "team/y", "host:5000/z:2"])
STACK = st.sampled_from(range(len(STACKS)))
HOLDER = st.sampled_from(["container 1", "container 2"])


class Layers:
    """Unpacked layers, without any files."""

    def __init__(self) -> None:
        self.here: set[str] = set()

    def chain_ids(self) -> tuple[str, ...]:
        """List them."""
        return tuple(self.here)

    def size(self, chain_id: str) -> int:
        """Say that all are of one size."""
        return 100

    def age_s(self, chain_id: str, now: float) -> float:
        """Say that all are new."""
        return 0.0

    def detach(self, chain_id: str) -> str:
        """Take one away."""
        self.here.discard(chain_id)
        return chain_id

    def discard(self, directory: str) -> None:
        """Do nothing more."""


class StoreMachine(RuleBasedStateMachine):
    """Does anything to a store, beside a model of it: dictionaries of what there should be."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="store-")
        self.layers = Layers()
        self.store = ImageStore(self.root, self.layers)
        self.images: dict[str, tuple[str, ...]] = {}  # chain IDs by image ID
        self.names: dict[str, str] = {}
        self.holds: dict[str, tuple[str, tuple[str, ...]]] = {}

    def teardown(self) -> None:
        """Remove the store."""
        self.store.close()
        shutil.rmtree(self.root)

    def in_use(self, image_id: str) -> tuple[tuple[str, bool], ...]:
        """Say which containers hold an image; the second one runs."""
        return tuple(
            (holder, holder.endswith("2"))
            for holder, (image, _) in self.holds.items()
            if image == image_id
        )

    @rule(stack=STACK, name=NAMES, docker=st.booleans())
    def add(self, stack: int, name: str, docker: bool) -> None:
        """Put an image in, as a pull does."""
        layers = tuple(LAYERS[number] for number in STACKS[stack])
        with self.store.lease("test") as lease:
            image = add_image(self.store, name, layers=layers, docker=docker, lease=lease)
            self.layers.here.update(image.chain_ids)
        self.images[image.id] = image.chain_ids
        self.names[parse(name).canonical] = image.id

    @rule(stack=STACK)
    def give_up(self, stack: int) -> None:
        """Begin a pull that comes to nothing, and leaves nothing."""
        with self.store.lease("test", is_resumable=False) as lease:
            self._gather(lease, stack)

    def _gather(self, lease: Lease, stack: int) -> None:
        for number in STACKS[stack]:
            content = LAYERS[number] + b"other"
            lease.keep(self.store.blobs.ingest((content,))[0])

    @precondition(lambda self: self.images)
    @rule(data=st.data(), name=NAMES)
    def tag(self, data: st.DataObject, name: str) -> None:
        """Give an image a name."""
        image = data.draw(st.sampled_from(sorted(self.images)))
        self.store.tag(image, parse(name))
        self.names[parse(name).canonical] = image

    @precondition(lambda self: self.images)
    @rule(data=st.data(), holder=HOLDER)
    def hold(self, data: st.DataObject, holder: str) -> None:
        """Make a container of an image."""
        if holder not in self.holds:
            image = data.draw(st.sampled_from(sorted(self.images)))
            self.store.hold(image, holder)
            self.holds[holder] = image, self.images[image]

    @rule(holder=HOLDER)
    def release(self, holder: str) -> None:
        """Remove a container."""
        self.store.release(holder)
        self.holds.pop(holder, None)

    @precondition(lambda self: self.images)
    @rule(data=st.data(), force=st.booleans(), by_id=st.booleans())
    def remove(self, data: st.DataObject, force: bool, by_id: bool) -> None:
        """Remove a name or an image."""
        known = sorted(self.images if by_id else self.names)
        if not known:
            return
        text = data.draw(st.sampled_from(known))
        try:
            records = self.store.remove(text, force, in_use=self.in_use)
        except Conflict:
            return  # the invariants say that nothing has changed
        for record in records:
            if "Untagged" in record:
                del self.names[parse(record["Untagged"]).canonical]
            else:
                self.images.pop(record["Deleted"], None)

    @rule(dangling=st.booleans())
    def prune(self, dangling: bool) -> None:
        """Remove what is not used."""
        self.store.prune(lambda image: True, dangling, self.in_use)
        held = {image for image, _ in self.holds.values()}
        named = set(self.names.values())
        kept = {x for x in self.images if x in held or (dangling and x in named)}
        self.images = {image: self.images[image] for image in kept}
        self.names = {name: image for name, image in self.names.items() if image in kept}

    @rule()
    def open_again(self) -> None:
        """Open the store as the next process does."""
        self.store.close()
        self.store = ImageStore(self.root, self.layers)

    @invariant()
    def it_has_what_it_should(self) -> None:
        """Images, names and containers are those of the model."""
        images = self.store.list()
        assert {image.id: image.chain_ids for image in images} == self.images
        assert {name: image.id for image in images for name in image.names} == self.names
        counts: dict[str, int] = {}
        for image_id, _ in self.holds.values():
            counts[image_id] = counts.get(image_id, 0) + 1
        assert self.store.use_counts() == counts

    @invariant()
    def it_has_no_file_too_many(self) -> None:
        """And none too few: blobs and layers are those that somebody needs."""
        images = self.store.list()
        blobs = {image.id for image in images} | {image.manifest for image in images}
        blobs |= {layer.digest for image in images for layer in image.layers}
        blobs |= {self.store.layout_manifest(image.id)[0] for image in images}
        assert set(self.store.blobs.digests()) == blobs
        layers = {chain for image in images for chain in image.chain_ids}
        layers |= {chain for _, chains in self.holds.values() for chain in chains}
        assert self.layers.here == layers

    @invariant()
    def index_json_says_the_same(self) -> None:
        """For programs that read the layout."""
        with open(os.path.join(self.store.root, "index.json"), encoding="utf-8") as file:
            entries = json.load(file)["manifests"]
        key = "io.containerd.image.name"
        assert sorted(x["annotations"][key] for x in entries if "annotations" in x) == sorted(
            self.names
        )
        assert all(self.store.blobs.has(entry["digest"]) for entry in entries)


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestStore = StoreMachine.TestCase
