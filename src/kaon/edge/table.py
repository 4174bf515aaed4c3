"""Makes a checked table of routes and endpoints, from which the edge is configured. Pure.

An invalid route must not affect the others. So nothing here raises: what cannot be served is left out and listed in
`RouteTable.refused`, and a route that was valid before keeps its last valid form.

A *cluster* is one revision of one deployment: `workspace~deployment~revision` (names contain no tilde, so it is unique;
it is also a file name). Clusters change with revisions only; other changes of replicas change the members of a cluster,
which Envoy applies without closing connections.

A call may name its revision; one revision may get copies of calls, by a cluster of its own over the same replicas.

A deployment whose calls may be held has an *activator* behind each of its clusters: calls go to the pair of them, and
reach the activator while the cluster has no healthy replica.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from kaon.types.model import Address
from kaon.types.names import DeploymentKey
from kaon.types.route import RESERVED, Backend, Mirror, ReplicaEndpoint, Route, local_host

TIMEOUT_MAX_S = 24 * 3600.0
HEDGE_MIN_S = 0.001
REVISION_MAX = 10**9
_SOCKET_PATH_BYTES = 107
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%{}/-]*")
_PREFIX = re.compile(r"/[a-z0-9~-]+(/[a-z0-9~-]+)*")


@dataclass(frozen=True, slots=True)
class RouteRule:
    """Where calls below one prefix go, and how."""

    key: DeploymentKey
    prefix: str
    weights: tuple[tuple[str, int], ...]
    """Cluster and its share, in order of revision; empty: nothing is deployed there yet."""
    retry_paths: tuple[str, ...]
    stream_paths: tuple[str, ...]
    timeout_s: float
    hold_s: float = 0.0
    """How long the activator may hold a call; 0: the deployment has no activator."""
    hedges: tuple[tuple[str, float], ...] = ()
    """Path and seconds after which a call goes to a second replica too."""
    spare: bool = False
    """Whether each cluster has a second replica, without which a hedge would only double the first one's work."""
    revisions: tuple[int, ...] = ()
    """Revisions that a call may name, whatever their shares."""
    shadow: tuple[str, float] | None = None
    """The cluster that gets copies of calls, and the share of calls in per cent."""
    closed: bool = False
    """Whether a call without a key is refused by the edge itself."""
    cors_origins: tuple[str, ...] = ()
    cors_credentials: bool = False
    cors_headers: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    """Host names whose every path is this deployment's."""
    sandbox: bool = False

    @property
    def ways(self) -> tuple[tuple[str, int], ...]:
        """Where Envoy sends calls, and their shares: clusters alone, or paired with the activator."""
        if not self.hold_s:
            return self.weights
        return tuple((paired(name), weight) for name, weight in self.weights) or ((activator_name(self.key), 100),)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something of a deployment that cannot be routed."""

    key: DeploymentKey
    why: str
    """What is refused and why, as text."""

    def __str__(self) -> str:
        return f"{'/'.join(self.key)}: {self.why}"


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes and replicas of an edge."""

    rules: tuple[RouteRule, ...] = ()
    clusters: Mapping[str, tuple[ReplicaEndpoint, ...]] = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()
    """What was left out, and why."""


RULES: TypeAdapter[tuple[RouteRule, ...]] = TypeAdapter(tuple[RouteRule, ...])
"""Rules as they are kept on disk."""


def cluster_name(key: DeploymentKey, revision: int) -> str:
    """The cluster of one revision."""
    return f"{key[0]}~{key[1]}~{revision}"


def activator_name(key: DeploymentKey) -> str:
    """The cluster of a deployment's activator."""
    return f"{key[0]}~{key[1]}~activator"


def shadowed(cluster: str) -> str:
    """The cluster by which copies of calls reach a revision's replicas, with bounds of its own."""
    return f"{cluster}~shadow"


def paired(cluster: str) -> str:
    """The pair of a revision's cluster and the activator behind it."""
    return f"{cluster}~held"


def key_of(cluster: str) -> DeploymentKey:
    """The deployment whose revision a cluster is."""
    workspace, deployment, _ = cluster.split("~")
    return workspace, deployment


