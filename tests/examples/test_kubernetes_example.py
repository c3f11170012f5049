"""The Kubernetes example, with the real client of Kubernetes: counts are written, and the right pod is deleted."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient, AppsV1Api, Configuration, CoreV1Api

from agents_sdk import Agent, LaunchError, Orchestrator, RegistryClient
from agents_sdk.cancelling import cancel
from registry.replica import Replica
from registry.settings import Settings
from registry.shell.embedded import NatsServer
from tests.conftest import eventually
from tests.examples.conftest import EXAMPLES
from tests.examples.kubernetes_api import POD, Cluster

FOLDER = EXAMPLES / "kubernetes"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"kubernetes_example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


launcher_module = _load("launcher")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster({"trader": 2, "other": 1}) as cluster:
        yield cluster


@pytest.fixture
def launcher(cluster: Cluster) -> Iterator[Any]:
    with ApiClient(Configuration(host=cluster.url)) as api:
        yield launcher_module.KubernetesLauncher(
            AppsV1Api(api), CoreV1Api(api), {"trading": "trader", "research": "other"}, "agents"
        )


async def test_a_start_raises_the_count_and_who_is_to_be_created_counts(cluster: Cluster, launcher: Any) -> None:
    assert await launcher.running("trading") == ["trader-7d4b9c-1", "trader-7d4b9c-2"]
    cluster.creates = False
    assert await launcher.start("trading-1-0", "trading") is None
    assert cluster.replicas["trader"] == 3
    assert await launcher.running("trading") == ["trader-7d4b9c-1", "trader-7d4b9c-2", "trader/2"]
    cluster.creates = True
    cluster.reconcile()
    assert (await launcher.running("trading"))[2].startswith("trader-7d4b9c-")


async def test_of_two_writers_at_once_none_is_lost(cluster: Cluster, launcher: Any) -> None:
    cluster.interfere = lambda: cluster.write("trader", 5)
    await launcher.start("trading-1-0", "trading")
    assert cluster.replicas["trader"] == 6
    puts = [path for method, path in cluster.requests if method == "PUT"]
    assert len(puts) == 2, "the first one was refused"


async def test_the_named_pod_goes_and_no_other(cluster: Cluster, launcher: Any) -> None:
    cluster.write("trader", 3)
    await launcher.stop("trader-7d4b9c-2")
    assert cluster.replicas["trader"] == 2
    assert "trader-7d4b9c-2" not in cluster.pods
    assert len(await launcher.running("trading")) == 2
    order = [
        method for method, path in cluster.requests if method != "GET" and (POD.fullmatch(path) or "scale" in path)
    ]
    assert order == ["PATCH", "PUT", "DELETE"], "it is the cheapest before the count is lowered"
    await launcher.stop("trader-7d4b9c-2")
    await launcher.stop("a-process-somewhere")
    assert cluster.replicas == {"trader": 2, "other": 1}


async def test_of_several_at_once_each_named_pod_goes(cluster: Cluster, launcher: Any) -> None:
    """Though the controller gets round to it later, and chooses by itself."""
    cluster.write("trader", 5)
    cluster.delay = 0.3
    first, *others, last = await launcher.running("trading")
    await asyncio.wait_for(asyncio.gather(*map(launcher.stop, others), launcher.start("x", "trading")), 10)
    assert cluster.replicas["trader"] == 3
    await eventually(lambda: len(cluster.pods) == 4)  # one is the other Deployment's
    assert {first, last} < set(cluster.pods)
    assert not set(others) & set(cluster.pods)


async def test_a_stop_takes_no_start_back(cluster: Cluster, launcher: Any) -> None:
    """While there are fewer pods than are wanted, for want of a node or a moment, the named one goes all the same."""
    cluster.creates = False
    for each in "abc":
        await launcher.start(each, "trading")
    await launcher.stop("trader-7d4b9c-1")
    assert cluster.replicas["trader"] == 4
    assert await launcher.running("trading") == ["trader-7d4b9c-2", "trader/1", "trader/2", "trader/3"]


@pytest.mark.parametrize("fails", ["PATCH", "PUT", "DELETE"])
async def test_a_stop_that_is_repeated_lowers_the_count_once(cluster: Cluster, launcher: Any, fails: str) -> None:
    """As after a failure, or a crash, at any step; the controller has done nothing yet."""
    cluster.delay = 0.3
    cluster.refuses = fails
    with pytest.raises(LaunchError, match="the API server says 500"):
        await launcher.stop("trader-7d4b9c-1")
    assert cluster.replicas["trader"] == (1 if fails == "DELETE" else 2)
    for _ in range(2):
        await launcher.stop("trader-7d4b9c-1")
    assert cluster.replicas["trader"] == 1
    assert await launcher.running("trading") == ["trader-7d4b9c-2"]


async def test_what_the_api_server_refuses_is_told(cluster: Cluster) -> None:
    with ApiClient(Configuration(host=cluster.url)) as api:
        lost = launcher_module.KubernetesLauncher(AppsV1Api(api), CoreV1Api(api), {"trading": "gone"}, "agents")
        with pytest.raises(LaunchError, match="the API server says 404 Not Found"):
            await lost.start("a", "trading")
        with pytest.raises(LaunchError, match="no Deployment is named for risk"):
            await lost.running("risk")


class Kubelet:
    """Runs an agent for each pod that there is, and none for those that are gone."""

    def __init__(self, cluster: Cluster, url: str) -> None:
        self._cluster = cluster
        self._url = url
        self._agents: dict[str, Agent] = {}

    async def run(self) -> None:
        try:
            while True:
                pods = {name for name in self._cluster.pods if name.startswith("trader")}
                for name in pods - set(self._agents):
                    self._agents[name] = Agent(
                        "trader", ["trading"], agent_id=name, nats=self._url, heartbeat_interval=0.2
                    )
                    await self._agents[name].start()
                for name in set(self._agents) - pods:
                    await self._agents.pop(name).stop()
                await asyncio.sleep(0.05)
        finally:
            for agent in self._agents.values():
                await agent.stop()


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[RegistryClient]:
    replica = Replica(Settings(scaling_interval=0.3), nats_server.url)
    await replica.start()
    async with RegistryClient(nats_server.url) as client:
        yield client
    await replica.stop()


async def test_orders_are_carried_out(
    cluster: Cluster, launcher: Any, client: RegistryClient, nats_server: NatsServer
) -> None:
    """Up by the count, down by the pod that the registry names."""
    said: list[str] = []
    orchestrator = Orchestrator(client, launcher, ["trading"], durable="k8s", say=said.append)
    tasks = [asyncio.create_task(each) for each in (Kubelet(cluster, nats_server.url).run(), orchestrator.run())]

    async def there_are(amount: int) -> None:
        await eventually(lambda: cluster.replicas["trader"] == amount, within=20)

        async def as_many() -> bool:
            (trading,) = (await client.scaling("trading")).capabilities
            return trading.observed.agents == amount and trading.orders == []

        await eventually(as_many, within=20)

    await client.set_scaling("trading", min_agents=4, max_agents=4)
    await there_are(4)
    await client.set_scaling("trading", min_agents=1, max_agents=3)
    await there_are(3)
    named = [name for act in orchestrator.acts for name in act.drained]
    assert len(named) == 1
    assert named[0] not in cluster.pods
    assert "starts one more, one more for trading" in said
    for task in tasks:
        await cancel(task)


def test_the_manifest_gives_the_rights_that_are_used_and_no_more(cluster: Cluster) -> None:
    documents = list(yaml.safe_load_all((FOLDER / "manifest.yaml").read_text()))
    (role,) = [each for each in documents if each["kind"] == "Role"]
    rights = {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]}
    assert rights == {"deployments/scale": ["get", "update"], "pods": ["list", "patch", "delete"]}
    used = re.findall(r"\b(read|replace|list|patch|delete)_namespaced_(\w+)", (FOLDER / "launcher.py").read_text())
    assert set(used) == {
        ("read", "deployment_scale"),
        ("replace", "deployment_scale"),
        ("list", "pod"),
        ("patch", "pod"),
        ("delete", "pod"),
    }
    (agents,) = [each for each in documents if each["kind"] == "Deployment" and each["metadata"]["name"] == "trader"]
    (container,) = agents["spec"]["template"]["spec"]["containers"]
    assert {"name": "AGENT_REGISTRY_AGENT_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in container[
        "env"
    ]
