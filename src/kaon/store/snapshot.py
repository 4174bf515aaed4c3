"""A copy of the store in memory: one per process, filled once and kept up to date by the store's changes.

Reads do not wait, and nothing is parsed twice: a resource is an immutable value, made once for each change and shared.
The reader decides how new it must be:

- `current()` takes in everything that was written anywhere before the call;
- `at_least(version)` takes in everything up to a version; with `store.written`, everything that this process wrote;
- without either, a read is some milliseconds old. This is safe: the store refuses a write that is based on an
  old version.

The cost of a change depends on the few indexes of its resource only. Changes are taken in whole and in the order of
their versions, so a reader of a resource sees everything that was written before it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Coroutine, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kaon import log
from kaon.errors import KaonError, Unavailable
from kaon.store.port import AnyResource, Change, Store
from kaon.store.records import missing, unreadable_row
from kaon.types.key import identity_deployment
from kaon.types.names import ResourceKey
from kaon.types.resource import Key, Resource, Unreadable

_RETRY_S = 0.5


class Changed:
    """Waits for changes of one resource."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the waiter."""
        self._event.set()

    async def within(self, timeout_s: float) -> bool:
        """Wait for a change; False after the timeout. Then it waits for the next one."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Subscription:
    """An endless iterator of the changes that a snapshot has taken in, in groups.

    Several changes of one resource between two steps of the iteration are merged into the last, so a slow subscriber
    has at most one change of each resource.
    """

    def __init__(self) -> None:
        self._changes: dict[ResourceKey, Change] = {}
        self._filled = asyncio.Event()

    def add(self, changes: Sequence[Change]) -> None:
        """Add changes for the subscriber."""
        for change in changes:
            place = (change.kind, change.workspace, change.name)
            self._changes.pop(place, None)
            self._changes[place] = change
        self._filled.set()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Sequence[Change]:
        await self.filled()
        return self.taken()

    async def filled(self, timeout_s: float | None = None) -> bool:
        """Wait until there are changes; False when there are none after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._filled.wait()
        except TimeoutError:
            return False
        return True

    def taken(self) -> Sequence[Change]:
        """The changes so far, possibly none."""
        self._filled.clear()
        group, self._changes = list(self._changes.values()), {}
        return group


