/* SPDX-License-Identifier: ISC */
/*
 * The ratios as a picture: one bar a workload from 1x outwards on a logarithmic axis (to the right: Cambium is
 * faster), a whisker from the lowest to the highest run, a mark at the floor and one at the aim. Colours
 * follow the reader's light or dark setting; the picture has no background of its own.
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

static axis axis_for(const report *r)
{
    axis a = {log(0.8), log(2)};
    for (size_t i = 0; i < r->count; i++) {
        ratio q = report_ratio(&r->results[i], r->config->repetitions);
        if (q.n == 0)
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
        rows += report_ratio(&r->results[i], r->config->repetitions).n > 0;
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
        if (q.n == 0)
            continue;
        draw_row(out, a, y, &r->results[i], q);
        y += ROW;
    }
    snprintf(text, sizeof text, "bar: median of %u runs in turn; whisker: lowest and highest", r->config->repetitions);
    text_at(out, 24, bottom + 26, "start", "small", text);
    text_at(out, 24, bottom + 43, "start", "small", "red: the floor; red dotted: the aim; orange bar: below the floor");
    fputs("</svg>\n", out);
}
