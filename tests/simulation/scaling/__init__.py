"""How many agents there are for the work there is: our scaler beside the documented rules of other systems.

Virtual time, own chance, no I/O: the same seed gives the same numbers on every machine. A *trace* is work that arrives
(`trace`, `shapes`, `published`); a *fleet* serves it, and whom it asks for more is a *rule* (`rule` and what implements
it), of which all see the same. Our own rule is the real core of one leader, facts in, orders out (`ours`). A *score*
says what a rule made of a trace.
"""
