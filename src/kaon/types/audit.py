"""An audit record: who changed what, from where, and when."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from kaon.types.model import Model


class ActorKind(StrEnum):
    """What kind of actor made the change."""

    KEY = "key"
    CONTROLLER = "controller"


class Outcome(StrEnum):
    """The result of the request."""

    DONE = "done"
    REFUSED = "refused"


class AuditRecord(Model):
    """One change, or one attempt that was refused. It never holds a secret's value or a key."""

    id: int = Field(default=0, description="Its number in the store: later records have higher ones.")
    at: float = Field(description="Epoch seconds.")
    actor_kind: ActorKind = ActorKind.KEY
    actor: str = Field(description="Name of the key or of the controller.")
    actor_uid: str = Field(default="", description="The key's uid: a reused name is another key. Empty: a controller.")
    request_id: str = ""
    address: str = Field(default="", description="Where the request came from; 'local': this machine's socket.")
    verb: str = Field(description="The operation: create, put, delete, scale, ...")
    kind: str = Field(description="Kind of the resource.")
    workspace: str = Field(default="", description="The resource's; empty: of none.")
    name: str = ""
    uid: str = Field(default="", description="Uid of the resource. Empty: unknown.")
    before: str = Field(
        default="", description="sha256 of the changed part before the change. Empty: it did not exist."
    )
    after: str = Field(default="", description="sha256 of the changed part after the change. Empty: it was deleted.")
    outcome: Outcome = Outcome.DONE
