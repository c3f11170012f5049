"""How soon the dead are found, and how many of the living are taken for dead: our rules beside other systems'.

Virtual time, own chance, no I/O: the same seed gives the same numbers on every machine. A *trace* is what happens to a
fleet (`life`, `trace`, `scenarios`); beats follow from it by a rule's interval (`beats`); a rule says whom it takes for
dead from when to when (`rule` and what implements it). Our own rule is the real core of one leader, facts in, orders
out (`ours`, `network`).
"""
