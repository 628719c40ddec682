/* SPDX-License-Identifier: ISC */
/* cambium-bench: runs the workloads of work.h side by side and reports ratios. */
#include "bench/child.h"
#include "bench/report.h"
#include "bench/store.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    bench *bench;
    result *result;
    unsigned side, repetition;
    uint64_t check;
} job;

typedef struct program {
    bench_config config;
    const char *out;  /* prefix of the files that are written */
    const char *load; /* what --load says, or NULL */
    bench bench;
    workload work[WORK_MAX];
    result results[WORK_MAX];
    job *jobs;
    const job *current;
    char about[SIDES][256];
} program;

static const char usage[] =
    "usage: cambium-bench [OPTION]...\n"
    "Runs the same work on LMDB and on Cambium in turn and prints how many times faster Cambium is.\n\n"
    "  --entries N        entries that are loaded (5000000); the other counts follow\n"
    "  --repetitions N    runs a side (5)\n"
    "  --git-stream FILE  a git fast-export stream for import-git\n"
    "  --git-repo DIR     the same from all branches and tags of a repository\n"
    "  --dir DIR          where the databases are made, and removed at the end (.)\n"
    "  --out PREFIX       writes PREFIX.json, .md, .svg and -diff.svg (bench)\n"
    "  --filter REGEX     only workloads whose name matches\n"
    "  --residency MODE   Cambium's nodes: auto, map or pool (auto)\n"
    "  --io OPTIONS       Cambium's device options, as in io=uring\n"
    "  --txn-memory MIB   what a transaction of Cambium's may hold in memory (as much as the data needs)\n"
    "  --list             names of the workloads\n"
    "  --load SIDE:ORDER  fills the empty directory DIR as one load of a benchmark does and prints the seconds; SIDE 0\n"
    "                     (the peer) or 1 (Cambium), ORDER sorted, sorted-nosync or random\n";

static size_t at_least(size_t value, size_t least)
{
    return value < least ? least : value;
}

static size_t number(const char *text, size_t least, size_t most)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end || end == text || value < least || value > most) {
        fprintf(stderr, "cambium-bench: '%s' is not a number from %zu to %zu\n", text, least, most);
        exit(64);
    }
    return (size_t)value;
}

/* Everything follows from the number of entries as in the published shape: 5,000,000 entries, 1,000,000 gets, … */
static void complete(bench_config *c)
{
    c->gets = at_least(c->entries / 5, 1000);
    c->ranges = at_least(c->entries / 10, 100);
    c->syncs = c->entries >= 100000 ? 1000 : 100;
    c->peer.bytes = (uint64_t)(c->entries + c->syncs * c->repetitions) * ENTRY_SIZE;
    if (c->peer.txn_memory == 0)
        c->peer.txn_memory = (size_t)c->peer.bytes * 3 + (64u << 20);
}

static bool parse(program *p, int argc, char **argv)
{
    enum { ENTRIES = 1, REPETITIONS, DIR, OUT, FILTER, RESIDENCY, IO, TXN_MEMORY, GIT_STREAM, GIT_REPO, LIST, LOAD, HELP };
    static const struct option options[] = {
        {"entries", required_argument, NULL, ENTRIES},     {"repetitions", required_argument, NULL, REPETITIONS},
        {"git-stream", required_argument, NULL, GIT_STREAM}, {"git-repo", required_argument, NULL, GIT_REPO},
        {"dir", required_argument, NULL, DIR},             {"out", required_argument, NULL, OUT},
        {"filter", required_argument, NULL, FILTER},       {"residency", required_argument, NULL, RESIDENCY},
        {"io", required_argument, NULL, IO},               {"txn-memory", required_argument, NULL, TXN_MEMORY},
        {"list", no_argument, NULL, LIST},                 {"load", required_argument, NULL, LOAD},            {"help", no_argument, NULL, HELP},
        {0}};
    bool list = false;
    bench_config *c = &p->config;
    *c = (bench_config){.entries = 5000000, .repetitions = 5, .dir = ".", .peer = {.residency = "auto", .io = ""}};
    p->out = "bench";
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case ENTRIES: c->entries = number(optarg, 1000, 1000000000); break;
        case REPETITIONS: c->repetitions = (unsigned)number(optarg, 1, REPETITIONS_MAX); break;
        case DIR: c->dir = optarg; break;
        case OUT: p->out = optarg; break;
        case GIT_STREAM: c->git_stream = optarg; break;
        case GIT_REPO: c->git_repo = optarg; break;
        case FILTER: c->filter = optarg; break;
        case RESIDENCY: c->peer.residency = optarg; break;
        case IO: c->peer.io = optarg; break;
        case TXN_MEMORY: c->peer.txn_memory = number(optarg, 1, 1u << 20) << 20; break;
        case LIST: list = true; break;
        case LOAD: p->load = optarg; break;
        default: fputs(usage, option == HELP ? stdout : stderr); exit(option == HELP ? 0 : 64);
        }
    }
    complete(c);
    return list;
}

