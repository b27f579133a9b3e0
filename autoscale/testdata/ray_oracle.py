"""Writes ray.jsonl: loads, and what Ray Serve's own autoscaler makes of them.

    python3 -m venv /tmp/ray && /tmp/ray/bin/pip install 'ray[serve]==2.60.0'
    /tmp/ray/bin/python ray_oracle.py > ray.jsonl

Ray's policy, with its factors, delays and cold start, decides ten times a
second on a clock of its own; then its bounds are applied. The replicas that run
are those that the tick before has decided on. The load is the present one, or its mean, largest or smallest over the look-back period by
Ray's own aggregation.
"""

import json
import random
import sys

import ray
from ray.serve import autoscaling_policy
from ray.serve._private import metrics_utils
from ray.serve._private.common import TimeStampedValue
from ray.serve.config import AggregationFunction, AutoscalingConfig, AutoscalingContext

TICKS_PER_SECOND = 10
SECONDS = 150
CASES = 240


class Clock:
    now = 0.0

    def time(self):
        return self.now


def some_block(rng):
    least = rng.choice([0, 0, 1, 1, 2, 3])
    block = {
        "min_replicas": least,
        "max_replicas": max(1, least + rng.choice([1, 4, 10, 40])),
        "target_ongoing_requests": rng.choice([0.5, 1, 2, 4, 5, 16]),
        "upscale_delay": rng.choice([0, 0, 1, 5, 30]),
        "downscale_delay": rng.choice([0, 2, 10, 45]),
        "downscale_to_zero_delay": rng.choice([0, 3, 20, 60]),
        "upscaling_factor": rng.choice([1, 1, 1, 0.5, 0.25, 1.5, 2]),
        "downscaling_factor": rng.choice([1, 1, 1, 0.5, 0.25]),
        "look_back_period": rng.choice([0, 0, 5, 20]),
        "aggregation": rng.choice(["mean", "mean", "max", "min"]),
    }
    if rng.random() < 0.3:
        block["initial_replicas"] = rng.randint(least, block["max_replicas"])
    return block


def some_load(rng):
    scale = rng.choice([2, 10, 60])
    at, lines = 0, []
    while at < SECONDS:
        lines.append([at, rng.choice([0, 0, rng.randint(0, scale), rng.randint(0, scale * 4) / 4])])
        at += rng.choice([1, 3, 10, 25])
    return lines


def aggregated(block, lines, now):
    seen = [line for line in lines if line[0] <= now]
    if block["look_back_period"] == 0:
        return seen[-1][1]
    start = max(seen[0][0], now - block["look_back_period"])
    # What held at the window's start is a point of it, as in a report that is
    # clipped to the window; the last value holds until now.
    held = [line for line in seen if line[0] <= start][-1]
    points = [TimeStampedValue(start, held[1])]
    points += [TimeStampedValue(at, value) for at, value in seen if at > start]
    return metrics_utils.aggregate_timeseries(
        points,
        AggregationFunction(block["aggregation"]),
        last_window_s=max(now - points[-1].timestamp, 0.001),
    )


def run(block, lines):
    clock = Clock()
    autoscaling_policy.time = clock
    config = AutoscalingConfig(
        min_replicas=block["min_replicas"],
        max_replicas=block["max_replicas"],
        initial_replicas=block.get("initial_replicas"),
        target_ongoing_requests=block["target_ongoing_requests"],
        upscale_delay_s=block["upscale_delay"],
        downscale_delay_s=block["downscale_delay"],
        downscale_to_zero_delay_s=block["downscale_to_zero_delay"],
        upscaling_factor=block["upscaling_factor"],
        downscaling_factor=block["downscaling_factor"],
    )
    policy = autoscaling_policy._apply_autoscaling_config(
        autoscaling_policy.replica_queue_length_autoscaling_policy
    )
    target = block.get("initial_replicas", block["min_replicas"])
    state, changes = {}, []
    for tick in range(SECONDS * TICKS_PER_SECOND + 1):
        now = tick / TICKS_PER_SECOND
        clock.now = now
        total = aggregated(block, lines, now)
        ctx = AutoscalingContext(
            deployment_id=None, deployment_name="d", app_name="a",
            current_num_replicas=target, target_num_replicas=target, running_replicas=[],
            total_num_requests=total, total_queued_requests=None,
            aggregated_metrics=None, raw_metrics=None,
            capacity_adjusted_min_replicas=block["min_replicas"],
            capacity_adjusted_max_replicas=block["max_replicas"],
            policy_state=state, last_scale_up_time=None, last_scale_down_time=None,
            current_time=now, config=config,
        )
        decided, state = policy(ctx)
        decided = max(block["min_replicas"], min(block["max_replicas"], decided))
        if decided != target:
            changes.append([now, decided])
        target = decided
    return changes


def main():
    rng = random.Random(1)
    out = sys.stdout
    out.write(json.dumps({"ray": ray.__version__, "tick": 1 / TICKS_PER_SECOND, "until": SECONDS}) + "\n")
    for _ in range(CASES):
        block, lines = some_block(rng), some_load(rng)
        out.write(json.dumps({"block": block, "load": lines, "changes": run(block, lines)}) + "\n")


main()
