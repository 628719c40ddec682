/* SPDX-License-Identifier: ISC */
/*
 * Two pictures. The ratios: one bar a workload from 1x outwards on a logarithmic axis (to the right: Cambium is
 * faster), a whisker from the lowest to the highest run, a mark at the floor and one at the aim. Colours
 * follow the reader's light or dark setting; the picture has no background of its own.
 *
 * And what a difference of two versions costs, against the number of changes, a curve for each number of entries; both
 * axes are logarithmic, costs are multiples of the cheapest one.
 */
#include "bench/report.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 860, LEFT = 290, RIGHT = 770, TOP = 92, ROW = 38, BAR = 16, FOOT = 58 };

typedef struct axis {
    double low, high; /* logarithms of the ratios at LEFT and RIGHT */
} axis;

static double x_of(axis a, double value)
{
    double at = (log(value) - a.low) / (a.high - a.low);
    return LEFT + (at < 0 ? 0 : at > 1 ? 1 : at) * (RIGHT - LEFT);
}

static void widen(axis *a, double value)
{
    if (value <= 0)
        return;
    if (log(value) < a->low)
        a->low = log(value);
    if (log(value) > a->high)
        a->high = log(value);
}

/* Differences have a picture of their own. */
static bool is_bar(const workload *w)
{
    return strcmp(w->id, "V2") != 0;
}

static axis axis_for(const report *r)
{
    axis a = {log(0.8), log(2)};
    for (size_t i = 0; i < r->count; i++) {
        ratio q = report_ratio(&r->results[i], r->config->repetitions);
        if (q.n == 0 || !is_bar(r->results[i].work))
            continue;
        widen(&a, q.min);
        widen(&a, q.max);
        widen(&a, r->results[i].work->aim);
    }
    a.low -= 0.05;
    a.high += 0.08;
    return a;
}

static const char style[] =
    "<style>\n"
    "  text { font: 13px system-ui, sans-serif; fill: #1f2328 }\n"
    "  .title { font-size: 18px; font-weight: 600 } .small { font-size: 11.5px; fill: #59636e }\n"
    "  .value { font-weight: 600 } .grid { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-width: 1.5 }\n"
    "  .aim { fill: #2f7d4f } .floor { fill: #6aa84f } .below { fill: #c9822b } .none { fill: #6b7f95 }\n"
    "  .whisker { stroke: #1f2328; stroke-width: 1.5; fill: none }\n"
    "  .mark { stroke: #b3261e; stroke-width: 2 } .goal { stroke: #b3261e; stroke-width: 1.5; stroke-dasharray: 2 2 }\n"
    "  .curve { fill: none; stroke-width: 2 } .hint { stroke: #59636e; stroke-dasharray: 4 4 }\n"
    "  @media (prefers-color-scheme: dark) {\n"
    "    text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d } .one { stroke: #9198a1 }\n"
    "    .aim { fill: #3fa66b } .floor { fill: #7fbf5f } .below { fill: #d9973f } .none { fill: #8296ad }\n"
    "    .whisker { stroke: #e6edf3 } .mark, .goal { stroke: #ff7b72 }\n"
    "  }\n"
    "</style>\n";

static void text_at(FILE *out, double x, double y, const char *anchor, const char *class, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor, class);
    for (; *text; text++) {
        if (*text == '&' || *text == '<')
            fputs(*text == '&' ? "&amp;" : "&lt;", out);
        else
            fputc(*text, out);
    }
    fputs("</text>\n", out);
}

static void line(FILE *out, const char *class, double x0, double y0, double x1, double y1)
{
    fprintf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x0, y0, x1, y1);
}

static void draw_grid(FILE *out, axis a, double bottom)
{
    static const double ticks[] = {0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000};
    char label[16];
    for (size_t i = 0; i < sizeof ticks / sizeof *ticks; i++) {
        if (log(ticks[i]) < a.low || log(ticks[i]) > a.high)
            continue;
        double x = x_of(a, ticks[i]);
        line(out, ticks[i] == 1 ? "one" : "grid", x, TOP - 8, x, bottom);
        snprintf(label, sizeof label, "%g\xc3\x97", ticks[i]);
        text_at(out, x, TOP - 14, "middle", "small", label);
    }
}

static const char *class_of(const workload *w, ratio q)
{
    if (w->floor <= 0)
        return "none";
    if (w->aim > 0 && q.median >= w->aim)
        return "aim";
    return q.median >= w->floor ? "floor" : "below";
}

