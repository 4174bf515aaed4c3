"""The table as Envoy's resources: plain dicts, ready for JSON. Pure.

Four kinds of documents, each a discovery response. Three are files that Envoy follows; the replicas of each cluster are
sent by the agent (`kaon.edge.discovery`), and their files are for the next agent:

    listeners/edge.json     the addresses for clients, and their limits
    routes/edge.json        path -> cluster, with timeouts and retries
    clusters/edge.json      one cluster per revision, unchanged as long as the revision exists
    endpoints/CLUSTER.json  the replicas of one cluster: the only frequent changes

A change of a listener drains its connections and a change of a cluster warms it anew, so both contain nothing that
changes often. Envoy's own defaults are for a trusted mesh; the ones here are for an edge.
"""

from kaon.edge.resources.bootstrap import bootstrap
from kaon.edge.resources.clusters import clusters, endpoints, members
from kaon.edge.resources.limits import CONNECTIONS_MAX
from kaon.edge.resources.listeners import Proxies, listeners
from kaon.edge.resources.routes import routes
from kaon.edge.resources.wire import Json, address_of

__all__ = [
    "CONNECTIONS_MAX",
    "Json",
    "Proxies",
    "address_of",
    "bootstrap",
    "clusters",
    "endpoints",
    "listeners",
    "members",
    "routes",
]
