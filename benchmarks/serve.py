"""Measure how much more a server writes for eight clients at once than for one.

    python benchmarks/serve.py              print the figures as JSON
    python benchmarks/serve.py --write      and keep them in benchmarks/results/serve.json
    python benchmarks/serve.py --rounds 1   a quicker look
    python benchmarks/serve.py --gguf FILE  that file alone, under llama.cpp; not kept

The server is `biddable serve` in a process of its own, on all cores; clients are threads that ask
for whole completions of 48 ids and ask again when one has come. One client and eight take turns,
for the same seconds each; a pair is two turns that follow each other. A figure is all ids that were
written in whole answers of a turn, by its seconds. A first turn of each is not counted.
"""

import argparse
import http.client
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "serve.json"
NUM_NEW, MANY = 48, 8
SECONDS = {"mimic": 5.0, "smollm2": 12.0}  # of a turn
TARGET = 3.0
PLACES = "France Spain Japan Peru Kenya Norway Egypt India Chile Cuba Mali Oman Iraq Fiji Laos Togo"
PROMPTS = [f"A long page about {place} and its people.\n\n{place} is" for place in PLACES.split()]


def main() -> None:
    """Measure both models, and print or keep what comes out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--gguf", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.gguf:
        print(json.dumps(measure(arguments.gguf, arguments.rounds), indent=1))
        return
    models = {name: measure(name, arguments.rounds) for name in SECONDS}
    found = {"target": TARGET, "models": models, "machine": machine()}
    text = json.dumps(found, indent=1)
    if arguments.write:
        RESULT.write_text(text + "\n")
    print(text)


def measure(name: str, num_rounds: int) -> dict[str, Any]:
    """Let one client and eight take turns at one server."""
    command = [sys.executable, "-m", "biddable", "serve", name, "--port", "0"]
    place = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, env=place, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
            assert found
            return _pairs(found[0], name, num_rounds)
        finally:
            process.terminate()


def _pairs(address: str, name: str, num_rounds: int) -> dict[str, Any]:
    runs: dict[int, list[float]] = {1: [], MANY: []}
    for number in range(num_rounds + 1):
        for clients in list(runs)[:: 1 if number % 2 else -1]:
            speed = turn(
                address, name, clients, SECONDS.get(name, SECONDS["smollm2"]) / (1 if number else 3)
            )
            print(f"{name} {number}: {clients} clients {speed:.1f} ids/s", file=sys.stderr)
            if number:
                runs[clients].append(speed)
    ratios = [many / one for one, many in zip(runs[1], runs[MANY], strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "ids_per_s": {str(clients): statistics.median(speeds) for clients, speeds in runs.items()},
        "runs": {str(clients): speeds for clients, speeds in runs.items()},
    }


def turn(address: str, name: str, num_clients: int, seconds: float) -> float:
    """Let clients ask for some seconds, and return the ids a second that they got."""
    counts = [0] * num_clients
    started = time.perf_counter()
    ends = [0.0] * num_clients

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(address, timeout=120)
        n = number
        while time.perf_counter() - started < seconds:
            body = {"model": name, "prompt": PROMPTS[n % len(PROMPTS)], "max_tokens": NUM_NEW}
            connection.request(
                "POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"}
            )
            reply = json.loads(connection.getresponse().read())
            counts[number] += reply["usage"]["completion_tokens"]
            n += num_clients
        ends[number] = time.perf_counter()

    threads = [threading.Thread(target=client, args=(n,)) for n in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (max(ends) - started)


def machine() -> dict[str, Any]:
    """Say where and with what this was measured."""
    names = ("torch", "transformers", "fastapi", "uvicorn")
    return {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
    }


if __name__ == "__main__":
    main()