static void draw_row(FILE *out, axis a, double y, const result *r, ratio q)
{
    const workload *w = r->work;
    const double middle = y + BAR / 2.0, one = x_of(a, 1), end = x_of(a, q.median);
    char label[80];
    snprintf(label, sizeof label, "%s  %s", w->id, w->name);
    text_at(out, LEFT - 12, middle, "end", "", label);
    text_at(out, LEFT - 12, middle + 14, "end", "small", w->what);
    fprintf(out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n", class_of(w, q),
            fmin(one, end), y, fmax(fabs(end - one), 1), BAR);
    line(out, "whisker", x_of(a, q.min), middle, x_of(a, q.max), middle);
    line(out, "whisker", x_of(a, q.min), middle - 4, x_of(a, q.min), middle + 4);
    line(out, "whisker", x_of(a, q.max), middle - 4, x_of(a, q.max), middle + 4);
    if (w->floor > 0)
        line(out, "mark", x_of(a, w->floor), y - 4, x_of(a, w->floor), y + BAR + 4);
    if (w->aim > 0)
        line(out, "goal", x_of(a, w->aim), y - 4, x_of(a, w->aim), y + BAR + 4);
    snprintf(label, sizeof label, "%.2f\xc3\x97", q.median);
    text_at(out, RIGHT + 12, middle + 5, "start", "value", label);
}

void report_svg(const report *r, FILE *out)
{
    const axis a = axis_for(r);
    size_t rows = 0;
    for (size_t i = 0; i < r->count; i++)
        rows += is_bar(r->results[i].work) && report_ratio(&r->results[i], r->config->repetitions).n > 0;
    const int bottom = TOP + (int)rows * ROW, height = bottom + FOOT;
    char text[160];

    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n",
            WIDTH, height, WIDTH, height);
    fprintf(out, "<title>How many times faster Cambium is</title>\n%s", style);
    text_at(out, 24, 32, "start", "title", "How many times faster Cambium is");
    snprintf(text, sizeof text, "against LMDB, %.3g million entries of %d + %d bytes; longer is better",
             (double)r->config->entries / 1e6, KEY_SIZE, VALUE_SIZE);
    text_at(out, 24, 54, "start", "small", text);
    draw_grid(out, a, bottom);
    double y = TOP + 6;
    for (size_t i = 0; i < r->count; i++) {
        ratio q = report_ratio(&r->results[i], r->config->repetitions);
        if (q.n == 0 || !is_bar(r->results[i].work))
            continue;
        draw_row(out, a, y, &r->results[i], q);
        y += ROW;
    }
    snprintf(text, sizeof text, "bar: median of %u runs in turn; whisker: lowest and highest", r->config->repetitions);
    text_at(out, 24, bottom + 26, "start", "small", text);
    text_at(out, 24, bottom + 43, "start", "small", "red: the floor; red dotted: the aim; orange bar: below the floor");
    fputs("</svg>\n", out);
}

/* ---- differences ---- */

enum { CURVE_LEFT = 86, CURVE_RIGHT = 700, CURVE_TOP = 96, CURVE_BOTTOM = 470, CURVE_HEIGHT = 540, POINTS_MAX = 2 * WORK_MAX };

typedef struct point {
    size_t entries, changes;
    double cost;
} point;

typedef struct curves {
    point points[POINTS_MAX]; /* by entries, then changes */
    size_t n;
    axis across, up;
} curves;

static bool comes_before(const point *a, const point *b)
{
    return a->entries != b->entries ? a->entries < b->entries : a->changes < b->changes;
}

/* A size that several rows measured counts with the first of them. */
static void add_point(curves *c, point p)
{
    size_t at = c->n;
    for (size_t i = 0; i < c->n; i++)
        if (c->points[i].entries == p.entries && c->points[i].changes == p.changes)
            return;
    for (; at > 0 && comes_before(&p, &c->points[at - 1]); at--)
        c->points[at] = c->points[at - 1];
    c->points[at] = p;
    c->n++;
}

static void collect(const report *r, curves *c)
{
    *c = (curves){.n = 0};
    for (size_t i = 0; i < r->count; i++) {
        const workload *w = r->results[i].work;
        for (unsigned side = 0; side < SIDES && strcmp(w->id, "V2") == 0; side++) {
            double cost = report_per_operation(&r->results[i], side, r->config->repetitions);
            if (cost > 0)
                add_point(c, (point){w->entries[side], w->changes, cost});
        }
    }
}

bool report_has_diffs(const report *r)
{
    curves c;
    collect(r, &c);
    return c.n > 1;
}

