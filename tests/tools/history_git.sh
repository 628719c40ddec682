# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# log, last-modified, merge-base, with git itself as the judge: a random history with merges, crossed lines, and clocks that go wrong.

_need_git() {
    _need git
    export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 HOME="$PWD"
}

# A stream of $1 commits for git fast-import; the branch bN stands on commit N.
_stream() {
    awk -v n="$1" -v seed="${CMB_SEED:-1}" '
    function below(k) { return int(rand() * k) }
    function path(k) { return substr("abc", k % 3 + 1, 1) "/" int(k / 3) }
    BEGIN {
        srand(seed)
        print "CMB_SEED=" seed >"/dev/stderr"
        for (i = 1; i <= n; i++) {
            if (i == 1 || rand() < 0.03) printf "reset refs/heads/b%d\n\n", i
            printf "commit refs/heads/b%d\nmark :%d\ncommitter C <c@c> %d +0000\ndata 2\nm\n", i, i, 1000000 + i * 400 + below(3000)
            if (i > 1 && rand() > 0.03) {
                window = rand() < 0.8 ? 6 : 40
                split("", taken)
                parents = rand() < 0.6 ? 1 : rand() < 0.9 ? 2 : 3
                for (p = 0; p < parents; p++) {
                    from = i - 1 - below(window < i - 1 ? window : i - 1)
                    if (from in taken) continue
                    printf "%s :%d\n", p ? "merge" : "from", from
                    taken[from] = 1
                }
                # A merge may take a file from one of its parents, or be changed itself.
            }
            for (changes = below(3); changes > 0; changes--) {
                if (rand() < 0.2) printf "D %s\n", path(below(9))
                else printf "M %s inline %s\ndata 2\n%d\n", rand() < 0.2 ? "100755" : "100644", path(below(9)), below(4)
            }
            print ""
        }
    }'
}

# `repo` and `h.cmb` with the same history of $1 commits; `ids`: the names in git and here.
_both() {
    _need_git
    git init -q --bare repo
    _stream "$1" | git -C repo fast-import --quiet
    git -C repo commit-graph write --reachable # by dates alone git errs where clocks do
    cambium init h.cmb
    git -C repo fast-export --all --show-original-ids | cambium import-git h.cmb --marks marks
    awk '{ print $3, $2 }' marks >ids
    [ "$(wc -l <ids)" -eq "$1" ] || _fail 'not every commit has a mark'
}

# Names in git, one a line, as ids.
_as_ids() {
    awk 'NR == FNR { id[$1] = $2; next } { print id[$1] }' ids -
}

# Some $1 pairs of numbers from 1 to $2.
_pairs() {
    awk -v n="$1" -v m="$2" -v seed="${CMB_SEED:-1}" 'BEGIN { srand(seed + 7); while (n-- > 0) print 1 + int(rand() * m), 1 + int(rand() * m) }'
}

_ids_of_log() {
    cambium log h.cmb "$@" --json | sed 's/^{"commit": "\([0-9a-f]*\)".*/\1/'
}

_same() {
    cmp -s wanted got || {
        diff wanted got || true
        _fail "CMB_SEED=${CMB_SEED:-1}: $1"
    }
}

merge_bases_are_those_of_git() {
    _both 150
    _pairs 25 150 | while read -r a b; do
        git -C repo merge-base --all "b$a" "b$b" | _as_ids | sort >wanted || true
        cambium merge-base h.cmb "b$a" "b$b" --all | sort >got || true
        _same "merge-base b$a b$b"
    done
}

whole_histories_come_in_the_order_of_git() {
    _both 150
    _pairs 6 150 | while read -r a b; do
        for order in --topo-order --date-order; do
            git -C repo log --format=%H $order "b$a" | _as_ids >wanted
            _ids_of_log "b$a" $order >got
            _same "log $order b$a"
            git -C repo log --format=%H $order "b$a..b$b" | _as_ids >wanted
            _ids_of_log "b$a..b$b" $order >got
            _same "log $order b$a..b$b"
        done
        git -C repo log --format=%H --first-parent "b$a" | _as_ids >wanted
        _ids_of_log "b$a" --first-parent >got
        _same "log --first-parent b$a"
    done
}

histories_of_files_and_directories_are_those_of_git() {
    _both 150
    _pairs 10 150 | while read -r a b; do
        for path in a/0 c/2; do
            git -C repo log --format=%H --date-order "b$a" -- $path | _as_ids >wanted
            _ids_of_log "b$a" $path --date-order >got
            _same "log b$a $path"
            # git may look at a merge before it knows which of its parents are excluded, and then loses sides of it.
            git -C repo log --format=%H --topo-order "b$a..b$b" -- $path | _as_ids >wanted
            _ids_of_log "b$a..b$b" $path --topo-order >all
            grep -xFf wanted all >got || true
            _same "log b$a..b$b $path"
        done
        git -C repo log --format=%H --topo-order "b$a" -- b/ | _as_ids >wanted
        _ids_of_log "b$a" --prefix b/ --topo-order >got
        _same "log b$a --prefix b/"
        git -C repo log --format=%H --first-parent "b$b" -- b/ a/1 | _as_ids >wanted
        _ids_of_log "b$b" a/1 --prefix b/ --first-parent >got
        _same "log b$b a/1 --prefix b/ --first-parent"
    done
}
