/* SPDX-License-Identifier: ISC */
#include "bench/report.h"

#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(const double *values, unsigned n)
{
    double sorted[REPETITIONS_MAX];
    memcpy(sorted, values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, by_value);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

ratio report_ratio(const result *r, unsigned repetitions)
{
    double values[REPETITIONS_MAX];
    ratio q = {0};
    for (unsigned i = 0; i < repetitions; i++) {
        double theirs = r->seconds[0][i], ours = r->seconds[1][i];
        if (theirs <= 0 || ours <= 0)
            continue;
        double value = theirs / ours;
        if (q.n == 0 || value < q.min)
            q.min = value;
        if (q.n == 0 || value > q.max)
            q.max = value;
        values[q.n++] = value;
    }
    if (q.n > 0)
        q.median = median_of(values, q.n);
    return q;
}

double report_per_operation(const result *r, unsigned side, unsigned repetitions)
{
    return report_ratio(r, repetitions).n > 0 ? median_of(r->seconds[side], repetitions) / (double)r->work->operations : 0;
}

bool report_failed(const report *r)
{
    for (size_t i = 0; i < r->count; i++) {
        if (*r->results[i].error)
            return true;
    }
    return false;
}

const char *report_verdict(const workload *w, ratio q)
{
    if (w->floor <= 0 || q.n == 0)
        return "";
    if (w->aim > 0 && q.median >= w->aim)
        return "aim reached";
    return q.median >= w->floor ? "floor reached" : "below the floor";
}

/* The workload's result; NULL: there is none, or it did not run. */
static const result *find(const report *r, const char *name)
{
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->results[i].work->name, name) == 0 && report_ratio(&r->results[i], r->config->repetitions).n > 0)
            return &r->results[i];
    }
    return NULL;
}

/* The median time of Cambium's runs in seconds, 0 if there is none. */
static double own_time(const report *r, const char *name)
{
    const result *found = find(r, name);
    return found ? median_of(found->seconds[1], r->config->repetitions) : 0;
}

static const char *diff_condition(const report *r, char *buffer, size_t size)
{
    char name[48];
    snprintf(name, sizeof name, "diff-10-of-%zu", r->config->entries);
    const result *found = find(r, name);
    if (!found)
        return "";
    snprintf(buffer, size, "%s: the difference, hot, takes %s 1 millisecond", name,
             report_per_operation(found, 1, r->config->repetitions) < 1e-3 ? "less than" : "more than");
    return buffer;
}

static const char *bytes_condition(const report *r, const char *name, char *buffer, size_t size)
{
    const result *found = find(r, name);
    if (!found)
        return "";
    snprintf(buffer, size, "%s: %.0f bytes a commit, LMDB %.0f, handed to the system in writes; preparation and checkpoints included",
             name, report_per_operation(found, 1, r->config->repetitions), report_per_operation(found, 0, r->config->repetitions));
    return buffer;
}

const char *report_condition(const report *r, unsigned i, char *buffer, size_t size)
{
    const bench_config *c = r->config;
    double time;
    switch (i) {
    case 0:
        return r->machine;
    case 1:
        snprintf(buffer, size,
                 "%zu entries of %d + %d bytes, %.2f GB, well inside memory: everything is read once before reading is "
                 "timed, no cache is dropped; loads run in a process of their own each, with no database and nothing left to be written",
                 c->entries, KEY_SIZE, VALUE_SIZE, (double)c->peer.bytes / 1e9);
        return buffer;
    case 2:
    case 3:
        return r->about[i - 2];
    case 4:
        snprintf(buffer, size,
                 "bulk inserts: Cambium keeps up to %.1f GB of one transaction in memory, LMDB its list of 512 MiB of "
                 "dirty pages and the rest in the page cache",
                 (double)c->peer.txn_memory / 1e9);
        return buffer;
    case 5:
        time = own_time(r, "fillseq");
        if (time <= 0)
            return "";
        snprintf(buffer, size, "fillseq: keys and values are made durable at %.0f %% of this disk's sequential write rate",
                 (double)c->peer.bytes / time / r->limits.write_rate * 100);
        return buffer;
    case 6:
        time = own_time(r, "fillsync");
        if (time <= 0)
            return "";
        snprintf(buffer, size, "fillsync: one 16 KiB write and flush of this disk takes %.0f %% of a durable insert",
                 r->limits.flush_time / (time / (double)c->syncs) * 100);
        return buffer;
    case 7:
        time = own_time(r, "snapshot-open");
        if (time <= 0)
            return "";
        snprintf(buffer, size, "snapshot-open: a snapshot is opened and closed in %s 1 microsecond",
                 time / 100000 < 1e-6 ? "less than" : "more than");
        return buffer;
    case 8:
        return diff_condition(r, buffer, size);
    case 9:
    case 10:
        return bytes_condition(r, i == 9 ? "bytes-permanent" : "bytes-working", buffer, size);
    default:
        return NULL;
    }
}

static void print_conditions(const report *r, const char *before, FILE *out)
{
    char buffer[640];
    const char *text;
    for (unsigned i = 0; (text = report_condition(r, i, buffer, sizeof buffer)); i++) {
        if (*text)
            fprintf(out, "%s%s\n", before, text);
    }
}

