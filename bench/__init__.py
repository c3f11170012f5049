"""What the registry costs, as ratios to the raw client doing the same bytes: `python -m bench`.

Three processes take part in each measurement: a nats-server, the process under load (the registry, or its bare
counterpart), and a generator on a plain socket that is cheap enough to saturate the other two. Both counterparts live
on the same server at the same time and are loaded in turn, so that what else the machine does hits both.

Beside the rows: how long it takes to hear of an agent that was killed, or stands still, in seconds; see `detection`.

With `--failover`: what losses cost instead, of the leading replica and of nodes of a cluster, in seconds.
"""
