"""Clients of a service, for `bench_serve.py`: a process that needs next to nothing of the machine.

    python bench/serve_clients.py PORT CLIENTS SECONDS FOLDER KIND

asks with the files of FOLDER, bodies of requests of one kind, and prints as JSON the seconds that each answer took, how
many were none, and how long it lasted.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time


def main() -> None:
    """Ask, each client with one connection, one question after another."""
    port, clients, seconds, folder, kind = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:6]
    bodies = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            bodies.append(file.read())
    took: list[float] = []
    failed: list[int] = []
    began = time.perf_counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            connection.request("POST", "/v1/search", bodies[number % len(bodies)], {"Content-Type": kind})
            answer = connection.getresponse()
            answer.read()
            took.append(time.perf_counter() - asked)
            if answer.status != 200:
                failed.append(answer.status)
            number += clients

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"took": sorted(took), "failed": len(failed), "lasted": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
