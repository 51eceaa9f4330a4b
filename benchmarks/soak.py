"""Let 16 clients use a server for five minutes: right answers, flat memory, a clean end.

    python benchmarks/soak.py                print the figures as JSON
    python benchmarks/soak.py --write        and keep them in benchmarks/results/soak.json
    python benchmarks/soak.py --seconds 20   a quicker look

The server is `biddable serve mimic` in a process of its own. Each client picks what it does by its
own seeded draws: mostly it asks one of many prompts whose likeliest answer was taken before, one by
one, and compares; else it goes away in the middle of an answer, or sends something malformed,
something too long, or something huge. At the end the server is told to stop while all clients wait
for answers: those have to come, whole and right, or the connection is refused.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "soak.json"
NUM_CLIENTS, NUM_NEW = 16, 48
KINDS = {"whole": 40, "stream": 30, "leave": 12, "malformed": 8, "too long": 5, "huge": 5}
PLACES = ("France", "Spain", "Japan", "Peru", "Kenya", "Norway", "Egypt", "India", "Chile", "Cuba")
FORMS = ["What is the capital of {}?", "Tell me about {}.", "{} is known for", "In {}, people"]
PROMPTS = [form.format(place) for form in FORMS for place in PLACES]


def main() -> None:
    """Soak a server, and print or keep what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    text = json.dumps(soak(arguments.seconds), indent=1)
    if arguments.write:
        RESULT.write_text(text + "\n")
    print(text)


def soak(seconds: float) -> dict[str, Any]:
    """Run the server and its clients."""
    command = [sys.executable, "-m", "biddable", "serve", "mimic", "--template", "inst"]
    command += ["--port", "0", "--queue", "8", "--max-concurrent", "8"]
    place = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, env=place, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+:\d+", process.stdout.readline())
            assert found
            return asyncio.run(Soak(found[0], process).run(seconds))
        finally:
            process.kill()


