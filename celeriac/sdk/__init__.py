"""Writing workflows in Python, in the manner of seed 000.

`graph` builds a graph from functions, `tools` registers what functions call, `state` is what
they are given. `engine` runs a graph in this process: the same lowering, the same core and so
the same decisions as on the platform, but no services, no persistence and no walls. What is
to survive a crash is published with `celeriac.Client`.
"""
