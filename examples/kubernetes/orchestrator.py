"""An orchestrator in a cluster: carries the registry's orders out by the replica counts of Deployments.

    python orchestrator.py trading=trader research=researcher --namespace agents

Each argument is a capability and the Deployment whose pods have it. README.md says what else it needs.
"""

import argparse
import asyncio
import contextlib
import signal
import time

from kubernetes import client, config
from launcher import KubernetesLauncher

from agents_sdk import Orchestrator, RegistryClient


async def main(deployments, namespace):
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asyncio.current_task().cancel)
    launcher = KubernetesLauncher(client.AppsV1Api(), client.CoreV1Api(), deployments, namespace)
    durable = "+".join(["kubernetes", namespace, *sorted(deployments)])  # no name of theirs has a plus
    async with RegistryClient() as registry:
        say(f"orchestrating {', '.join(deployments)}")
        # The pods stay when this ends: the orders that come meanwhile are read by the next one.
        await Orchestrator(registry, launcher, deployments, durable=durable, say=say).run()


def say(words):
    print(time.strftime("%H:%M:%S"), words, flush=True)


def parsed():
    words = argparse.ArgumentParser(description="Carry out scaling orders by Deployments.")
    words.add_argument("deployments", nargs="+", metavar="CAPABILITY=DEPLOYMENT")
    words.add_argument("--namespace", default="default")
    options = words.parse_args()
    pairs = [each.partition("=") for each in options.deployments]
    if not all(capability and deployment for capability, _, deployment in pairs):
        words.error("each argument is CAPABILITY=DEPLOYMENT")
    return {capability: deployment for capability, _, deployment in pairs}, options.namespace


if __name__ == "__main__":
    chosen = parsed()
    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main(*chosen))