def build(
    routes: Iterable[Route],
    endpoints: Mapping[DeploymentKey, Iterable[ReplicaEndpoint]],
    last: RouteTable | None = None,
) -> RouteTable:
    """The table for these routes and endpoints.

    `last` is the table in force: a refused route keeps the rule that it has there.
    """
    refused: list[Refusal] = []
    clusters = _clusters(endpoints, refused)
    before = {rule.key: rule for rule in last.rules} if last else {}
    rules: dict[str, RouteRule] = {}
    for route in routes:
        rule = _rule(route, clusters, refused) or before.get(_key(route))
        if rule is None:
            continue
        if rule.prefix in rules:
            refused.append(Refusal(_key(route), f"the prefix {rule.prefix} belongs to another deployment"))
            continue
        rules[rule.prefix] = rule
    return _table(rules.values(), clusters, refused)


def _table(
    rules: Iterable[RouteRule], clusters: Mapping[str, tuple[ReplicaEndpoint, ...]], refused: Iterable[Refusal] = ()
) -> RouteTable:
    """In order, each host name at one rule, and with a cluster for every revision that a rule names."""
    left_out = list(refused)
    ordered = _hosts_apart(sorted(rules, key=lambda rule: rule.prefix), left_out)
    named = {cluster_name(rule.key, revision): () for rule in ordered for revision in rule.revisions}
    return RouteTable(ordered, dict(sorted({**named, **clusters}.items())), tuple(left_out))


def differing(before: RouteTable, after: RouteTable) -> tuple[DeploymentKey, ...]:
    """The deployments that differ in two tables."""

    def parts(table: RouteTable) -> dict[DeploymentKey, list[object]]:
        found: dict[DeploymentKey, list[object]] = {}
        for rule in table.rules:
            found.setdefault(rule.key, []).append(rule)
        for name, members in table.clusters.items():
            found.setdefault(key_of(name), []).append((name, members))
        return found

    old, new = parts(before), parts(after)
    return tuple(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))


def mixed(before: RouteTable, after: RouteTable, taken: Collection[DeploymentKey], *, replicas: bool) -> RouteTable:
    """`after` for the deployments in `taken`; the others keep their rules of `before`.

    `replicas`: these keep their replicas of `before`, too, instead of having those of `after`.
    """
    rules = [rule for rule in before.rules if rule.key not in taken]
    rules += [rule for rule in after.rules if rule.key in taken]
    clusters = dict(after.clusters)
    if replicas:
        clusters = {name: members for name, members in before.clusters.items() if key_of(name) not in taken}
        clusters |= {name: members for name, members in after.clusters.items() if key_of(name) in taken}
    return _table(rules, clusters, after.refused)


def _hosts_apart(rules: Iterable[RouteRule], refused: list[Refusal]) -> tuple[RouteRule, ...]:
    """The rules, with each host name in the first rule that has it only: Envoy would refuse duplicates.

    The name that every deployment has on this machine, its first one, has priority over chosen names.
    """
    rules = tuple(rules)
    owner: dict[str, str] = {}
    for part in (slice(0, 1), slice(1, None)):
        for rule in rules:
            for host in rule.hosts[part]:
                owner.setdefault(host, rule.prefix)
    apart: list[RouteRule] = []
    for rule in rules:
        kept = tuple(host for host in rule.hosts if owner[host] == rule.prefix)
        refused += [
            Refusal(rule.key, f"the host {host} belongs to another deployment")
            for host in rule.hosts
            if host not in kept
        ]
        apart.append(replace(rule, hosts=kept))
    return tuple(apart)


def _key(route: Route) -> DeploymentKey:
    return str(getattr(route, "workspace", "")), str(getattr(route, "deployment", ""))