class Soak:
    """Hold what the clients know and have seen."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        """Take where the server is."""
        self.url, self.process = url, process
        self.expected: dict[str, str] = {}
        self.seen: Counter[str] = Counter()
        self.wrong: list[dict[str, str]] = []
        self.memory: list[float] = []
        self.is_ending = False

    async def run(self, seconds: float) -> dict[str, Any]:
        """Take the answers, soak, and end."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            for prompt in PROMPTS:
                self.expected[prompt] = await self.whole(http, prompt)
        clients = [asyncio.create_task(self.client(number)) for number in range(NUM_CLIENTS)]
        watching = asyncio.create_task(self.watch())
        await asyncio.sleep(seconds)
        watching.cancel()
        self.is_ending = True
        self.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        await asyncio.gather(*clients)
        code = await asyncio.to_thread(self.process.wait, 60)
        tenths = [
            self.memory[n * len(self.memory) // 10 :][: len(self.memory) // 10] for n in range(10)
        ]
        return {
            "seconds": seconds,
            "clients": NUM_CLIENTS,
            "seen": dict(sorted(self.seen.items())),
            "wrong": len(self.wrong),
            "wrong_shown": self.wrong[:5],
            "memory_mb_by_tenth": [statistics.median(part) for part in tenths],
            "exit_code": code,
            "seconds_to_end": time.monotonic() - started,
        }

    async def watch(self) -> None:
        """Note the memory of the server four times a second."""
        server = psutil.Process(self.process.pid)
        while True:
            self.memory.append(server.memory_info().rss / 1e6)
            await asyncio.sleep(0.25)

    async def client(self, number: int) -> None:
        """Act until the server ends."""
        draws = random.Random(number)
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            while True:
                (kind,) = draws.choices(list(KINDS), list(KINDS.values()))
                try:
                    await getattr(self, f"act_{kind.replace(' ', '_')}")(http, draws)
                except httpx.ConnectError:
                    if self.is_ending:
                        return
                    self.seen["connection refused"] += 1
                except httpx.TransportError as error:
                    # a request that has not been taken yet when the server ends, or a huge one
                    name = "at the end" if self.is_ending else kind
                    self.seen[f"{name}: {type(error).__name__}"] += 1

    async def act_whole(self, http: httpx.AsyncClient, draws: random.Random) -> None:
        """Ask, and compare."""
        prompt = draws.choice(PROMPTS)
        self.compare(prompt, await self.whole(http, prompt), "whole")

    async def act_stream(self, http: httpx.AsyncClient, draws: random.Random) -> None:
        """Ask for a stream, and compare."""
        prompt = draws.choice(PROMPTS)
        text = await self.streamed(http, prompt, most=None)
        self.compare(prompt, text, "stream")

    async def act_leave(self, http: httpx.AsyncClient, draws: random.Random) -> None:
        """Go away in the middle."""
        await self.streamed(http, draws.choice(PROMPTS), most=draws.randrange(1, 20))
        self.seen["left"] += 1

    async def act_malformed(self, http: httpx.AsyncClient, draws: random.Random) -> None:
        """Send what is no request."""
        bad = [b"{", b"[]", b'{"model": "mimic"}', b'{"model": "mimic", "messages": [{"role": 1}]}']
        reply = await http.post("/v1/chat/completions", content=draws.choice(bad), headers=JSON)
        self.note(reply, "malformed", {400, 422})

    async def act_too_long(self, http: httpx.AsyncClient, draws: random.Random) -> None:
        """Ask more than the model takes."""
        reply = await http.post("/v1/chat/completions", json=asked("word " * 5000))
        self.note(reply, "too long", {400})

    async def act_huge(self, http: httpx.AsyncClient, draws: random.Random) -> None:
        """Send more than is let in."""
        reply = await http.post("/v1/chat/completions", json=asked("x" * (3 << 20)))
        self.note(reply, "huge", {413})

    async def whole(self, http: httpx.AsyncClient, prompt: str) -> str:
        """Ask for an answer at once; "" where there is no room."""
        reply = await http.post("/v1/chat/completions", json=asked(prompt))
        if reply.status_code in (429, 503):
            self.seen[str(reply.status_code)] += 1
            return ""
        assert reply.status_code == 200, reply.text
        text: str = reply.json()["choices"][0]["message"]["content"]
        return text

    async def streamed(self, http: httpx.AsyncClient, prompt: str, *, most: int | None) -> str:
        """Ask for a stream, and read so many of its events; "" where there is no room."""
        text, num_read = "", 0
        body = {**asked(prompt), "stream": True}
        async with http.stream("POST", "/v1/chat/completions", json=body) as reply:
            if reply.status_code in (429, 503):
                self.seen[str(reply.status_code)] += 1
                return ""
            async for line in reply.aiter_lines():
                num_read += bool(line)
                if line == "data: [DONE]" or (most is not None and num_read > most):
                    break
                if line:
                    (choice,) = json.loads(line.removeprefix("data: "))["choices"]
                    text += choice["delta"].get("content", "")
        return text

    def compare(self, prompt: str, text: str, kind: str) -> None:
        """Hold an answer against the one that was taken before."""
        if text:
            self.seen[f"{kind} at the end" if self.is_ending else kind] += 1
            if text != self.expected[prompt]:
                self.wrong.append({"prompt": prompt, "found": text, "is": self.expected[prompt]})

    def note(self, reply: httpx.Response, kind: str, statuses: set[int]) -> None:
        """Count a refusal, and hold it against what is right."""
        self.seen[kind] += 1
        if reply.status_code not in {*statuses, 503}:
            self.wrong.append({"prompt": kind, "found": str(reply.status_code), "is": "refused"})


JSON = {"content-type": "application/json"}


def asked(prompt: str) -> dict[str, Any]:
    """Write a request."""
    messages = [{"role": "user", "content": prompt}]
    return {"model": "mimic", "messages": messages, "max_tokens": NUM_NEW}


if __name__ == "__main__":
    main()