class _Read:
    """A shared read of the store; cancelled when no caller waits for it any more."""

    def __init__(self, read: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.ensure_future(read)
        self._waiting = 0
        self.cancelled = False

    async def done(self) -> None:
        self._waiting += 1
        try:
            await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.cancelled = True
                self._task.cancel()


class _Kind:
    """The resources of one kind."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, AnyResource]] = {}
        """By workspace and name."""
        self.names: defaultdict[str, list[str]] = defaultdict(list)
        """The names in each workspace, in order."""
        self.labelled: defaultdict[Hashable, set[tuple[str, str]]] = defaultdict(set)
        """Workspace and name of those that have a label; see `_labels`."""
        self.unreadable: dict[tuple[str, str], Unreadable] = {}

    def put(self, resource: AnyResource) -> None:
        workspace, name = resource.workspace, resource.name
        self.items.setdefault(workspace, {})[name] = resource
        insort(self.names[workspace], name)
        for label in _labels(resource):
            self.labelled[label].add((workspace, name))

    def remove(self, workspace: str, name: str) -> None:
        self.unreadable.pop((workspace, name), None)
        resource = self.items.get(workspace, {}).pop(name, None)
        if resource is None:
            return
        names = self.names[workspace]
        del names[bisect_left(names, name)]
        if not names:
            del self.names[workspace], self.items[workspace]
        for label in _labels(resource):
            places = self.labelled[label]
            places.discard((workspace, name))
            if not places:
                del self.labelled[label]

    def of_label(self, label: Hashable) -> list[AnyResource]:
        return [self.items[workspace][name] for workspace, name in sorted(self.labelled.get(label, ()))]


class Snapshot:
    """The copy. Reads raise `Unavailable` before it is filled."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kinds: defaultdict[str, _Kind] = defaultdict(_Kind)
        self._version = 0
        self._filled = False
        self._reading = asyncio.Lock()
        self._next_read: _Read | None = None
        """Starts after the current one; callers join it until it starts."""
        self._subscriptions: set[Subscription] = set()
        self._waiting: defaultdict[ResourceKey, set[Changed]] = defaultdict(set)
        self._log = log.get("store.snapshot")

    # Reads

    @property
    def version(self) -> int:
        """The version up to which it has all changes."""
        return self._version

    def find(self, kind: str, workspace: str, name: str) -> AnyResource | None:
        """The resource of that name, or None. Raises `UnreadableRow` for one that cannot be read."""
        of = self._of(kind)
        if row := of.unreadable.get((workspace, name)):
            raise unreadable_row(row)
        return of.items.get(workspace, {}).get(name)

    def get(self, kind: str, workspace: str, name: str) -> AnyResource:
        """The resource of that name. Raises `NotFound`, and `UnreadableRow` for one that cannot be read."""
        found = self.find(kind, workspace, name)
        if found is None:
            raise missing(kind, workspace, name)
        return found

    def list(self, kind: str, workspace: str | None = None) -> Sequence[AnyResource]:
        """All of a kind that can be read, in one workspace or in all, by workspace and name."""
        of = self._of(kind)
        workspaces = sorted(of.items) if workspace is None else [workspace] if workspace in of.items else []
        return [of.items[each][name] for each in workspaces for name in of.names[each]]

    def owned(self, kind: str, owner_uid: str) -> Sequence[AnyResource]:
        """The resources of one owner, by workspace and name.

        Revisions and keys of a deployment, keys and deployments of the key that created them.
        """
        return self._of(kind).of_label(("owner", owner_uid))

    def of_deployment(self, workspace: str, deployment: str, kind: str = "revision") -> Sequence[AnyResource]:
        """The revisions, or the services' keys or secrets, of a deployment's name, including those of an earlier
        deployment of that name."""
        return self._of(kind).of_label(("deployment", workspace, deployment))

    def labelled(self, kind: str, *label: Hashable) -> Sequence[AnyResource]:
        """The resources of a kind with a label, by workspace and name: see `_labels`."""
        return self._of(kind).of_label(label)

    def count(self, kind: str, workspace: str) -> int:
        """The number of resources of a kind in a workspace."""
        return len(self._of(kind).items.get(workspace, ()))

    def of_dataset(self, workspace: str, dataset: str) -> Sequence[AnyResource]:
        """The versions of a dataset, by name."""
        return self._of("dataset-version").of_label(("dataset", workspace, dataset))

    def makers(self, key: Key) -> dict[str, Key]:
        """The keys above a key by uid: the one that created it, and so on."""
        found: dict[str, Key] = {}
        while (uid := key.spec.owner_uid) and uid not in found and (maker := self.with_uid("key", uid)):
            found[uid] = key = maker
        return found

    def with_uid(self, kind: str, uid: str) -> AnyResource | None:
        """The resource of that uid, or None."""
        return next(iter(self._of(kind).of_label(("uid", uid))), None)

    def key_of_hash(self, hashed: str) -> Key | None:
        """The API key whose text has that hash, or None."""
        return next(iter(self._of("key").of_label(("hash", hashed))), None)

    def unreadable(self, kind: str) -> Sequence[Unreadable]:
        """The rows of a kind that cannot be read, by workspace and name."""
        of = self._of(kind)
        return [of.unreadable[place] for place in sorted(of.unreadable)]

    # Freshness

    async def current(self) -> None:
        """Take in everything that was written before this call by any process. Raises `Unavailable`.

        Calls that wait at the same time share one read of the store.
        """
        if self._next_read is None or self._next_read.cancelled:
            self._next_read = _Read(self._read())
        await self._next_read.done()

    async def at_least(self, version: int) -> None:
        """Take in everything up to a version of the store. Raises `Unavailable`."""
        if not self._filled or self._version < version:
            await self.current()

    async def run(self) -> None:
        """Follow the store until cancelled, also after an outage of the store."""
        while True:
            try:
                await self.current()
                await self._read_all_if_restored()
                async for changes in self._store.watch(self._version):
                    self._notify(self._take(changes))
            except Exception as error:
                cause = error.cause if isinstance(error, KaonError) else repr(error)
                self._log.warning("cannot follow the store", cause=cause)
            await asyncio.sleep(_RETRY_S)

    # Subscriptions

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Inside the context, the subscription gets every change that is taken in; read the snapshot afterwards."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    @contextmanager
    def changes_of(self, *places: ResourceKey) -> Iterator[Changed]:
        """Inside the context, waits for changes of some resources; read them afterwards.

        `attempts_place(cloud)` stands for the jobs that have attempts in a cloud.
        """
        changed = Changed()
        for place in places:
            self._waiting[place].add(changed)
        try:
            yield changed
        finally:
            for place in places:
                self._waiting[place].discard(changed)
                if not self._waiting[place]:
                    del self._waiting[place]

    def _of(self, kind: str) -> _Kind:
        if not self._filled:
            raise Unavailable("The store has not been read yet.", hint="Try again soon.", retry_after_s=1)
        return self._kinds[kind]

    async def _read(self) -> None:
        try:
            await self._reading.acquire()
        finally:
            self._next_read = None  # later callers may have written after this read
        try:
            taken: deque[Change] = deque()
            while changes := await self._store.changes(self._version):
                taken += self._take(changes)
            self._filled = True
            self._notify(taken)
        finally:
            self._reading.release()

    def _take(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Take in a group that starts at the current version or before it. Returns the new changes."""
        fresh = [change for change in changes if change.version > self._version]
        for change in fresh:
            self._put(change)
        if fresh:
            self._version = fresh[-1].version
        return fresh

    def _put(self, change: Change) -> None:
        of = self._kinds[change.kind]
        of.remove(change.workspace, change.name)
        if isinstance(change.resource, Unreadable):
            of.unreadable[change.workspace, change.name] = change.resource
        elif change.resource is not None:
            of.put(change.resource)

    def _notify(self, changes: Sequence[Change]) -> None:
        for subscription in self._subscriptions if changes else ():
            subscription.add(changes)
        for change in changes:
            for place in _places(change):
                for waiter in self._waiting.get(place, ()):
                    waiter.set()

    async def _read_all_if_restored(self) -> None:
        """When the store has an older version, it was restored from a backup: read all of it."""
        if await self._store.version() >= self._version:
            return
        restored = Snapshot(self._store)
        await restored.current()
        before, after = self._contents(), restored._contents()
        deleted = [Change(restored._version, *place, deleted=True) for place in before.keys() - after.keys()]
        written = [
            Change(restored._version, *place, resource=there)
            for place, there in after.items()
            if before.get(place) != there
        ]
        self._kinds, self._version = restored._kinds, restored._version
        self._notify([*deleted, *written])

    def _contents(self) -> dict[ResourceKey, AnyResource | Unreadable]:
        found: dict[ResourceKey, AnyResource | Unreadable] = {}
        for kind, of in self._kinds.items():
            found |= {(kind, w, name): each for w, items in of.items.items() for name, each in items.items()}
            found |= {(kind, *place): row for place, row in of.unreadable.items()}
        return found


def attempts_place(cloud: str) -> ResourceKey:
    """See `Snapshot.changes_of`."""
    return "attempts", "", cloud


def _places(change: Change) -> Iterator[ResourceKey]:
    """Its own place, and that of the attempts in each cloud where a changed job had one."""
    yield change.kind, change.workspace, change.name
    if change.kind == "job" and isinstance(change.resource, Resource):
        for cloud in {attempt.cloud for attempt in change.resource.status.attempts[-2:]}:
            yield attempts_place(cloud)


def _labels(resource: AnyResource) -> Iterator[Hashable]:
    """Keys under which a resource is found, besides its name."""
    yield "uid", resource.uid
    spec = resource.spec
    if resource.kind in ("key", "secret") and (deployment := identity_deployment(resource.name)):
        yield "deployment", resource.workspace, deployment
    match resource.kind:
        case "deployment":
            yield "owner", spec.owner_uid
        case "revision":
            yield "owner", spec.deployment_uid
            yield "deployment", resource.workspace, spec.deployment
        case "job":
            yield "artifact", resource.workspace, spec.artifact
            if not resource.status.state.ended:
                yield ("active",)
            if attempt := resource.status.attempt:
                yield "attempts", attempt.cloud
            if resource.status.attempts:
                yield "attempt", resource.status.attempts[-1].id
            if spec.array:
                yield "array", resource.workspace, spec.array
            if spec.pipeline:
                yield "pipeline", resource.workspace, spec.pipeline
        case "dataset-version":
            yield "dataset", resource.workspace, spec.dataset
        case "key":
            yield "hash", spec.hash
            yield "owner", spec.owner_uid
            yield "owner", spec.deployment_uid
