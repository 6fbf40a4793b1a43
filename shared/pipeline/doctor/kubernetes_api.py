"""What a cluster has, by the API of Kubernetes, where an account or a kubeconfig is."""

import os
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from shared import servers
from shared.pipeline.cluster.config import Cluster
from shared.pipeline.doctor.findings import Finding

ANSWER_S = (5, 10)  # to connect, to answer
# What the client raises where nothing comes, or what it decodes is none of Kubernetes' objects.
UNREADABLE = (HTTPError, HTTPException, OSError, ValueError, TypeError, AttributeError, KeyError)
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def cluster(site: Cluster, namespace: str) -> list[Finding]:
    """Namespace, claims, secrets, account, quotas and cards that the file names."""
    # Whose API, and by whom.
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config()
        else:
            config.load_kube_config(os.environ.get("KUBECONFIG") or None)
            servers.let_proxy(settings := client.Configuration.get_default_copy())
            client.Configuration.set_default(settings)
    except (ConfigException, OSError, ValueError, TypeError) as error:
        about = f"no kubeconfig and no account of a pod ({servers.said(error)})"
        return [Finding("Kubernetes", "not seen", about)]
    api = client.CoreV1Api()
    _bound(api.api_client)
    if not namespace and POD_NAMESPACE.is_file():
        namespace = POD_NAMESPACE.read_text().strip()
    namespace = namespace or "kubeflow"

    # Whether it answers at all; the rest may each be forbidden.
    first = _one("namespace", namespace, lambda: api.read_namespace(namespace, **_LIMIT))
    if first.state != "there" and not first.about.startswith("not allowed"):
        return [first]
    rows = [first]
    claims = [one.claim for one in (site.raw_data, site.workspace) if one and one.claim]
    for name in dict.fromkeys(claims):
        read = api.read_namespaced_persistent_volume_claim
        rows.append(_one("claim", name, lambda r=read, n=name: r(n, namespace, **_LIMIT), _claim))
    for name in dict.fromkeys([*site.secrets, *site.pull_secrets]):
        read = api.read_namespaced_secret
        keys = site.secrets.get(name, {})
        rows.append(
            _one("secret", name, lambda r=read, n=name: r(n, namespace, **_LIMIT), _keys(keys))
        )
    if name := site.service_account:
        read = api.read_namespaced_service_account
        rows.append(_one("service account", name, lambda: read(name, namespace, **_LIMIT)))
    rows += _quotas(api, namespace)
    if site.accelerator:
        rows.append(_cards(api, site.accelerator.resource, dict(site.accelerator.node_selector)))
    return rows


def _bound(caller: client.ApiClient) -> None:
    """Let every request end, in time and in size, and be sent once."""
    servers.bound()
    pool = caller.rest_client.pool_manager
    request = pool.request

    def limited(*arguments, **options) -> Any:
        options |= {"retries": False, "preload_content": False}
        answer = request(*arguments, **options)
        answer._body = servers.whole(answer.stream(2**16))
        return answer

    pool.request = limited


_LIMIT = {"_request_timeout": ANSWER_S}


def _one(
    kind: str, name: str, read: Callable[[], Any], tell: Callable[[Any], str] = lambda _: ""
) -> Finding:
    """Whether a thing is there. `tell` says what is wrong with it; "" = nothing."""
    what = f"{kind} {name}"
    try:
        found = read()
        if getattr(found.metadata, "name", None) != name:  # a page where people log in
            raise ValueError("it is no object of Kubernetes")
        wrong = tell(found)
    except ApiException as error:
        return _refused(what, error)
    except UNREADABLE as error:
        about = (
            f"Kubernetes gives no answer that counts ({servers.said(error)}): check the kubeconfig"
        )
        return Finding(what, "missing", about)
    return Finding(what, "missing" if wrong else "there", wrong)


def _refused(what: str, error: ApiException) -> Finding:
    if error.status == 404:
        return Finding(what, "missing", "is not there: make it, see docker/kubernetes")
    if error.status in (401, 403):
        return Finding(what, "not seen", f"not allowed to look (HTTP {error.status})")
    return Finding(what, "missing", f"HTTP {error.status}: {servers.said(error.reason)}")


def _claim(claim: Any) -> str:
    phase = claim.status.phase
    return "" if phase == "Bound" else f"is {phase}: look at `kubectl describe pvc`"


def _keys(wanted: Any) -> Callable[[Any], str]:
    def tell(secret: Any) -> str:
        gone = sorted(set(wanted) - set(secret.data or {}))
        return f"has no key {', '.join(gone)}: add it, or correct the cluster file" if gone else ""

    return tell


def _quotas(api: client.CoreV1Api, namespace: str) -> Iterator[Finding]:
    """What a quota has left; one that is used up lets no pod start."""
    try:
        quotas = api.list_namespaced_resource_quota(namespace, **_LIMIT).items
    except ApiException as error:
        yield _refused("quotas", error)
        return
    except UNREADABLE as error:
        yield Finding("quotas", "not seen", servers.said(error))
        return
    if not quotas:
        yield Finding("quotas", "there", "none")
    for quota in quotas:
        used, hard = quota.status.used or {}, quota.status.hard or {}
        full = [name for name in hard if used.get(name) == hard[name] != "0"]
        shares = ", ".join(f"{name} {used.get(name, 0)} of {hard[name]}" for name in sorted(hard))
        remedy = f": {', '.join(full)} used up, so that pods wait; ask for more" if full else ""
        state = "missing" if full else "there"
        yield Finding(f"quota {quota.metadata.name}", state, f"{shares}{remedy}")


def _cards(api: client.CoreV1Api, resource: str, labels: dict[str, str]) -> Finding:
    what, selector = resource, ",".join(f"{key}={value}" for key, value in labels.items())
    try:
        nodes = api.list_node(label_selector=selector, **_LIMIT).items
    except ApiException as error:
        return _refused(what, error)
    except UNREADABLE as error:
        return Finding(what, "not seen", servers.said(error))
    counts = [int((node.status.allocatable or {}).get(resource, 0)) for node in nodes]
    if not sum(counts):
        where = f" with {selector}" if selector else ""
        return Finding(what, "missing", f"no node{where} has one: see accelerator in --cluster")
    return Finding(what, "there", f"{sum(counts)} on {sum(map(bool, counts))} nodes")
