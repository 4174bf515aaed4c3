"""`kaon whoami`: the key in use."""

from __future__ import annotations

from kaon.cli.shared.options import OutputOption, verb, verbs
from kaon.cli.shared.output import Format, document, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import plain, stamp, table

app = verbs()


@verb(app, "kaon whoami", "kaon whoami -o json")
def whoami(output: OutputOption = Format.TABLE) -> None:
    """Show the rights of the key in use."""
    with opened() as remote:
        me = remote.whoami()
    if output in (Format.JSON, Format.YAML):
        put(document(me.model_dump(mode="json"), output))
    elif output is Format.NAME:
        put(plain(me.key))
    else:
        scope = ",".join(me.deployments) if me.deployments is not None else "all"
        put(
            table(
                ("key", "role", "workspace", "deployments", "expires"),
                [(me.key, me.role, me.workspace or "all", scope, stamp(me.expires_at))],
            )
        )