/* Costs become multiples of the lowest; the axes hold all points. */
static void scale(curves *c)
{
    double least = c->points[0].cost;
    for (size_t i = 1; i < c->n; i++)
        least = fmin(least, c->points[i].cost);
    c->across = (axis){log(0.8), log(2)};
    c->up = (axis){log(0.7), log(2)};
    for (size_t i = 0; i < c->n; i++) {
        c->points[i].cost /= least;
        widen(&c->across, (double)c->points[i].changes * 1.4);
        widen(&c->up, c->points[i].cost * 1.6);
    }
}

static double curve_x(const curves *c, double changes)
{
    return CURVE_LEFT + (log(changes) - c->across.low) / (c->across.high - c->across.low) * (CURVE_RIGHT - CURVE_LEFT);
}

static double curve_y(const curves *c, double cost)
{
    return CURVE_BOTTOM - (log(cost) - c->up.low) / (c->up.high - c->up.low) * (CURVE_BOTTOM - CURVE_TOP);
}

static void draw_decades(FILE *out, const curves *c)
{
    char label[24];
    for (double at = 1; log(at) < c->across.high; at *= 10) {
        line(out, "grid", curve_x(c, at), CURVE_TOP, curve_x(c, at), CURVE_BOTTOM);
        snprintf(label, sizeof label, "%.0f", at);
        text_at(out, curve_x(c, at), CURVE_BOTTOM + 18, "middle", "small", label);
    }
    for (double at = 1; log(at) < c->up.high; at *= 10) {
        line(out, "grid", CURVE_LEFT, curve_y(c, at), CURVE_RIGHT, curve_y(c, at));
        snprintf(label, sizeof label, "%.0f\xc3\x97", at);
        text_at(out, CURVE_LEFT - 10, curve_y(c, at) + 4, "end", "small", label);
    }
}

/* What a cost in proportion to the changes would look like, from the lowest corner. */
static void draw_proportion(FILE *out, const curves *c)
{
    double end = fmin(c->across.high, c->up.high);
    line(out, "hint", curve_x(c, 1), curve_y(c, 1), curve_x(c, exp(end)), curve_y(c, exp(end)));
    text_at(out, curve_x(c, exp(end)) - 8, curve_y(c, exp(end)) + 16, "end", "small", "in proportion");
}

static void draw_curve(FILE *out, const curves *c, size_t first, size_t end)
{
    static const char *const colours[] = {"#8250df", "#0969da", "#1a7f37", "#bc4c00", "#cf222e", "#6b7f95"};
    char label[32];
    size_t rank = 0;
    for (size_t i = 1; i <= first; i++)
        rank += c->points[i].entries != c->points[i - 1].entries;
    const char *colour = colours[rank % (sizeof colours / sizeof *colours)];
    fprintf(out, "<polyline class=\"curve\" stroke=\"%s\" points=\"", colour);
    for (size_t i = first; i < end; i++)
        fprintf(out, "%.1f,%.1f ", curve_x(c, (double)c->points[i].changes), curve_y(c, c->points[i].cost));
    fputs("\"/>\n", out);
    for (size_t i = first; i < end; i++)
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", curve_x(c, (double)c->points[i].changes),
                curve_y(c, c->points[i].cost), colour);
    double y = CURVE_TOP + 12 + 22 * (double)rank;
    fprintf(out, "<rect x=\"%d\" y=\"%.1f\" width=\"14\" height=\"4\" fill=\"%s\"/>\n", CURVE_RIGHT + 16, y - 6, colour);
    snprintf(label, sizeof label, "%zu entries", c->points[first].entries);
    text_at(out, CURVE_RIGHT + 36, y, "start", "small", label);
}

void report_diff_svg(const report *r, FILE *out)
{
    curves c;
    char text[160];
    collect(r, &c);
    scale(&c);
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n",
            WIDTH, CURVE_HEIGHT, WIDTH, CURVE_HEIGHT);
    fprintf(out, "<title>What a difference costs</title>\n%s", style);
    text_at(out, 24, 32, "start", "title", "What the difference of two versions costs");
    text_at(out, 24, 54, "start", "small", "time against the number of entries that differ; 1\xc3\x97 is the cheapest; both axes are logarithmic");
    draw_decades(out, &c);
    draw_proportion(out, &c);
    for (size_t first = 0, end; first < c.n; first = end) {
        for (end = first + 1; end < c.n && c.points[end].entries == c.points[first].entries; end++)
            ;
        draw_curve(out, &c, first, end);
    }
    text_at(out, (CURVE_LEFT + CURVE_RIGHT) / 2.0, CURVE_BOTTOM + 38, "middle", "small", "entries that differ");
    snprintf(text, sizeof text, "median of %u runs in turn, hot; changed entries are spread at random", r->config->repetitions);
    text_at(out, 24, CURVE_BOTTOM + 58, "start", "small", text);
    fputs("</svg>\n", out);
}
