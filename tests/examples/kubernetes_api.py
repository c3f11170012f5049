"""As much of the Kubernetes API as `examples/kubernetes` uses, answering as it is documented to, on loopback.

Behind it is what the ReplicaSet controller would do: it creates pods when fewer are there than are wanted, and deletes
those with the lowest deletion cost when there are more; at once, or a while after the count was changed.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

COST = "controller.kubernetes.io/pod-deletion-cost"

SCALE = re.compile(r"/apis/apps/v1/namespaces/agents/deployments/([^/]+)/scale")
POD = re.compile(r"/api/v1/namespaces/agents/pods/([^/]+)")
PODS = "/api/v1/namespaces/agents/pods"


class Cluster:
    """Deployments and their pods, served by HTTP.

    Args:
        deployments: Name to the count it begins with.
    """

    def __init__(self, deployments: dict[str, int]) -> None:
        self.lock = threading.RLock()
        self.replicas = dict(deployments)
        self.version = 100
        self.pods: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.creates = True
        """Whether the controller gets round to creating pods."""
        self.delay = 0.0
        """Seconds from a change to what the controller does about it."""
        self.refuses: str | None = None
        """Method whose next request fails."""
        self.interfere: Callable[[], None] | None = None
        """Called once, after the next scale has been read: somebody else who writes."""
        self._numbers = 0
        cluster = self

        class Handler(_Handler):
            def handle_one(self, method: str, body: Any) -> tuple[int, Any]:
                with cluster.lock:
                    return cluster.answer(method, self.path, self.headers.get("Content-Type", ""), body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.reconcile()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def write(self, deployment: str, replicas: int) -> None:
        self.replicas[deployment] = replicas
        self.version += 1
        self._changed()

    def _changed(self) -> None:
        if self.delay:
            threading.Timer(self.delay, self.reconcile).start()
        else:
            self.reconcile()

    def reconcile(self) -> None:
        """Do as the controller does."""
        with self.lock:
            for deployment, wanted in self.replicas.items():
                mine = [pod for pod in self.pods.values() if pod["metadata"]["labels"]["app"] == deployment]
                while self.creates and len(mine) < wanted:
                    mine.append(self._create(deployment))
                mine.sort(key=lambda pod: int(pod["metadata"]["annotations"].get(COST, "0")))
                for pod in mine[: max(0, len(mine) - wanted)]:
                    del self.pods[pod["metadata"]["name"]]

    def _create(self, deployment: str) -> dict[str, Any]:
        self._numbers += 1
        name = f"{deployment}-7d4b9c-{self._numbers}"
        metadata = {"name": name, "namespace": "agents", "labels": {"app": deployment}, "annotations": {}}
        self.pods[name] = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "status": {"phase": "Running"}}
        return self.pods[name]

    def answer(self, method: str, path: str, content_type: str, body: Any) -> tuple[int, Any]:
        where = urlsplit(path)
        self.requests.append((method, where.path))
        if method == self.refuses:
            self.refuses = None
            return _status(500, "InternalError", "etcdserver: request timed out")
        if found := SCALE.fullmatch(where.path):
            return self._scale(method, found[1], body)
        if method == "GET" and where.path == PODS:
            (selector,) = parse_qs(where.query)["labelSelector"]
            app = selector.removeprefix("app=")
            items = [pod for pod in self.pods.values() if pod["metadata"]["labels"]["app"] == app]
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        if found := POD.fullmatch(where.path):
            if found[1] not in self.pods:
                return _status(404, "NotFound", f'pods "{found[1]}" not found')
            return self._pod(method, self.pods[found[1]], content_type, body)
        return _status(405, "MethodNotAllowed", f"{method} {path}")

    def _pod(self, method: str, pod: dict[str, Any], content_type: str, body: Any) -> tuple[int, Any]:
        if method == "DELETE":
            del self.pods[pod["metadata"]["name"]]
            self._changed()
        else:
            assert method == "PATCH"
            assert content_type in ("application/strategic-merge-patch+json", "application/merge-patch+json")
            pod["metadata"]["annotations"].update(body["metadata"]["annotations"])
        return 200, pod

    def _scale(self, method: str, deployment: str, body: Any) -> tuple[int, Any]:
        if deployment not in self.replicas:
            return _status(404, "NotFound", f'deployments.apps "{deployment}" not found')
        if method == "PUT":
            if body["metadata"]["resourceVersion"] != str(self.version):
                changed = "the object has been modified; please apply your changes to the latest version and try again"
                return _status(409, "Conflict", f'Operation cannot be fulfilled on "{deployment}": {changed}')
            self.write(deployment, body["spec"]["replicas"])
        answer = {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {"name": deployment, "namespace": "agents", "resourceVersion": str(self.version)},
            "spec": {"replicas": self.replicas[deployment]},
            "status": {"replicas": self.replicas[deployment], "selector": f"app={deployment}"},
        }
        if method == "GET" and self.interfere is not None:
            interfere, self.interfere = self.interfere, None
            interfere()
        return 200, answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self, method: str, body: Any) -> tuple[int, Any]:
        raise NotImplementedError

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        code, answer = self.handle_one(self.command, json.loads(self.rfile.read(length)) if length else None)
        payload = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815 - called by these names

    def log_message(self, *_: Any) -> None:
        pass


def _status(code: int, reason: str, message: str) -> tuple[int, Any]:
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
