"""What runs on the other side of the wall: the zygote and the children it forks.

Its processes are fresh interpreters that know only this folder and the standard library, so
nothing here imports anything of ours but its neighbours. The worker's side shares `wire` and
the numbers in `walls`.

`zygote` forks and buries; `child` is the life of one execution; `walls` says which walls there are
around it, made of `namespaces`, `landlock` (files) and `filters` (system calls);
`perform` finds and calls the function; `namespace` is what source code sees, `state` and
`calls` what it is given; `records` are what led to it, `agentic` how the code of bundles is
called with them; `templates` renders text, `files` is the `open` of code that was granted some;
`values` says what may leave, `failures` what went wrong; `log` bounds what it prints.
"""
