"""Writes ray_nodes.jsonl: replicas that wait, and the nodes that Ray's own
autoscaler launches for them.

    python3 -m venv /tmp/ray && /tmp/ray/bin/pip install 'ray[default]==2.60.0'
    /tmp/ray/bin/python ray_oracle.py > ray_nodes.jsonl

It calls the scheduler of Ray's autoscaler v2 with random kinds of node, nodes
that are there and part full, and requests of a few sizes. "ms" is the CPU time
of one call, the least of three.
"""

import json
import random
import sys
import time

import ray
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import NodeState, NodeStatus
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

CASES = 240
GIB = 1 << 30


def amounts(cpu, gib, gpu):
    """What Ray calls a resource bundle; it has no GPU where it has none."""
    bundle = {"CPU": cpu, "memory": gib * GIB}
    if gpu:
        bundle["GPU"] = gpu
    return bundle


def some_types(rng):
    types = []
    for _ in range(rng.randint(1, 4)):
        cpu = rng.choice([4, 8, 16, 32, 48, 64])
        types.append({
            "cpu": cpu,
            "gib": cpu * rng.choice([2, 4, 8]),
            "gpu": rng.choice([0, 0, 0, 1, 4, 8]),
            "max": rng.choice([3, 10, 500, 500, 500]),
        })
    return types


def some_nodes(rng, types):
    nodes = []
    for at, kind in enumerate(types):
        for _ in range(min(kind["max"], rng.choice([0, 0, 1, 3, 10]))):
            nodes.append({
                "type": at,
                "cpu": rng.randint(0, kind["cpu"]),
                "gib": rng.randint(0, kind["gib"]),
                "gpu": rng.randint(0, kind["gpu"]),
            })
    return nodes


def some_asks(rng, types):
    gpus = any(kind["gpu"] for kind in types)
    asks = []
    for _ in range(rng.randint(1, 6)):
        asks.append({
            "cpu": rng.choice([1, 1, 2, 3, 4, 6, 7, 12]),
            "gib": rng.choice([1, 2, 3, 5, 8, 13, 20, 30]),
            "gpu": rng.choice([0, 0, 1, 1, 2, 3, 4]) if gpus else 0,
            "count": rng.choice([1, 3, 10, 30, 80]),
        })
    return asks


def request(types, nodes, asks):
    configs = {}
    for at, kind in enumerate(types):
        configs[str(at)] = NodeTypeConfig(
            name=str(at), min_worker_nodes=0, max_worker_nodes=kind["max"],
            resources=amounts(kind["cpu"], kind["gib"], kind["gpu"]),
        )
    instances = []
    for at, node in enumerate(nodes):
        kind = types[node["type"]]
        free = amounts(node["cpu"], node["gib"], node["gpu"])
        if kind["gpu"]:
            free.setdefault("GPU", 0)
        instances.append(AutoscalerInstance(
            cloud_instance_id=str(at),
            ray_node=NodeState(
                node_id=str(at).encode(), ray_node_type_name=str(node["type"]),
                total_resources=amounts(kind["cpu"], kind["gib"], kind["gpu"]),
                available_resources=free, status=NodeStatus.RUNNING,
            ),
            im_instance=Instance(
                instance_id=str(at), instance_type=str(node["type"]), status=Instance.RAY_RUNNING,
                node_kind=NodeKind.WORKER, node_id=str(at),
            ),
        ))
    return SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=configs,
        max_num_nodes=None,
        current_instances=instances,
        resource_requests=ResourceRequestUtil.group_by_count([
            ResourceRequestUtil.make(amounts(ask["cpu"], ask["gib"], ask["gpu"]))
            for ask in asks for _ in range(ask["count"])
        ]),
    )


def schedule(types, nodes, asks):
    spent, reply = [], None
    for _ in range(3):
        wanted = request(types, nodes, asks)
        began = time.process_time()
        reply = ResourceDemandScheduler().schedule(wanted)
        spent.append(time.process_time() - began)
    launched = [0] * len(types)
    for launch in reply.to_launch:
        launched[int(launch.instance_type)] += launch.count
    return launched, len(reply.infeasible_resource_requests), round(1000 * min(spent), 2)


def main():
    rng = random.Random(1)
    out = sys.stdout
    out.write(json.dumps({"ray": ray.__version__}) + "\n")
    for _ in range(CASES):
        types = some_types(rng)
        nodes, asks = some_nodes(rng, types), some_asks(rng, types)
        launched, infeasible, spent = schedule(types, nodes, asks)
        out.write(json.dumps({
            "types": types, "nodes": nodes, "asks": asks,
            "launched": launched, "infeasible": infeasible, "ms": spent,
        }, separators=(",", ":")) + "\n")


main()
