"""The web: REST routes, live streams and the API's description, thin over `engine.runs`.

Every route parses, calls one function and renders. What they share:

- **Who asks** is settled in one place before a route is entered (`principal`), and the tenant of
  every query comes from there: from then on the request's site (`site.current`) is bound to it. Every
  route says what permission it asks for (`Routes.on(…, needs=…)`, `permissions`); an app with one that
  does not say does not start. No credential, or one that does not hold, is 401; a permission that is
  missing is 403, with its name; what is another tenant's is 404, as what is nobody's. What was refused
  is written down behind the request's back (`clerk`): an act where the tenant is known, else a count.
- **What enters** passes one validator (`body`): bodies, query strings, addresses and headers are
  read strictly, then against a schema, and every problem is told with its path.
- **What goes wrong** is one table from error classes to statuses (`errors`), in the shape of
  RFC 9457 for `/api/v1` and of seed 000 for its routes.
- **What goes out** is shown through schemas, which also make `/openapi.json`.

**No request waits for the broker.** A submission commits and leaves; nudges and whatever else a
request causes to be sent go out behind its back (`background`, `engine.broker.Nudger`), and if
they cannot, the sweeper finds the rows.

**Streams cannot starve the rest.** WebSockets, event streams, `/graph/run`, `/wait` and backtests take one
of `settings.streams` places (`places`); the server has more threads than that (`server`), and who
finds no place is turned away with 503 and `Retry-After`. A stream reads history by `seq`; the
live channel only rings its bell (`streams`). It is taken up again after any entry, because each
line of history gives at most one entry, under its own `seq`.

`api` is `/api/v1` and `/api/graph-bundle`, `seed000` the routes of the simple workflow engine, `schemas` the fields of
both, `server` the process.
"""
