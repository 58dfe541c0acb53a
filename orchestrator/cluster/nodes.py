"""Which nodes of a cluster to keep runs off, and what an autoscaler is told.

A node on which one run after another fails is avoided as long as others could take its runs: a full
disk or a broken driver there would cost every run its retries.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from orchestrator.plan.cost.forecast import Resources

IN_A_ROW = 3  # Failures of different runs on one node, after which it is avoided.
TELL_SECONDS = 10.0  # Between two words to the autoscaler.
MOST_BUNDLES = 1000


class NodeRecord:
    """How runs ended on each node; nodes are known by Ray's names of them."""

    def __init__(self) -> None:
        self._failed: defaultdict[str, list[str]] = defaultdict(list)
        """Keys of the runs that failed on a node since one last succeeded there."""
        self._failed_on: defaultdict[str, set[str]] = defaultdict(set)
        """Nodes on which a run failed, by key."""
        self._unfit: set[str] = set()
        """Nodes that cannot run anything of this sweep."""

    @property
    def avoided(self) -> frozenset[str]:
        """The nodes on which one run after another failed."""
        in_a_row = {n for n, keys in self._failed.items() if len(set(keys)) >= IN_A_ROW}
        return frozenset(in_a_row | self._unfit)

    def succeeded(self, node: str) -> None:
        """Note that a run ended well on a node."""
        self._failed.pop(node, None)

    def failed(self, node: str, key: str) -> bool:
        """Note that a run failed on a node; return whether the node is avoided from now on."""
        before = node in self.avoided
        self._failed[node].append(key)
        self._failed_on[key].add(node)
        return node in self.avoided and not before

    def unfit(self, node: str) -> bool:
        """Note that nothing of this sweep can run on a node; return whether that is news."""
        news = node not in self._unfit
        self._unfit.add(node)
        return news

    def failed_on(self, key: str) -> frozenset[str]:
        """Return the nodes on which a run failed."""
        return frozenset(self._failed_on[key])


def name_of(node: str) -> str:
    """Return what people call a node: its address and its own name."""
    import ray

    for each in ray.nodes():
        if each["NodeID"] == node:
            return f"{each['NodeManagerAddress']} ({each['NodeManagerHostname']})"
    return node


def able_nodes(needed: Resources) -> frozenset[str]:
    """Return the live nodes of the joined cluster that could ever hold such a run."""
    import ray

    return frozenset(
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"]
        and node["Resources"].get("CPU", 0) >= needed.cpus
        and node["Resources"].get("GPU", 0) >= needed.gpus
    )


def kept_off(avoid: Collection[str], needed: Resources) -> dict[str, str]:
    """Return the label selector that keeps a run off nodes; empty if none but these could take it."""
    if not avoid or not able_nodes(needed) - set(avoid):
        return {}
    return {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}


class Demand:
    """Tells Ray's autoscaler what runs there are to be placed, so that machines come before they wait.

    Tune asks for one trial at a time, from which an autoscaler would bring one machine at a time.
    """

    def __init__(self) -> None:
        self._told: list[dict[str, float]] = []
        self._told_at = -TELL_SECONDS

    def tell(self, wanted: Iterable[Resources]) -> None:
        """Tell the autoscaler what the runs need that run or could start; nothing if that is what it knows."""
        if time.monotonic() - self._told_at < TELL_SECONDS:
            return
        bundles = [_bundle(each) for _, each in zip(range(MOST_BUNDLES), wanted, strict=False)]
        self._told_at = time.monotonic()
        if bundles != self._told:
            self._request(bundles)

    def end(self) -> None:
        """Let the autoscaler take machines away again."""
        if self._told:
            self._request([])

    def _request(self, bundles: list[dict[str, float]]) -> None:
        from ray.autoscaler.sdk import request_resources

        request_resources(bundles=bundles)
        self._told = bundles


def _bundle(needed: Resources) -> dict[str, float]:
    both: Mapping[str, float] = {"CPU": needed.cpus, "GPU": needed.gpus}
    return {name: amount for name, amount in both.items() if amount}
