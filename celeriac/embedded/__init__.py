"""The embedded platform: what `celeriac up` starts where no URL is set.

A real Postgres and a real Valkey, from wheels or from the machine, private to one user: neither
listens on TCP, their sockets lie in folders that nobody else may enter, and Postgres lets in only the
operating system's user who owns the data folder (`peer`). Web, coordinator, workers and beat run beside
them as children of one supervisor.

**The data folder** (`CELERIAC_HOME`) holds everything: `postgres/`, `valkey/`, `blobs/`, `logs/`, the
supervisor's `lock` and `state.json`, `admin.key`, and `blob.key`, which `blobs/` is sealed with: whoever
copies the one copies the other. Only sockets may lie elsewhere, in a short folder of their own, because
the path of a socket may not be longer than 107 bytes.

**As root**, Postgres refuses to run, so its server runs as `nobody`: binaries and data are used where
they are if that account can reach them, else copied to or made in `/var/lib/celeriac`, and
`postgres/cluster` is a link. Permissions of existing folders are never changed, accounts never made.

**Whatever is killed, the next `up` goes on.** The supervisor's lock is the kernel's, so it falls with
its holder. Children end with their parent (`PDEATHSIG`), and what they may have left behind is ended by
the next `up`. Both servers outlive the supervisor and are adopted where they answer; where they do not,
they are started again and recover from their logs. A first start that was cut short leaves nothing that
looks like a finished one: a cluster is made beside its place, then renamed.

`postgres` and `valkey` know one server each, `supervisor` the whole, `folders` where things lie,
`sealing` the key of the blobs, `processes` how one is started and ended.
"""
