"""Prints the state diagram of an image, in Mermaid, from the table of transitions."""

from __future__ import annotations

from collections import defaultdict

from tintype.domain.lifecycle import TRANSITIONS


def state_diagram() -> str:
    """The diagram: one arrow for each pair of states, labelled with all that leads from one to the other."""
    arrows: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for (source, trigger), target in TRANSITIONS.items():
        arrows[source.value if source else "[*]", target.value].append(trigger)
    lines = [f"    {source} --> {target}: {', '.join(triggers)}" for (source, target), triggers in arrows.items()]
    return "\n".join(["stateDiagram-v2", *lines])


if __name__ == "__main__":
    print(state_diagram())
