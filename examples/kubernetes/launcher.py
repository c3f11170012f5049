"""A launcher whose agents are the pods of Deployments: it writes replica counts, Kubernetes does the rest."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kubernetes.client import AppsV1Api, CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from agents_sdk import LaunchError

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation by which a ReplicaSet chooses whom to delete when its count is lowered: the cheapest first."""

CHEAPEST = "-2147483647"

NOT_FOUND, CONFLICT = 404, 409

MAX_CONFLICTS = 8
"""How often a count that somebody else changed at the same moment is read and written again."""

T = TypeVar("T")


class KubernetesLauncher:
    """Starts and stops agents by the replica counts of Deployments; see `agents_sdk.Launcher` for the contract.

    The pods' names are the agents' ids: the manifest hands each its own in `AGENT_REGISTRY_AGENT_ID`. So an id is not
    known before there is a pod, and `running` goes by the count that is wanted: who is still to be created is in it.

    Args:
        apps, core: The API of one cluster.
        deployments: Capability to the Deployment whose pods have it.
        namespace: Where they are.
    """

    def __init__(self, apps: AppsV1Api, core: CoreV1Api, deployments: Mapping[str, str], namespace: str) -> None:
        self._apps = apps
        self._core = core
        self._deployments = dict(deployments)
        self._namespace = namespace
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By Deployment: one change at a time."""

    async def start(self, agent_id: str, capability: str) -> None:  # noqa: ARG002 - part of the contract
        """Want one more pod. What it is called is Kubernetes' to say, so `agent_id` says nothing here."""
        deployment = self._deployment(capability)
        async with self._changing[deployment]:
            await self._change(deployment, lambda scale, _: scale.spec.replicas + 1)

    async def stop(self, agent_id: str) -> None:
        """Want one fewer, and have it be this pod; return when Kubernetes is deleting it."""
        for deployment in self._deployments.values():
            async with self._changing[deployment]:
                _, pods = await self._look(deployment)
                if agent_id in pods:
                    await self._delete(deployment, pods[agent_id])

    async def running(self, capability: str) -> list[str]:
        """Return the pods that are wanted: by name, and those that are still to be created by a number."""
        deployment = self._deployment(capability)
        scale, pods = await self._look(deployment)
        return [*pods, *(f"{deployment}/{number}" for number in range(len(pods), scale.spec.replicas))]

    def _deployment(self, capability: str) -> str:
        if capability not in self._deployments:
            raise LaunchError(f"no Deployment is named for {capability}")
        return self._deployments[capability]

    async def _delete(self, deployment: str, pod: Any) -> None:
        """Delete a pod and have nobody created in its place.

        The count alone would not do: while there are fewer pods than are wanted, lowering it deletes none. It is the
        cheapest when the count is lowered, so that the ReplicaSet, which may be there first, chooses no other.
        """
        name, annotations = pod.metadata.name, pod.metadata.annotations or {}
        begun = annotations.get(DELETION_COST) == CHEAPEST
        cheapest = {"metadata": {"annotations": {DELETION_COST: CHEAPEST}}}
        await self._ask(lambda: self._core.patch_namespaced_pod(name, self._namespace, cheapest))

        def fewer(scale: Any, pods: Mapping[str, Any]) -> int:
            was_lowered = begun and len(pods) > scale.spec.replicas  # and then this ended, or failed
            return max(0, scale.spec.replicas - (0 if was_lowered else 1))

        await self._change(deployment, fewer)
        await self._ask(lambda: self._remove(name))

    def _remove(self, pod: str) -> None:
        try:
            self._core.delete_namespaced_pod(pod, self._namespace)
        except ApiException as error:
            if error.status != NOT_FOUND:  # else the ReplicaSet was there first
                raise

    async def _look(self, deployment: str) -> tuple[Any, dict[str, Any]]:
        """Return a Deployment's scale, and its pods that are not going, by name."""
        scale = await self._ask(lambda: self._apps.read_namespaced_deployment_scale(deployment, self._namespace))
        found = await self._ask(
            lambda: self._core.list_namespaced_pod(self._namespace, label_selector=scale.status.selector)
        )
        pods = {
            pod.metadata.name: pod
            for pod in found.items
            if pod.metadata.deletion_timestamp is None and pod.status.phase in ("Pending", "Running")
        }
        return scale, pods

    async def _change(self, deployment: str, wanted: Callable[[Any, Mapping[str, Any]], int]) -> None:
        """Write a count that is made from the present one. Of two writers at once one begins again: none is lost."""
        for attempt in range(1, MAX_CONFLICTS + 1):
            scale, pods = await self._look(deployment)
            count = wanted(scale, pods)
            if count == scale.spec.replicas:
                return
            scale.spec.replicas = count  # its resourceVersion goes along, and is refused if it is not the newest
            try:
                await self._put(deployment, scale)
            except ApiException as error:
                if error.status != CONFLICT:
                    raise LaunchError(_in_words(error)) from error
                await asyncio.sleep(random.uniform(0.0, 0.05 * 2**attempt))
            else:
                return
        raise LaunchError(f"{deployment}: others keep changing its replica count")

    async def _put(self, deployment: str, scale: Any) -> None:
        try:
            await asyncio.to_thread(self._apps.replace_namespaced_deployment_scale, deployment, self._namespace, scale)
        except HTTPError as error:  # whether it was written is unknown: `running` says so next time
            raise LaunchError(f"the API server cannot be reached: {error}") from error

    async def _ask(self, question: Callable[[], T]) -> T:
        """Return what the API server answers; its client is not asynchronous."""
        try:
            return await asyncio.to_thread(question)
        except ApiException as error:
            raise LaunchError(_in_words(error)) from error
        except HTTPError as error:
            raise LaunchError(f"the API server cannot be reached: {error}") from error


def _in_words(error: ApiException) -> str:
    return f"the API server says {error.status} {error.reason}"
