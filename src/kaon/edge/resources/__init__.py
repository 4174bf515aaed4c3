"""The table as Envoy's resources: plain dicts, ready for JSON. Pure.

Four kinds of documents, each a discovery response. Three are files that Envoy follows; the replicas of each
cluster come from the agent (`kaon.edge.discovery`), and their files are what the next agent goes on from:

    listeners/edge.json     where clients come in, and the limits that they meet
    routes/edge.json        path -> cluster, with timeouts and retries
    clusters/edge.json      one cluster per revision, the same text as long as the revision lives
    endpoints/CLUSTER.json  the replicas of one cluster: all that changes in everyday life

A change of a listener drains its connections and a change of a cluster warms it anew, so whatever may
change often is kept out of both. Envoy's own defaults suit a trusted mesh; the ones here suit an edge.
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
