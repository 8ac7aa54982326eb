"""Other ways to write a workflow: drawings as text, bundles of files, pictures.

`mermaid` and `dot` read a drawing as a document of the one language and write a graph as a
drawing; `bundle` reads a DOT drawing together with the code of its nodes; `diagram` draws a
graph as SVG. Nothing here runs, validates or stores a workflow: that begins where the
document is read.

A drawing shows nodes and edges; a workflow needs more. What it does not show stands in a
*sidecar*: a document that leaves out what is drawn.

    graph TD                                nodes:
      draft --> grade{{Good enough?}}         draft: {with: {goal: $goal}}
      grade -- once more --> draft            grade: {rules: [{when: $score < 7, next: [draft]}]}
      grade -- good --> end_((end))         edges:
                                              - {from: grade, to: end, type: final}

`read(write(graph), sidecar(graph))` is the document of that graph again, and without a sidecar
a drawing still says all that it can: names, titles, roles, edges. Text beside an arrow is a
title and routes nothing; an edge is chosen by what the sidecar says of it. What neither says
has a default: the work of a node is the function of its name. A list of steps is drawn with the
node that leads from each to the next; no drawing says what such a list is, so it has no sidecar.

Every reader takes strangers' input: it is bounded before it is read, read without recursion
on its depth, and answered with `Problem`s that name the line, never with an exception.
"""