/* A limit of 0 is none. */
static const char *times(double value, char *buffer, size_t size)
{
    if (value <= 0)
        return "";
    snprintf(buffer, size, "%.3gx", value);
    return buffer;
}

static void table_row(const result *r, unsigned repetitions, FILE *out)
{
    const workload *w = r->work;
    ratio q = report_ratio(r, repetitions);
    char floor[16], aim[16];
    fprintf(out, "%-3s %-22s ", w->id, w->name);
    if (*r->error)
        fprintf(out, "FAILED: %s\n", r->error);
    else if (q.n > 0)
        fprintf(out, "%7.2fx  %6.2f - %-6.2f  %6s %6s  %s\n", q.median, q.min, q.max, times(w->floor, floor, sizeof floor),
                times(w->aim, aim, sizeof aim), report_verdict(w, q));
    else
        fprintf(out, "not run\n");
}

void report_table(const report *r, FILE *out)
{
    fprintf(out, "\nHow many times faster %s is (median of %u runs in turn, lowest and highest)\n\n", "Cambium",
            r->config->repetitions);
    fprintf(out, "%-3s %-22s %8s  %15s  %6s %6s\n", "", "", "median", "min - max    ", "floor", "aim");
    for (size_t i = 0; i < r->count; i++)
        table_row(&r->results[i], r->config->repetitions, out);
    fputc('\n', out);
    print_conditions(r, "  ", out);
}

void report_markdown(const report *r, FILE *out)
{
    fprintf(out, "| | workload | against | times faster | min - max | floor | aim |\n|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < r->count; i++) {
        const workload *w = r->results[i].work;
        ratio q = report_ratio(&r->results[i], r->config->repetitions);
        char floor[16], aim[16];
        if (q.n == 0 || *r->results[i].error)
            continue;
        fprintf(out, "| %s | `%s` %s | %s | **%.2fx** | %.2f - %.2f | %s | %s |\n", w->id, w->name, w->what, w->sides[0],
                q.median, q.min, q.max, times(w->floor, floor, sizeof floor), times(w->aim, aim, sizeof aim));
    }
    fprintf(out, "\nMedian of %u runs in turn, in one run on one machine.\n\n", r->config->repetitions);
    print_conditions(r, "- ", out);
}

static void json_string(const char *text, FILE *out)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        if ((unsigned char)*text >= ' ')
            fputc(*text, out);
    }
    fputc('"', out);
}

static void json_member(const char *name, const char *text, FILE *out)
{
    fprintf(out, "\"%s\": ", name);
    json_string(text, out);
    fputs(", ", out);
}

static void json_seconds(const result *r, unsigned side, unsigned repetitions, FILE *out)
{
    fprintf(out, "\"%s_%s\": [", r->work->unit ? r->work->unit : "seconds", r->work->sides[side]);
    for (unsigned i = 0; i < repetitions; i++)
        fprintf(out, "%s%.9g", i ? ", " : "", r->seconds[side][i]);
    fputc(']', out);
}

static void json_result(const result *r, unsigned repetitions, FILE *out)
{
    const workload *w = r->work;
    ratio q = report_ratio(r, repetitions);
    fputs("    {", out);
    json_member("id", w->id, out);
    json_member("name", w->name, out);
    json_member("what", w->what, out);
    if (*r->error)
        json_member("error", r->error, out);
    if (q.n > 0)
        fprintf(out, "\"median\": %.4f, \"min\": %.4f, \"max\": %.4f, ", q.median, q.min, q.max);
    if (w->floor > 0) {
        fprintf(out, "\"floor\": %g, ", w->floor);
        if (w->aim > 0)
            fprintf(out, "\"aim\": %g, ", w->aim);
        json_member("verdict", report_verdict(w, q), out);
    }
    if (w->changes)
        fprintf(out, "\"changes\": %zu, \"entries\": [%zu, %zu], ", w->changes, w->entries[0], w->entries[1]);
    fprintf(out, "\"operations\": %llu, ", (unsigned long long)w->operations);
    json_seconds(r, 0, repetitions, out);
    fputs(", ", out);
    json_seconds(r, 1, repetitions, out);
    fputc('}', out);
}

void report_json(const report *r, FILE *out)
{
    char buffer[640];
    const char *text;
    fputs("{\n  \"conditions\": [", out);
    for (unsigned i = 0; (text = report_condition(r, i, buffer, sizeof buffer)); i++) {
        fputs(i ? ",\n    " : "\n    ", out);
        json_string(text, out);
    }
    fprintf(out, "\n  ],\n  \"repetitions\": %u,\n  \"sequential_write_bytes_per_second\": %.0f,\n", r->config->repetitions,
            r->limits.write_rate);
    fprintf(out, "  \"write_and_flush_seconds\": %.9f,\n  \"results\": [\n", r->limits.flush_time);
    for (size_t i = 0; i < r->count; i++) {
        json_result(&r->results[i], r->config->repetitions, out);
        fputs(i + 1 < r->count ? ",\n" : "\n", out);
    }
    fputs("  ]\n}\n", out);
}