def _rule(
    route: Route, clusters: Mapping[str, tuple[ReplicaEndpoint, ...]], refused: list[Refusal]
) -> RouteRule | None:
    """The rule of a route; None when the route is invalid."""
    try:
        # A model can be built around its validators (`model_construct`, `model_copy`): what an edge obeys is checked.
        route = Route.model_validate(route.model_dump(warnings=False))
    except (ValidationError, AttributeError, TypeError, ValueError, RecursionError) as e:
        refused.append(Refusal(_key(route), _reason(e)))
        return None
    paths = (*route.retry_paths, *route.stream_paths, *route.hedges)
    if not _PREFIX.fullmatch(route.prefix) or route.prefix.split("/")[1] in RESERVED:
        refused.append(Refusal(_key(route), f"the prefix {route.prefix!r} cannot be routed"))
    elif bad := next((path for path in paths if len(path) > 1024 or not _PATH.fullmatch(path)), None):
        refused.append(Refusal(_key(route), f"the path {bad[:80]!r} cannot be routed"))
    elif not math.isfinite(route.timeout_s):
        refused.append(Refusal(_key(route), f"timeout_s is {route.timeout_s}"))
    elif not math.isfinite(route.hold_s):
        refused.append(Refusal(_key(route), f"hold_s is {route.hold_s}"))
    elif bad := next((path for path, s in route.hedges.items() if not HEDGE_MIN_S <= s <= TIMEOUT_MAX_S), None):
        refused.append(Refusal(_key(route), f"calls of {bad[:80]!r} cannot be sent again after {route.hedges[bad]} s"))
    elif len({b.revision for b in route.backends}) < len(route.backends):
        refused.append(Refusal(_key(route), "its backends name a revision twice"))
    elif not all(1 <= b.revision <= REVISION_MAX for b in route.backends):
        refused.append(Refusal(_key(route), f"a revision is not within 1 and {REVISION_MAX}"))
    else:
        key = (route.workspace, route.deployment)
        weights = _weights(key, route.backends, clusters)
        return RouteRule(
            key,
            route.prefix,
            weights,
            tuple(sorted(set(route.retry_paths))),
            tuple(sorted(set(route.stream_paths))),
            min(route.timeout_s, TIMEOUT_MAX_S),
            min(route.hold_s, TIMEOUT_MAX_S),
            tuple(sorted(route.hedges.items())),
            all(len(clusters.get(name, ())) > 1 for name, _ in weights),
            tuple(sorted(b.revision for b in route.backends)),
            _shadow(key, route.mirror, clusters),
            route.closed,
            route.cors_origins,
            route.cors_credentials and "*" not in route.cors_origins,
            route.cors_headers,
            (local_host(*key), *sorted(set(route.hosts))),
            route.sandbox,
        )
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return "it is no route"


def _weights(
    key: DeploymentKey, backends: Iterable[Backend], clusters: Mapping[str, tuple[ReplicaEndpoint, ...]]
) -> tuple[tuple[str, int], ...]:
    """Clusters and shares. A revision without a replica gets nothing while another one has some."""
    shares = [(cluster_name(key, b.revision), b.weight) for b in sorted(backends, key=lambda b: b.revision) if b.weight]
    able = [(name, weight) for name, weight in shares if clusters.get(name)]
    return tuple(able or shares)


def _shadow(
    key: DeploymentKey, mirror: Mirror | None, clusters: Mapping[str, tuple[ReplicaEndpoint, ...]]
) -> tuple[str, float] | None:
    """The cluster that gets copies, while it has a replica."""
    name = cluster_name(key, mirror.revision) if mirror else ""
    return (name, mirror.percent) if mirror and clusters.get(name) else None


def _clusters(
    endpoints: Mapping[DeploymentKey, Iterable[ReplicaEndpoint]], refused: list[Refusal]
) -> dict[str, tuple[ReplicaEndpoint, ...]]:
    clusters: dict[str, dict[Address, ReplicaEndpoint]] = {}
    for (workspace, deployment), members in endpoints.items():
        for given in members:
            key = (workspace, deployment)
            try:
                endpoint = ReplicaEndpoint.model_validate(given.model_dump(warnings=False))
            except (ValidationError, AttributeError, TypeError, ValueError) as e:
                refused.append(Refusal(key, f"a replica cannot be reached: {_reason(e)}"))
                continue
            addresses = (endpoint.address, *([endpoint.control_address] if endpoint.control_address else []))
            if bad := next((address for address in addresses if not _reachable(address)), None):
                refused.append(Refusal(key, f"replica {endpoint.replica} cannot be reached at {bad[:120]!r}"))
            elif endpoint.revision > REVISION_MAX:
                refused.append(Refusal(key, f"the revision of replica {endpoint.replica} is over {REVISION_MAX}"))
            else:
                clusters.setdefault(cluster_name(key, endpoint.revision), {})[endpoint.address] = endpoint
    return {name: tuple(members[a] for a in sorted(members)) for name, members in clusters.items()}


def _reachable(address: Address) -> bool:
    """Whether Envoy can connect there: a socket's path within the system's limit, or an IP and a port."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        try:
            return "\0" not in path and path.isprintable() and len(path.encode()) <= _SOCKET_PATH_BYTES
        except UnicodeEncodeError:
            return False
    host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return 1 <= int(port) <= 65535
