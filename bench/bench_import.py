"""What `import pyhash` costs beside `import numpy`: median over fresh processes, taken in turn.

python bench/bench_import.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys

# The clock starts when the interpreter is up, so that its own start does not hide the difference.
CODE = "import time; begun = time.perf_counter_ns(); {}; print(time.perf_counter_ns() - begun)"
CASES = {
    "import numpy": "import numpy",
    "import pyhash": "import pyhash",
    "import numpy, pyhash": "import numpy, pyhash",
    "... and its Index": "import pyhash; pyhash.Index",
    "... Index, Encoder and Gallery": "import pyhash; pyhash.Index, pyhash.Encoder, pyhash.Gallery",
}


def milliseconds(statement: str) -> float:
    """Run a statement in a new interpreter; return how long it took."""
    command = [sys.executable, "-P", "-c", CODE.format(statement)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) / 1e6


def main(runs: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(runs):
        for name, statement in CASES.items():
            times[name].append(milliseconds(statement))
    base = statistics.median(times["import numpy"])
    print(f"{'':32}  median ms   of numpy   ({runs} runs, Python {sys.version.split()[0]})")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:32}  {median:9.1f}   {median / base:8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
