"""Put measured figures into the README: `python bench/readme.py`.

After `pyhash bench --out docs`, bench_quality.py and bench_retrieval.py. Between its marks the README holds nothing but
what this copies out of docs/benchmarks.json, docs/heads.md and docs/quality.md, so that no figure is typed by hand.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# (case, figure) and what the README calls it
SPEED = [
    ("clustered codes, 64 a call", "x FAISS flat", "1M clustered codes, 64 queries a call"),
    ("clustered codes, one a call", "x FAISS flat", "the same, one query a call from Python"),
    ("batch", "x FAISS flat", "2M uniform codes, 512 queries a call"),
    ("batch, AVX2 kernel", "x FAISS flat", "the same, AVX2 only"),
    ("one query, memory", "x FAISS flat", "one query over codes in memory"),
    ("real codes, one a call", "x FAISS flat", "2M codes: 20 noisy copies of a real network's, one query a call"),
    ("batch", "x USearch exact", "2M uniform codes, beside USearch exact"),
    ("pairs, 1,000,000 uniform codes, radius 4", "x FAISS range_search", "all pairs of 1M uniform codes within 4 bits"),
    ("by hand", "x packed NumPy, one query", "one query, beside packed NumPy"),
    ("by hand", "x textbook NumPy, one query", "one query, beside textbook NumPy"),
]


def speed_table() -> str:
    """Return the short table of speed-ups."""
    measured = json.loads((ROOT / "docs" / "benchmarks.json").read_text())
    values = {(row["case"], row["figure"], row["bits"]): row["value"] for row in measured["rows"]}
    widths = (64, 128, 256, 512)
    lines = ["| times as fast as FAISS `IndexBinaryFlat`, or as it says | " + " | ".join(map(str, widths)) + " bits |"]
    lines.append("|---|" + "---:|" * len(widths))
    for case, figure, label in SPEED:
        found = [values.get((case, figure, bits)) for bits in widths]
        lines.append(f"| {label} | " + " | ".join("" if value is None else f"{value:.3g}" for value in found) + " |")
    about = measured["environment"]
    versions = ", ".join(
        f"{name} {about[name]}" for name in ("faiss-cpu", "usearch", "numpy", "python") if name in about
    )
    lines.append(f"\nMeasured on one core of {about['cpu']} ({about['kernel']} kernel); {versions}.")
    return "\n".join(lines)


def quality_table() -> str:
    """Return the table that the page of heads begins with."""
    page = (ROOT / "docs" / "heads.md").read_text()
    section = page.split("## In short", 1)[1].split("\n## ", 1)[0]
    return "\n".join(line for line in section.splitlines() if line.startswith("|"))


def model_table() -> str:
    """Return the galleries' P@5 / mAP with the built-in encoders, beside their peers', of the page of quality."""
    page = (ROOT / "docs" / "quality.md").read_text()
    table = page.split("### No option, no label")[1].split("\n### ")[0]
    columns = {
        "`index`, `search`": "as they come",
        "256-bit code alone": "256-bit code alone",
        "cosine": "cosine of floats",
    }
    columns |= {"pHash": "pHash, 64 bits"}
    figures: dict[tuple[str, str], dict[str, str]] = {}
    for line in table.strip().splitlines()[2:]:
        encoder, title, ranked, at_five, _, average = (cell.strip() for cell in line.split("|")[1:7])
        column = next((name for start, name in columns.items() if ranked.startswith(start)), None)
        if column is not None:
            figures.setdefault((encoder, title), {})[column] = f"{at_five.split()[0]} / {average}"
    lines = ["| encoder | set, queries over collection | " + " | ".join(columns.values()) + " |"]
    lines.append("|---|---|" + "---:|" * len(columns))
    lines += [
        f"| {' | '.join((*key, *(found[name] for name in columns.values())))} |" for key, found in figures.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Fill the README."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    tables = {"benchmarks": speed_table(), "quality": quality_table(), "built-in": model_table()}
    for name, table in tables.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        assert marks.search(text), f"README.md must have the marks of {name}"
        text = marks.sub(lambda found, table=table: found[1] + table + "\n" + found[2], text)
    readme.write_text(text)


if __name__ == "__main__":
    main()
