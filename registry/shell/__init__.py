"""Everything impure: NATS, the clock, chance, processes. It stamps facts for the core and carries out its orders."""
