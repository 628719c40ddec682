#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""git as the judge of histories: what cambium says of an imported repository against what git says.

usage: oracle.py [--pairs N] [--bases N] [--merges N] [--random N] [--seed N] [--work DIR] CAMBIUM REPOSITORY...

With --random N a repository of N commits is made first: branches that merge each other criss-cross, octopus merges, files that
become directories, modes that change. For each repository:
  round trip   fast-export --all, import-git, export-git, fast-import into an empty repository: every branch and tag has
               the name that git itself gives it when it reads the same stream (git drops the signatures of commits when
               it exports), and the name that it had wherever git keeps it.
  diff         of N random pairs of commits, `diff --name-status` against `git diff --no-renames --name-status`.
  merge-base   --all of N random pairs of commits, those of criss-cross histories first.
  merge        of the parents of N merge commits (all with --merges 0): where git merges without a conflict and no path was
               changed on both sides, the same paths, modes and blobs as `git merge-tree --write-tree` without renames; where paths
               were, the list of conflicts is exactly the paths that both sides changed differently.
Prints a line for each and exits with 1 if anything differs. The same seed chooses the same commits.
"""
import argparse
import base64
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

EXPORT = ["--all", "--signed-tags=verbatim", "--tag-of-filtered-object=drop",
          "--reencode=no", "--mark-tags"]
MODE_KEY = b"\0mode\0"


class Judge:
    def __init__(self, cambium, repo, work, seed):
        self.cambium, self.repo, self.work = os.path.abspath(cambium), os.path.abspath(repo), work
        self.random = random.Random(seed)
        self.image = os.path.join(work, "image.cmb")
        self.wrong = 0
        self.env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1",
                        GIT_OBJECT_DIRECTORY=os.path.join(work, "objects"),
                        GIT_ALTERNATE_OBJECT_DIRECTORIES=self.objects_of(self.repo))
        os.makedirs(self.env["GIT_OBJECT_DIRECTORY"], exist_ok=True)

    @staticmethod
    def objects_of(repo):
        out = subprocess.run(["git", "-C", repo, "rev-parse", "--git-path", "objects"], check=True, capture_output=True)
        return os.path.join(repo, out.stdout.decode().strip())

    def git(self, *args, status=(0,)):
        p = subprocess.run(["git", "-C", self.repo, *args], capture_output=True, env=self.env)
        if p.returncode not in status:
            sys.exit(f"git {' '.join(args)}: {p.stderr.decode(errors='replace')}")
        return p.stdout if len(status) == 1 else (p.returncode, p.stdout)

    def ours(self, *args, status=(0,)):
        command, *rest = args
        p = subprocess.run([self.cambium, command, self.image, *rest], capture_output=True)
        if p.returncode not in status:
            sys.exit(f"cambium {' '.join(args)}: status {p.returncode}: {p.stderr.decode(errors='replace')}")
        return p.stdout if len(status) == 1 else (p.returncode, p.stdout)

    def differs(self, what):
        self.wrong += 1
        if self.wrong <= 20:
            print(f"DIFFERS: {what}")

    # ---- round trip ----

    def round_trip(self):
        stream, back, marks = (os.path.join(self.work, n) for n in ("stream", "back", "marks"))
        with open(stream, "wb") as out:
            subprocess.run(["git", "-C", self.repo, "fast-export", *EXPORT], stdout=out, check=True)
        subprocess.run([self.cambium, "init", self.image], check=True)
        self.ours("import-git", "--marks", marks, stream)
        self.ours("export-git", back)
        refs = {}
        for which, source in (("git", stream), ("copy", back)):
            path = os.path.join(self.work, which)
            subprocess.run(["git", "init", "-q", "--bare", path], check=True)
            with open(source, "rb") as data:
                subprocess.run(["git", "-C", path, "fast-import", "--quiet", "--date-format=raw-permissive",
                                "--export-marks=marks"], stdin=data, check=True, stdout=subprocess.DEVNULL)
            refs[which] = self.refs_of(path)
            os.remove(source)
        own = self.refs_of(self.repo)
        for ref in sorted(set(refs["git"]) | set(refs["copy"])):
            if refs["git"].get(ref) != refs["copy"].get(ref):
                self.differs(f"ref {ref}: git makes {refs['git'].get(ref)}, we {refs['copy'].get(ref)}")
        same = sum(own[r] == refs["copy"].get(r) for r in own)
        print(f"round trip   {len(refs['copy'])} refs as git makes them of its own stream; "
              f"{same} of the repository's {len(own)} have the name that they had")
        shutil.rmtree(os.path.join(self.work, "copy"))
        self.go_on_with(os.path.join(self.work, "git"), marks)

    def go_on_with(self, repo, marks):
        """From here on what git made of the stream is the judge: now and then it is not what the stream was made of."""
        self.repo = repo
        self.env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = self.objects_of(repo)
        with open(os.path.join(repo, "marks")) as lines:
            names = dict(line.split() for line in lines)
        self.ids, self.names = {}, {}
        with open(marks) as lines:
            for line in lines:
                mark, ident = line.split()[:2]
                self.ids[names[mark]], self.names[ident] = ident, names[mark]

    @staticmethod
    def refs_of(path):
        out = subprocess.run(["git", "-C", path, "for-each-ref", "--format=%(refname) %(objectname)"], check=True,
                             capture_output=True).stdout.decode()
        return dict(line.split(" ") for line in out.splitlines())

    # ---- diff ----

    @staticmethod
    def field(text):
        def one(m):
            c = m.group(1)
            return {b"t": b"\t", b"n": b"\n", b"\\": b"\\"}.get(c) or bytes([int(c[1:], 16)])
        return re.sub(rb"\\(x[0-9a-f]{2}|.)", one, text)

    def our_changes(self, a, b):
        changes = {}
        for line in self.ours("diff", a, b, "--name-status").splitlines():
            status, key = line.split(b"\t", 1)
            changes[self.field(key)] = status
        return changes

    def git_changes(self, a, b):
        parts = self.git("diff", "--no-renames", "--name-status", "-z", a, b).split(b"\0")
        return dict(zip(parts[1::2], parts[0::2]))

    def diff(self, count):
        names = sorted(self.ids)
        for _ in range(count):
            a, b = self.random.choice(names), self.random.choice(names)
            want, found = self.git_changes(a, b), self.our_changes(self.ids[a], self.ids[b])
            if want != found:
                odd = sorted(k for k in set(want) | set(found) if want.get(k) != found.get(k))[:3]
                self.differs(f"diff {a} {b}: {[(k, want.get(k), found.get(k)) for k in odd]}")
        print(f"diff         {count} pairs")

    # ---- merge bases ----

    def bases(self, a, b):
        status, out = self.git("merge-base", "--all", a, b, status=(0, 1))
        want = set(out.decode().split())
        _, out = self.ours("merge-base", "--all", self.ids[a], self.ids[b], status=(0, 1))
        found = {self.names[i] for i in out.decode().split()}
        if want != found:
            self.differs(f"merge-base --all {a} {b}: git {sorted(want)}, we {sorted(found)}")
        return want

    def merge_bases(self, count):
        merges = [line.split()[1:3] for line in self.git("rev-list", "--all", "--merges", "--parents").decode().splitlines()]
        self.random.shuffle(merges)
        names = sorted(self.ids)
        pairs = merges[:count // 2]
        while len(pairs) < count:
            pairs.append([self.random.choice(names), self.random.choice(names)])
        several = sum(len(self.bases(a, b)) > 1 for a, b in pairs)
        print(f"merge-base   {count} pairs, {several} of them with several")

    # ---- merges ----

    def changed(self, a, b):
        """path -> (mode, blob) after, or None where it is gone."""
        parts = self.git("diff-tree", "-r", "--raw", "-z", "--no-renames", "--full-index", a, b).split(b"\0")
        out = {}
        for info, path in zip(parts[0::2], parts[1::2]):
            _, mode, _, blob, status = info.split(b" ")
            out[path] = None if status == b"D" else (mode, blob)
        return out

    def at(self, commit, path):
        out = self.git("ls-tree", "-z", "--full-tree", commit, "--", path)
        if not out:
            return None
        mode, _, blob = out.split(b"\t")[0].split(b" ")
        return mode, blob

    def expected_conflicts(self, base, a, b):
        """Content and mode of a path are merged each by itself."""
        ours, theirs = self.changed(base, a), self.changed(base, b)
        both = {p for p in ours if p in theirs}
        conflicts = set()
        for path in both:
            x, y = ours[path], theirs[path]
            if x == y:
                continue
            old = self.at(base, os.fsdecode(path))
            for i in (0, 1):
                side = [None if e is None or (i == 0 and e[0] == b"100644") else e[i] for e in (old, x, y)]
                if side[1] != side[2] and side[1] != side[0] and side[2] != side[0]:
                    conflicts.add(path)
        return both, conflicts

    def our_merge(self, a, b):
        """The conflicts, or the state that the merge made, on the branch `judged`."""
        self.ours("branch", "create", "judged", self.ids[a])
        status, out = self.ours("merge", self.ids[b], "-b", "judged", "--no-ff", "-m", "judged", "--json", status=(0, 1))
        conflicts = set()
        for line in out.splitlines() if status else []:
            entry = json.loads(line)
            if "conflict" in entry:
                key = entry["conflict"]
                key = base64.b64decode(key["base64"]) if isinstance(key, dict) else key.encode()
                conflicts.add(key[len(MODE_KEY):] if key.startswith(MODE_KEY) else key)
        return status, conflicts

    def same_content(self, a, tree):
        """Against the first parent, which both have: paths, and what is in them."""
        want = self.changed(a, tree)
        found = self.our_changes(self.ids[a], "judged")
        if set(want) != set(found):
            return f"paths {sorted(set(want) ^ set(found))[:3]}"
        for path, entry in want.items():
            if entry is None or entry[0] == b"160000":
                continue
            value = subprocess.run([self.cambium, "get", self.image, path.hex(), "--hex", "-b", "judged"],
                                   capture_output=True)
            blob = hashlib.sha1(b"blob %d\0" % len(value.stdout) + value.stdout).hexdigest().encode()
            if value.returncode or blob != entry[1]:
                return f"blob of {path!r}"
        return None

    def merge(self, commit, a, b, counts):
        bases = self.bases(a, b)
        if len(bases) > 1:
            counts["several bases"] += 1
        base = next(iter(bases)) if len(bases) == 1 else None
        both, expected = (self.expected_conflicts(base, a, b)) if base else (None, None)
        status, conflicts = self.our_merge(a, b)
        if both is not None and conflicts != expected:
            self.differs(f"merge {commit}: conflicts {sorted(conflicts ^ expected)[:3]}")
        if both:
            counts["paths changed on both sides"] += 1
            counts["conflicts"] += bool(expected)
        elif status == 0:
            code, out = self.git("-c", "merge.renames=false", "merge-tree", "--write-tree", "--allow-unrelated-histories", a, b,
                                 status=(0, 1))
            if code == 0:
                counts["compared with merge-tree"] += 1
                wrong = self.same_content(a, out.decode().split()[0])
                if wrong and both is not None:
                    self.differs(f"merge {commit}: {wrong}")
            else:
                counts["file and directory, left out"] += 1
        self.ours("branch", "delete", "judged")

    def merges(self, count):
        lines = [line.split() for line in self.git("rev-list", "--all", "--merges", "--parents").decode().splitlines()]
        lines = [line for line in lines if len(line) == 3]
        if count and count < len(lines):
            lines = self.random.sample(lines, count)
        counts = dict.fromkeys(["several bases", "paths changed on both sides", "conflicts", "compared with merge-tree",
                                "file and directory, left out"], 0)
        for commit, a, b in lines:
            self.merge(commit, a, b, counts)
        print(f"merge        {len(lines)} merge commits: " + ", ".join(f"{n} {what}" for what, n in counts.items()))


def random_repository(repo, commits, seed):
    """A few lines of history that edit the same files and merge each other."""
    rng = random.Random(seed)
    paths = [f"{d}{i}" for d in ("", "a/", "a/b/", "\u00fc/", "x y/") for i in range(6)]
    tips, out = [], []

    def data(text):
        raw = text.encode()
        return b"data %d\n%s\n" % (len(raw), raw)

    for mark in range(1, commits + 1):
        fresh = not tips or rng.random() < 0.01
        parents = [] if fresh else rng.sample(tips, min(len(tips), rng.choice((1, 1, 1, 2, 2, 3))))
        files = {}
        for path in paths:  # what a careless person might have made of the parents
            side = rng.choice(parents)[1] if parents else {}
            if path in side:
                files[path] = side[path]
        for _ in range(rng.randrange(0, 4)):
            path = rng.choice(paths)
            if rng.random() < 0.2:
                files.pop(path, None)
            else:
                files[path] = (rng.choice(("100644", "100644", "100755", "120000")), f"content {rng.randrange(40)}")
        who = b"A U Thor <author@example.org> %d +0%d00" % (1000000000 + 60 * mark, rng.randrange(10))
        out += [b"commit refs/heads/b%d\nmark :%d\nauthor %s\ncommitter %s\n" % (mark, mark, who, who), data(f"commit {mark}")]
        out += [b"%s :%d\n" % (b"merge" if i else b"from", parent[0]) for i, parent in enumerate(parents)]
        out.append(b"deleteall\n")
        for path, (mode, content) in sorted(files.items()):
            out += [b"M %s inline \"%s\"\n" % (mode.encode(), path.encode()), data(content)]
        tips = (tips + [(mark, files)])[-8:]
        if mark % 50 == 0:
            out += [b"tag t%d\nfrom :%d\ntagger %s\n" % (mark, mark, who), data(f"tag {mark}")]
    subprocess.run(["git", "init", "-q", "--bare", repo], check=True)
    subprocess.run(["git", "-C", repo, "fast-import", "--quiet"], input=b"".join(out), check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--bases", type=int, default=1000)
    parser.add_argument("--merges", type=int, default=100)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", default=None)
    parser.add_argument("cambium")
    parser.add_argument("repositories", nargs="*")
    options = parser.parse_args()
    wrong = 0
    if options.random:
        options.repositories.append(None)
    for repo in options.repositories:
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            if not repo:
                repo = os.path.join(work, "random")
                random_repository(repo, options.random, options.seed)
            print(f"{repo}, seed {options.seed}", flush=True)
            judge = Judge(options.cambium, repo, work, options.seed)
            judge.round_trip()
            judge.diff(options.pairs)
            judge.merge_bases(options.bases)
            judge.merges(options.merges)
            print(f"             {judge.wrong} differences", flush=True)
            wrong += judge.wrong
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