/* One line about each engine can only be had from an open database; the last that was open tells. */
static void describe(program *p, unsigned side)
{
    if (p->bench.loaded[side])
        p->bench.ops[side]->describe(p->bench.loaded[side], p->about[side], sizeof p->about[side]);
}

static void run_job(void *ctx, shim_run *run)
{
    job *j = ctx;
    const workload *w = j->result->work;
    const char *error = w->run(j->bench, w, j->side, j->repetition, run, &j->result->check[j->side][j->repetition]);
    if (error)
        shim_fail(run, error);
}

static void show_progress(const result *r, unsigned repetition, unsigned repetitions)
{
    double theirs = r->seconds[0][repetition], ours = r->seconds[1][repetition];
    if (theirs > 0 && ours > 0)
        fprintf(stderr, "%-22s %u/%u  %.2fx\n", r->work->name, repetition + 1, repetitions, theirs / ours);
}

/* Runs end in the order in which they were registered, but for those that the filter leaves out: the name tells. */
static void job_done(void *ctx, const char *name, double seconds, const char *error)
{
    program *p = ctx;
    char wanted[128];
    for (;; p->current++) {
        const job *j = p->current;
        snprintf(wanted, sizeof wanted, "%s/%s/%u", j->result->work->name, j->result->work->sides[j->side], j->repetition);
        if (strcmp(wanted, name) == 0)
            break;
    }
    result *r = p->current->result;
    const unsigned side = p->current->side, repetition = p->current->repetition;
    if (error) {
        snprintf(r->error, sizeof r->error, "%s: %s", r->work->sides[side], error);
        fprintf(stderr, "%-22s FAILED: %s\n", r->work->name, r->error);
        return;
    }
    r->seconds[side][repetition] = seconds;
    describe(p, side);
    if (side == 0)
        return;
    show_progress(r, repetition, p->config.repetitions);
    if (r->check[0][repetition] != r->check[1][repetition])
        snprintf(r->error, sizeof r->error, "both sides read different data");
}

static bool register_jobs(program *p, size_t count)
{
    const unsigned repetitions = p->config.repetitions;
    char name[128];
    job *j = p->jobs = calloc(count * repetitions * SIDES + 1, sizeof *p->jobs);
    if (!j)
        return false;
    p->current = j;
    for (size_t i = 0; i < count; i++) {
        p->results[i].work = &p->work[i];
        for (unsigned n = 0; n < repetitions * SIDES; n++, j++) {
            *j = (job){.bench = &p->bench, .result = &p->results[i], .side = n % SIDES, .repetition = n / SIDES};
            snprintf(name, sizeof name, "%s/%s/%u", p->work[i].name, p->work[i].sides[j->side], j->repetition);
            shim_register(name, run_job, j);
        }
    }
    return true;
}

static bool write_file(const program *p, const char *suffix, const report *r, void (*writer)(const report *, FILE *))
{
    char path[4096];
    snprintf(path, sizeof path, "%s%s", p->out, suffix);
    FILE *out = fopen(path, "w");
    if (!out) {
        perror(path);
        return false;
    }
    writer(r, out);
    return fclose(out) == 0;
}

static bool write_report(const program *p, size_t count)
{
    report r = {.config = &p->config, .results = p->results, .count = count, .about = {p->about[0], p->about[1]}};
    limits_machine(p->config.dir, r.machine, sizeof r.machine);
    size_t bytes = p->config.peer.bytes < (1u << 30) ? (size_t)p->config.peer.bytes : (1u << 30);
    const char *error = limits_measure(p->config.dir, bytes, &r.limits);
    if (error) {
        fprintf(stderr, "cambium-bench: the disk's limits: %s\n", error);
        return false;
    }
    report_table(&r, stdout);
    bool written = write_file(p, ".json", &r, report_json) && write_file(p, ".md", &r, report_markdown) &&
                   write_file(p, ".svg", &r, report_svg) &&
                   (!report_has_diffs(&r) || write_file(p, "-diff.svg", &r, report_diff_svg));
    return written && !report_failed(&r);
}

int main(int argc, char **argv)
{
    static program p;
    const bool list = parse(&p, argc, argv);
    if (p.load)
        return child_main(&p.config, p.load);
    const char *error = work_open(&p.bench, &p.config);
    const size_t count = error ? 0 : work_list(&p.bench, p.work);
    bool good = !error;
    if (list) {
        for (size_t i = 0; i < count; i++)
            printf("%-3s %-22s %s\n", p.work[i].id, p.work[i].name, p.work[i].what);
    } else if (good) {
        good = register_jobs(&p, count) && shim_run_all(p.config.filter, job_done, &p) > 0;
        error = work_close(&p.bench);
        good = write_report(&p, count) && good && !error;
    }
    if (list)
        work_close(&p.bench);
    if (error)
        fprintf(stderr, "cambium-bench: %s\n", error);
    free(p.jobs);
    return good ? 0 : 1;
}
