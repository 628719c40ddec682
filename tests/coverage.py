# SPDX-License-Identifier: ISC
"""Sums up what gcovr counted: coverage.py FILE.json. One line a file and a folder; then the largest parts that no test runs."""
import collections
import json
import sys

SHOWN = 40  # parts that no test runs


def percent(hit, all_):
    return 100.0 * hit / all_ if all_ else 100.0


def count(file):
    lines = [line for line in file["lines"] if not line.get("gcovr/noncode")]
    branches = [b for line in lines for b in line["branches"]]
    return [sum(l["count"] > 0 for l in lines), len(lines), sum(b["count"] > 0 for b in branches), len(branches)]


def gaps(file):
    """Runs of code lines that were never run: (how many, first, last)."""
    first = last = n = 0
    for line in sorted(file["lines"], key=lambda l: l["line_number"]):
        if line.get("gcovr/noncode"):
            continue
        if line["count"]:
            if n:
                yield n, first, last
            n = 0
        else:
            first = first if n else line["line_number"]
            last, n = line["line_number"], n + 1
    if n:
        yield n, first, last


def show(name, c):
    print(f"{name:32} lines {percent(c[0], c[1]):6.1f} % {c[0]:6} of {c[1]:6}    branches {percent(c[2], c[3]):6.1f} % {c[2]:6} of {c[3]:6}")


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        files = json.load(f)["files"]
    folders = collections.defaultdict(lambda: [0, 0, 0, 0])
    holes = []
    for file in sorted(files, key=lambda f: f["file"]):
        c = count(file)
        show(file["file"], c)
        for name in (file["file"].split("/")[0] + "/", "all"):
            folders[name] = [a + b for a, b in zip(folders[name], c)]
        holes += [(n, file["file"], first, last) for n, first, last in gaps(file)]
    print()
    for name in sorted(folders, key=lambda n: (n == "all", n)):
        show(name, folders[name])
    print("\nlargest parts that no test runs:")
    for n, file, first, last in sorted(holes, reverse=True)[:SHOWN]:
        print(f"{n:4} lines  {file}:{first}-{last}")


main()
