"""One process of the demo, the registry or an agent: `python -m agent_registry.demo.child WHAT ...`.

It ends by itself when the demo is gone, however that came about: the demo holds the other end of its standard input.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Be the process that the arguments name: `registry STORE READY_FILE`, or `CAPABILITY AGENT_ID`."""
    threading.Thread(target=_end_with_the_demo, name="parent watch", daemon=True).start()
    what, *arguments = sys.argv[1:]
    if what == "registry":
        from agent_registry.serving import up

        store, ready_file = map(Path, arguments)
        up(port=0, store=store, ready_file=ready_file)
    else:
        from agent_registry.demo.roles import ROLE_OF, make

        make(ROLE_OF[what], *arguments).run()


def _end_with_the_demo() -> None:
    os.read(0, 1)  # nothing is ever written; not sys.stdin, whose lock a thread must not hold when Python ends
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
